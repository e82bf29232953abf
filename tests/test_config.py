from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

from sphisto.config import PRESETS, FieldConfig, FitConfig, GeneModelConfig, TrainConfig, as_plain, by_name, from_plain
from sphisto.features.config import DriftConfig, TextureConfig
from sphisto.networks.registry import network
from sphisto.train.settings import settings_for, with_devices

CONFIGS = [GeneModelConfig, FieldConfig, DriftConfig, TrainConfig, TextureConfig]


@pytest.mark.parametrize(
    ("epochs", "rounds"), [(12, (4, 8)), (60, (20, 40)), (9, (3, 6)), (7, (7,)), (4, (4,)), (1, (1,))]
)
def test_held_out_spots_are_looked_at_after_a_third_of_the_epochs(epochs, rounds):
    assert TrainConfig(max_epochs=epochs).rounds == rounds
    assert TrainConfig(max_epochs=epochs, first_look=1).rounds == (epochs,)


def test_epochs_must_be_decided():
    with pytest.raises(ValueError, match="settings without max_epochs"):
        _ = TrainConfig().rounds


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_setting_refuses_what_it_cannot_be(kind):
    for name in (field.name for field in dataclasses.fields(kind)):
        for wrong in (float("nan"), -1, [], "many", True, float("inf")):
            if (name, wrong) in [
                ("use_features", True),
                ("use_stain", True),
                ("keep_spots", True),
                ("shares", []),
            ] or name == "solver":
                continue  # which names are solvers is known where the field is fitted
            with pytest.raises((ValueError, TypeError), match=rf"Found .*{name}"):
                kind(**{name: wrong})


@pytest.mark.parametrize("kind", CONFIGS)
def test_unknown_settings_are_refused(kind):
    with pytest.raises(TypeError, match="unexpected keyword argument 'nugget'"):
        kind(nugget=1)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_setting_is_documented(kind):
    about = inspect.getdoc(kind).split("----------")[1].splitlines()
    named = {name.strip() for line in about if line and line[0] != " " for name in line.split(",")}
    assert named == {field.name for field in dataclasses.fields(kind)}


def test_parts_of_the_wrong_kind_are_refused():
    with pytest.raises(TypeError, match="Found train=FieldConfig.*; expected a TrainConfig"):
        FitConfig(train=FieldConfig())


def test_settings_survive_plain_values():
    config = FitConfig(
        GeneModelConfig(n_factors=7), FieldConfig(nuggets=(0.5, 1)), TrainConfig(max_epochs=3, hidden=(0, 1))
    )
    plain = as_plain(config)
    assert plain["field"]["nuggets"] == [0.5, 1]
    assert "longest_side" not in plain["train"]
    assert from_plain(plain) == config
    assert from_plain({}) == FitConfig()
    assert FitConfig.from_json(config.to_json()) == config


def test_numbers_of_numpy_become_pythons():
    """A model's file takes no others."""
    train = TrainConfig(learning_rate=np.float64(1e-3), batch=np.int64(2), hidden=tuple(np.array([0.1, 0.5])))
    assert train == TrainConfig(learning_rate=1e-3, batch=2, hidden=(0.1, 0.5))
    assert {type(value) for value in (train.learning_rate, train.batch, *train.hidden)} == {int, float}
    assert type(FieldConfig(use_stain=np.False_).use_stain) is bool


def test_at_least_one_share_must_be_there_to_choose_from():
    with pytest.raises(ValueError, match="Found no shares in TrainConfig; expected some numbers"):
        TrainConfig(shares=())


def test_every_setting_has_a_name_by_which_two_calls_are_compared():
    one, other = (by_name(FitConfig(train=TrainConfig(longest_side=side))) for side in (None, 1000))
    assert {name for name in one if one[name] != other[name]} == {"train.longest_side"}
    assert one["field.nuggets"] == list(FieldConfig().nuggets)


def test_what_settings_leave_open_is_the_networks():
    unet, prototype = network("unet"), network("prototype")
    assert settings_for("default", unet).train.epochs == unet.max_epochs
    assert settings_for("default", prototype).train.epochs == prototype.max_epochs
    assert settings_for("fast", unet, 5).train.epochs == 5
    assert settings_for("fast", unet).train.longest_side == 1000
    assert settings_for("fast", prototype).train.longest_side == prototype.longest_side
    given = FitConfig(train=TrainConfig(max_epochs=2, batch=3))
    assert settings_for(given, unet).train == given.train
    assert with_devices("fast", 2).train == dataclasses.replace(PRESETS["fast"].train, devices=2)


def test_an_unknown_solver_is_refused_before_long_work():
    with pytest.raises(ValueError, match="Found solver='spline'; expected one of 'kriging', 'gaussian'"):
        settings_for(FitConfig(field=FieldConfig(solver="spline")), network("unet"))


@pytest.mark.parametrize(("wrong", "kind"), [("fas", ValueError), (TrainConfig(), TypeError), (None, TypeError)])
def test_what_is_no_settings_is_refused(wrong, kind):
    with pytest.raises(
        kind, match="Found config=.*; expected a `sphisto.config.FitConfig`, or one of 'default', 'fast'"
    ):
        settings_for(wrong, network("unet"))


def test_settings_of_models_with_one_length_of_likeness_are_read():
    assert FitConfig.from_json('{"field": {"likeness": 1.5}}').field.likeness == (1.5,)


@pytest.mark.parametrize("kind", CONFIGS)
def test_whole_numbers_are_kept_as_such(kind):
    counted = [field.name for field in dataclasses.fields(kind) if field.type in ("int", "int | None")]
    assert counted
    for name in counted:
        found = getattr(kind(**{name: 8.0}), name)
        assert (found, type(found)) == (8, int), name
        with pytest.raises(ValueError, match=f"Found {name}=2.5 .*a whole number from [01]"):
            kind(**{name: 2.5})


def test_epochs_of_a_call_are_kept_as_a_whole_number():
    found = settings_for("default", network("unet"), 3.0).train.epochs
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"trian": {"max_epochs": 1}}',
            "Found unknown parts of the settings: trian; expected some of genes, field, train",
        ),
        (
            '{"train": {"max_epoch": 1}}',
            "Found unknown settings of 'train': max_epoch; expected some of max_epochs, first_look",
        ),
        ('{"train": 3}', "Found train=3 in the settings; expected settings by name"),
        ("[1]", r"Found '\[1\]'; expected settings by part"),
        ("{train: 3}", "Found a text that is no JSON .*; expected settings as `FitConfig.to_json` writes them"),
    ],
)
def test_texts_that_are_no_settings_are_refused_with_what_is_known(text, message):
    with pytest.raises(ValueError, match=message):
        FitConfig.from_json(text)
