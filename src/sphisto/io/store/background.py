"""One thread that does things in their order, a few behind."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

Job = Callable[[], None]


@contextlib.contextmanager
def in_background(most: int) -> Iterator[Callable[[Job], None]]:
    """Yield a function that gives jobs to a thread of their own; it waits while ``most`` of them are not yet done.

    At the end of the block all jobs have been done. What a job raises is raised when the next call waits for it, or at the
    end of the block. If the block raises (Ctrl-C, too), jobs that wait are dropped and the one in progress is brought to
    its end: nothing is written any more once the caller clears up.
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="sphisto-writer") as pool:

        def hand_over(job: Job) -> None:
            while len(waiting) >= most:
                waiting.popleft().result()
            waiting.append(pool.submit(job))

        try:
            yield hand_over
            while waiting:
                waiting.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
