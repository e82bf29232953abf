from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.pieces import in_pieces


@pytest.mark.parametrize(
    ("n", "each", "at_once", "sizes"),
    [(10, 4, 20, [5, 5]), (5, 1, 2, [2, 2, 1]), (3, 100, 1, [1, 1, 1]), (0, 0, 9, [0])],
)
def test_rows_are_cut_into_pieces_that_fit(n, each, at_once, sizes):
    rows = np.arange(n)
    pieces = [rows[some] for some in in_pieces(n, each, at_once=at_once)]
    assert [len(piece) for piece in pieces] == sizes
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
