"""Training on several devices: gradients are averaged over batches, whoever computed them."""

from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.features.texture import Texture
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.io.slides import make_slide
from sphisto.networks.interpolation import values_at
from sphisto.networks.losses import dissimilarity, poisson_deviance
from sphisto.networks.registry import network
from sphisto.networks.unet import ResidualUNet
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.train import loop as training
from sphisto.train.crops import Crops, pool

N_BATCHES = 16  # of an epoch of such a small section: the processes do not know what tests patch


@pytest.fixture
def make_task(small_toy):
    slide = make_slide(sp.io.section(small_toy))
    watched = np.arange(len(slide.spots.centers)) % 5 == 0
    factors = fit_factors(slide.spots, ~watched, GeneModelConfig(n_factors=4), 0)
    config = FitConfig()
    field = fit_field(slide, factors, ~watched, features_of(slide, [Texture()], config), config)
    level = field.mean[: factors.n_factors - factors.n_contrasts]
    spec = network("unet")

    def make(devices, max_epochs, first_look=1):
        torch.manual_seed(0)
        module = spec.build(torch.from_numpy(level.astype(np.float32)))
        config = TrainConfig(
            max_epochs=max_epochs, first_look=first_look, least_looked=1, image_share=0.5, crop=48, batch=1,
            devices=devices, least_batches=N_BATCHES,
        )  # fmt: skip
        call = {"devices": devices}
        part = training.Part(slide, factors, field, ~watched, watched)
        return training.Task((part,), spec, module, config, 3, "float32", call)

    return make


def train(task, path, **options):
    device = torch.device("cpu")
    *_, last = training.train(task, device=device, checkpoint=path, **options)
    return last.history


def train_by_hand(task):
    """Train with the mean gradient of as many batches as there are devices; return the mean losses of the epochs."""
    state, config, losses = training._Training(task), task.config, []
    options = state.configure_optimizers()
    optimizer, schedule = options["optimizer"], options["lr_scheduler"]["scheduler"]
    for epoch in range(config.max_epochs):
        losses.append([])
        (part,) = task.parts
        crops = Crops(
            part.slide, part.slide.footprint(), part.field, state.genes, part.learned, part.held_out,
            state.crop, config, N_BATCHES, task.seed, epoch,
        )  # fmt: skip
        for first in range(0, N_BATCHES, config.devices):
            optimizer.zero_grad()
            for number in range(first, first + config.devices):
                batch = crops[number]
                drawn, maps = task.module(batch.image, batch.prior)
                loss = dissimilarity(drawn, batch.image, ResidualUNet.colour_weight)
                if epoch >= task.image_epochs:
                    pooled = pool(values_at(maps, batch.pixel), batch)
                    expected = rates(pooled, state.loadings[0], part.model.n_contrasts)
                    weight = torch.where(batch.hidden, 1.0, config.seen_weight) * ~batch.held_out
                    loss = config.image_weight * loss + poisson_deviance(expected, batch.values, weight)
                losses[-1].append(float(loss.detach()))
                (loss / config.devices).backward()
            torch.nn.utils.clip_grad_norm_(task.module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return np.mean(losses, axis=1)


def test_two_processes_train_as_one_with_both_their_batches(make_task, tmp_path):
    """Were the two not of one mind after any step, their mean gradients would not be those of the one."""
    together, alone, single = make_task(2, 2), make_task(2, 2), make_task(1, 2)
    history, expected = train(together, tmp_path / "a"), train_by_hand(alone)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-4)
    assert history["phase"].tolist() == ["image", "joint"]
    assert np.isfinite(history["held_out_loss"][1])
    train(single, tmp_path / "b")
    found, by_hand, other = (task.module.state_dict() for task in (together, alone, single))
    apart = max(float((found[name] - by_hand[name]).abs().max()) for name in found)
    usual = max(float((found[name] - other[name]).abs().max()) for name in found)
    assert apart < 0.02 * usual


@pytest.mark.slow
def test_one_of_two_killed_the_training_goes_on_to_the_same(make_task, tmp_path):
    unbroken, broken, resumed = make_task(2, 4), make_task(2, 4), make_task(2, 4)
    expected = train(unbroken, tmp_path / "a")

    def kill():
        while not (tmp_path / "b").exists():
            time.sleep(0.005)
        multiprocessing.active_children()[-1].kill()

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    with pytest.raises(RuntimeError, match=r"ended early .*kept: call again with resume=True"):
        train(broken, tmp_path / "b")
    killing.join()
    assert not multiprocessing.active_children()
    history = train(resumed, tmp_path / "b", resume=True)
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-3)
    with pytest.raises(ValueError, match=r"of another call: devices \(there 2, here 1\)"):
        train(make_task(1, 4), tmp_path / "b", resume=True)


def test_a_loss_that_is_not_finite_is_said_and_the_checkpoint_stays_that_of_the_epoch_before(
    make_task, tmp_path, monkeypatch
):
    def broken(expected, measured, weight):
        return poisson_deviance(expected, measured, weight) * (float("nan") if (tmp_path / "a").exists() else 1)

    monkeypatch.setattr(ResidualUNet, "spot_loss", lambda *_, **__: broken)
    with pytest.raises(FloatingPointError, match=r"became nan in epoch 1; the checkpoint holds the epoch before"):
        train(make_task(1, 2), tmp_path / "a")
    left = torch.load(tmp_path / "a", weights_only=True)["sphisto"]["history"]
    assert [entry["epoch"] for entry in left] == [0]


def test_each_round_has_a_schedule_of_its_own_and_goes_on_where_the_last_ended(make_task, tmp_path):
    rounds = training.train(make_task(1, 4, 0.5), device=torch.device("cpu"), checkpoint=tmp_path / "a")
    first = next(rounds).history
    alone = train(make_task(1, 2), tmp_path / "b")
    for name in ("loss", "image_loss", "learning_rate"):
        np.testing.assert_array_equal(first[name], alone[name])
    second = next(rounds).history
    assert next(rounds, None) is None
    assert second["epoch"].tolist() == [0, 1, 2, 3]
    assert second["phase"].tolist() == ["image", "joint", "joint", "joint"]
    np.testing.assert_array_equal(second["loss"][:2], first["loss"])
    assert second["image_loss"][2] < second["image_loss"][0]  # it did not begin anew
    assert second["learning_rate"][2] > 10 * second["learning_rate"][1]


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_training_goes_on_in_the_round_that_it_left(make_task, tmp_path, monkeypatch, caplog, kept):
    whole = make_task(1, 4, 0.5)
    expected = train(whole, tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(training._Training, "on_train_epoch_start", stop_after(kept))
        with pytest.raises(RuntimeError, match="stopped"):
            train(make_task(1, 4, 0.5), tmp_path / "b")
    resumed = make_task(1, 4, 0.5)
    with caplog.at_level("INFO", logger="sphisto"):
        found = train(resumed, tmp_path / "b", resume=True)
    assert f"The training goes on after epoch {kept} of 4." in caplog.text
    for name in ("epoch", "loss", "learning_rate"):
        np.testing.assert_array_equal(found[name], expected[name])
    for a, b in zip(whole.module.state_dict().values(), resumed.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_holds_what_was_noted_after_earlier_rounds(make_task, tmp_path, monkeypatch):
    task, device = make_task(1, 4, 0.5), torch.device("cpu")
    rounds = training.train(task, device=device, checkpoint=tmp_path / "a")
    next(rounds)
    task.notes.update(loss=0.5, weights={"a": torch.arange(3)})
    monkeypatch.setattr(training._Training, "on_train_epoch_start", stop_after(3))
    with pytest.raises(RuntimeError, match="stopped"):
        next(rounds)
    monkeypatch.undo()
    again = make_task(1, 4, 0.5)
    next(training.train(again, device=device, checkpoint=tmp_path / "a", resume=True))
    assert again.notes["loss"] == 0.5
    assert torch.equal(again.notes["weights"]["a"], torch.arange(3))


def stop_after(n_epochs):
    start = training._Training.on_train_epoch_start

    def begin(self):
        if self.epoch == n_epochs:
            msg = "stopped"
            raise RuntimeError(msg)
        start(self)

    return begin
