"""Truth finer than spots holds other molecules than the spots."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse


@pytest.fixture
def single_transcripts(tmp_path):
    """A crop in which each transcript is of a gene of its own, so that every one of them can be followed."""
    import tifffile
    from PIL import Image

    rng, n, shape = np.random.default_rng(0), 4_000, (200, 260)
    Image.fromarray(rng.integers(100, 255, (*shape, 3), dtype=np.uint8)).save(tmp_path / "he.png")
    Image.fromarray(rng.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(tmp_path / "if.png")
    labels = np.zeros(shape, dtype=np.uint16)
    labels[:100, :100], labels[120:160, 50:250] = 7, 3
    tifffile.imwrite(tmp_path / "cell_labels.tif", labels)
    found = pd.DataFrame(
        {"gene": [f"g{i:04d}" for i in range(n)], "x_px": rng.random(n) * 260, "y_px": rng.random(n) * 200}
    )
    found.to_csv(tmp_path / "transcripts.csv.gz", index=False)
    return tmp_path, found, labels


def test_no_transcript_is_both_in_a_spot_and_in_the_truth(single_transcripts, monkeypatch):
    from benchmarks.fidelity import finer_truth

    monkeypatch.setattr(finer_truth, "HE_LEAST", 1)
    folder, found, labels = single_transcripts
    case = finer_truth.he_if(folder, "xenium_breast_he_if", "finer", 0)
    assert list(case.genes) == list(found.gene)
    in_spots, in_truth = case.counts.sum(axis=0), case.truth.sum(axis=0)
    assert (in_spots + in_truth).max() == 1
    assert in_truth.mean() == pytest.approx(0.3, abs=0.03)  # whole bins of 10 px tile this image
    share = len(case.centers) * case.slide.spot_area / (200 * 260)
    assert in_spots.mean() == pytest.approx(0.7 * share, abs=0.03)
    again = finer_truth.he_if(folder, "xenium_breast_he_if", "finer", 1)
    assert not np.array_equal(again.truth, case.truth)


def test_transcripts_are_counted_in_their_bin_and_cell(single_transcripts, monkeypatch):
    from benchmarks.fidelity import finer_truth

    monkeypatch.setattr(finer_truth, "HE_LEAST", 1)
    folder, found, labels = single_transcripts
    case = finer_truth.he_if(folder, "xenium_breast_he_if", "finer", 0)
    bins, genes = np.nonzero(case.truth)
    center = case.regions.centroids()[bins]
    apart = np.abs(center - found[["y_px", "x_px"]].to_numpy()[genes])
    assert apart.max() <= 5 + 1e-6
    cells = finer_truth.he_if(folder, "xenium_breast_he_if", "cells", 0)
    assert cells.truth.shape == (2, 4_000)  # labels 3 and 7, in this order
    rows, genes = np.nonzero(cells.truth)
    y, x = found[["y_px", "x_px"]].to_numpy()[genes].astype(int).T
    np.testing.assert_array_equal(labels[y, x], np.array([3, 7])[rows])
    np.testing.assert_allclose(cells.area * cells.slide.spot_area * 7 / 3, [40 * 200, 100 * 100])


@pytest.fixture
def single_molecules(tmp_path):
    """Four cells, square and side by side, each molecule of a gene of its own."""
    from anndata import AnnData
    from PIL import Image

    Image.fromarray(np.full((240, 240), 90, dtype=np.uint8)).save(tmp_path / "dapi.png")
    corners = {i: (120 * (i // 2), 120 * (i % 2)) for i in range(4)}
    outlines = [
        (i, x + dx, y + dy) for i, (y, x) in corners.items() for dx, dy in ((0, 0), (120, 0), (120, 120), (0, 120))
    ]
    pd.DataFrame(outlines, columns=["cell", "x", "y"]).to_csv(tmp_path / "cell_polygons.csv.gz", index=False)
    counts = np.zeros((4, 800), dtype=np.float32)
    counts[np.arange(800) % 4, np.arange(800)] = 1
    cells = AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=["0", "1", "2", "3"]))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path


def test_no_molecule_of_a_cell_is_both_in_a_spot_and_in_the_truth(single_molecules, monkeypatch):
    from benchmarks.fidelity import finer_truth

    monkeypatch.setattr(finer_truth, "DAPI_LEAST", 1)
    case = finer_truth.dapi(single_molecules, "xenium_breast_dapi", "finer", 0)
    in_spots, in_truth = case.counts.sum(axis=0), case.truth.sum(axis=0)
    assert (np.isclose(in_truth, 1) | np.isclose(in_truth, 0)).all()
    assert not (np.isclose(in_truth, 1) & (in_spots > 0)).any()
    assert np.isclose(in_truth, 1).mean() == pytest.approx(0.3, abs=0.05)
    y, x = case.regions.centroids()[np.argmax(case.truth[:, np.flatnonzero(in_truth > 0.5)[0]])]
    assert np.flatnonzero(in_truth > 0.5)[0] % 4 == 2 * (y > 120) + (x > 120)  # within its cell


def test_spots_and_truth_share_all_counts_between_them(rng):
    from benchmarks.fidelity.finer_truth import split_molecules

    counts = rng.poisson(3, size=(500, 40))
    seen, hidden = split_molecules(counts, 0.7, rng)
    np.testing.assert_array_equal(seen + hidden, counts)
    assert seen.sum() / counts.sum() == pytest.approx(0.7, abs=0.01)
    residual = (seen - 0.7 * 3) * (hidden - 0.3 * 3)
    assert abs(residual.mean()) < 0.05  # thinned Poisson counts are independent


def test_a_density_of_spots_stands_for_the_counts_of_the_truth(single_molecules, monkeypatch):
    """Counts per spot area times area of the bins sum up to the truth, though spots hold 70 % and truth 30 %."""
    from benchmarks.fidelity import finer_truth

    monkeypatch.setattr(finer_truth, "DAPI_LEAST", 1)
    cases = [finer_truth.dapi(single_molecules, "xenium_breast_dapi", "finer", seed) for seed in range(4)]
    told = sum(case.counts.sum(axis=1).mean() * case.area.sum() for case in cases)
    assert told == pytest.approx(sum(case.truth.sum() for case in cases), rel=0.15)


def test_an_array_of_pseudo_spots_lies_in_the_image_at_its_pitch(rng):
    from benchmarks.fidelity.finer_truth import lattice

    from sphisto.core.spot import median_pitch

    found = lattice((545, 689), 0.85, 30.0, 50.0, rng)
    centers, margin = found[["y", "x"]].to_numpy(), 15 / 0.85
    assert (centers >= margin).all()
    assert (centers <= np.array([545, 689]) - margin).all()
    assert median_pitch(centers) == pytest.approx(50 / 0.85)
    assert ((found.array_row + found.array_col) % 2 == 0).all()


def test_the_truth_of_toy_bins_is_the_mean_rate_times_their_area(toy_case):
    from sphisto.datasets import toy_truth

    case = toy_case
    rates = toy_truth(case.adata, list(case.genes)).to_numpy()
    k = len(case.regions) // 2
    y, x = (case.regions.centroids()[k] - 2).astype(int)
    expected = rates[:, y : y + 4, x : x + 4].mean(axis=(1, 2)) * 16 / case.slide.spot_area
    np.testing.assert_allclose(case.truth[k], expected, rtol=1e-5)
    assert {sum(gene.startswith(k) for gene in case.genes) for k in ("class0", "nuclei", "gradient")} == {2}
    assert not any(gene.startswith("noise") for gene in case.genes)


def test_held_out_spots_are_not_in_the_training_data(spots_case):
    from scipy.spatial.distance import cdist

    apart = cdist(spots_case.centers, spots_case.regions.centroids())
    assert apart.min() > 0.9 * spots_case.slide.spots.pitch
    assert len(spots_case.centers) == spots_case.adata.n_obs


def test_pooling_averages_pixels_and_blocks(toy_case):
    rows = np.broadcast_to(np.arange(toy_case.slide.grid.height, dtype=np.float32)[:, None], toy_case.slide.grid.shape)
    for stride in (1, 4):
        raster = rows[stride // 2 :: stride, ::stride][None] + (0.5 if stride == 1 else 0)
        at_spots, at_regions = toy_case.pooled(raster, stride)
        np.testing.assert_allclose(at_spots[:, 0], toy_case.centers[:, 0], atol=0.1)
        np.testing.assert_allclose(at_regions[:, 0], toy_case.regions.centroids()[:, 0], atol=1e-3)


@pytest.mark.parametrize("kind", ["random", "blocks"])
def test_real_spots_are_split_before_genes_are_chosen(real_section, kind):
    from benchmarks.fidelity.cases import make_case

    case = make_case("mob_st_1", kind, 0, real_section("mob_st_1").parent)
    assert 0.1 < len(case.truth) / (len(case.truth) + case.adata.n_obs) < 0.3
    assert ((case.counts > 0).mean(axis=0) > 0.03).all()
    assert case.truth.shape[1] == case.adata.n_vars
