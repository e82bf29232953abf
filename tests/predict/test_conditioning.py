"""The prior of bins of few counts, against the rates that they were drawn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.features.texture import Texture
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.genes.observations import informative
from sphisto.io.slides import make_slide
from sphisto.predict.conditioning import features_of, fit_field

SIDE, UM_PER_PX, BOX = 320, 4.0, (96, 96, 224, 224)


@pytest.fixture(scope="module", params=[1.6, 0.5])
def sparse_bins(request):
    """Bins of 8 um, of which half, or four fifths, hold no counts."""
    adata = sp.datasets.toy(SIDE, SIDE, um_per_px=UM_PER_PX, bin_um=8.0, mean_counts=request.param, min_tissue=0.5)
    empty = np.mean(adata.X.sum(axis=1) == 0)
    assert abs(empty - {1.6: 0.5, 0.5: 0.8}[request.param]) < 0.1
    return adata


def compared(adata, **given):
    """Mean of each gene on tissue by the prior and in truth, both per bin, and the mean correlation of the genes' maps."""
    slide, config = make_slide(sp.io.section(adata, **given), um_per_px=UM_PER_PX), sp.config.FitConfig()
    known = informative(slide)
    model = fit_factors(slide.spots, known, config.genes, 0)
    field = fit_field(slide, model, known, features_of(slide, [Texture()], config), config)
    window, inside = Window(0, 0, SIDE, SIDE), np.asarray(slide.tissue)
    y, x = np.nonzero(inside)
    density = field.given("all").at_pixels(window, y, x).T.astype(float)
    found = rates(density, model.loadings.astype(float), model.n_contrasts).T
    truth = np.asarray(sp.datasets.toy_truth(adata))[:, y, x]
    varies = adata.var["kind"].to_numpy() == "class"
    pearson = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found[varies], truth[varies], strict=True)])
    return found.mean(axis=1), truth.mean(axis=1), pearson


def test_bins_of_few_counts_give_the_true_rates_on_average(sparse_bins):
    found, truth, pearson = compared(sparse_bins)
    counts = float(sparse_bins.X.sum())
    assert found.sum() == pytest.approx(counts / sparse_bins.n_obs, rel=0.03)  # all but a few bins are whole on tissue
    assert found.sum() == pytest.approx(truth.sum(), rel=0.03 + 1 / np.sqrt(counts))  # to which counting adds its noise
    np.testing.assert_allclose(found, truth, rtol=0.15, atol=0.05 * truth.max())
    assert pearson > 0.75


def test_a_window_gives_them_as_the_whole_section_does(sparse_bins):
    _, _, whole = compared(sparse_bins)
    found, truth, pearson = compared(sparse_bins, bbox=BOX)
    counts = float(truth.sum()) * (BOX[2] - BOX[0]) ** 2 / 4  # of which there are so few that their noise is seen
    assert found.sum() == pytest.approx(truth.sum(), rel=0.03 + 2 / np.sqrt(counts))
    if truth.sum() > 0.5:  # else the window holds a few hundred counts
        assert pearson > whole - 0.1


def test_tables_without_their_empty_bins_would_not(sparse_bins):
    """That is what a table is warned of which holds none: so many are missing that the rates are far too high."""
    total = np.asarray(sparse_bins.X.sum(axis=1)).ravel()
    found, truth, _ = compared(sparse_bins[total > 0].copy())
    assert found.sum() > 1.3 * truth.sum()


def test_stray_counts_beside_the_tissue_make_no_tissue():
    """Few bins of glass catch something; all of them together hold far less than tissue does."""
    adata = sp.datasets.toy(SIDE, SIDE, um_per_px=UM_PER_PX, bin_um=8.0, mean_counts=1.6, min_tissue=0.0)
    beside = np.asarray(sp.datasets.toy_truth(adata, ["noise_a"]))[0] == 0
    x, y = adata.obsm["spatial"].astype(int).T
    off = beside[y, x]
    counts = adata.X.toarray()
    counts[off, 0] += np.random.default_rng(0).random(off.sum()) < 0.02
    adata.X = counts
    slide = make_slide(sp.io.section(adata))
    glass = np.asarray(slide.tissue) & beside
    assert glass.sum() < 0.03 * beside.sum()
    known = informative(slide)
    assert known[off].mean() < 0.03
    assert known[~off].mean() > 0.97
    # where as much was measured as on tissue, tissue was missed
    missed = replace(slide, tissue=np.asarray(slide.tissue) & (np.arange(SIDE)[:, None] > SIDE // 2))
    from sphisto.io.slides import _missed_bins

    rows = _missed_bins(missed)
    assert 0.9 * (~off & ~missed.on_tissue).sum() < len(rows) < 1.1 * (~off & ~missed.on_tissue).sum()
