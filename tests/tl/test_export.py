"""What other programs are given is what the store holds; it is there as a whole or not at all."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import os
import shutil
import signal
import tarfile
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
import tifffile
import zarr

import sphisto as sp
from sphisto.io.store import read as stores

GOLDEN = Path(__file__).parents[1] / "golden"
GENES = ["nuclei_a", "class1_a"]
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def gene(store, name, scale=0):
    """A gene with 0 outside tissue."""
    return np.nan_to_num(sp.get.gene_raster(store, name, scale=scale).values[0], nan=0)


def series_of(path):
    with tifffile.TiffFile(path) as tif:
        [series] = tif.series
        return SimpleNamespace(
            kind=series.kind,
            axes=series.axes,
            levels=[level.asarray() for level in series.levels],
            xml=ElementTree.fromstring(tif.ome_metadata.encode()),
        )


def channels_of(xml):
    return [channel.get("Name") for channel in xml.iter(f"{OME}Channel")]


# ---- OME-TIFF


def test_genes_are_those_of_the_store_at_each_level(large, tmp_path):
    sp.tl.export(large, tmp_path / "x.ome.tif", genes=GENES)
    found = series_of(tmp_path / "x.ome.tif")
    assert (found.kind, found.axes) == ("ome", "CYX")
    assert [level.shape for level in found.levels] == [(2, 1536, 1792), (2, 768, 896), (2, 384, 448)]
    for scale, level in enumerate(found.levels):
        assert level.dtype == np.float32
        for values, name in zip(level, GENES, strict=True):
            np.testing.assert_array_equal(values, gene(large, name, scale))
            assert 0 < (values == 0).mean() < 1
    assert channels_of(found.xml) == GENES
    pixels = found.xml.find(f"{OME}Image/{OME}Pixels")
    um = sp.get.gene_raster(large, GENES[0]).um_per_px
    assert float(pixels.get("PhysicalSizeX")) == pytest.approx(um)
    assert float(pixels.get("PhysicalSizeY")) == pytest.approx(um)
    notes = {m.get("K"): m.text for m in found.xml.iter(f"{OME}M")}
    assert notes["unit"] == "counts per spot area"
    assert (notes["projection"], notes["library_id"], notes["outside tissue"]) == ("projection", "toy", "0")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ome.tif"]


def test_by_default_the_genes_that_are_stored_are_written(store, tmp_path):
    sp.tl.export(str(store), str(tmp_path / "x.OME.TIFF"))
    found = series_of(tmp_path / "x.OME.TIFF")
    assert channels_of(found.xml) == list(stores.raster(store, "projection").channels)
    np.testing.assert_array_equal(found.levels[0][3], gene(store, channels_of(found.xml)[3]))


def test_any_element_can_be_written(store, tmp_path):
    sp.tl.export(store, tmp_path / "image.ome.tif", element="toy_image")
    found = series_of(tmp_path / "image.ome.tif")
    assert found.axes == "YXS"
    np.testing.assert_array_equal(found.levels[0], np.moveaxis(sp.get.raster(store, "toy_image").values, 0, -1))
    sp.tl.export(store, tmp_path / "sd.ome.tif", element="projection_sd", genes="class1_a")
    found = series_of(tmp_path / "sd.ome.tif")
    expected = np.nan_to_num(sp.get.raster(store, "projection_sd").sel(c="class1_a").values, nan=0)
    np.testing.assert_array_equal(found.levels[0].squeeze(), expected)
    assert channels_of(found.xml) == ["class1_a"]
    sp.tl.export(store, tmp_path / "tissue.ome.tif", element="projection_tissue")
    found = series_of(tmp_path / "tissue.ome.tif")
    np.testing.assert_array_equal(found.levels[0].squeeze(), sp.get.raster(store, "projection_tissue").values)


def test_pixels_may_be_longer_than_wide(store, tmp_path):
    store = Path(shutil.copytree(store, tmp_path / "toy.zarr"))
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    mark = copy.deepcopy(dict(root.attrs["sphisto"]))
    um = mark["grids"]["projection_factors"]["um_per_px"]
    for name in ("projection_factors", "projection_tissue"):
        mark["grids"][name]["fullres_per_px"] = [2.0, 0.5]  # of the same area
    root.attrs["sphisto"] = mark
    sp.tl.export(store, tmp_path / "x.ome.tif", genes="class1_a")
    pixels = series_of(tmp_path / "x.ome.tif").xml.find(f"{OME}Image/{OME}Pixels")
    assert float(pixels.get("PhysicalSizeY")) == pytest.approx(2 * um)
    assert float(pixels.get("PhysicalSizeX")) == pytest.approx(um / 2)


@pytest.fixture(scope="module", params=sorted(GOLDEN.glob("*.tar.xz")), ids=lambda path: path.name)
def golden(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(request.param) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.glob("*.zarr"))


def test_stores_of_each_format_and_open_ones_are_written_alike(golden, tmp_path):
    import spatialdata as sd

    sp.tl.export(golden, tmp_path / "path.ome.tif")
    sp.tl.export(sd.read_zarr(golden), tmp_path / "open.ome.tif")
    found, other = series_of(tmp_path / "path.ome.tif"), series_of(tmp_path / "open.ome.tif")
    for values, name in zip(found.levels[0], channels_of(found.xml), strict=True):
        np.testing.assert_array_equal(values, gene(golden, name))
    np.testing.assert_allclose(other.levels[0], found.levels[0], rtol=1e-6)
    sp.tl.export(golden, tmp_path / "x.geojson", regions="toy_spots")
    sp.tl.export(golden, tmp_path / "x.json")
    sp.tl.export(sd.read_zarr(golden), tmp_path / "open.json")
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads((tmp_path / "open.json").read_text())


# ---- GeoJSON


def read(path):
    """Outlines and properties by name."""
    found = json.loads(path.read_text(encoding="utf-8"))["features"]
    return {
        each["properties"]["name"]: (shapely.geometry.shape(each["geometry"]), each["properties"]) for each in found
    }


def test_areas_of_labels_circles_and_polygons_are_their_own(store, tmp_path):
    import geopandas as gpd

    path = tmp_path / "x.geojson"
    sp.tl.export(store, path, regions="projection_tissue")
    [(outline, properties)] = read(path).values()
    assert outline.area == (sp.get.raster(store, "projection_tissue").values == 1).sum()
    assert properties == {"objectType": "annotation", "name": "1"}
    sp.tl.export(store, path, regions="toy_spots", overwrite=True, objects="detection")
    spots = gpd.read_file(path).set_crs(None, allow_override=True)  # GeoJSON means degrees, QuPath pixels
    radius = stores.spot(store, "projection").um / stores.raster(store, "projection").grid.um_per_px / 2
    np.testing.assert_allclose(spots.geometry.area, np.pi * radius**2, rtol=1e-5)
    assert len(spots) == stores.table(store).n_obs
    ring = shapely.Polygon([(5, 5), (50, 5), (50, 40)], holes=[[(30, 15), (40, 15), (40, 20)]])
    sp.tl.export(store, path, regions=gpd.GeoDataFrame(geometry=[ring], index=["mine"]), overwrite=True)
    assert read(path)["mine"][0].equals(ring)


def test_outlines_may_be_in_pixels_of_a_raster(large, tmp_path):
    sp.tl.export(large, tmp_path / "full.geojson", regions="toy_tissue")
    sp.tl.export(large, tmp_path / "over.geojson", regions="toy_tissue", over="projection_factors")
    [(full, _)], [(over, _)] = (read(tmp_path / f"{name}.geojson").values() for name in ("full", "over"))
    np.testing.assert_allclose(over.bounds, 16 * np.array(full.bounds))
    assert over.area == pytest.approx(256 * full.area)


def test_genes_are_summed_into_measurements(store, tmp_path):
    xy = np.array([[30.0, 40.0], [60.0, 50.0]])
    sp.tl.export(store, tmp_path / "x.geojson", regions=xy, radius=6, genes=GENES)
    expected = sp.tl.aggregate(store, xy, radius=6, genes=GENES)
    for name, (outline, properties) in read(tmp_path / "x.geojson").items():
        row = expected.obs_names.get_loc(name)
        measured = properties["measurements"]
        assert list(measured) == ["coverage", "area_um2", *GENES]
        np.testing.assert_allclose([measured[gene] for gene in GENES], expected.X[row], rtol=1e-6)
        assert measured["coverage"] == pytest.approx(expected.obs["coverage"].iloc[row])
        assert outline.area == pytest.approx(np.pi * 36, rel=1e-5)


def test_a_table_gives_classes_colours_and_measurements(store, tmp_path, caplog):
    x, y = np.meshgrid(np.arange(20, 90, 20.0), np.arange(20, 80, 20.0))
    xy = np.column_stack([x.ravel(), y.ravel()])
    table = sp.tl.aggregate(store, xy, radius=6)
    table.obs["kind"] = np.where(np.arange(len(xy)) % 2, "b", "a")
    table.obs.loc["4", "kind"] = None
    table.uns["kind_colors"] = ["#ff0000", "blue"]
    table = table[2:].copy()
    with caplog.at_level(logging.INFO, logger="sphisto"):
        sp.tl.export(
            store, tmp_path / "x.geojson", regions=xy, radius=6, table=table, classification="kind", genes=GENES
        )
    assert "2 of 12 regions are left out: without an area or a row in `table`." in caplog.text
    found = read(tmp_path / "x.geojson")
    assert list(found) == list(table.obs_names)
    assert found["2"][1]["classification"] == {"name": "a", "color": [255, 0, 0]}
    assert found["3"][1]["classification"] == {"name": "b", "color": [0, 0, 255]}
    assert "classification" not in found["4"][1]
    measured = found["7"][1]["measurements"]
    assert set(measured) == {"coverage", "area_um2", *GENES}
    assert measured["class1_a"] == pytest.approx(float(table["7", "class1_a"].X[0, 0]))


def test_names_that_come_twice_get_a_number_as_in_the_table(store, tmp_path):
    import geopandas as gpd

    boxes = gpd.GeoDataFrame(geometry=[shapely.box(20, 20, 30, 30), shapely.box(50, 50, 70, 60)], index=["a", "a"])
    sp.tl.export(store, tmp_path / "x.geojson", regions=boxes, table=sp.tl.aggregate(store, boxes, genes="class1_a"))
    assert {name: outline.area for name, (outline, _) in read(tmp_path / "x.geojson").items()} == {"a": 100, "a-1": 200}


# ---- Vitessce


def test_a_view_config_names_what_the_store_holds(store, tmp_path):
    sp.tl.export(store, tmp_path / "x.vitessce.json", genes=["class1_a"], url="https://example.org/data/toy.zarr/")
    config = json.loads((tmp_path / "x.vitessce.json").read_text())
    for file in config["datasets"][0]["files"]:
        assert file["url"] == "https://example.org/data/toy.zarr"
        options = [option for option in file["options"].values() if isinstance(option, dict)]
        for option in options:
            assert (store / option["path"]).is_dir()
            assert (store / option.get("tablePath", "")).is_dir()
    space = config["coordinationSpace"]
    assert stores.raster(store, "projection").channels[space["spatialTargetC"]["genes_0"]] == "class1_a"
    low, high = space["spatialChannelWindow"]["genes_0"]
    values = gene(store, "class1_a")
    assert (low, np.quantile(values, 0.9) < high < values.max()) == (0, True)


def test_by_default_the_store_is_looked_for_on_this_machine(store, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="sphisto"):
        sp.tl.export(store, tmp_path / "x.json")
    config = json.loads((tmp_path / "x.json").read_text())
    assert {file["url"] for file in config["datasets"][0]["files"]} == {"http://localhost:8000/toy.zarr"}
    assert len([name for name in config["coordinationSpace"]["spatialTargetC"] if name.startswith("genes")]) == 6
    assert "Vitessce draws 6 channels at once" in caplog.text


# ---- what is refused


REFUSED = {
    "another kind of file": ({}, "x.tif", ValueError, r"Found the file name 'x.tif'; expected one that ends .*\.ome\.tif"),
    "a gene that is not there": ({"genes": ["class1_a", "Nrgn"]}, "x.ome.tif", KeyError, "Found no gene 'Nrgn'"),
    "no gene at all": ({"genes": []}, "x.ome.tif", ValueError, "Found no gene to write"),
    "an unknown projection": ({"key": "none"}, "x.ome.tif", KeyError, "Found no projection 'none'"),
    "an unknown element": ({"element": "none"}, "x.ome.tif", KeyError, "Found no raster 'none'"),
    "an unknown channel": (
        {"element": "projection_sd", "genes": "Nrgn"}, "x.ome.tif", KeyError, "Found no channel 'Nrgn' in 'projection_sd'",
    ),
    "another library": ({"library_id": "none"}, "x.ome.tif", KeyError, "no projection 'projection' of the library 'none'"),
    "a keyword of another kind": (
        {"regions": "toy_spots"}, "x.ome.tif", ValueError, "Found `regions` with .* which becomes OME-TIFF; expected .* GeoJSON",
    ),
    "an address for an image": ({"url": "http://a"}, "x.ome.tif", ValueError, "Found `url` .*expected it with Vitessce only"),
    "no regions": ({}, "x.geojson", ValueError, "Found no `regions`"),
    "unknown regions": ({"regions": "none"}, "x.geojson", KeyError, "Found no element 'none'"),
    "other objects": ({"regions": "toy_spots", "objects": "cell"}, "x.geojson", ValueError, "'annotation', 'detection'"),
    "a class without a table": ({"regions": "toy_spots", "classification": "a"}, "x.geojson", ValueError, "without `table`"),
    "a gene without a raster": ({"genes": "none"}, "x.json", KeyError, "among those that are stored as rasters"),
    "an address that is none": ({"url": "here"}, "x.json", ValueError, "begins with http:// or https://"),
    "a folder that is not there": ({}, "none/x.ome.tif", FileNotFoundError, "There is no folder"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(store, tmp_path, what):
    given, name, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        sp.tl.export(store, tmp_path / name, **given)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_other_regions_is_refused(store, tmp_path):
    xy = np.array([[30.0, 40.0], [60.0, 50.0]])
    table = sp.tl.aggregate(store, xy, radius=6, genes="class1_a")
    path = tmp_path / "x.geojson"
    with pytest.raises(KeyError, match="Found rows of `table` that are none of the regions: '1'"):
        sp.tl.export(store, path, regions=xy[:1], radius=6, table=table)
    with pytest.raises(KeyError, match="Found no column 'kind' in table.obs; it has 'coverage', 'area_um2'"):
        sp.tl.export(store, path, regions=xy, radius=6, table=table, classification="kind")
    with pytest.raises(KeyError, match="Found no gene 'class1_b' in `table`"):
        sp.tl.export(store, path, regions=xy, radius=6, table=table, genes="class1_b")
    assert not path.exists()


def test_a_store_of_a_newer_format_is_refused(store, tmp_path):
    newer = Path(shutil.copytree(store, tmp_path / "toy.zarr"))
    root = zarr.open_group(newer, mode="r+", use_consolidated=False)
    root.attrs["sphisto"] = {**root.attrs["sphisto"], "format": 99}
    with pytest.raises(ValueError, match="is a store of format 99"):
        sp.tl.export(newer, tmp_path / "x.ome.tif")
    assert not (tmp_path / "x.ome.tif").exists()


def test_of_several_sections_one_must_be_chosen(store, tmp_path):
    joint = Path(shutil.copytree(store, tmp_path / "toy.zarr"))
    root = zarr.open_group(joint, mode="r+", use_consolidated=False)
    mark = copy.deepcopy(dict(root.attrs["sphisto"]))
    about = mark["keys"].pop("projection")
    mark["keys"] = {
        f"projection_{lib}": {**about, "library_id": lib, "joint": "projection"} for lib in ("toy", "other")
    }
    root.attrs["sphisto"] = mark
    with pytest.raises(ValueError, match="is of 2 sections .'toy', 'other'.; expected `library_id`"):
        sp.tl.export(joint, tmp_path / "x.ome.tif")
    assert not (tmp_path / "x.ome.tif").exists()


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(store, tmp_path):
    path = tmp_path / "x.ome.tif"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists and is left alone"):
        sp.tl.export(store, path, genes="class1_a")
    assert path.read_bytes() == b"mine"
    with pytest.raises(KeyError):
        sp.tl.export(store, path, genes="none", overwrite=True)
    assert path.read_bytes() == b"mine"
    sp.tl.export(store, path, genes="class1_a", overwrite=True)
    assert series_of(path).levels[0].shape[-2:] == (96, 112)


def test_too_little_room_is_said_before_anything_is_written(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"x\.ome\.tif needs some .* MB free"):
        sp.tl.export(store, tmp_path / "x.ome.tif")
    assert list(tmp_path.iterdir()) == []


def killed_midway(store: Path, path: Path) -> None:
    """Export, and kill this process while the second level is written."""
    from sphisto.io.export import planes
    from sphisto.io.store.stored_genes import StoredGenes

    class Killing(StoredGenes):
        def read(self, scale, window):
            if scale == 1 and window.y0 > 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(scale, window)

    whole = planes.stored_genes
    planes.stored_genes = lambda *given: Killing(**vars(whole(*given)))
    sp.tl.export(store, path, genes=GENES, overwrite=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
@pytest.mark.parametrize("is_there", [False, True])
def test_killed_midway_there_is_no_file_or_the_old_one_and_the_next_call_writes_it(large, tmp_path, is_there):
    path = tmp_path / "x.ome.tif"
    if is_there:
        path.write_bytes(b"mine")
    process = multiprocessing.get_context("fork").Process(target=killed_midway, args=(large, path))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert path.exists() == is_there
    assert not is_there or path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir() if each != path] == [".x.ome.tif.new"]
    sp.tl.export(large, path, genes=GENES, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["x.ome.tif"]
    np.testing.assert_array_equal(series_of(path).levels[1][1], gene(large, GENES[1], 1))
