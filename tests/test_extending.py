"""Three things that people do with a model made of parts; none of them touches the package's code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import sphisto as sp
from sphisto.field.solvers import SOLVERS
from sphisto.genes.model import GeneModel


@pytest.fixture
def fit(small_toy, tmp_path):
    def fitted(**options):
        sp.tl.fit_projection(small_toy, store=tmp_path / "toy.zarr", max_epochs=1, device="cpu", **options)
        return small_toy.uns["projection"]["params"], sp.get.raster(tmp_path / "toy.zarr", "projection_factors").values

    return fitted


@dataclass(frozen=True)
class Red:
    """A source of features: how red each block of 4 px is."""

    name = "red"
    hash = "1"
    stride = 4
    channels = ("red",)
    image: object = None
    um_per_px: float = 0.0

    def of(self, slide):
        return Red(slide.image, slide.grid.um_per_px * self.stride)

    def read(self, window):
        red = np.asarray(self.image[0, *window.slices]).astype(np.float32)
        padded = np.pad(red, [(0, -side % 4) for side in red.shape], mode="edge")
        height, width = (side // 4 for side in padded.shape)
        return padded.reshape(1, height, 4, width, 4).mean(axis=(2, 4))


def test_a_feature_source_of_ones_own(fit):
    params, maps = fit(features=Red())
    assert params["features"] == {"red": "1"}
    assert not np.allclose(maps, fit(features="texture")[1], equal_nan=True)


@dataclass(frozen=True)
class Flat:
    """A field that is the mean of the known observations everywhere; it is its own solution."""

    density_: np.ndarray
    uses_features = False

    def given(self, hidden, window=None):
        return Flat(np.delete(self.density_, hidden, axis=0))

    def leave_one_out(self, most, model):
        rows = np.arange(min(most, len(self.density_)))
        mean = self.density(rows)
        return rows, mean, self.rate_variance(rows, mean, model)

    def density(self, points):
        return np.broadcast_to(self.density_.mean(axis=0), (len(points), self.density_.shape[1]))

    def rate_variance(self, points, density, model: GeneModel):
        return np.ones((len(points), len(model.genes)))


def test_a_field_solver_of_ones_own(fit, monkeypatch):
    monkeypatch.setitem(SOLVERS, "flat", lambda observations, features, config: Flat(observations.density))
    config = sp.config.FitConfig(
        field=sp.config.FieldConfig(solver="flat"),
        train=sp.config.TrainConfig(held_out=0),  # no network: the field alone
    )
    params, maps = fit(config=config)
    assert sp.config.FitConfig.from_json(params["config"]).field == config.field
    np.testing.assert_allclose(np.nanmax(maps, axis=(1, 2)), np.nanmin(maps, axis=(1, 2)), rtol=1e-3, atol=1e-6)


def test_an_ablation_from_a_config(small_toy):
    """Kernel without texture against the default, on the same held-out spots."""
    scores = {}
    for name, use_features in (("with texture", True), ("position alone", False)):
        config = sp.config.FitConfig(field=sp.config.FieldConfig(use_features=use_features))
        scores[name] = sp.tl.evaluate(small_toy, config=config, max_epochs=1, device="cpu").loc["prior", "mean_pearson"]
    assert scores["with texture"] != scores["position alone"]
    assert min(scores.values()) > 0.3
