from __future__ import annotations

import pytest

from sphisto.train.config import FitConfig, Preset, preset_of


def test_a_quarter_of_the_epochs_is_for_the_picture():
    assert FitConfig().image_epochs == 3
    assert FitConfig(max_epochs=1).image_epochs == 0


@pytest.mark.parametrize("wrong", [{"max_epochs": 0}, {"n_factors": 0}, {"held_out": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        FitConfig(**wrong)


def test_presets_are_found_by_name():
    assert preset_of("default") == Preset()
    assert preset_of("fast").max_epochs < FitConfig().max_epochs
    with pytest.raises(ValueError, match="Found preset='fas'; expected one of 'default', 'fast'"):
        preset_of("fas")
