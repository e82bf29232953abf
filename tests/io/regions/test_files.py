from __future__ import annotations

import gzip
import json
import logging

import geopandas as gpd
import numpy as np
import pytest
import shapely

from sphisto.io.regions.files import is_region_file, read_regions

CELLS = gpd.GeoDataFrame(
    {"id": ["a", "b"], "kind": ["x", "y"]}, geometry=[shapely.box(0, 0, 4, 2), shapely.Point(9, 9).buffer(3)]
)


@pytest.mark.parametrize("name", ["cells.geojson", "cells.parquet", "cells.gpkg", "CELLS.GEOJSON"])
def test_outlines_are_read_with_their_names(tmp_path, name):
    path = tmp_path / name
    CELLS.to_parquet(path) if name.endswith("parquet") else CELLS.to_file(
        path, driver="GPKG" if name.endswith("gpkg") else "GeoJSON"
    )
    found = read_regions(path)
    assert list(found.index) == ["a", "b"]
    assert list(found["kind"]) == ["x", "y"]
    np.testing.assert_allclose(shapely.area(found.geometry.to_numpy()), CELLS.area, rtol=1e-6)


@pytest.mark.parametrize("name", ["cells.geojson", "cells.json", "cells.geojson.gz", "CELLS.JSON.GZ"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b" \n"])
@pytest.mark.parametrize("bare", [True, False])
def test_geojson_may_be_packed_and_a_bare_list(tmp_path, name, mark, bare, caplog):
    whole = json.loads(CELLS.to_json())
    text = mark + json.dumps(whole["features"] if bare else whole).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.lower().endswith("gz") else text)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        found = read_regions(tmp_path / name)
    assert list(found["kind"]) == ["x", "y"]
    np.testing.assert_allclose(shapely.area(found.geometry.to_numpy()), CELLS.area, rtol=1e-6)
    assert ("is a list of features" in caplog.text) == bare


def test_packed_circles_are_read(tmp_path):
    (tmp_path / "circles.csv.gz").write_bytes(gzip.compress(b"x,y\n1,2\n"))
    assert read_regions(tmp_path / "circles.csv.gz").geometry.x.tolist() == [1]


@pytest.mark.parametrize(
    "content", [b"no", gzip.compress(b"[]" * 99)[:-9], b"\x1f\x8b\x08" + bytes(9) + b"no"], ids=["text", "cut", "wrong"]
)
def test_a_packed_file_that_is_damaged_is_refused(tmp_path, content):
    (tmp_path / "a.geojson.gz").write_bytes(content)
    with pytest.raises(ValueError, match="a.geojson.gz cannot be read as outlines of regions"):
        read_regions(tmp_path / "a.geojson.gz")


def test_regions_without_ids_are_numbered(tmp_path):
    CELLS.drop(columns="id").to_file(tmp_path / "cells.geojson")
    assert list(read_regions(tmp_path / "cells.geojson").index) == [0, 1]


@pytest.mark.parametrize(
    ("text", "index", "radii"),
    [("x,y,radius\n1,2,3\n4.5,6,7\n", [0, 1], [3, 7]), ("id, x, y, radius\n01, 1, 2, 3\nb, 4.5, 6, 7\n", ["01", "b"], [3, 7]),
     ("\ufeffy,x\n2,1\n6,4.5\n", [0, 1], None)],
)  # fmt: skip
def test_circles_are_a_table(tmp_path, text, index, radii):
    (tmp_path / "circles.csv").write_text(text, encoding="utf-8")
    found = read_regions(tmp_path / "circles.csv")
    assert list(found.index) == index
    np.testing.assert_array_equal(np.column_stack([found.geometry.x, found.geometry.y]), [[1, 2], [4.5, 6]])
    assert radii is None or list(found["radius"]) == radii


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n1,2\n", r"has the columns a, b; expected x and y, and perhaps radius and id"),
        ("a.csv", "x,y\n1,2\n,3\n", r"expected numbers in the column x, found nan in row 3"),
        ("a.csv", "x,y\n1,west\n", r"expected numbers in the column y, found west in row 2"),
        ("a.csv", "", r"cannot be read as csv"),
        ("a.geojson", "{", r"cannot be read as outlines of regions .* Export it again"),
        ("a.parquet", "no", r"cannot be read as outlines of regions"),
        ("a.txt", "no", r"cannot be read as outlines of regions"),
    ],
)
def test_what_holds_no_regions_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"(?s){name}.*{message}"):
        read_regions(tmp_path / name)


def test_a_table_without_outlines_is_refused(tmp_path):
    import pandas as pd

    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet"):
        read_regions(tmp_path / "a.parquet")


def test_files_are_told_from_names_of_elements(tmp_path):
    (tmp_path / "cells").touch()
    assert is_region_file(tmp_path / "cells")
    assert is_region_file("absent.geojson")
    assert is_region_file("absent.geojson.gz")
    assert not is_region_file("toy_tissue")
    assert not is_region_file("cells.v2")
    with pytest.raises(FileNotFoundError, match="Found no file absent.geojson; expected outlines"):
        read_regions("absent.geojson")
