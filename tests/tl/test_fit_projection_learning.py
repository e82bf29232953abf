"""What a fit learns, against the truth of sections drawn by rule."""

from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.scoring.metrics import pearson, poisson_deviance

pytestmark = pytest.mark.slow  # whole fits

KEY = "projection"


def fit(adata, path, **options):
    sp.tl.fit_projection(adata, store=path, **{"max_epochs": 2, "device": "cpu", **options})
    return adata


def raster(store, name):
    return sp.get.raster(store, name).values


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Trained through: of its few spots none is held out, so that the training would end after a third."""
    adata = sp.datasets.toy(160, 160, pitch_um=32, rng=2)
    through = sp.config.FitConfig(train=sp.config.TrainConfig(first_look=1))
    return fit(adata, tmp_path_factory.mktemp("learned") / "toy.zarr", max_epochs=24, config=through)


def in_tissue(store, truth):
    tissue = raster(store, "toy_tissue").astype(bool) & (truth.sel(gene="noise_a").values > 0)
    return lambda maps: maps[:, tissue].T.astype(float)


def test_image_tied_genes_beat_the_nearest_spot_at_every_pixel(learned):
    from scipy.spatial import KDTree

    genes = [gene for gene in learned.var_names if learned.var.loc[gene, "kind"] in ("class", "nuclei", "total")]
    truth = sp.datasets.toy_truth(learned).compute()
    store = learned.uns[KEY]["store"]
    pixels = in_tissue(store, truth)
    exact = pixels(truth.sel(gene=genes).values)
    projected = pearson(pixels(sp.get.gene_raster(store, genes).values), exact)
    x, y = np.meshgrid(np.arange(160) + 0.5, np.arange(160) + 0.5)
    spot = KDTree(learned.obsm["spatial"]).query(np.stack([x, y], axis=-1))[1]
    nearest = np.moveaxis(learned[:, genes].X.toarray()[spot], -1, 0)
    assert np.median(projected) > np.median(pearson(pixels(nearest), exact)) + 0.05


def test_unseen_spots_are_predicted_better_than_by_distance_alone(tmp_path):
    from sphisto.io.slides import make_slide
    from sphisto.scoring.baselines import gaussian

    adata = sp.datasets.toy(160, 160, pitch_um=32, rng=2)
    unseen = np.arange(adata.n_obs) % 5 == 0
    train, test = adata[~unseen].copy(), adata[unseen].copy()
    fit(train, tmp_path / "toy.zarr", max_epochs=12)
    params = train.uns[KEY]["params"]
    radius = params["spot_um"] / 2 / params["fullres_um_per_px"]
    predicted = sp.tl.aggregate(tmp_path / "toy.zarr", test.obsm["spatial"], radius=radius)[:, adata.var_names]
    slide = make_slide(sp.io.section(test))
    tissue = slide.footprint().drawn().mean(np.asarray(slide.tissue[:, :], dtype=float))
    interpolated = gaussian(make_slide(sp.io.section(train)), slide.footprint())[0].values * tissue
    measured = test.X.toarray()
    assert poisson_deviance(predicted.X, measured).mean() < 0.95 * poisson_deviance(interpolated, measured).mean()


def test_the_picture_is_redrawn(learned):
    from skimage.metrics import structural_similarity

    store = learned.uns[KEY]["store"]
    image, redrawn = raster(store, "toy_image") / 255, raster(store, "projection_reconstruction")
    assert structural_similarity(image, redrawn, channel_axis=0, data_range=1.0) > 0.8


def test_totals_are_kept(learned):
    fitted = learned.obsm["projection_fitted"].sum(axis=1)
    assert fitted.sum() == pytest.approx(learned.X.sum(), rel=0.05)


def test_genes_shuffled_among_spots_fall_to_chance(tmp_path):
    # many spots: genes share few patterns, so that among some fifty spots chance alone reaches high correlations
    shuffled = sp.datasets.toy(160, 160, pitch_um=16, rng=2)
    shuffled.X = np.random.default_rng(0).permuted(shuffled.X.toarray(), axis=0)
    fit(shuffled, tmp_path / "a.zarr", max_epochs=12)
    truth = sp.datasets.toy_truth(shuffled).compute()
    pixels = in_tissue(tmp_path / "a.zarr", truth)
    genes = list(shuffled.var_names[shuffled.var["kind"] != "noise"])
    found = sp.get.gene_raster(tmp_path / "a.zarr", genes).values
    assert abs(np.mean(pearson(pixels(found), pixels(truth.sel(gene=genes).values)))) < 0.15
