from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.core.tiles import Window
from sphisto.features.texture import Texture
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.io.slides import make_slide
from sphisto.networks.interpolation import values_at
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.train.crops import Crops, pool


@pytest.fixture
def crops(small_toy):
    return make_crops(make_slide(sp.io.section(small_toy)))


def make_crops(slide, epoch=0, shape=(64, 64), held_out=()):
    n = len(slide.spots.centers)
    watched = np.zeros(n, dtype=bool)
    watched[list(held_out)] = True
    factors = fit_factors(slide.spots, ~watched, GeneModelConfig(n_factors=4), 0)
    config = FitConfig()
    field = fit_field(slide, factors, ~watched, features_of(slide, [Texture()], config), config)
    genes = np.arange(len(slide.spots.genes))
    return Crops(slide, slide.footprint(), field, genes, ~watched, watched, shape, TrainConfig(batch=3), 8, 5, epoch)


def test_pooling_a_batch_is_the_footprints_mean(small_toy, rng):
    """A raster of the whole section, cut and turned as the picture was, pools to the same values."""
    slide = make_slide(sp.io.section(small_toy))
    # hide a raster in the picture: what the crops cut out of it must pool as it does as a whole
    raster = rng.integers(0, 256, (3, *slide.grid.shape)).astype(np.uint8)
    whole = replace(slide, image=raster)
    expected = slide.footprint().mean(raster.astype(float) * slide.tissue)
    values = slide.spots.values.toarray()
    crops = make_crops(whole)
    seen = set()
    for batch in crops:
        found = pool(values_at(batch.image * 255, batch.pixel), batch).numpy()
        for row, counts in zip(found, batch.values.numpy(), strict=True):
            spot = int(np.flatnonzero((values == counts).all(axis=1))[0])
            np.testing.assert_allclose(row, expected[spot], rtol=1e-4)
            seen.add(spot)
    assert len(seen) > 0.8 * len(values)


def test_a_batch_is_decided_by_seed_epoch_and_number(small_toy):
    slide = make_slide(sp.io.section(small_toy))
    one, other, later = make_crops(slide)[3], make_crops(slide)[3], make_crops(slide, epoch=1)[3]
    torch.testing.assert_close(one.image, other.image)
    torch.testing.assert_close(one.prior, other.prior)
    assert not torch.equal(one.image, later.image)


def test_held_out_spots_are_always_hidden_and_never_in_the_prior(small_toy):
    slide = make_slide(sp.io.section(small_toy))
    crops = make_crops(slide, held_out=[0, 5, 9])
    assert not set(crops.field.observations.spots) & {0, 5, 9}
    batches = list(crops)
    assert any(batch.held_out.any() for batch in batches)
    for batch in batches:
        assert (batch.hidden | ~batch.held_out).all()


def test_some_crops_hide_everything(crops):
    shares = [float(batch.hidden.float().mean()) for batch in crops if len(batch.hidden)]
    assert 0.1 < np.mean(shares) < 0.8


def test_a_picture_smaller_than_a_crop_is_mirrored(small_toy):
    slide = make_slide(sp.io.section(small_toy))
    batch = make_crops(slide, shape=(128, 128))[0]
    assert batch.image.shape == (3, 3, 128, 128)
    assert len(batch.values) == 3 * len(slide.spots.centers)


def test_spots_far_from_a_crop_change_nothing_of_it(small_toy):
    """Neither what is drawn at random nor what is hidden: a crop of a larger section is the same."""
    slide = make_slide(sp.io.section(small_toy))
    crops = make_crops(slide, shape=(32, 32))
    far = np.full((200, 2), 1e6)
    n = len(slide.spots.centers)
    measured = replace(slide.spots, centers=np.concatenate([slide.spots.centers, far]))
    more = replace(
        crops,
        slide=replace(slide, measured=measured),
        learned=np.concatenate([crops.learned, np.ones(200, dtype=bool)]),
    )
    window = Window(20, 30, 52, 62)
    near = crops._near(window)
    np.testing.assert_array_equal(more._near(window), near)
    assert 0 < len(near) < n
    for seed in range(8):
        one, other = (each._is_hidden(near, np.random.default_rng(seed)) for each in (crops, more))
        np.testing.assert_array_equal(one, other)


def test_squares_of_bins_are_hidden_whole():
    """Else what is hidden would be known from the counts of the same square."""
    adata = sp.datasets.toy(96, 96, um_per_px=4.0, bin_um=8.0, mean_counts=3, min_tissue=0.5)
    crops = make_crops(make_slide(sp.io.section(adata), um_per_px=4.0), held_out=range(0, 1200, 9))
    crops = replace(crops, config=replace(crops.config, most_spots=5_000, blind=0.0))
    observations = crops.field.observations
    assert observations.area > 1
    spots, square = observations.spots_of(np.arange(len(observations)))
    of_spot = np.full(len(crops.learned), -1)
    of_spot[spots] = square
    assert not crops.learned[of_spot < 0].any()  # what is watched is in no square
    rng = np.random.default_rng(0)
    near, rows = np.arange(len(crops.learned)), np.arange(len(observations))
    hidden, known = crops._hidden_squares(near, rows, False, rng)
    assert set(hidden) == set(np.flatnonzero((of_spot < 0) | ~known[of_spot]))
    assert 0.1 < 1 - known.mean() < 0.5
    everything, _ = crops._hidden_squares(near, rows, True, rng)
    assert len(everything) == len(near)
    batch = crops[0]
    assert 0 < batch.hidden.float().mean() < 1
    assert batch.hidden[batch.held_out].all()
