"""Loadings that a user gives: what is refused, and what a gene model makes of them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors, refit_factors, scores
from sphisto.genes.levels import fit_shared
from sphisto.genes.loadings import Loadings
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Measured

GENES = tuple(f"g{i}" for i in range(60))
NAMES = ("T cells", "B/plasma", "g1")  # anything printable; a gene's name, too
ALL = np.ones(150, dtype=bool)
NO_CONTRASTS = {"least_certain": 1.0}


@pytest.fixture
def true(rng):
    """(genes, programmes) loadings that sum to one."""
    loadings = rng.gamma(0.4, 1, (len(GENES), len(NAMES))) + 1e-3
    return loadings / loadings.sum(axis=0)


@pytest.fixture
def weights(rng):
    return rng.gamma(0.7, 60, (150, len(NAMES)))


@pytest.fixture
def measured(true, weights, rng):
    counts = sparse.csr_array(rng.poisson(weights @ true.T).astype(np.float32))
    return Measured(rng.random((150, 2)) * 100, counts, GENES, True, 1.0)


def table(values, genes=GENES):
    return pd.DataFrame(values, index=list(genes), columns=list(NAMES))


def given(values, genes=GENES):
    return Loadings.from_frame(table(values, genes))


def plain(model):
    return model.loadings[:, : model.n_factors - model.n_contrasts]


def error(found, expected):
    """Mean relative difference, in logarithms, of genes that matter."""
    some = expected > 1e-3
    return np.abs(np.log(np.maximum(found[some], 1e-9) / expected[some])).mean()


# ---- what is read


def test_columns_are_divided_by_their_sums(true):
    found = given(true * [1, 1e4, 1e-6])
    np.testing.assert_allclose(found.values, true, rtol=1e-12)
    assert found.genes == GENES
    assert found.programmes == NAMES
    markers = table(true > 0.01)
    held = markers[markers.any(axis=1)]
    np.testing.assert_allclose(Loadings.from_frame(held).values, held / held.sum())


def test_the_hash_tells_names_and_values(true):
    one = given(true)
    assert one.hash == given(true).hash != given(true**2).hash
    assert Loadings.from_frame(table(true).rename(columns={"g1": "other"})).hash != one.hash


def test_genes_are_found_by_name_and_those_without_are_unknown(true):
    found = given(true[:3], GENES[:3])
    aligned = found.of(("x", "g2", "g0"))
    np.testing.assert_array_equal(aligned[1:], found.values[[2, 0]])
    assert np.isnan(aligned[0]).all()


WRONG = {
    "no table": (lambda t: t.to_numpy(), TypeError, "ndarray; expected a pandas DataFrame"),
    "empty": (lambda t: t.iloc[:0], ValueError, "empty table of 0 genes x 3 programmes"),
    "a gene twice": (lambda t: pd.concat([t, t.iloc[3:4]]), ValueError, r"genes twice .*: g3; .*groupby\(level=0\)"),
    "a programme twice": (lambda t: t.set_axis(["a", "b", "a"], axis=1), ValueError, "programmes twice .*: a; .*Rename"),
    "words": (lambda t: t.assign(a="x"), TypeError, r"no numbers: 'a' \(.*\)"),
    "missing": (lambda t: t.reindex([*t.index.drop("g7"), "g7 "]).rename({"g7 ": "g7"}), ValueError, "3 NaN or infinite values .* nan of 'g7' in 'T cells'"),
    "infinite": (lambda t: t.replace(t.iloc[2, 1], np.inf), ValueError, "1 NaN or infinite values .* of 'g2' in 'B/plasma'"),
    "negative": (lambda t: t - 1, ValueError, "180 negative values .* signs"),
    "an empty programme": (lambda t: t.assign(a=0), ValueError, "zeros only .*: a;"),
    "an empty gene": (lambda t: t.mul(t.index != "g5", axis=0), ValueError, "1 genes that no programme .*: g5"),
    "programmes alike": (lambda t: t.assign(g1=3 * t["T cells"]), ValueError, "'T cells' and 'g1' of the same shares .*Leave one"),
    "more programmes than genes": (lambda t: t.iloc[:2], ValueError, "3 programmes of 2 genes"),
    "a contrast's name": (lambda t: t.set_axis(["a", "contrast0", "b"], axis=1), ValueError, "name 'contrast0'"),
    "no name": (lambda t: t.set_axis(["a", " ", "b"], axis=1), ValueError, "name ' '"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_loadings_is_refused(true, wrong):
    change, kind, words = WRONG[wrong]
    with pytest.raises(kind, match=words):
        Loadings.from_frame(change(table(true)))


def test_genes_that_a_section_lacks_are_refused(true):
    found = given(true)
    found.require({"one": GENES, "two": (*GENES, "more")})
    with pytest.raises(KeyError, match=r"2 of the 60 genes of `loadings` not in 'two': g0, g59; .*intersection"):
        found.require({"one": GENES, "two": GENES[1:-1]})
    with pytest.raises(KeyError, match="look like ENSG0, ENSG1, ENSG2: bring both to symbols or to ids"):
        found.require({"one": [f"ENSG{i}" for i in range(60)]})
    turned = Loadings.from_frame(pd.DataFrame(np.eye(3) + 0.1, index=["a", "b", "c"], columns=list(GENES[:3])))
    with pytest.raises(KeyError, match=re.escape("give `loadings.T`")):
        turned.require({"one": GENES})


# ---- what is made of them


def test_given_loadings_stay_as_they_are(measured, true):
    found = fit_factors(measured, ALL, GeneModelConfig(), 0, given(true * 7))
    np.testing.assert_array_equal(plain(found), given(true * 7).values.astype(np.float32))
    assert found.names[:3] == list(NAMES)
    again = refit_factors(found, measured, ALL, GeneModelConfig(), 0, given(true * 7))
    np.testing.assert_array_equal(plain(again), plain(found))
    assert again.names[:3] == list(NAMES)


def test_true_loadings_tell_what_spots_are_made_of_better_than_those_found(measured, true, weights):
    config = GeneModelConfig(n_factors=3, **NO_CONTRASTS)
    told = scores(fit_factors(measured, ALL, config, 0, given(true)), measured.values, config, is_counts=True)
    free = scores(fit_factors(measured, ALL, config, 0), measured.values, config, is_counts=True)
    best = np.corrcoef(weights.T, free.T)[:3, 3:].max(axis=1)
    own = np.diagonal(np.corrcoef(weights.T, told.T)[:3, 3:])
    assert (own > best).all()
    assert own.min() > 0.97
    np.testing.assert_allclose(told.mean(axis=0), weights.mean(axis=0), rtol=0.05)


def test_contrasts_are_found_in_what_given_loadings_leave_over(measured, true):
    """Two of three programmes are given: what is missing has a contrast."""
    two = Loadings.from_frame(table(true)[["T cells", "B/plasma"]])
    found = fit_factors(measured, ALL, GeneModelConfig(), 0, two)
    assert found.n_contrasts > 0
    assert found.names == ["T cells", "B/plasma", *(f"contrast{k}" for k in range(found.n_contrasts))]
    assert fit_factors(measured, ALL, GeneModelConfig(), 0, given(true)).n_contrasts == 0


def test_the_stronger_the_prior_the_nearer_loadings_are_to_those_given(measured, true, rng):
    """Given ones that are off by a factor of two or so: a weak prior finds the true ones, a firm one keeps what was given."""
    wrong = given(true * np.exp(rng.normal(0, 0.7, true.shape)))
    near, right = [], []
    for strength in (0.3, 10.0, 1e3, 1e9):
        config = GeneModelConfig(loadings_strength=strength, refits=6, **NO_CONTRASTS)
        found = plain(fit_factors(measured, ALL, config, 0, wrong))
        np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)
        near.append(error(found, wrong.values))
        right.append(error(found, true))
    assert near == sorted(near, reverse=True)
    assert right[1] == min(right)
    assert right[0] < right[2] < right[3]
    assert right[1] < 0.5 * right[3]
    np.testing.assert_allclose(found, wrong.values, rtol=1e-4)


def test_a_zero_stays_zero(measured, true):
    values = np.where(true > 0.002, true, 0)
    held = (values > 0).any(axis=1)
    some = given(values[held], np.array(GENES)[held])
    model = fit_factors(measured, ALL, GeneModelConfig(loadings_strength=1.0), 0, some)
    rows = plain(model.of(list(some.genes)))
    assert (rows[some.values == 0] == 0).all()
    assert (rows[some.values > 0] > 0).all()


@pytest.mark.parametrize("strength", [None, 30.0])
def test_genes_that_are_not_named_are_learned(measured, true, weights, strength):
    named, config = np.arange(60) % 3 > 0, GeneModelConfig(loadings_strength=strength, **NO_CONTRASTS)
    some = given(true[named], np.array(GENES)[named])
    model = fit_factors(measured, ALL, config, 0, some)
    found = plain(model)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)
    for k in range(3):
        assert np.corrcoef(found[~named, k], true[~named, k])[0, 1] > 0.9
    if strength is None:  # proportions are kept
        np.testing.assert_allclose(found[named] / found[named].sum(axis=0), some.values, rtol=1e-5)
    told = scores(model, measured.values, config, is_counts=True)
    assert np.diagonal(np.corrcoef(weights.T, told.T)[:3, 3:]).min() > 0.95
    again = refit_factors(model, measured, ALL, config, 0, some)
    assert np.abs(plain(again) - found).max() < 0.01


def test_learned_rows_know_kept_spots_alone(measured, true):
    kept, some = np.arange(150) < 100, given(true[:40], GENES[:40])
    changed = measured.values.toarray()
    changed[100:] = 1000
    other = Measured(measured.centers, sparse.csr_array(changed), GENES, True, 1.0)
    a, b = (fit_factors(m, kept, GeneModelConfig(), 0, some).loadings for m in (measured, other))
    np.testing.assert_array_equal(a, b)


def test_more_programmes_than_spots_can_be_given(measured, true, rng):
    """What a spot is made of is told by its genes, not by other spots."""
    many = pd.DataFrame(rng.dirichlet(np.ones(60), 20).T, index=list(GENES))
    found = fit_factors(measured, np.arange(150) < 10, GeneModelConfig(), 0, Loadings.from_frame(many))
    assert plain(found).shape == (60, 20)
    assert np.isfinite(scores(found, measured.values, GeneModelConfig(), is_counts=True)).all()


def test_sections_share_given_loadings_at_usual_levels(true, weights, rng):
    """Two sections, the second one deeper and with other yields of genes: loadings stay, levels tell the difference."""
    yields = np.exp(rng.normal(0, 0.4, len(GENES)))
    rates = weights @ true.T, 3 * (rng.permuted(weights, axis=0) @ true.T) * yields
    sections = [
        Measured(rng.random((150, 2)) * 100, sparse.csr_array(rng.poisson(rate).astype(np.float32)), GENES, True, 1.0)
        for rate in rates
    ]
    shared = fit_shared(sections, [ALL, ALL], GeneModelConfig(**NO_CONTRASTS), 0, given(true))
    np.testing.assert_array_equal(shared.shared.loadings, given(true).values.astype(np.float32))
    assert shared.of(1).names == list(NAMES)
    apart, often = shared.levels[1] - shared.levels[0], (rates[0].mean(axis=0) > 1)
    assert np.corrcoef(apart[often], np.log(yields)[often])[0, 1] > 0.95


def test_levels_of_sections_hold_what_cells_and_spots_measure_differently(true, weights, rng):
    """Cells catch each gene with a yield of their own: loadings stay as given, and all sections have other levels."""
    yields = np.exp(rng.normal(0, 0.7, len(GENES)))
    sections = [
        Measured(
            rng.random((150, 2)) * 100, sparse.csr_array(rng.poisson(w @ true.T).astype(np.float32)), GENES, True, 1.0
        )
        for w in (weights, rng.permuted(weights, axis=0))
    ]
    cells = given(true * yields[:, None])
    shared = fit_shared(sections, [ALL, ALL], GeneModelConfig(**NO_CONTRASTS), 0, cells)
    np.testing.assert_array_equal(shared.shared.loadings, cells.values.astype(np.float32))
    often = (weights @ true.T).mean(axis=0) > 2
    for level in shared.levels:
        assert np.corrcoef(level[often], -np.log(yields)[often])[0, 1] > 0.9


# ---- names of factors


def test_a_model_of_some_genes_or_factors_keeps_its_names():
    model = GeneModel(("a", "b", "c"), np.ones((3, 3), np.float32), 1, ("x", "y"))
    assert model.names == model.of(["b"]).names == ["x", "y", "contrast0"]
    assert model.by(np.array([False, True, True])).names == ["y", "contrast0"]
    with pytest.raises(ValueError, match="Found 1 names of 2 factors"):
        GeneModel(("a",), np.ones((1, 2), np.float32), 0, ("x",))
