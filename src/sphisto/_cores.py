"""Processor cores: how many there are, and limits so that not too many threads use them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let products of matrices take one thread while other threads are at work beside them.

    OpenBLAS's threads go on turning for a while after each product, waiting for the next: with many small ones they
    take a core from those that decode, compress or convolve.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
