"""One thread that does things in their order, a few behind."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

Job = Callable[[], None]


@contextlib.contextmanager
def in_background(most: int) -> Iterator[Callable[[Job], None]]:
    """Yield a function that gives jobs to a thread of their own; it waits while ``most`` of them are not yet done.

    At the end of the block all jobs have been done. What a job raises is raised at the next call or at the end of
    the block; later jobs are then not begun. If the block itself raises (Ctrl-C, too), jobs that wait are dropped and
    the one in progress is brought to its end.
    """
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    slots = threading.Semaphore(most)
    failed: list[BaseException] = []
    dropped = threading.Event()

    def work() -> None:
        while (job := jobs.get()) is not None:
            try:
                if not dropped.is_set():
                    job()
            except BaseException as error:  # noqa: BLE001 - it is raised again where the jobs come from
                failed.append(error)
                dropped.set()
            del job  # what it holds is not kept while the thread waits for the next
            slots.release()

    def hand_over(job: Job) -> None:
        slots.acquire()
        _raise(failed)
        jobs.put(job)

    def finish() -> None:
        jobs.put(None)
        thread.join()

    thread = threading.Thread(target=work, name="sphisto-writer", daemon=True)
    thread.start()
    try:
        yield hand_over
        finish()
    except BaseException:  # Ctrl-C, also while waiting: nothing may be written any more once the caller clears up
        dropped.set()
        if thread.is_alive():
            finish()
        raise
    _raise(failed)


def _raise(failed: list[BaseException]) -> None:
    if failed:
        raise failed[0]
