"""What stores of the second format may hold beyond what is written today: made by hand."""

from __future__ import annotations

import copy
import re
import shutil

import numpy as np
import pytest
import zarr

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.io.store import read as stores
from sphisto.io.store.raster import create_raster

KEY = "projection"


def marked(store, change):
    """Change what a store records of itself."""
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    mark = copy.deepcopy(dict(root.attrs["sphisto"]))
    change(mark)
    root.attrs["sphisto"] = mark
    zarr.consolidate_metadata(store)


@pytest.fixture
def mine(store, tmp_path):
    return shutil.copytree(store, tmp_path / "mine.zarr")


@pytest.mark.parametrize("step", [2, 8])
def test_deviations_on_a_coarser_grid_are_interpolated(mine, step):
    """A plane is interpolated exactly but where the border bends it; outside tissue there is nothing."""
    fine = sp.get.raster(mine, f"{KEY}_sd")
    height, width = fine.shape[1] // step, fine.shape[2] // step
    stored = stores.raster(mine, f"{KEY}_sd")
    grid = stored.grid.resized(height, width)
    writer = create_raster(mine, f"{KEY}_sd", stored.channels, grid)
    y, x = np.mgrid[:height, :width]
    plane = (1 + 0.5 * y + 0.25 * x).astype(np.float32)
    tissue = ~np.isnan(fine.values[0])
    known = tissue[: height * step, : width * step].reshape(height, step, width, step).any(axis=(1, 3))
    writer.write(Window(0, 0, height, width), np.where(known, plane, 0)[None].repeat(len(stored.channels), axis=0))

    def change(mark):
        mark["grids"][f"{KEY}_sd"] |= {
            "height": height, "width": width, "um_per_px": grid.um_per_px,
            "fullres_per_px": list(grid.fullres_per_px),
        }  # fmt: skip

    marked(mine, change)
    found = sp.get.raster(mine, f"{KEY}_sd")
    assert found.shape == fine.shape
    np.testing.assert_array_equal(np.isnan(found.values[0]), ~tissue)
    rows, columns = np.mgrid[: fine.shape[1], : fine.shape[2]]
    exact = 1 + 0.5 * ((rows + 0.5) / step - 0.5) + 0.25 * ((columns + 0.5) / step - 0.5)
    inside = np.pad(known, 1).astype(int)
    inner = np.prod([inside[1 + a : inside.shape[0] - 1 + a, 1 + b : inside.shape[1] - 1 + b]
                     for a in (-1, 0, 1) for b in (-1, 0, 1)], axis=0)  # fmt: skip
    inner = np.kron(inner, np.ones((step, step))).astype(bool)
    inner = np.pad(inner, [(0, fine.shape[1] - inner.shape[0]), (0, fine.shape[2] - inner.shape[1])]) & tissue
    assert inner.sum() > 100
    np.testing.assert_allclose(found.values[0][inner], exact[inner], rtol=1e-3)
    part = sp.get.raster(mine, f"{KEY}_sd", bbox=(30, 20, 77, 61))
    np.testing.assert_allclose(part.values, found.sel(x=part.x, y=part.y).values, rtol=1e-5)


@pytest.fixture
def joint(mine):
    """A store of two sections that were fitted together; the second is the first one again."""
    for kind, name in (
        ("images", ""),
        ("images", "_factors"),
        ("images", "_sd"),
        ("images", "_reconstruction"),
        ("labels", "_tissue"),
    ):
        element = mine / kind / f"{KEY}{name}"
        shutil.copytree(element, mine / kind / f"{KEY}_other{name}")
        element.rename(mine / kind / f"{KEY}_toy{name}")
    shutil.copytree(mine / "images" / "toy_image", mine / "images" / "other_image")
    table = mine / "tables" / "table"
    for old in (f"varm/{KEY}_loadings", f"obsm/{KEY}_fitted", f"uns/{KEY}"):
        (table / old).rename(table / old.replace(KEY, f"{KEY}_toy"))
    shutil.copytree(table, mine / "tables" / "other_table")
    other = mine / "tables" / "other_table"
    for old in (f"varm/{KEY}_toy_loadings", f"obsm/{KEY}_toy_fitted", f"uns/{KEY}_toy"):
        (other / old).rename(other / old.replace("_toy", "_other"))

    def change(mark):
        about = mark["keys"].pop(KEY) | {"joint": KEY}
        mark["libraries"]["other"] = {"table": "other_table"}
        for library in ("toy", "other"):
            mark["keys"][f"{KEY}_{library}"] = about | {"library_id": library}
            for name in ("", "_factors", "_sd", "_reconstruction", "_tissue"):
                mark["grids"][f"{KEY}_{library}{name}"] = mark["grids"][f"{KEY}{name}"]
        mark["grids"]["other_image"] = mark["grids"]["toy_image"]

    marked(mine, change)
    return mine


def test_of_sections_fitted_together_one_is_chosen(joint, store):
    expected = sp.get.gene_raster(store, "class1_a")
    for library in ("toy", "other"):
        found = sp.get.gene_raster(joint, "class1_a", library_id=library)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(
            sp.get.gene_raster(joint, "class1_a", key=f"{KEY}_{library}").values, found.values
        )
        counts = sp.tl.aggregate(joint, np.array([[50.0, 50.0]]), radius=9, genes="class1_a", library_id=library)
        assert counts.X.sum() == pytest.approx(
            sp.tl.aggregate(store, np.array([[50.0, 50.0]]), radius=9, genes="class1_a").X.sum()
        )
        for draw in (
            lambda: sp.pl.projection(joint, "class1_a", library_id=library, show=False),  # noqa: B023
            lambda: sp.pl.reconstruction(joint, library_id=library, show=False),  # noqa: B023
            lambda: sp.pl.comparison(joint, "class1_a", library_id=library, show=False),  # noqa: B023
        ):
            draw()


def test_a_report_of_sections_fitted_together_shows_all_or_one(joint, tmp_path):
    path = sp.pl.report(joint, tmp_path / "a.html", genes="class1_a")
    assert re.findall(r'"library":"(\w+)","name":"(\w+)"', path.read_text()) == [("toy", "toy"), ("other", "other")]
    path = sp.pl.report(joint, path, key=KEY, library_id="other", overwrite=True)
    assert re.findall(r'"key":"(\w+)","library"', path.read_text()) == [f"{KEY}_other"]


def test_elements_of_sections_fitted_together_lie_in_the_system_of_their_section(joint):
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Scale

    half = Scale([2.0, 2.0], axes=("x", "y"))
    given = ShapesModel.parse(np.array([[25.0, 25.0]]), geometry=0, radius=4.5, transformations={"other": half})
    here = {"library_id": "other", "genes": "class1_a"}
    counts = sp.tl.aggregate(joint, given, **here)
    expected = sp.tl.aggregate(joint, np.array([[50.0, 50.0]]), radius=9, **here)
    np.testing.assert_allclose(counts.X, expected.X)
    assert counts.X.sum() > 0
    with pytest.raises(ValueError, match="Found regions in 'other'; expected a transformation to 'toy'"):
        sp.tl.aggregate(joint, given, **here | {"library_id": "toy"})


def test_which_sections_there_are_is_said(joint, store):
    for call in (
        lambda: sp.get.gene_raster(joint, "class1_a"),
        lambda: sp.tl.aggregate(joint, np.array([[50.0, 50.0]]), radius=9),
        lambda: sp.pl.projection(joint, "class1_a"),
    ):
        with pytest.raises(
            ValueError, match=r"'projection' is of 2 sections \('toy', 'other'\); expected `library_id`"
        ):
            call()
    with pytest.raises(
        KeyError, match="no projection 'projection' of the library 'third'; there is one of 'toy', 'other'"
    ):
        sp.get.gene_raster(joint, "class1_a", library_id="third")
    with pytest.raises(KeyError, match="of the library 'other'; there is one of 'toy'"):
        sp.get.gene_raster(store, "class1_a", library_id="other")


def test_a_store_of_a_newer_format_is_refused(mine, small_toy):
    marked(mine, lambda mark: mark.update(format=3))
    said = r"mine\.zarr is a store of format 3; this version of sphisto reads formats 1 to 2\. Update sphisto"
    for call in (
        lambda: sp.get.gene_raster(mine, "class1_a"),
        lambda: sp.pl.projection(mine, "class1_a"),
        lambda: sp.tl.upgrade(mine),
        lambda: sp.tl.fit_projection(small_toy, store=mine, key_added="b", max_epochs=1),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_a_store_without_the_mask_is_said_to_be_damaged(mine):
    shutil.rmtree(mine / "labels" / f"{KEY}_tissue")
    with pytest.raises(ValueError, match=r"lacks labels/projection_tissue, .*'projection_factors' holds values\. Copy"):
        sp.get.gene_raster(mine, "class1_a")
