"""Work goes on in a forked process, of which the threads stayed behind in the one it was forked from.

``multiprocessing`` forks by default on Linux up to Python 3.13, and so does joblib's "multiprocessing". Pools of threads
that the new process finds in its memory are dead, and a caller that gives them work waits forever.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from sphisto._cores import n_cores

_LOADED_BY = os.getpid()


def is_forked() -> bool:
    """Whether this process was forked from the one that loaded sphisto."""
    return os.getpid() != _LOADED_BY


def _give_dask_a_pool() -> None:
    """Let dask have a pool of ours instead of its own, unless it was configured where to compute."""
    dask = sys.modules.get("dask")
    if dask is None or dask.config.get("pool", None) is not None or dask.config.get("scheduler", None) is not None:
        return
    # not by `set`: it takes a lock, which another thread may have held at the fork
    dask.config.update(dask.config.config, {"pool": ThreadPoolExecutor(n_cores(), thread_name_prefix="sphisto-dask")})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_dask_a_pool)
