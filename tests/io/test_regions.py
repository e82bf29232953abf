from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.io.regions import footprint

GRID = Grid(40, 50, 4.0, (2.0, 2.0))


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


def test_regions_of_no_known_kind():
    with pytest.raises(ValueError, match=r"shape \(3, 2\) without `radius=`; expected an \(n, 2\) array"):
        footprint("", np.zeros((3, 2)), GRID, None)
    import geopandas as gpd
    import shapely

    lines = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])])
    with pytest.raises(ValueError, match="Found geometries of type LineString"):
        footprint("", lines, GRID, None)


def test_regions_beside_the_raster():
    with pytest.raises(ValueError, match="None of the 1 regions lies on the raster; expected x from 0 to 100"):
        footprint("", np.array([[500.0, 500.0]]), GRID, 3.0)
