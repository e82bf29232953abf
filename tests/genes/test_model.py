from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from sphisto.genes.model import GeneModel, rates, require_genes

LOADINGS = np.array([[0.5, 0.0], [0.5, 0.25], [np.nan, np.nan]], dtype=np.float32)


def test_expression_is_loadings_times_maps(rng):
    maps = rng.random((2, 3, 4)).astype(np.float32)
    found = GeneModel(("A", "B", "C"), LOADINGS).of(["B", "A"]).expression(maps)
    np.testing.assert_allclose(found, [0.5 * maps[0] + 0.25 * maps[1], 0.5 * maps[0]])


def test_unknown_genes_are_named_with_close_ones():
    with pytest.raises(KeyError, match="Found no gene 'Nrgm' among the 2 of the table. Close to 'Nrgm': Nrgn"):
        GeneModel(("Nrgn", "Ttr"), LOADINGS[:2]).rows(["Nrgm"])
    with pytest.raises(KeyError, match="Found no gene 'NRGN', 'x' among the 2 of the table. Close to 'NRGN': Nrgn"):
        require_genes(["Ttr", "NRGN", "x"], ["Nrgn", "Ttr"])
    require_genes(["Ttr"], ["Nrgn", "Ttr"])


def test_a_column_that_holds_the_names_asked_for_is_named():
    ids = ["ENSG1", "ENSG2", "ENSG3"]
    var = pd.DataFrame({"n": [1, 2, 3], "SYMBOL": pd.Categorical(["Nrgn", "Ttr", "Nrgn"])}, index=ids)
    with pytest.raises(
        KeyError,
        match=r"no gene 'Nrgn' among the 3 .* var\['SYMBOL'\] holds 'Nrgn', while genes are called such as 'ENSG1'",
    ) as refused:
        require_genes(["Nrgn"], ids, var)
    remedy = str(refused.value).split("`")[1]
    table = ad.AnnData(np.ones((2, 3), np.float32), var=var)
    exec(remedy, {"adata": table})  # as the message says
    table.var_names_make_unique()
    require_genes(["Nrgn"], list(table.var_names), table.var)
    with pytest.raises(KeyError, match="Found no gene 'Ttr', 'x' among the 3 of the table. `var_names` lists"):
        require_genes(["Ttr", "x"], ids, var)


def test_genes_that_are_not_modelled_are_refused():
    with pytest.raises(KeyError, match="C cannot be drawn: this projection models only 2 of 3 genes"):
        GeneModel(("A", "B", "C"), LOADINGS).rows(["A", "C"])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"loadings of shape \(3, 2\) for 1 genes"):
        GeneModel(("A",), LOADINGS)


@pytest.mark.parametrize("n", [-1, 3])
def test_there_are_no_more_contrasts_than_factors(n):
    with pytest.raises(ValueError, match=f"Found {n} contrasts among 2 factors; expected none to all"):
        GeneModel(("A", "B", "C"), LOADINGS, n)


def test_factors_take_the_places_of_those_they_are_like(rng):
    loadings = rng.dirichlet(np.full(30, 0.3), 5).T.astype(np.float32)
    names, order = tuple(f"gene{i}" for i in range(30)), [2, 0, 3, 1, 4]
    contrast = rng.normal(size=(30, 1)).astype(np.float32)
    mixed = GeneModel(names, np.hstack([loadings[:, order], contrast]), 1)
    found = mixed.in_order_of(GeneModel(names, loadings[:, :4] + np.float32(0.01)))  # one more than there were
    np.testing.assert_array_equal(found.loadings, np.hstack([loadings, contrast]))
    named = GeneModel(names, loadings[:, order], 0, tuple("abcde"))
    assert named.in_order_of(found) is named


def test_names_of_genes_are_words():
    with pytest.raises(TypeError, match="Found 0 of type int among the genes; expected their names"):
        require_genes([0, 1], ["A", "B"])


def test_contrasts_correct_the_others_but_take_away_nine_tenths_at_most(rng):
    loadings = np.array([[0.5, 0.2], [0.5, -0.2]], dtype=np.float32)
    found = rates(np.array([[10.0, 5.0], [10.0, -100.0]]), loadings, 1)
    np.testing.assert_allclose(found, [[6, 4], [0.5, 25]], rtol=1e-6)
    maps = rng.normal(size=(2, 3, 4)).astype(np.float32)
    maps[0] = np.abs(maps[0])
    drawn = GeneModel(("A", "B"), loadings, 1).of(["B", "A"]).expression(maps)
    np.testing.assert_allclose(drawn[::-1].reshape(2, -1).T, rates(maps.reshape(2, -1).T, loadings, 1), rtol=1e-5)
    tensors = rates(torch.from_numpy(maps.reshape(2, -1).T.copy()), torch.from_numpy(loadings), 1)
    np.testing.assert_allclose(tensors.numpy(), rates(maps.reshape(2, -1).T, loadings, 1), rtol=1e-5)


def test_some_genes_by_some_factors_know_which_are_contrasts():
    loadings = np.array([[0.5, 0.2, 0.1], [0.5, -0.2, 0.3]], dtype=np.float32)
    few = GeneModel(("A", "B"), loadings, 1).of(["B"]).by(np.array([True, False, True]))
    assert few.names == ["factor0", "contrast0"]
    assert (few.genes, few.n_contrasts) == (("B",), 1)
    assert GeneModel(("A", "B"), loadings, 1).of(["B"]).n_factors == 3
