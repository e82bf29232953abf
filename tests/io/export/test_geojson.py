from __future__ import annotations

import json

import pytest
import shapely

from sphisto.io.export.geojson import Feature, write_geojson

RING = shapely.Polygon([(0, 0), (10, 0), (10, 8), (0, 8)], holes=[[(2, 2), (4, 2), (4, 4), (2, 4)]])


def written(path, features, per_px=(1.0, 1.0), objects="annotation"):
    write_geojson(path, features, per_px=per_px, objects=objects)
    return json.loads(path.read_text(encoding="utf-8"))


def test_properties_have_the_names_that_qupath_reads(tmp_path):
    feature = Feature(RING, "cell \u00b5", "Tumour", (200, 0, 10), {"Mbp": 1.5, "coverage": float("nan")})
    found = written(tmp_path / "x.geojson", [feature], objects="detection")
    assert found["type"] == "FeatureCollection"
    [cell] = found["features"]
    assert cell["type"] == "Feature"
    assert cell["properties"] == {
        "objectType": "detection",
        "name": "cell \u00b5",
        "classification": {"name": "Tumour", "color": [200, 0, 10]},
        "measurements": {"Mbp": 1.5},  # JSON has no NaN
    }


def test_what_is_not_known_is_not_written(tmp_path):
    [cell] = written(tmp_path / "x.geojson", [Feature(RING, "a")])["features"]
    assert cell["properties"] == {"objectType": "annotation", "name": "a"}


def test_geopandas_reads_outlines_with_holes_and_parts(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    parts = shapely.MultiPolygon([RING, shapely.box(20, 20, 23.125, 21)])
    written(tmp_path / "x.geojson", [Feature(RING, "a"), Feature(parts, "b")])
    found = geopandas.read_file(tmp_path / "x.geojson").set_crs(None, allow_override=True)  # they are no degrees
    assert found["name"].tolist() == ["a", "b"]
    assert found.area.tolist() == [76, 79.125]
    assert found.geometry[0].equals(RING)
    assert found.geometry[1].equals(parts)


def test_coordinates_are_in_pixels_of_another_raster(tmp_path):
    found = written(tmp_path / "x.geojson", [Feature(shapely.box(0, 0, 8, 12), "a")], per_px=(4.0, 2.0))
    assert shapely.geometry.shape(found["features"][0]["geometry"]).bounds == (0, 0, 4, 3)
