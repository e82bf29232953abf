from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.io.store.stored_raster import StoredRaster
from sphisto.pl import _sources

# ---- level of the pyramid


class Level:
    def __init__(self, height: int, width: int):
        self.shape = (3, height, width)


@pytest.fixture
def pyramid(monkeypatch):
    """8000 x 6000 px and four halvings, each px two full-resolution px."""
    levels = tuple(Level(8000 >> i, 6000 >> i) for i in range(5))
    raster = StoredRaster(levels, ("r", "g", "b"), Grid(8000, 6000, 1.0, (2.0, 2.0)))
    monkeypatch.setattr(_sources.stores, "raster", lambda _store, _name: raster)


@pytest.mark.usefixtures("pyramid")
@pytest.mark.parametrize(
    ("bbox", "scale", "level"),
    [
        (None, None, 3),
        (None, 1, 1),
        ((0, 0, 2000, 2000), None, 0),  # 1000 px
        ((0, 0, 2100, 500), None, 1),
        ((-1e6, -1e6, 1e6, 1e6), None, 3),
    ],
)
def test_finest_level_that_is_small_enough(bbox, scale, level):
    assert _sources.choose_scale("s.zarr", "image", bbox, scale) == level


def test_coarsest_level_where_none_is_small_enough(monkeypatch):
    raster = StoredRaster((Level(9000, 3000), Level(4500, 1500)), (), Grid(9000, 3000, 1.0))
    monkeypatch.setattr(_sources.stores, "raster", lambda _store, _name: raster)
    assert _sources.choose_scale("s.zarr", "image", None, None) == 1


# ---- pictures


def test_picture_is_the_hires_one_at_its_place(section):
    picture = _sources.section_image(section, None)
    assert picture.extent == pytest.approx((0, 2000, 1800, 0))
    np.testing.assert_array_equal(picture.pixels, section.uns["spatial"]["lib"]["images"]["hires"])


def test_picture_falls_back_on_the_lowres_one_then_on_none(section):
    del section.uns["spatial"]["lib"]["images"]["hires"]
    assert _sources.section_image(section, "lib").extent == pytest.approx((0, 2000, 1800, 0))
    section.uns["spatial"]["lib"]["images"] = {}
    assert _sources.section_image(section, "lib") is None


def test_colours_of_any_dtype():
    byte = np.array([[[0, 51, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(_sources.as_rgb(byte), [[[0, 0.2, 1]]])
    np.testing.assert_allclose(_sources.as_rgb(byte.astype(np.uint16) * 257), [[[0, 0.2, 1]]])
    np.testing.assert_allclose(_sources.as_rgb(np.array([[0.5]])), [[[0.5, 0.5, 0.5]]])
    unknown = np.array([[[np.nan] * 3, [0.1, 0.2, 1.7]]])
    np.testing.assert_allclose(_sources.as_rgb(unknown), [[[1, 1, 1, 0], [0.1, 0.2, 1, 1]]], rtol=1e-6)


# ---- spots


def test_spots_measure_55_um_not_what_space_ranger_says(section):
    spots = _sources.spots_of(section, key="projection", library_id=None)
    assert spots.um_per_px == pytest.approx(0.5)
    assert spots.size == pytest.approx(110)
    assert spots.shape == "disc"
    np.testing.assert_array_equal(spots.xy, section.obsm["spatial"])


def test_spots_take_the_parameters_of_a_fit(section):
    params = {"library_id": "lib", "fullres_um_per_px": 0.25, "spot_um": 8.0, "spot_shape": "square"}
    section.uns["projection"] = {"params": params}
    spots = _sources.spots_of(section, key="projection", library_id=None)
    assert (spots.size, spots.shape, spots.um_per_px) == (32, "square", 0.25)
    assert _sources.spots_of(section, key="other", library_id=None).size == pytest.approx(110)


def test_parameters_of_another_library_say_nothing(section):
    section.uns["projection"] = {"params": {"library_id": "other", "fullres_um_per_px": 0.25, "spot_um": 8.0}}
    assert _sources.spots_of(section, key="projection", library_id="lib").size == pytest.approx(110)


def test_spot_diameter_where_there_is_no_array(section):
    few = section[[0, 5, 60]].copy()  # no lattice can be seen in three spots
    del few.obs
    spots = _sources.spots_of(few, key="projection", library_id=None)
    assert spots.um_per_px == pytest.approx(0.5)


def test_no_coordinates(section):
    del section.obsm["spatial"]
    with pytest.raises(ValueError, match=r'Found no obsm\["spatial"\]; expected the spots'):
        _sources.spots_of(section, key="projection", library_id=None)


# ---- values


def test_values_are_raw_counts_where_there_are_any(section):
    section.layers["counts"] = section.X.copy()
    section.X = section.X * 0.3
    values, unit = _sources.counts_of(section, ["One", "A"], None)
    np.testing.assert_array_equal(values, np.column_stack([np.ones(64), np.arange(64)]))
    assert unit == "counts per spot"


def test_values_that_are_no_counts_are_not_called_counts(section):
    section.X = section.X * 0.3
    assert _sources.counts_of(section, ["A"], None)[1] == "X"
    section.layers["scaled"] = section.X.toarray() - 1
    values, unit = _sources.counts_of(section, ["A"], "scaled")
    assert unit == "scaled"
    np.testing.assert_allclose(values[:, 0], np.arange(64) * 0.3 - 1, rtol=1e-6)


def test_unknown_layer_lists_those_there_are(section):
    section.layers["raw"] = section.X
    with pytest.raises(KeyError, match="Found no layer 'log'; the table has raw"):
        _sources.counts_of(section, ["A"], "log")


def test_unknown_gene_is_answered_with_names_like_it(section):
    with pytest.raises(KeyError, match=r"Found no gene 'zero' among the 3 of the table. Close to 'zero': Zero\."):
        _sources.columns_of(section, ["A", "zero"], None)


def test_no_genes(section):
    with pytest.raises(ValueError, match="Found no gene to draw"):
        _sources.names_of([])
    assert _sources.names_of("A") == ["A"]


def test_libraries(section):
    with pytest.raises(KeyError, match=r"Found no library 'x' in uns\['spatial'\]; it holds lib"):
        _sources.section_image(section, "x")
    section.uns["spatial"]["second"] = section.uns["spatial"]["lib"]
    with pytest.raises(ValueError, match="Found several libraries .*: lib, second. Choose one with `library_id`"):
        _sources.section_image(section, None)
