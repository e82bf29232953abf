"""A thread that writes what has been computed while the next is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

Job = Callable[[], None]


@contextlib.contextmanager
def in_background() -> Iterator[Callable[[Job], None]]:
    """Yield a function that gives a job to a thread of its own, once the job before has been done.

    What a job raises is raised by the next call, whose job is then not begun, or at the end of the block. There, and if the
    block itself raises (Ctrl-C, too), the job in progress is brought to its end: nothing is written any more once the
    caller clears up.
    """
    last: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="sphisto-writer") as pool:

        def hand_over(job: Job) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = pool.submit(job)

        yield hand_over
        if last is not None:
            last.result()
