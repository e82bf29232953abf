from __future__ import annotations

import pytest

from sphisto.model.config import FitConfig


def test_a_quarter_of_the_epochs_is_for_the_picture():
    assert FitConfig().image_epochs == 3
    assert FitConfig(max_epochs=1).image_epochs == 0


@pytest.mark.parametrize("wrong", [{"max_epochs": 0}, {"n_factors": 0}, {"held_out": 1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        FitConfig(**wrong)
