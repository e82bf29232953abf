from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import sphisto as sp
from sphisto.core.upsample import block_middles
from sphisto.features.config import TextureConfig
from sphisto.features.maps import SectionFeatures, principal_components
from sphisto.features.source import FeatureSource
from sphisto.features.sources import record_of, require_same, sources_of
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


@dataclass
class Drawn:
    """A source of one's own, whose features are a function of the place; it is all that a source must be."""

    stride: int = 4
    values: object = lambda y, x: np.stack([y + 2 * x, y - x])
    name: str = "drawn"
    hash: str = "1"
    channels: tuple[str, ...] = ("a", "b")

    def of(self, slide):
        self.um_per_px = slide.grid.um_per_px * self.stride
        return self

    def read(self, window):
        height, width = (-(-side // self.stride) for side in window.shape)
        whole = replace(window, y1=window.y0 + height * self.stride, x1=window.x0 + width * self.stride)
        y, x = block_middles(whole, self.stride).T.reshape(2, height, width)
        return self.values(y, x).astype(np.float32)


def test_what_is_asked_for_is_found():
    (texture,), drawn = sources_of("texture"), Drawn()
    assert isinstance(texture, Texture)
    assert sources_of(drawn) == (drawn,)
    assert sources_of(["texture", drawn]) == (Texture(), drawn)
    assert sources_of([]) == ()
    assert isinstance(Texture(), FeatureSource)
    assert record_of([Texture(), drawn]) == {"texture": Texture().hash, "drawn": "1"}
    assert Texture(TextureConfig(points_per_pitch=8)).hash != Texture().hash


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ("colour", ValueError, "Found features='colour'; expected \"texture\", or sources"),
        ([3], TypeError, r"Found features=\[3\]"),
        (None, TypeError, r"Found features=None; expected \"texture\".*`features=\[\]` for none"),
        (Drawn, TypeError, "or sources with `name`, `hash`"),
        ([Drawn(), Drawn()], ValueError, r"of the names \['drawn', 'drawn'\]; expected a name for each"),
    ],
)
def test_what_is_no_source_is_refused(wrong, kind, message):
    with pytest.raises(kind, match=message):
        sources_of(wrong)


def test_other_sources_than_the_models_are_refused():
    require_same([Drawn()], {"drawn": "1"})
    for sources in ([], [Texture()], [replace(Drawn(), hash="2")], [Drawn(), Texture()]):
        with pytest.raises(ValueError, match=r"Found features .*; the model was fitted with 'drawn' \(1\)"):
            require_same(sources, {"drawn": "1"})


@pytest.mark.parametrize("stride", [1, 2, 3, 16])
def test_features_of_any_stride_lie_where_they_belong(slide, stride):
    """Beside texture, of 2 px, they are brought to the finer of both grids, where linear ones stay what they are."""
    maps = SectionFeatures(slide, (Texture(), Drawn(stride))).maps
    assert maps.stride == min(stride, 2)
    points = np.array([[40.0, 30.0], [47.3, 61.9]])
    y, x = points.T
    np.testing.assert_allclose(maps.at(points)[:, -2:], np.stack([y + 2 * x, y - x], axis=1), rtol=1e-4)


def test_each_source_counts_as_much_however_many_features_it_has(slide, rng):
    noise = rng.random((200, 48, 56)).astype(np.float32)
    many = Drawn(2, lambda y, x: noise[:, : y.shape[0], : x.shape[1]], channels=tuple(map(str, range(200))))
    maps = SectionFeatures(slide, (Texture(), many)).maps
    weighted = np.square(maps.weight)
    n_texture = len(maps.weight) - 200
    assert weighted[:n_texture].sum() == pytest.approx(weighted[n_texture:].sum(), rel=1e-5)
    assert principal_components(maps, slide.spots.centers)[1].shape[0] == len(slide.spots.centers)


def broken(y, x):
    msg = "the encoder is gone"
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            lambda y, x: np.stack([y, np.where(y > 20, np.nan, x)]),
            ValueError,
            "values of the features 'drawn' that are not",
        ),
        (
            lambda y, x: np.stack([y, x, x]),
            ValueError,
            r"Found features 'drawn' of shape \(3, .*expected numbers of shape \(2",
        ),
        (lambda y, x: np.stack([y, x])[:, 1:], ValueError, "expected numbers of shape"),
        (broken, RuntimeError, "the encoder is gone"),
    ],
)
def test_a_source_that_fails_is_named(slide, values, error, message):
    with pytest.raises(error, match=message) as raised:
        _ = SectionFeatures(slide, (Drawn(values=values),)).maps
    assert "'drawn'" in str(raised.value) or "While the features 'drawn' were read." in raised.value.__notes__


def test_features_that_are_the_same_everywhere_are_warned_of_and_used_by_nobody(slide, caplog):
    maps = SectionFeatures(slide, (Drawn(values=lambda y, x: np.ones((2, *y.shape))),)).maps
    assert "The features 'drawn' are the same everywhere" in caplog.text
    assert not principal_components(maps, slide.spots.centers)[1].any()


@pytest.mark.parametrize("n", [1, 1024])
def test_one_feature_or_a_thousand(slide, rng, n):
    values = rng.random((n, 48, 56)).astype(np.float32)
    source = Drawn(2, lambda y, x: values[:, : y.shape[0], : x.shape[1]], channels=tuple(map(str, range(n))))
    _, at_spots = principal_components(SectionFeatures(slide, (source,)).maps, slide.spots.centers)
    assert np.square(at_spots).sum(axis=1).mean() == pytest.approx(1)
