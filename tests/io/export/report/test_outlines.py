from __future__ import annotations

import numpy as np
import pytest
import shapely
import spatialdata as sd
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import Scale

from sphisto.core.grid import Grid
from sphisto.io.export.report import outlines
from sphisto.io.export.report.outlines import as_path, element_outlines, mask_outline


def area(lines):
    """Area within lines; that of holes is taken off."""
    return abs(sum(shapely.polygons(line).area * (1 if shapely.LinearRing(line).is_ccw else -1) for line in lines))


def test_a_mask_has_the_outline_of_its_pixels_in_the_sections_frame():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:50] = True
    mask[15:20, 30:40] = False
    lines = mask_outline(mask, Grid(40, 60, 1.0, (2.0, 3.0)))
    assert len(lines) == 2
    corners = np.concatenate(lines)
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([60, 20], [150, 60])
    assert area(lines) == (20 * 30 - 5 * 10) * 6
    assert mask_outline(np.zeros((4, 4), dtype=bool), Grid(4, 4, 1.0)) == []


def test_paths_are_closed():
    assert as_path([np.array([[0, 0], [2, 0.04], [2, 2.06], [0, 0]])]) == "M0.0 0.0L2.0 0.0L2.0 2.1Z"


@pytest.fixture
def opened(store):
    """A store to which somebody else added cells, as labels and as polygons."""
    sdata = sd.read_zarr(store)
    cells = np.zeros((96, 112), dtype=np.int32)
    cells[20:40, 30:60], cells[60:80, 30:40] = 1, 7
    sdata["cells"] = Labels2DModel.parse(
        cells, dims=("y", "x"), scale_factors=[2, 2], transformations={"global": Scale([1, 1], ("x", "y"))}
    )
    import geopandas as gpd

    sdata["areas"] = ShapesModel.parse(gpd.GeoDataFrame(geometry=[shapely.box(10, 20, 30, 50)]))
    return sdata


@pytest.mark.parametrize("most_side", [200, 60, 28, 20])
def test_labels_are_outlined_at_the_level_that_fits(opened, most_side):
    lines = element_outlines(opened, "cells", "global", px=1.0, most_side=most_side)
    assert len(lines) == 2
    pixel = max(1, 112 / most_side)
    for line, (x0, y0, x1, y1) in zip(lines, [(30, 20, 60, 40), (30, 60, 40, 80)], strict=True):
        np.testing.assert_allclose([*line.min(axis=0), *line.max(axis=0)], [x0, y0, x1, y1], atol=2 * pixel)
    if most_side == 200:
        assert area(lines) == 30 * 20 + 10 * 20


def test_polygons_are_outlined(opened):
    [line] = element_outlines(opened, "areas", "global", px=1.0, most_side=50)
    assert area([line]) == 20 * 30


def test_what_cannot_be_drawn_is_refused(opened, monkeypatch):
    with pytest.raises(ValueError, match="expected a transformation to 'elsewhere'"):
        element_outlines(opened, "cells", "elsewhere", px=1.0, most_side=200)
    monkeypatch.setattr(outlines, "MOST_CORNERS", 5)
    with pytest.raises(ValueError, match="10 corners, more than the 5 that a page can draw"):
        element_outlines(opened, "cells", "global", px=1.0, most_side=200)
