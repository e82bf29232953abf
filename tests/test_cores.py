from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from sphisto._cores import in_parts, n_cores, one_blas_thread


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


@pytest.mark.parametrize("n", [0, 3, 10, 101])
def test_parts_fill_each_result_once_and_leave_threads_as_they_were(n):
    before, times = blas_threads(), np.zeros(n)

    def fill(part):
        times[part] += 1

    in_parts(fill, n, 10)
    assert (times == 1).all()
    assert blas_threads() == before


def test_what_fails_in_a_part_is_raised():
    def fill(part):
        if part.start == 20:
            raise MemoryError(part.start)

    with pytest.raises(MemoryError):
        in_parts(fill, 100, 10)


def test_threads_that_leave_in_another_order_than_they_entered_leave_the_products_as_they_were():
    before = blas_threads()
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) <= {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before
