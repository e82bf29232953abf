from __future__ import annotations

import threading
import time

import pytest

from sphisto.io.store.background import in_background

FULL = "the disk is full"


def test_jobs_are_done_in_their_order_by_another_thread():
    done = []
    with in_background() as hand_over:
        for i in range(20):
            hand_over(lambda i=i: done.append((i, threading.current_thread().name)))
    assert done == [(i, "sphisto-writer_0") for i in range(20)]


def test_no_job_is_taken_before_the_last_one_is_done():
    gate, begun = threading.Event(), []

    def job():
        begun.append(1)
        gate.wait(10)

    handed = []

    def release():
        time.sleep(0.3)
        assert len(handed) == len(begun) == 1
        gate.set()

    watcher = threading.Thread(target=release)
    with in_background() as hand_over:
        watcher.start()
        for _ in range(5):
            hand_over(job)
            handed.append(1)
    watcher.join()
    assert len(begun) == 5


def test_what_a_job_raises_comes_out_and_later_jobs_are_not_begun():
    done = []

    def fail():
        raise OSError(FULL)

    def run():
        with in_background() as hand_over:
            hand_over(fail)
            for i in range(50):
                hand_over(lambda i=i: done.append(i))
                time.sleep(0.01)

    with pytest.raises(OSError, match=FULL):
        run()
    assert done == []


def test_the_last_job_is_waited_for_and_its_error_comes_out():
    def fail():
        time.sleep(0.1)
        raise OSError(FULL)

    with pytest.raises(OSError, match=FULL), in_background() as hand_over:
        hand_over(fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_the_block_ends_what_is_in_progress_and_the_thread(error):
    done, began, gate = [], threading.Event(), threading.Event()

    def slow():
        began.set()
        gate.wait(10)
        done.append("slow")

    def run():
        with in_background() as hand_over:
            hand_over(slow)
            began.wait(10)
            threading.Timer(0.1, gate.set).start()
            raise error

    with pytest.raises(error):
        run()
    assert done == ["slow"]
    assert not any(thread.name.startswith("sphisto-writer") for thread in threading.enumerate())
