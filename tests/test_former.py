from __future__ import annotations

import pytest

import sphisto as sp
from sphisto.config import PRESETS
from sphisto.networks.registry import current_name, network
from sphisto.train.settings import with_devices


@pytest.fixture
def config_of(monkeypatch):
    """The settings that a call ends up with; the fit itself is not run."""
    from sphisto.tl import _recipe

    def call(adata, **keywords):
        found = []

        def stop(config, *_):
            found.append(config)
            raise KeyboardInterrupt

        monkeypatch.setattr(_recipe, "settings_for", stop)
        with pytest.raises(KeyboardInterrupt):
            sp.tl.fit_projection(adata, **keywords)
        return found[0]

    return call


def test_former_keywords_mean_what_they_meant_and_warn(small_toy, config_of):
    with pytest.warns(FutureWarning, match=r"preset='fast' is written config='fast' now") as warned:
        assert config_of(small_toy, preset="fast") == "fast"
    assert warned[0].filename == __file__
    with pytest.warns(
        FutureWarning, match=r"devices=2 is written config=FitConfig\(train=TrainConfig\(devices=2\)\) now"
    ):
        assert config_of(small_toy, devices=2) == with_devices("default", 2)
    with pytest.warns(FutureWarning, match="preset="):
        both = config_of(small_toy, preset="fast", devices=2)
    assert both.genes == PRESETS["fast"].genes
    assert both.train.devices == 2
    with pytest.warns(FutureWarning, match="preset="):
        assert config_of(small_toy, devices=2, preset="fast") == both  # in whichever order


def test_a_keyword_and_its_former_name_contradict_each_other(small_toy):
    with pytest.raises(
        TypeError, match="Found config= together with the name that it had before; expected config= alone"
    ):
        sp.tl.fit_projection(small_toy, config="default", preset="fast")


def test_squares_to_sum_over_are_found_by_their_former_name(store):
    with pytest.warns(FutureWarning, match=r"bins_um=100 is written square_um=... now"):
        found = sp.tl.aggregate(store, bins_um=100)
    assert found.n_obs == sp.tl.aggregate(store, square_um=100).n_obs


def test_keywords_of_today_do_not_warn(small_toy, config_of, recwarn):
    assert config_of(small_toy, config="fast") == "fast"
    assert not [each for each in recwarn if each.category is FutureWarning]


def test_the_prototype_is_found_by_its_former_name():
    assert network("seed") is network("prototype")  # as models that were saved call it
    with pytest.warns(FutureWarning, match="network='seed' is called 'prototype' now"):
        assert current_name("seed") == "prototype"
    assert current_name("unet") == "unet"
