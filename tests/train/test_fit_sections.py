"""Training on several sections: whose crops, whose loadings, and that left-out spots stay out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.core.tiles import Window
from sphisto.features.texture import Texture
from sphisto.genes.model import rates
from sphisto.io.slides import make_slide
from sphisto.networks.registry import network
from sphisto.predict.conditioning import features_of, posterior_for
from sphisto.predict.sections import field_of, fit_together, of_common_genes
from sphisto.train.crops import Crops, CropsOfSections
from sphisto.train.fit import fit_sections
from sphisto.train.loop import Part, Task, _Training, train
from sphisto.train.recipe import Recipe
from sphisto.train.shrinkage import Choice

CONFIG = FitConfig(train=TrainConfig(max_epochs=1, crop=32, batch=2, least_batches=4))


@pytest.fixture(scope="module")
def slides():
    """Two sections, the second of four times the area."""
    out = []
    for name, side, seed in (("one", 96, 1), ("two", 192, 2)):
        adata = sp.datasets.toy(side, side, pitch_um=24, rng=seed)
        adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
        out.append(make_slide(sp.io.section(adata)))
    return of_common_genes(out)


def watched(slide):
    held_out = np.zeros(len(slide.spots.centers), dtype=bool)
    held_out[::7] = True
    return held_out


@pytest.fixture(scope="module")
def parts(slides):
    held_out = [watched(slide) for slide in slides]
    learned = [~each for each in held_out]
    shared = fit_together(slides, learned, [Texture()], CONFIG, "section", 0)
    features = [features_of(slide, [Texture()], CONFIG) for slide in slides]
    return tuple(
        Part(slide, shared.model.of(i), field_of(slide, shared, i, known, own, CONFIG), known, left)
        for i, (slide, known, own, left) in enumerate(zip(slides, learned, features, held_out, strict=True))
    )


def make_task(parts, seed=3):
    spec = network("unet")
    level = np.maximum(spec.level(np.concatenate([part.field.observations.plain for part in parts])), 1e-6)
    torch.manual_seed(seed)
    module = spec.build(torch.from_numpy(level.astype(np.float32)))
    return Task(parts, spec, module, CONFIG.train, seed, "float32", {"of": "a test"})


def make_crops(parts, n_batches, seed=3, epoch=0, shares=None):
    of_each = tuple(
        Crops(
            part.slide, part.slide.footprint(), part.field, np.arange(len(part.slide.spots.genes)), part.learned,
            part.held_out, (32, 32), CONFIG.train, n_batches, seed, epoch, i,
        )
        for i, part in enumerate(parts)
    )  # fmt: skip
    tissue = np.array([part.slide.tissue.sum() for part in parts], dtype=float)
    return CropsOfSections(of_each, tissue / tissue.sum() if shares is None else np.asarray(shares))


def test_batches_are_of_one_section_each_and_as_many_as_there_is_tissue(parts):
    n = 60
    crops = make_crops(parts, n)
    batches = list(crops)
    assert len(batches) == len(crops) == n
    drawn = np.bincount([int(batch.section) for batch in batches], minlength=2) / n
    expected, scatter = crops.shares, np.sqrt(np.prod(crops.shares) / n)
    assert expected[1] > 0.7
    np.testing.assert_allclose(drawn, expected, atol=3 * scatter)
    for batch in batches:
        counts = parts[int(batch.section)].slide.spots.values.toarray()
        assert all((counts == row).all(axis=1).any() for row in batch.values.numpy())


def test_a_section_without_a_share_is_never_drawn(parts):
    assert {int(batch.section) for batch in make_crops(parts, 8, shares=[1, 0])} == {0}


def test_a_batch_is_decided_by_seed_epoch_and_number(parts):
    one, other = make_crops(parts, 6), make_crops(parts, 6)
    for number in (4, 1):  # in any order, as processes share them
        first, second = one[number], other[number]
        assert int(first.section) == int(second.section)
        for name, value in vars(first).items():
            torch.testing.assert_close(value, vars(second)[name])
    for options in ({"epoch": 1}, {"seed": 4}):
        later = make_crops(parts, 6, **options)
        assert any(not torch.equal(one[n].image, later[n].image) for n in range(6))
    with pytest.raises(IndexError):
        one[6]


def test_held_out_spots_of_every_section_are_hidden_and_in_no_field(parts):
    for part in parts:
        assert not set(part.field.observations.spots) & set(np.flatnonzero(part.held_out))
    batches = list(make_crops(parts, 20))
    assert {int(batch.section) for batch in batches if batch.held_out.any()} == {0, 1}
    for batch in batches:
        assert (batch.hidden | ~batch.held_out).all()


def test_the_loss_of_a_batch_uses_the_loadings_of_its_section(parts):
    training = _Training(make_task(parts))
    assert training.loadings.shape == (2, *parts[0].model.loadings.shape)
    assert not np.allclose(*(part.model.loadings for part in parts))
    crops = make_crops(parts, 30)
    for section, part in enumerate(parts):
        batch = next(batch for batch in crops if int(batch.section) == section and len(batch.values) > 1)
        pooled = torch.rand(len(batch.values), part.model.n_factors) + 0.1
        weight = torch.ones(len(batch.values))
        own = rates(pooled, torch.from_numpy(part.model.loadings), part.model.n_contrasts)
        expected = training.spot_loss(own, batch.values, weight)
        torch.testing.assert_close(training._spot_loss(pooled, batch, weight), expected)
        other = replace_section(batch, 1 - section)
        assert not torch.isclose(training._spot_loss(pooled, other, weight), expected)


def replace_section(batch, section):
    return type(batch)(**{**vars(batch), "section": torch.tensor(section)})


def test_an_epoch_has_batches_for_the_tissue_of_all_sections(parts):
    pixels = sum(float(part.slide.tissue.sum()) for part in parts)
    training = _Training(make_task(parts))
    assert training.n_steps == max(CONFIG.train.least_batches, -(-pixels // (2 * 32 * 32)))
    np.testing.assert_allclose(training.shares, [part.slide.tissue.sum() / pixels for part in parts])


def test_the_same_seed_trains_the_same_weights(parts, tmp_path):
    weights = []
    for name in "ab":
        task = make_task(parts)
        for history, _ in train(task, device=torch.device("cpu"), checkpoint=tmp_path / name):
            assert np.isfinite(history["loss"]).all()
        weights.append(torch.cat([value.flatten() for value in task.module.state_dict().values()]))
    torch.testing.assert_close(weights[0], weights[1])


def run(slides, tmp_path):
    return fit_sections(
        slides, Recipe("unet", CONFIG, [Texture()], 0, scaling="section"), genes=(), device=torch.device("cpu"), checkpoint=tmp_path / "c",
    )  # fmt: skip


def test_the_posterior_made_anew_for_a_section_is_that_of_the_fit(slides, tmp_path):
    """As a resumed run makes it, to end in the same rasters."""
    fitted, posteriors = run(slides, tmp_path)
    for slide, posterior in zip(slides, posteriors, strict=True):
        own, again = posterior_for(fitted, slide, [Texture()])
        window = Window(0, 0, *slide.grid.shape)
        np.testing.assert_allclose(again.maps(window), posterior.maps(window), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(own.model.loadings, fitted.of_section(slide.name).model.loadings)


def test_what_the_watched_spots_measured_is_not_in_what_judges_them(slides, tmp_path, monkeypatch):
    """Of any section, in the field of any section, nor in the levels of the network."""
    from scipy import sparse

    config = replace(CONFIG, train=replace(CONFIG.train, held_out=0.2, least_held_out=5))
    judged = []

    def chosen(fitted, slide, posterior, held_out, device):
        judged.append((fitted, posterior.maps(Window(0, 0, 64, 64)), held_out))
        return Choice(1.0, 0.0, promising=True)

    def training(task, **_):
        yield {"epoch": np.arange(1)}, task.precision

    monkeypatch.setattr("sphisto.train.fit.choose_gate", chosen)
    monkeypatch.setattr("sphisto.train.fit.train", training)
    monkeypatch.setattr("sphisto.train.fit.left_out_skill", lambda *_: 1 / 0)
    for changed in (False, True):
        given = slides
        if changed:
            given = []
            for slide, (_, _, held_out) in zip(slides, judged[:2], strict=True):
                counts = slide.spots.values.toarray()
                counts[held_out] += np.arange(counts.shape[1]) % 7 * 50
                values = sparse.csr_array(counts)
                given.append(replace(slide, measured=replace(slide.spots, values=values)))
        with pytest.raises(ZeroDivisionError):
            fit_sections(
                given, Recipe("unet", config, [Texture()], 0, scaling="section"), genes=(), device=torch.device("cpu"), checkpoint=tmp_path / "c",
            )  # fmt: skip
    assert len(judged) == 4
    for (one, before, held_out), (other, after, still) in zip(judged[:2], judged[2:], strict=True):
        assert held_out.sum() >= 5
        np.testing.assert_array_equal(held_out, still)
        np.testing.assert_array_equal(one.model.loadings, other.model.loadings)
        np.testing.assert_array_equal(one.level, other.level)
        np.testing.assert_array_equal(before, after)
