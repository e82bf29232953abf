from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sphisto._checks import check_counts, require_counts, require_positive


@pytest.mark.parametrize("dtype", [bool, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
def test_whole_numbers_are_counts(dtype, matrix):
    assert check_counts(matrix(np.array([[0, 1, 1], [1, 0, 0]], dtype))) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.nan, "holds a value that is not finite (nan)"),
        (-np.inf, "holds a value that is not finite (-inf)"),
        (-2, "holds a negative value (-2)"),
        (1.25, "holds a value that is not a whole number (1.25)"),
    ],
)
@pytest.mark.parametrize("where", [0, 9, 10, 11])
def test_one_bad_value_is_found_and_shown(value, problem, where):
    values = np.ones(12, np.float32)
    values[where] = value
    assert check_counts(values, at_once=10) == problem


def test_negative_integers_and_what_is_no_number():
    assert check_counts(np.array([3, -4])) == "holds a negative value (-4)"
    assert check_counts(np.array([1j])) == "holds values of dtype complex128"
    assert check_counts(None) == "holds values of dtype object"


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "wide", None, 1j, 10**400])
def test_lengths_must_be_positive_numbers(value):
    with pytest.raises(ValueError, match=r"Found spot_um=.*; expected a finite number above 0"):
        require_positive(value, "spot_um")


def test_numbers_of_all_kinds_are_lengths():
    assert [require_positive(value, "a") for value in (2, "2", np.float32(2), np.array(2))] == [2.0] * 4


def test_only_stored_values_are_read():
    wide = sparse.csr_matrix(([1.0, 2.0], ([0, 10**6], [5, 10**6])), shape=(10**6 + 1, 10**6 + 1))
    assert check_counts(wide) is None


def test_nothing_is_no_problem():
    assert check_counts(np.zeros((0, 3))) is None
    assert check_counts(sparse.csr_matrix((4, 3))) is None


def test_the_matrix_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"layers\['x'\] holds a negative value \(-1\), expected raw counts"):
        require_counts(np.array([-1.0]), "layers['x']")
    require_counts(np.array([1.0]), "layers['x']")
