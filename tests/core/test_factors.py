from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.factors import Factors

LOADINGS = np.array([[0.5, 0.0], [0.5, 0.25], [np.nan, np.nan]], dtype=np.float32)


def test_expression_is_loadings_times_maps(rng):
    maps = rng.random((2, 3, 4)).astype(np.float32)
    found = Factors(("A", "B", "C"), LOADINGS).expression(maps, ["B", "A"])
    np.testing.assert_allclose(found, [0.5 * maps[0] + 0.25 * maps[1], 0.5 * maps[0]])


def test_unknown_genes_are_named_with_close_ones():
    with pytest.raises(KeyError, match="Found no gene 'Nrgm' among the 2 of the table. Close to 'Nrgm': Nrgn"):
        Factors(("Nrgn", "Ttr"), LOADINGS[:2]).rows(["Nrgm"])


def test_genes_that_are_not_modelled_are_refused():
    with pytest.raises(KeyError, match="C cannot be drawn: this projection models only 2 of 3 genes"):
        Factors(("A", "B", "C"), LOADINGS).rows(["A", "C"])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"loadings of shape \(3, 2\) for 1 genes"):
        Factors(("A",), LOADINGS)
