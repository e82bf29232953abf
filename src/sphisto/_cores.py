"""Processor cores: how many there are, and limits so that not too many threads use them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from sphisto.core.pieces import in_pieces

_entering = threading.Lock()
_n_inside = 0  # threads that are within `one_blas_thread`
_limited = contextlib.ExitStack()  # what the first of them set and the last takes back


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let products of matrices take one thread while other threads, or other programs, are at work beside them.

    OpenBLAS's threads go on turning for a while after each product, waiting for the next: with many small ones they
    take a core from those that decode, compress or convolve. On two cores that other programs use as well, a fit took
    three times as long with its two threads as with one. The limit holds for the whole process: it is set by the first
    that enters and taken back by the last that leaves, in whatever order they do.
    """
    from threadpoolctl import threadpool_limits

    global _n_inside
    with _entering:
        if _n_inside == 0:
            _limited.enter_context(threadpool_limits(1, user_api="blas"))
        _n_inside += 1
    try:
        yield
    finally:
        with _entering:
            _n_inside -= 1
            if _n_inside == 0:
                _limited.close()


def in_parts(fill: Callable[[slice], None], n: int, at_once: int) -> None:
    """Fill ``n`` results, ``at_once`` by each thread: numpy computes most by one thread alone."""
    most_threads = 8  # more would hold more memory than they save time
    parts = in_pieces(n, at_once=at_once) if n else []
    n_threads = min(n_cores(), len(parts), most_threads)
    if n_threads < 2:
        for part in parts:
            fill(part)
        return
    with one_blas_thread(), ThreadPoolExecutor(n_threads, thread_name_prefix="sphisto-part") as pool:
        for _ in pool.map(fill, parts):
            pass
