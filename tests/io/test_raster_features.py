from __future__ import annotations

from dataclasses import replace

import dask.array
import numpy as np
import pytest
import zarr
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine, Scale, Sequence, Translation

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.features.maps import SectionFeatures
from sphisto.io.slides import make_slide

POINTS = np.array([[20.0, 30.0], [50.5, 70.25]])


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def ramp(height, width, scale, shift=(0, 0)):
    """(2, y, x) places (y, x) in px of the section's grid at the middles of a raster's pixels."""
    y, x = (np.arange(n) + 0.5 for n in (height, width))
    return np.stack(np.broadcast_arrays(y[:, None] * scale + shift[0], x * scale + shift[1])).astype(np.float32)


def at_points(slide, raster, **options):
    return SectionFeatures(slide, (sp.io.RasterFeatures(raster, **options),)).maps.at(POINTS)


@pytest.mark.parametrize("kind", [np.asarray, dask.array.from_array, zarr.array])
@pytest.mark.parametrize("scale", [1, 4, 1.6, 0.5])
def test_an_array_covers_the_whole_image(slide, kind, scale):
    height, width = (round(side / scale) for side in slide.grid.shape)
    np.testing.assert_allclose(at_points(slide, kind(ramp(height, width, scale))), POINTS, rtol=0.02)


def test_an_element_lies_where_its_transformation_says(slide):
    """The toy's image is the full-resolution one."""
    assert slide.grid.fullres_per_px == (1, 1)
    place = Sequence([Scale([4.0, 4.0], axes=("x", "y")), Translation([-8.0, 12.0], axes=("x", "y"))])
    element = Image2DModel.parse(
        ramp(30, 40, 4, (12, -8)), dims=("c", "y", "x"), transformations={"global": place}, c_coords=["y", "x"]
    )
    np.testing.assert_allclose(at_points(slide, element), POINTS, rtol=1e-4)
    turned = Affine([[0, 1, 0], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    element = Image2DModel.parse(ramp(30, 40, 4), dims=("c", "y", "x"), transformations={"global": turned})
    with pytest.raises(ValueError, match="lie in 'global' by more than a scale and a shift"):
        at_points(slide, element)


def test_another_grid_is_refused(slide):
    with pytest.raises(ValueError, match=r"features 'encoder' of 24 x 60 px \(y, x\) for an image of 96 x 112"):
        at_points(slide, ramp(24, 60, 4), name="encoder")
    with pytest.raises(ValueError, match=r"of shape \(24, 60\); expected \(channels, y, x\)"):
        sp.io.RasterFeatures(np.ones((24, 60)))
    with pytest.raises(ValueError, match="Found 1 names for 2 features"):
        sp.io.RasterFeatures(ramp(3, 4, 1), channels=("a",))
    with pytest.raises(TypeError, match="features of dtype"):
        at_points(slide, np.full((2, 24, 28), "a"))


def test_name_and_version_tell_sources_apart_and_values_do_not():
    one, other = (
        sp.io.RasterFeatures(ramp(3, 4, 1), name="a", version="1"),
        sp.io.RasterFeatures(ramp(5, 4, 2), name="a", version="1"),
    )
    assert one.hash == other.hash
    assert one.hash != sp.io.RasterFeatures(ramp(3, 4, 1), name="a", version="2").hash


def test_each_section_has_a_raster_of_its_own(slide):
    """The features of one section, drawn out over another one, would be those of no place there."""
    one, other = (np.full((2, 24, 28), value, dtype=np.float32) for value in (1, 5))
    source = sp.io.RasterFeatures({"toy": one, "next": other}, name="encoder")
    window = Window(0, 0, 16, 16)
    assert (source.of(slide).read(window) == 1).all()
    assert (source.of(replace(slide, name="next")).read(window) == 5).all()
    assert source.hash == sp.io.RasterFeatures(one, name="encoder").hash
    source.require_sections(["toy", "next"])
    with pytest.raises(ValueError, match="'encoder' for toy, next, and the section third; expected a raster for each"):
        source.of(replace(slide, name="third"))
    with pytest.raises(ValueError, match="'encoder' of one raster, and the sections toy, next"):
        sp.io.RasterFeatures(one, name="encoder").require_sections(["toy", "next"])
    with pytest.raises(ValueError, match="rasters of 2 and of 3 features"):
        sp.io.RasterFeatures({"toy": one, "next": np.zeros((3, 24, 28))})
    with pytest.raises(ValueError, match="no raster of features"):
        sp.io.RasterFeatures({})


@pytest.mark.slow
def test_a_fit_with_an_encoders_output_predicts_with_it_and_with_nothing_else(small_toy, tmp_path):
    encoded = sp.io.RasterFeatures(ramp(24, 28, 4), name="encoder", version="v1")
    sp.tl.fit_projection(
        small_toy, store=tmp_path / "a.zarr", features=["texture", encoded], max_epochs=1, device="cpu"
    )
    assert list(small_toy.uns["projection"]["params"]["features"]) == ["texture", "encoder"]
    fitted = sp.tl.load(small_toy)
    with pytest.raises(ValueError, match=r"the model was fitted with 'texture' \(.*\), 'encoder' \("):
        sp.tl.predict(fitted, small_toy, store=tmp_path / "b.zarr", device="cpu")
    assert not (tmp_path / "b.zarr").exists()
    sp.tl.predict(fitted, small_toy, store=tmp_path / "b.zarr", features=["texture", encoded], device="cpu")
    found, expected = (sp.get.raster(tmp_path / name, "projection_factors").values for name in ("b.zarr", "a.zarr"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, equal_nan=True)
