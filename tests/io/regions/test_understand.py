from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.io.regions import understand

GRID = Grid(40, 50, 4.0, (2.0, 2.0))
footprint, understood = (partial(do, system="global") for do in (understand.footprint, understand.understood))


def test_circles_are_given_in_x_y_of_full_resolution():
    found, names = footprint("", np.array([[60.0, 20.0]]), GRID, 6.0)
    np.testing.assert_allclose(found.centroids(), [[10, 30]], atol=1e-2)
    assert found.area[0] == pytest.approx(np.pi * 9, rel=1e-5)
    assert list(names) == [0]


def test_polygons_keep_holes_parts_and_names():
    import geopandas as gpd
    import shapely

    ring = shapely.box(10, 10, 30, 30).difference(shapely.box(14, 14, 20, 20))
    parts = shapely.MultiPolygon([shapely.box(50, 10, 60, 20), shapely.box(70, 10, 74, 12)])
    found, names = footprint("", gpd.GeoDataFrame(geometry=[ring, parts], index=["a", "b"]), GRID, None)
    np.testing.assert_allclose(found.area, [(400 - 36) / 4, (100 + 8) / 4])
    assert list(names) == ["a", "b"]


def test_points_take_their_radius_from_the_table():
    import geopandas as gpd

    points = gpd.GeoDataFrame({"radius": [4.0, 8.0]}, geometry=gpd.points_from_xy([40, 40], [40, 40]))
    found, _ = footprint("", points, GRID, None)
    np.testing.assert_allclose(found.area, np.pi * np.array([4, 16]), rtol=1e-5)
    with pytest.raises(ValueError, match="Found 2 points without a radius"):
        footprint("", points.drop(columns="radius"), GRID, None)


def test_labels_of_any_resolution():
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Identity

    labels = np.zeros((80, 100), dtype=np.int32)  # full resolution
    labels[10:20, 20:40] = 5
    labels[40:44, 2:4] = 3
    element = Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": Identity()})
    found, names = footprint("", element, GRID, None)
    assert list(names) == [3, 5]
    np.testing.assert_array_equal(found.area, [2, 50])


@pytest.mark.parametrize("kind", [np.int32, np.uint8, bool])
def test_an_array_of_the_shape_of_the_raster_is_labels_on_it(kind, caplog):
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale

    labels = np.zeros(GRID.shape, dtype=kind)
    labels[10:20, 20:40] = 1
    with caplog.at_level(logging.INFO, logger="sphisto"):
        found, names = footprint("", labels, GRID, None)
    assert "is taken for labels on the pixels of the raster" in caplog.text
    element = Labels2DModel.parse(
        labels.astype(np.int32), dims=("y", "x"), transformations={"global": Scale([2, 2], ("x", "y"))}
    )
    expected, _ = footprint("", element, GRID, None)
    np.testing.assert_array_equal(found.centroids(), expected.centroids())
    assert found.area.tolist() == [200]
    assert list(names) == [1]
    with pytest.raises(ValueError, match="values of float64; expected labels: whole numbers"):
        footprint("", labels.astype(float), GRID, None)


def test_a_mask_of_other_pixels_is_told_how_it_becomes_labels():
    import spatialdata

    mask = np.zeros((80, 100), dtype=np.int32)
    mask[10:20, 20:40] = 5
    with pytest.raises(ValueError, match=r"shape \(80, 100\).* For a mask of full-resolution pixels give") as refused:
        footprint("", mask, GRID, None)
    remedy = str(refused.value).split("`")[-2]
    found, names = footprint("", eval(remedy, {"mask": mask, "spatialdata": spatialdata}), GRID, None)
    assert list(names) == [5]
    assert found.area.tolist() == [50]


def test_a_file_is_read_where_no_element_is_called_so(tmp_path, small_toy):
    import geopandas as gpd
    import shapely
    import spatialdata as sd
    from spatialdata.models import ShapesModel

    cells, other = (gpd.GeoDataFrame(geometry=[shapely.box(0, 0, side, 8)]) for side in (4, 8))
    cells.to_file(tmp_path / "cells.geojson")
    sdata = sd.SpatialData(shapes={"cells": ShapesModel.parse(other)})
    path = tmp_path / "cells.geojson"
    for name in (path, str(path)):
        assert footprint(sdata, name, GRID, None)[0].area.tolist() == [8]
    assert footprint(sdata, "cells", GRID, None)[0].area.tolist() == [16]
    with pytest.raises(FileNotFoundError, match=r"Found no file .*absent.geojson"):
        footprint(sdata, str(tmp_path / "absent.geojson"), GRID, None)
    with pytest.raises(KeyError, match="Found no element 'nuclei' in the store; it holds 'cells'"):
        footprint(sdata, "nuclei", GRID, None)
    with pytest.raises(TypeError, match=r"Found SpatialData as regions; .* give one element"):
        footprint(sdata, sdata, GRID, None)
    with pytest.raises(TypeError, match=r"Found AnnData as regions; .* give `adata.obsm\['spatial'\]` with `radius=`"):
        footprint(sdata, small_toy, GRID, 3)


def test_regions_of_no_known_kind():
    import shapely

    with pytest.raises(ValueError, match=r"For a list of outlines give `geopandas.GeoDataFrame\(geometry=regions\)`"):
        footprint("", [shapely.box(0, 0, 4, 4)], GRID, None)
    with pytest.raises(ValueError, match=r"shape \(3, 2\) without `radius=`; expected an \(n, 2\) array"):
        footprint("", np.zeros((3, 2)), GRID, None)
    import geopandas as gpd

    lines = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])])
    with pytest.raises(ValueError, match="Found geometries of type LineString"):
        footprint("", lines, GRID, None)


def test_regions_beside_the_raster():
    with pytest.raises(ValueError, match="None of the 1 regions lies on the raster; expected x from 0 to 100"):
        footprint("", np.array([[500.0, 500.0]]), GRID, 3.0)


# ---- where elements lie

BOX = (10, 20, 50, 60)  # x, y from and to, in global


def box_in(matrix):
    """The box, in the coordinates of an element that lies in ``global`` by a matrix."""
    import shapely

    inverse = np.linalg.inv(matrix)
    return shapely.transform(shapely.box(*BOX), lambda xy: xy @ inverse[:2, :2].T + inverse[:2, 2])


@pytest.mark.parametrize(
    "matrix",
    [
        [[2, 0, 0], [0, 2, 0], [0, 0, 1]],
        [[0.5, 0, 7], [0, 0.25, -3], [0, 0, 1]],
        [[0, -1, 80], [1, 0, 0], [0, 0, 1]],  # a quarter turn
        [[-1, 0, 60], [0, 1, 0], [0, 0, 1]],  # mirrored: rings run the other way round
        [[1, 0.5, 0], [0.2, 1, 3], [0, 0, 1]],
    ],
)
def test_polygons_lie_where_their_transformation_says(matrix):
    import geopandas as gpd
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Affine

    affine = Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
    element = ShapesModel.parse(
        gpd.GeoDataFrame(geometry=[box_in(np.array(matrix))]), transformations={"global": affine}
    )
    expected, _ = footprint("", gpd.GeoDataFrame(geometry=[box_in(np.eye(3))]), GRID, None)
    found, _ = footprint("", element, GRID, None)
    raster = np.arange(40 * 50, dtype=float).reshape(40, 50)
    np.testing.assert_allclose(found.pool(raster), expected.pool(raster), rtol=1e-5)
    np.testing.assert_allclose(found.area, [40 * 40 / 4])


def circles(transformation, radius=3.0, systems=("global",)):
    import geopandas as gpd
    from spatialdata.models import ShapesModel

    frame = gpd.GeoDataFrame({"radius": [radius]}, geometry=gpd.points_from_xy([20.0], [10.0]))
    return ShapesModel.parse(frame, transformations=dict.fromkeys(systems, transformation))


def test_circles_grow_with_their_element_and_become_no_ellipses():
    from spatialdata.transformations import Affine, Scale

    found, _ = footprint("", circles(Scale([2.0, 2.0], axes=("x", "y"))), GRID, None)
    np.testing.assert_allclose(found.area, np.pi * 6**2 / 4, rtol=1e-5)
    np.testing.assert_allclose(found.centroids(), [[10, 20]], atol=1e-2)
    turned = Affine([[0, -2, 60], [2, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    found, _ = footprint("", circles(turned), GRID, None)
    np.testing.assert_allclose(found.area, np.pi * 6**2 / 4, rtol=1e-5)
    np.testing.assert_allclose(found.centroids(), [[20, 20]], atol=1e-2)  # x = 60 - 2 * 10, y = 2 * 20
    with pytest.raises(ValueError, match="which makes ellipses of them"):
        footprint("", circles(Scale([2.0, 1.0], axes=("x", "y"))), GRID, None)


def test_elements_of_other_systems_are_refused_with_their_names():
    from spatialdata.transformations import Identity

    with pytest.raises(ValueError, match="Found regions in 'hires', 'lowres'; expected a transformation to 'global'"):
        footprint("", circles(Identity(), systems=("hires", "lowres")), GRID, None)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize("lazy", [False, True])
def test_labels_lie_where_scale_and_shift_say(dtype, lazy):
    import dask.array as da
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale, Sequence, Translation

    labels = np.zeros((10, 12), dtype="uint8" if dtype == "bool" else dtype)
    labels[2:5, 3:9] = 1
    pixels = da.from_array(labels.astype(dtype), chunks=4) if lazy else labels.astype(dtype)
    where = Sequence([Scale([4.0, 8.0], axes=("x", "y")), Translation([12.0, -4.0], axes=("x", "y"))])
    element = Labels2DModel.parse(pixels, dims=("y", "x"), transformations={"global": where})
    found, names = footprint("", element, GRID, None)
    assert list(names) == [1]
    # y from 2 * 8 - 4 to 5 * 8 - 4, x from 3 * 4 + 12 to 9 * 4 + 12 in full-resolution px, of which 2 make one
    expected = np.zeros(GRID.shape)
    expected[6:18, 12:24] = 1
    np.testing.assert_array_equal(found.pool(expected), [[12 * 12]])
    np.testing.assert_array_equal(found.area, [12 * 12])


def test_labels_of_the_rasters_size_need_not_be_on_its_grid():
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Identity

    labels = np.zeros(GRID.shape, dtype=np.int32)
    labels[:20, :20] = 1  # full-resolution px
    element = Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": Identity()})
    found, _ = footprint("", element, GRID, None)
    np.testing.assert_array_equal(found.area, [100])


def test_labels_that_are_turned_or_none_are_refused():
    from spatialdata.models import Image2DModel, Labels2DModel
    from spatialdata.transformations import Affine

    turned = Affine([[0, -1, 40], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    element = Labels2DModel.parse(np.ones((4, 4), int), dims=("y", "x"), transformations={"global": turned})
    with pytest.raises(ValueError, match="by more than scale and shift"):
        footprint("", element, GRID, None)
    with pytest.raises(ValueError, match=r"axes \('c', 'y', 'x'\); expected labels"):
        footprint("", Image2DModel.parse(np.ones((1, 4, 4)), dims=("c", "y", "x")), GRID, None)


def test_labels_too_small_for_the_raster_are_told(caplog):
    from spatialdata.models import Labels2DModel

    labels = np.zeros((80, 100), dtype=np.int32)
    labels[10:20, 20:40] = 5
    labels[3, 3] = 0
    labels[2, 2] = 7  # a quarter of a pixel, without its middle at (3, 3)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        _, names = footprint("", Labels2DModel.parse(labels, dims=("y", "x")), GRID, None)
    assert list(names) == [5]
    assert "1 of 2 labels hold the middle of no pixel of the raster and are left out: 7" in caplog.text


def test_points_elements_have_no_area():
    import pandas as pd
    from spatialdata.models import PointsModel

    points = PointsModel.parse(pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="Found a points element as regions"):
        footprint("", points, GRID, 3.0)


# ---- names in a store


def store_with_more():
    import geopandas as gpd
    import pandas as pd
    import shapely
    from spatialdata import SpatialData
    from spatialdata.models import Labels2DModel, PointsModel, ShapesModel
    from spatialdata.transformations import Scale

    half = {"global": Scale([2.0, 2.0], axes=("x", "y"))}
    cells = ShapesModel.parse(gpd.GeoDataFrame(geometry=[shapely.box(5, 5, 10, 10)], index=["a"]), transformations=half)
    labels = np.zeros(GRID.shape, dtype=np.int64)
    labels[5:10, 5:10] = 4
    sdata = SpatialData(attrs={"sphisto": {"library_id": "x", "keys": {}, "grids": {}}})
    sdata["cells"] = cells
    sdata["nuclei"] = Labels2DModel.parse(labels, dims=("y", "x"), transformations=half)
    sdata["molecules"] = PointsModel.parse(pd.DataFrame({"x": [1.0], "y": [1.0]}))
    return sdata


@pytest.mark.parametrize("on_disk", [False, True])
def test_elements_that_were_added_to_a_store_go_by_their_names(on_disk, tmp_path):
    store = store_with_more()
    if on_disk:
        store.write(tmp_path / "x.zarr")
        store = str(tmp_path / "x.zarr")
    for name, label in (("cells", "a"), ("nuclei", 4)):
        found, names = footprint(store, name, GRID, None)
        assert list(names) == [label]
        np.testing.assert_allclose(found.area, [25])
        np.testing.assert_allclose(found.centroids(), [[7.5, 7.5]])
    with pytest.raises(ValueError, match="'molecules' is one of the points of the store"):
        footprint(store, "molecules", GRID, None)
    with pytest.raises(KeyError, match="Found no element 'spots' in the store; it holds 'cells', 'nuclei'"):
        footprint(store, "spots", GRID, None)


# ---- odd geometries


def odd():
    """Geometries as programs leave them, and the area that each covers."""
    import shapely

    bow = shapely.Polygon([(20, 20), (60, 60), (60, 20), (20, 60)])
    twice = shapely.MultiPolygon([shapely.box(20, 20, 40, 40), shapely.box(30, 20, 50, 40)])
    inside = shapely.box(10, 10, 20, 30)
    mixed = shapely.GeometryCollection(
        [inside, shapely.Point(1, 1), shapely.GeometryCollection([shapely.box(15, 10, 30, 30)])]
    )
    return {
        "bow-tie": (bow, shapely.make_valid(bow)),
        "overlap": (twice, shapely.box(20, 20, 50, 40)),
        "with z": (
            shapely.Polygon([(10, 10, 5), (10, 20, 5), (30, 20, 5)]),
            shapely.Polygon([(10, 10), (10, 20), (30, 20)]),
        ),
        "collection": (mixed, shapely.box(10, 10, 30, 30)),
        "beyond the raster": (shapely.box(-1e7, 10, 1e7, 20), shapely.box(0, 10, 100, 20)),
        "empty": (shapely.Polygon(), None),
        "none": (None, None),
        "a line": (shapely.Polygon([(10, 10), (20, 20), (10, 10)]), None),
    }


@pytest.mark.parametrize("name", ["bow-tie", "overlap", "with z", "collection", "beyond the raster"])
def test_an_odd_outline_counts_the_area_that_it_covers_once(name, caplog):
    import geopandas as gpd
    import shapely

    shape, plain = odd()[name]
    ok = shapely.box(10, 10, 90, 70)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        found, _ = footprint("", gpd.GeoDataFrame(geometry=[ok, shape], index=["ok", "odd"]), GRID, None)
    expected, _ = footprint("", gpd.GeoDataFrame(geometry=[ok, plain]), GRID, None)
    rasters = np.random.default_rng(0).random((3, *GRID.shape))
    np.testing.assert_allclose(found.pool(rasters), expected.pool(rasters), rtol=1e-5)
    whole = shape.area if name == "beyond the raster" else plain.area
    np.testing.assert_allclose(found.area, [80 * 60 / 4, whole / 4])
    assert ("'odd'" in caplog.text) == (name in ("bow-tie", "overlap", "collection"))


@pytest.mark.parametrize("name", ["empty", "none", "a line"])
def test_a_region_without_area_has_no_counts(name, caplog):
    import geopandas as gpd
    import shapely

    frame = gpd.GeoDataFrame(geometry=[odd()[name][0], shapely.box(10, 10, 20, 20)], index=["odd", "ok"])
    found, names = footprint("", frame, GRID, None)
    assert list(names) == ["odd", "ok"]
    np.testing.assert_allclose(found.area, [0, 25])
    np.testing.assert_allclose(found.pool(np.ones(GRID.shape)), [[0], [25]])
    assert "Regions without an area get counts of 0: 'odd'." in caplog.text


@pytest.mark.parametrize(
    ("wkt", "message"),
    [
        ("LINESTRING (0 0, 1 1)", "Found geometries of type LineString, Polygon"),
        ("MULTIPOINT (0 0, 1 1)", "Found geometries of type MultiPoint, Polygon"),
        ("POINT (0 0)", "Found geometries of type Point, Polygon"),
        ("GEOMETRYCOLLECTION (LINESTRING (0 0, 1 1))", "Found collections of geometries without a polygon: 1"),
    ],
)
def test_geometries_without_an_area_are_refused(wkt, message):
    import geopandas as gpd
    import shapely

    with pytest.raises(ValueError, match=message):
        footprint("", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 5, 5), shapely.from_wkt(wkt)]), GRID, None)


def test_a_reference_system_is_told_and_passed_over(caplog):
    import geopandas as gpd
    import shapely

    with caplog.at_level(logging.INFO, logger="sphisto"):
        found, _ = footprint("", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 20, 20)], crs="EPSG:4326"), GRID, None)
    np.testing.assert_allclose(found.area, [100])
    assert "(EPSG:4326) is passed over" in caplog.text


def test_a_series_of_geometries_will_do():
    import geopandas as gpd
    import shapely

    found, _ = footprint("", gpd.GeoSeries([shapely.box(0, 0, 20, 20)], index=["a"]), GRID, None)
    np.testing.assert_allclose(found.area, [100])


# ---- radii


def test_radii_one_for_each_circle():
    found, _ = footprint("", np.array([[40.0, 40.0], [60.0, 40.0]]), GRID, np.array([4.0, 8.0]))
    np.testing.assert_allclose(found.area, np.pi * np.array([4, 16]), rtol=1e-5)


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), float("inf"), [3.0, 0.0], "wide"])
def test_radii_that_cannot_be(radius):
    with pytest.raises(ValueError, match="Found a radius of .*expected finite numbers above 0"):
        footprint("", np.array([[40.0, 40.0], [60.0, 40.0]]), GRID, radius)


def test_radii_of_another_number():
    with pytest.raises(ValueError, match=r"Found `radius` of shape \(3,\) for 2 circles"):
        footprint("", np.array([[40.0, 40.0], [60.0, 40.0]]), GRID, np.ones(3))
    with pytest.raises(ValueError, match="Found centres that are empty or not finite: 1"):
        footprint("", np.array([[40.0, 40.0], [np.nan, 40.0]]), GRID, 3.0)


def test_a_radius_asked_for_counts_and_has_no_meaning_for_areas(caplog):
    import geopandas as gpd
    import shapely
    from spatialdata.transformations import Scale

    with caplog.at_level(logging.INFO, logger="sphisto"):
        found, _ = footprint("", circles(Scale([2.0, 2.0], axes=("x", "y"))), GRID, 4.0)  # in full-resolution px
    np.testing.assert_allclose(found.area, np.pi * 4, rtol=1e-5)
    assert "`radius` is used instead of the column" in caplog.text
    with pytest.raises(ValueError, match="Found `radius` with regions that are polygons"):
        footprint("", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 5, 5)]), GRID, 3.0)


def test_geometries_of_shapes_lie_where_the_shapes_do(caplog):
    """A column of geometries may keep what the shapes said of their place."""
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Scale, Sequence, Translation

    there = Sequence([Scale([2.0, 2.0], ("x", "y")), Translation([10, 0], ("x", "y"))])
    shapes = ShapesModel.parse(
        gpd.GeoDataFrame(geometry=[shapely.box(5, 5, 10, 10)]), transformations={"global": there}
    )
    with caplog.at_level("INFO", logger="sphisto"):
        geometries = shapes.geometry
        geometries.attrs.update(shapes.attrs)  # as newer releases of pandas keep them
        found, _ = footprint("", geometries, GRID, None)
    expected, _ = footprint("", gpd.GeoDataFrame(geometry=[shapely.box(20, 10, 30, 20)]), GRID, None)
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.x, expected.x)
    assert "is shifted by 10 and 0 px (x and y)" in caplog.text


# ---- outlines


@pytest.mark.parametrize("seed", range(3))
def test_outlines_of_labels_have_their_areas_wherever_pixels_touch(seed):
    import shapely
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale, Sequence, Translation

    labels = np.random.default_rng(seed).integers(0, 3, (15, 20)).astype(np.int16)
    where = Sequence([Scale([4.0, 8.0], axes=("x", "y")), Translation([12.0, -4.0], axes=("x", "y"))])
    outlines, names = understood(
        "", Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": where}), None
    ).outlines()
    assert names.tolist() == [1, 2]
    assert shapely.is_valid(outlines).all()
    for name, outline in zip(names, outlines, strict=True):
        assert outline.area == 4 * 8 * (labels == name).sum()
        y, x = np.nonzero(labels == name)
        assert shapely.contains_xy(outline, (x + 0.5) * 4 + 12, (y + 0.5) * 8 - 4).all()


def test_a_hole_belongs_to_the_part_around_it():
    import shapely
    from spatialdata.models import Labels2DModel

    labels = np.zeros((9, 9), dtype=np.int32)
    labels[0:9, 0:9], labels[1:8, 1:8], labels[3:6, 3:6], labels[4, 4] = 1, 0, 1, 0
    [outline], _ = understood("", Labels2DModel.parse(labels, dims=("y", "x")), None).outlines()
    inner, outer = sorted(shapely.get_parts(outline), key=lambda part: part.area)
    assert (inner.area, outer.area) == (8, 81 - 49)
    assert inner.bounds == (3, 3, 6, 6)


def test_a_circle_is_drawn_with_its_own_area():
    [outline], names = understood("", np.array([[10.0, 20.0]]), 3).outlines()
    assert names.tolist() == [0]
    assert outline.area == pytest.approx(np.pi * 9, rel=1e-9)
    np.testing.assert_allclose(outline.centroid.coords, [[10, 20]], atol=1e-9)


def test_a_region_without_an_area_has_no_outline():
    import geopandas as gpd
    import shapely

    outlines, _ = understood(
        "", gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 2, 3), shapely.Polygon()]), None
    ).outlines()
    assert outlines[0].area == 6
    assert outlines[1] is None
