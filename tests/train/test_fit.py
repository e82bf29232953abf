from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

import sphisto as sp
from sphisto.config import FieldConfig, FitConfig, TrainConfig
from sphisto.core.tiles import Window
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.predict.conditioning import posterior_for
from sphisto.train.fit import fit, fit_sections
from sphisto.train.recipe import Recipe
from sphisto.train.shrinkage import Choice

ONE_EPOCH = FitConfig(train=TrainConfig(max_epochs=1))


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def with_counts(slide, counts):
    values = sparse.csr_array(np.asarray(counts, dtype=np.float32))
    return replace(slide, measured=replace(slide.spots, values=values))


def test_a_picture_that_does_not_help_is_said_not_to(slide, tmp_path, caplog):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    fit(
        blank, Recipe("unet", ONE_EPOCH, [Texture()], 0), genes=(), device=torch.device("cpu"), checkpoint=tmp_path / "c",
    )  # fmt: skip
    assert caplog.text.count("image did not help") == 1


@pytest.mark.parametrize("solver", ["kriging", "gaussian"])
def test_what_the_watched_spots_measured_is_not_in_the_posterior_they_judge(slide, tmp_path, monkeypatch, solver):
    """Nor in the one that is trained with, nor in the levels of the network, to the last bit; what is drawn knows all."""
    config = FitConfig(
        field=FieldConfig(solver=solver), train=TrainConfig(max_epochs=1, held_out=0.2, least_held_out=5)
    )
    judged = []

    def chosen(fitted, slide, posterior, watched, device):
        judged.append((fitted, posterior, watched))
        return Choice(1.0, 0.0, promising=True)

    def train(task, **_):
        (part,) = task.parts
        assert not (part.learned & part.held_out).any()
        yield {"epoch": np.arange(1)}, task.precision

    monkeypatch.setattr("sphisto.train.fit.choose_gate", chosen)
    monkeypatch.setattr("sphisto.train.fit.train", train)

    def run(section):
        return fit(
            section, Recipe("unet", config, [Texture()], 0), genes=(), device=torch.device("cpu"),
            checkpoint=tmp_path / "c",
        )  # fmt: skip

    drawn = [run(slide)]
    watched, counts = judged[0][2], slide.spots.values.toarray()
    assert watched.sum() >= 5
    counts[watched] += np.arange(counts.shape[1]) % 7 * 50
    drawn.append(run(with_counts(slide, counts)))
    window = Window(0, 0, 96, 112)
    (one, before, _), (other, after, still_watched) = judged
    np.testing.assert_array_equal(still_watched, watched)
    np.testing.assert_array_equal(one.model.loadings, other.model.loadings)
    np.testing.assert_array_equal(one.level, other.level)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(before.maps(window), after.maps(window))
    (first, whole), (second, changed) = drawn
    assert not np.allclose(whole.maps(window)[0], changed.maps(window)[0])
    assert not np.allclose(first.model.loadings[:, 0], second.model.loadings[:, 0], rtol=1e-3)
    own = one.model.n_factors - one.model.n_contrasts
    # the network's own factors, adapted: the same ones, in the same order
    alike = np.corrcoef(one.model.loadings[:, :own].T, first.model.loadings[:, :own].T)[:own, own:]
    assert (alike.argmax(axis=1) == np.arange(own)).all()
    assert (np.diag(alike) > 0.9).all()


@pytest.mark.parametrize(
    ("choices", "epochs", "gate", "used"),
    [
        ([Choice(0.0, 5.0, promising=False)], 3, 0.0, 3),
        ([Choice(0.5, 4.0, promising=True), Choice(0.0, 5.0, promising=False)], 9, 0.5, 3),
        ([Choice(0.25, 4.0, promising=True), Choice(1.0, 3.0, promising=True)], 9, 1.0, 9),
        ([Choice(1.0, 3.0, promising=True), Choice(0.5, 4.0, promising=True)], 9, 1.0, 3),
        ([Choice(0.0, 5.0, promising=True), Choice(0.25, 4.0, promising=True)], 9, 0.25, 9),
        ([Choice(0.0, 5.0, promising=True), Choice(0.0, 5.0, promising=True)], 9, 0.0, 9),
    ],
)
def test_training_goes_on_while_the_network_may_help_and_the_best_one_is_used(
    slide, tmp_path, monkeypatch, caplog, choices, epochs, gate, used
):
    """Of all rounds that which predicts the spots best that were only watched."""
    answers, weights = iter(choices), []

    def chosen(fitted, *_):
        weights.append({name: value.clone() for name, value in fitted.weights.items()})
        return next(answers)

    monkeypatch.setattr("sphisto.train.fit.choose_gate", chosen)
    config = FitConfig(train=TrainConfig(max_epochs=9, least_batches=1, crop=32, batch=1))
    with caplog.at_level("INFO", logger="sphisto"):
        fitted, _ = fit(
            slide, Recipe("unet", config, [Texture()], 0), genes=(), device=torch.device("cpu"),
            checkpoint=tmp_path / "c",
        )  # fmt: skip
    assert next(answers, None) is None
    assert fitted.history["epoch"].tolist() == list(range(epochs))
    assert (fitted.params["gate"], fitted.params["epochs_used"], fitted.params["max_epochs"]) == (gate, used, 9)
    assert ("ended after 3 of 9 epochs" in caplog.text) == (epochs == 3)
    assert ("best after 3 of 9 epochs" in caplog.text) == (used < epochs)
    best = {**weights[0 if used == 3 else 1], "gate": torch.tensor(gate)}
    for name, value in best.items():
        assert torch.equal(fitted.weights[name], value)
    if len(weights) == 2:
        assert not torch.equal(weights[0]["last.weight"], weights[1]["last.weight"])


def test_the_posterior_made_anew_for_a_model_is_that_of_the_fit(slide, tmp_path):
    """As a resumed run makes it, to end in the same rasters."""
    fitted, posterior = fit(
        slide, Recipe("unet", ONE_EPOCH, [Texture()], 0), genes=(), device=torch.device("cpu"),
        checkpoint=tmp_path / "c",
    )  # fmt: skip
    window = Window(0, 0, 96, 112)
    np.testing.assert_array_equal(posterior_for(fitted, slide, [Texture()])[1].maps(window), posterior.maps(window))


def test_another_section_gets_the_mean_share_of_the_networks_correction(slide, tmp_path, monkeypatch):
    shares = iter((0.5, 0.0))

    def chosen(*_):
        return Choice(next(shares), 0.0, promising=True)

    monkeypatch.setattr("sphisto.train.fit.choose_gate", chosen)
    fitted, _ = fit_sections(
        [slide, replace(slide, name="next")], Recipe("unet", ONE_EPOCH, [Texture()], 0, scaling="section"), genes=(), device=torch.device("cpu"), checkpoint=tmp_path / "c",
    )  # fmt: skip
    assert float(fitted.weights["gate"]) == fitted.params["gate"] == 0.25
    assert [float(fitted.of_section(name).weights["gate"]) for name in (slide.name, "next")] == [0.5, 0.0]
