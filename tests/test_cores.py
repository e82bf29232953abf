from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from sphisto._cores import n_cores, one_blas_thread


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_products_take_one_thread_within_the_block_only():
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before


def test_there_is_a_core():
    assert n_cores() >= 1
