from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, sparse

from sphisto import datasets
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window
from sphisto.datasets import _toy
from sphisto.datasets._drawing import CLASSES, Drawing
from sphisto.slide.calibration import calibrate

DRAWING = Drawing(height=300, width=260, um_per_px=2.0, n_noise=2, mean_counts=10.0, seed=3)
WHOLE = Window(0, 0, 300, 260)
WINDOWS = [Window(0, 0, 1, 1), Window(37, 5, 91, 77), Window(120, 100, 300, 260), Window(299, 0, 300, 260)]


@pytest.fixture(scope="module")
def adata():
    return datasets.toy()


@pytest.fixture(scope="module")
def small():
    return datasets.toy(48, 48, pitch_um=24, rng=1)


def disc_mean(raster, center, radius, n=12):
    """Brute-force mean of a (y, x) raster over a disc, by n x n samples a pixel."""
    y0, x0 = np.floor(center - radius).astype(int)
    size = int(np.ceil(2 * radius)) + 2
    y, x = np.mgrid[: size * n, : size * n] / n + 0.5 / n
    inside = np.hypot(y0 + y - center[0], x0 + x - center[1]) <= radius
    return raster[y0 + y.astype(int), x0 + x.astype(int)][inside].mean()


def test_visium_layout(adata):
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert (adata.obs["in_tissue"] == 1).all()
    assert ((adata.obs["array_row"] + adata.obs["array_col"]) % 2 == 0).all()
    assert adata.obs_names.is_unique
    assert adata.obs_names.str.fullmatch("[ACGT]{16}-1").all()
    library = adata.uns["spatial"]["toy"]
    assert library["images"]["hires"].shape == (512, 512, 3)
    assert library["images"]["hires"].dtype == np.uint8
    assert max(library["images"]["lowres"].shape) <= 600
    assert library["scalefactors"]["tissue_hires_scalef"] == 1
    assert 40 < adata.n_obs < 110


def test_the_array_tells_the_scale(adata):
    factors = adata.uns["spatial"]["toy"]["scalefactors"]
    scale = calibrate(
        adata.obsm["spatial"][:, ::-1],
        array_row=adata.obs["array_row"],
        array_col=adata.obs["array_col"],
        spot_px=factors["spot_diameter_fullres"],
    )
    assert scale.um_per_px == pytest.approx(2.0)
    assert scale.spot_um == 55
    assert scale.pitch_um == pytest.approx(100)
    assert factors["spot_diameter_fullres"] == pytest.approx(65 / 2.0)


def test_spots_lie_on_tissue_and_within_the_picture(adata):
    x, y = adata.obsm["spatial"].T
    radius = 55 / 2 / 2
    assert min(x.min(), y.min()) >= radius
    assert max(x.max(), y.max()) <= 512 - radius
    tissue = datasets.toy_truth(adata, "noise_a").to_numpy()[0] > 0
    shares = [disc_mean(tissue, center, radius) for center in adata.obsm["spatial"][:, ::-1]]
    assert min(shares) >= 0.49


def test_genes_say_what_they_follow(adata):
    assert len(adata.var_names) == 18
    for gene, kind in adata.var["kind"].items():
        assert gene.startswith(kind)
    assert set(adata.var["kind"]) == {"class", "nuclei", "total", "gradient", "noise"}
    many = datasets.toy(48, 48, pitch_um=24, n_noise=30)
    assert list(many.var_names[-5:]) == ["noise_z", "noise_aa", "noise_ab", "noise_ac", "noise_ad"]


def test_counts_are_poisson_with_the_truth_under_each_disc_as_mean():
    adata = datasets.toy(96, 96, pitch_um=30, mean_counts=20_000, rng=2)
    truth = datasets.toy_truth(adata).to_numpy()
    radius = 30 * 0.55 / 2 / 2
    centers = adata.obsm["spatial"][:, ::-1]
    expected = np.array([[disc_mean(plane, center, radius) for plane in truth] for center in centers])
    z = (adata.X.toarray() - expected) / np.sqrt(expected)
    within_rounding = np.abs(z) < 4.5 + 0.01 * np.sqrt(expected)  # 1 % for the samples of the brute-force disc
    assert within_rounding.all()
    noise = z[:, adata.var["kind"] == "noise"]
    assert 0.75 < noise.std() < 1.25


def test_bins_are_squares_of_the_same_drawing_as_spots():
    bins, spots = datasets.toy(128, 128, bin_um=8.0, mean_counts=300), datasets.toy(128, 128, pitch_um=50, spot_um=27.5)
    assert (
        bins.uns["spatial"]["toy"]["images"]["hires"].tolist()
        == spots.uns["spatial"]["toy"]["images"]["hires"].tolist()
    )
    truth = datasets.toy_truth(bins, "total_a").values[0]
    assert datasets.toy_truth(bins, "total_a").attrs["unit"] == "counts per bin area"
    row, column = bins.obs["array_row"].to_numpy(), bins.obs["array_col"].to_numpy()
    expected = truth.reshape(32, 4, 32, 4).mean(axis=(1, 3))[row, column]  # four pixels of 2 um to a bin
    counts = bins[:, "total_a"].X.toarray().ravel()
    z = (counts - expected) / np.sqrt(np.maximum(expected, 1e-9))
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert 0.85 < z.std() < 1.15
    np.testing.assert_allclose(bins.obsm["spatial"], np.column_stack([column, row]) * 4.0 + 2.0)
    calibrated = calibrate(bins.obsm["spatial"][:, ::-1], array_row=row, array_col=column, spot_px=4.0, bin_um=8.0)
    assert (calibrated.um_per_px, calibrated.spot_shape) == (pytest.approx(2.0), "square")
    per_area = bins.X.sum() / bins.n_obs / 64, 300 / 10 * spots.X.sum() / spots.n_obs / (np.pi * 27.5**2 / 4)
    assert per_area[0] / per_area[1] == pytest.approx((np.pi * 27.5**2 / 4) / (np.pi * 55**2 / 4), rel=0.1)


def test_expected_counts_do_not_depend_on_the_windows():
    centers = np.array([[40.0, 50.0], [128.3, 127.9], [200.0, 63.5]])
    spot = Spot(55.0)
    means, share = _toy._pooled(DRAWING, centers, spot)
    again, share_again = _toy._pooled(DRAWING, centers, spot, tile=64)
    np.testing.assert_allclose(means, again, rtol=1e-6)
    np.testing.assert_allclose(share, share_again, rtol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_any_window_is_that_of_the_whole(window):
    assert (DRAWING.image(window) == DRAWING.image(WHOLE)[window.slices]).all()
    genes = list(DRAWING.kinds)
    rows, columns = window.slices
    assert (DRAWING.rates(window, genes) == DRAWING.rates(WHOLE, genes)[:, rows, columns]).all()


def test_blocks_of_the_lazy_arrays_fit_together(small):
    drawing, genes = _toy._recall(small), list(small.var_names)
    image = _toy._lazy_image(drawing, 20)
    assert image.numblocks == (3, 3, 1)
    assert (image == datasets.toy_image(small)).all().compute()
    assert (_toy._lazy_rates(drawing, genes, 20) == datasets.toy_truth(small, genes).data).all().compute()


def test_a_part_of_a_huge_section_is_drawn_alone(small):
    adata = small.copy()
    adata.uns["toy"] |= {"height": 20_000, "width": 20_000, "um_per_px": 0.5}
    image = datasets.toy_image(adata)
    assert image.shape == (20_000, 20_000, 3)
    part = image[10_300:10_310, 9_000:9_010].compute()
    assert part.shape == (10, 10, 3)
    truth = datasets.toy_truth(adata)
    assert truth.shape == (18, 20_000, 20_000)
    assert max(truth.chunks[1]) <= 1024


def test_truth_has_names_units_and_pixel_centres(small):
    truth = datasets.toy_truth(small, ["total_a", "class1_b"])
    assert truth.dims == ("gene", "y", "x")
    assert list(truth.gene.values) == ["total_a", "class1_b"]
    assert truth.dtype == np.float32
    assert truth.y.values[0] == 0.5
    assert truth.x.values[-1] == 47.5
    assert truth.attrs == {"unit": "counts per spot area", "um_per_px": 2.0}


def test_truth_follows_the_names(adata):
    truth = datasets.toy_truth(adata).compute()
    tissue = (truth.sel(gene="noise_a") > 0).to_numpy()
    assert (truth.to_numpy()[:, ~tissue] == 0).all()
    assert (truth.to_numpy()[:, tissue] > 0).all()
    for gene in ("noise_a", "noise_d"):
        assert (truth.sel(gene=gene).to_numpy()[tissue] == 10).all()
    on = truth.sel(gene=[f"class{k}_a" for k in range(4)]).to_numpy() > 10
    assert (on.sum(axis=0)[tissue] == 1).all()
    gradients = truth.sel(gene=["gradient_a", "gradient_b"]).to_numpy()[:, tissue]
    y, x = np.nonzero(tissue)
    plane = np.column_stack([y, x, np.ones(len(y))])
    residual = gradients.T - plane @ np.linalg.lstsq(plane, gradients.T, rcond=None)[0]
    assert residual.std() < 0.01 * gradients.std()
    assert abs(np.corrcoef(gradients)[0, 1]) < 0.3
    assert np.allclose(truth.sel(gene="total_b"), 0.3 * truth.sel(gene="total_a"))


@pytest.mark.parametrize("seed", range(8))
def test_every_section_has_all_classes_a_hole_and_a_margin_of_glass(seed):
    drawing = Drawing(128, 128, 8.0, 0, 1.0, seed)
    layers = drawing.layers(Window(0, 0, 128, 128))
    share = np.bincount(layers.label[layers.tissue], minlength=len(CLASSES)) / layers.tissue.sum()
    assert share.min() > 0.04
    assert 0.3 < layers.tissue.mean() < 0.75
    glass, n = ndimage.label(~layers.tissue)
    border = np.unique(np.concatenate([glass[0], glass[-1], glass[:, 0], glass[:, -1]]))
    inner = [i for i in range(1, n + 1) if i not in border]
    assert max((glass == i).sum() for i in inner) > 0.01 * 128**2


def test_the_picture_shows_tissue_and_nuclei(adata):
    image = datasets.toy_image(adata).compute().astype(float)
    truth = datasets.toy_truth(adata, ["noise_a", "nuclei_a", "class1_a", "class3_a"]).to_numpy()
    tissue, nuclei, lymphoid, fat = truth[0] > 0, truth[1] > 38, truth[2] > 10, truth[3] > 10
    grey = image.mean(axis=-1)
    assert grey[~tissue].min() > 235
    assert grey[tissue & ~fat].mean() < 190
    assert 215 < grey[fat & ~nuclei].mean() < 238  # pale, and still not glass
    assert grey[nuclei].mean() < grey[lymphoid & (truth[1] < 3)].mean() - 40
    red, green, blue = image[nuclei].mean(axis=0)
    assert blue > red > green  # purple
    red, green, blue = image[tissue & ~nuclei & ~lymphoid].mean(axis=0)
    assert red > blue > green  # pink


def test_nuclei_have_the_size_of_nuclei():
    drawing = Drawing(800, 800, 0.5, 0, 1.0, 0)
    layers = drawing.layers(Window(0, 0, 800, 800))
    objects, _ = ndimage.label((layers.nuclei > 0.5) & (layers.label == 0))
    areas = np.bincount(objects.ravel())[1:] * 0.25
    whole = areas > 10  # the border between classes cuts off slivers
    assert whole.sum() > 15
    assert 6 <= 2 * np.sqrt(np.median(areas[whole]) / np.pi) <= 8


def test_seed_decides_everything(small):
    same, other = datasets.toy(48, 48, pitch_um=24, rng=1), datasets.toy(48, 48, pitch_um=24, rng=2)
    assert (same.X != small.X).nnz == 0
    assert (same.uns["spatial"]["toy"]["images"]["hires"] == small.uns["spatial"]["toy"]["images"]["hires"]).all()
    assert (other.uns["spatial"]["toy"]["images"]["hires"] != small.uns["spatial"]["toy"]["images"]["hires"]).any()
    drawn = datasets.toy(48, 48, pitch_um=24, rng=np.random.default_rng(5))
    again = datasets.toy(48, 48, pitch_um=24, rng=drawn.uns["toy"]["seed"])
    assert (drawn.X != again.X).nnz == 0


def test_truth_survives_subsetting_and_files(small, tmp_path):
    import anndata

    small.write_h5ad(tmp_path / "toy.h5ad")
    back = anndata.read_h5ad(tmp_path / "toy.h5ad")[:5, ["total_a", "noise_b"]].copy()
    truth = datasets.toy_truth(back)
    assert list(truth.gene.values) == ["total_a", "noise_b"]
    assert (truth == datasets.toy_truth(small, ["total_a", "noise_b"])).all()
    assert (datasets.toy_image(back) == datasets.toy_image(small)).all().compute()


def test_large_pictures_are_reduced_by_area_means():
    adata = datasets.toy(155, 134, pitch_um=40)
    library = _toy._spatial(_toy._recall(adata), 22.0, hires_px=60, lowres_px=25, block=64)
    full = datasets.toy_image(adata).compute().astype(float)
    expected = [[full[y : y + 3, x : x + 3].mean(axis=(0, 1)) for x in range(0, 134, 3)] for y in range(0, 155, 3)]
    hires = library["images"]["hires"]
    assert hires.shape == (52, 45, 3)
    assert np.abs(hires - np.array(expected)).max() <= 0.5
    assert library["scalefactors"]["tissue_hires_scalef"] == pytest.approx(1 / 3)
    assert library["scalefactors"]["tissue_lowres_scalef"] == pytest.approx(1 / 9)
    assert library["images"]["lowres"].shape == (18, 15, 3)


def test_small_sections_take_a_smaller_array(small):
    assert 8 <= small.n_obs <= 16
    factors = small.uns["spatial"]["toy"]["scalefactors"]
    assert factors["spot_diameter_fullres"] == pytest.approx(24 * 0.65 / 2)
    with pytest.raises(ValueError, match=r"None of the 1 spots that fit .* lower `pitch_um` \(100 um\)"):
        datasets.toy(48, 48, min_tissue=1.0, rng=2)
    with pytest.raises(ValueError, match=r"A spot of 55 um does not fit into 20 x 48 px of 2 um"):
        datasets.toy(20, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0}, "`height` must be a positive number, found 0"),
        ({"um_per_px": float("nan")}, "`um_per_px` must be a positive number, found nan"),
        ({"spot_um": -1}, "`spot_um` must be a positive number, found -1"),
        ({"mean_counts": 0}, "`mean_counts` must be a positive number, found 0"),
        ({"n_noise": -1}, "`n_noise` must not be negative, found -1"),
        ({"min_tissue": 2}, "`min_tissue` is a share between 0 and 1, found 2"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.toy(**arguments)


def test_unknown_genes_and_other_sections_are_refused(small):
    import anndata

    with pytest.raises(ValueError, match=r"has no gene 'ACTB'. It has: class0_a, class0_b"):
        datasets.toy_truth(small, ["total_a", "ACTB"])
    with pytest.raises(ValueError, match=r"Did not find .uns\['toy'\]"):
        datasets.toy_image(anndata.AnnData(np.ones((2, 2))))
    broken = small.copy()
    del broken.uns["toy"]["seed"]
    with pytest.raises(ValueError, match=r"lacks seed"):
        datasets.toy_truth(broken)
