"""What a report holds, read as its script reads it; tests/pl/test_report_in_browser.py opens it."""

from __future__ import annotations

import html
import json
import re
import shutil
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import spatialdata as sd
from reading_reports import read_codes, read_text

from sphisto import get, pl, tl
from sphisto.core.tiles import Window
from sphisto.io.store import read as stores
from sphisto.io.store.stored_raster import StoredRaster

GOLDEN = Path(__file__).parents[1] / "golden"


class Report:
    """A report, unpacked."""

    def __init__(self, path: Path) -> None:
        self.page = path.read_text(encoding="utf-8")
        self.about = json.loads(re.search(r'id="report">(.*?)</script>', self.page)[1])
        self.blobs = dict(re.findall(r'id="blob-(\d+)">([^<]*)</script>', self.page))
        self.sections = self.about["sections"]

    def numbers(self, blob, dtype=np.uint8):
        return np.frombuffer(zlib.decompress(read_text(self.blobs[str(blob)])), dtype)

    def tissue(self, section):
        height, width = section["grid"]["height"], section["grid"]["width"]
        return np.unpackbits(self.numbers(section["tissue"]))[: height * width].reshape(height, width).astype(bool)

    def values(self, raster, known):
        """(y, x) values; NaN where nothing is known."""
        told = raster["codes"]
        codes = read_codes(self.numbers(told["blob"]), told["weights"], told["levels"], told["ends"], known)
        values = raster["low"] + (raster["high"] - raster["low"]) * (codes / 255) ** 2
        return np.where(known, values, np.nan)


def assert_within_half_a_step(found, exact):
    """Each root within half a 255th part of the highest one, and float32's rounding."""
    assert (np.isnan(found) == np.isnan(exact)).all()
    off = np.abs(np.sqrt(found) - np.sqrt(exact.astype(float)))
    assert np.nanmax(off) <= np.sqrt(np.nanmax(exact)) / 510 * 1.0001


def test_genes_are_those_of_the_store_within_half_a_step(store, tmp_path):
    path = pl.report(store, tmp_path / "a.html")
    assert path == tmp_path / "a.html"
    report = Report(path)
    [section] = report.sections
    names = [gene["name"] for gene in section["genes"]]
    assert names == list(stores.raster(store, "projection").channels)[:20]
    known, exact = report.tissue(section), get.gene_raster(store, names)
    for gene, raster in zip(section["genes"], exact.values, strict=True):
        assert_within_half_a_step(report.values(gene, known), raster)
        assert gene["high"] == np.nanmax(raster)
        assert gene["top"] == pytest.approx(np.nanpercentile(raster, 99.5))
    assert section["unit"] == "counts per spot area"
    assert section["umPerPx"] * section["grid"]["pxX"] == pytest.approx(exact.attrs["um_per_px"])


def test_deviations_are_means_of_blocks(store, tmp_path):
    report = Report(pl.report(store, tmp_path / "a.html", genes="class1_a"))
    sd_of = report.sections[0]["genes"][0]["sd"]
    fine = get.raster(store, "projection_sd").sel(c="class1_a").values
    means = np.array([[np.nanmean(fine[y : y + 8, x : x + 8]) if np.isfinite(fine[y : y + 8, x : x + 8]).any() else np.nan
                       for x in range(0, 112, 8)] for y in range(0, 96, 8)])  # fmt: skip
    assert (sd_of["height"], sd_of["width"]) == means.shape == (12, 14)
    found = report.values(sd_of, np.ones(means.shape, dtype=bool))
    assert_within_half_a_step(np.where(np.isnan(means), np.nan, found), means)


def test_any_measured_gene_is_written_when_asked_for(fitted, store, tmp_path):
    stored = set(stores.raster(store, "projection").channels)
    other = next(gene for gene in fitted.var_names if gene not in stored)
    [gene, again] = Report(pl.report(fitted, tmp_path / "a.html", genes=[other, "class1_a", other])).sections[0][
        "genes"
    ]
    assert (gene["name"], again["name"]) == (other, "class1_a")
    assert gene["sd"] is None
    assert again["sd"] is not None


def test_measured_counts_lie_at_their_spots(fitted, store, tmp_path):
    report = Report(pl.report(store, tmp_path / "a.html", genes=["class1_a"]))
    [section] = report.sections
    counts = fitted[:, "class1_a"].X.toarray().ravel()
    np.testing.assert_array_equal(report.numbers(section["genes"][0]["measured"], "<f4"), counts)
    np.testing.assert_allclose(report.numbers(section["spots"]["xy"], "<f4").reshape(-1, 2), fitted.obsm["spatial"])
    assert section["spots"]["names"] == list(fitted.obs_names)
    assert section["spots"]["size"] * section["umPerPx"] == pytest.approx(55)


def test_numbers_are_those_of_the_table(fitted, store, tmp_path):
    report = Report(pl.report(store, tmp_path / "a.html"))
    skill = report.sections[0]["skill"]
    assert skill["gene"] == list(fitted.var_names)
    np.testing.assert_allclose(skill["r"], fitted.var["projection_pearson"], rtol=1e-3, equal_nan=True)
    np.testing.assert_allclose(skill["mean"], np.asarray(fitted.X.mean(axis=0)).ravel(), rtol=1e-3)
    for decision, text in fitted.uns["projection"]["params"]["section"].items():
        assert f"<dt>{decision}</dt><dd>{html.escape(text)}</dd>" in report.page
    assert f"<dt>counts per spot, median</dt><dd>{np.median(np.asarray(fitted.X.sum(axis=1))):,.4g}</dd>" in report.page
    assert "<summary>train</summary>" in report.page
    history = fitted.uns["projection"]["history"]
    names = ("image_loss", "spot_loss", "held_out_loss", "held_out_interpolated", "learning_rate")
    drawn = sum(bool(np.isfinite(history[name]).any()) for name in names)
    assert report.page.count('<path class="series ') == drawn >= 3


def test_large_sections_are_shown_at_the_level_that_fits(large, tmp_path, caplog):
    caplog.set_level("INFO", "sphisto")
    report = Report(pl.report(large, tmp_path / "a.html", genes=["class1_a", "nuclei_a"], max_side=500))
    [section] = report.sections
    grid = section["grid"]
    assert (grid["level"], grid["height"], grid["width"]) == (2, 384, 448)
    assert (
        "at level 2 of its pyramid, 384 x 448 px of 2.08 um; the finest has 1536 x 1792 px of 0.521 um" in caplog.text
    )
    assert "level 2 of the store&#x27;s pyramid, whose finest one has 1792 \u00d7 1536 px" in report.page
    exact = get.gene_raster(large, ["class1_a", "nuclei_a"], scale=2).values
    for gene, raster in zip(section["genes"], exact, strict=True):
        assert_within_half_a_step(report.values(gene, report.tissue(section)), raster)
    assert (section["genes"][0]["sd"]["height"], section["genes"][0]["sd"]["width"]) == (48, 56)


def test_of_large_sections_finer_levels_are_not_read(large, tmp_path, monkeypatch):
    asked = []
    read, chunks = StoredRaster.read, StoredRaster.chunks
    monkeypatch.setattr(
        StoredRaster, "read", lambda self, scale, *rest: asked.append(self.shapes[scale]) or read(self, scale, *rest)
    )
    monkeypatch.setattr(
        StoredRaster,
        "chunks",
        lambda self, scale, *rest: asked.append(self.shapes[scale]) or chunks(self, scale, *rest),
    )
    tracemalloc.start()
    pl.report(large, tmp_path / "a.html", genes=["class1_a"], max_side=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert asked
    assert max(map(max, asked)) <= 500
    assert peak < 40e6  # the factor maps alone have more at the finest level


def test_all_projections_are_shown_or_one(second, tmp_path):
    report = Report(pl.report(second, tmp_path / "a.html"))
    assert [section["key"] for section in report.sections] == ["projection", "second"]
    assert [section["name"] for section in report.sections] == ["toy, projection", "toy, second"]
    assert report.page.count('<div data-section="1">') == 5
    assert [outline["name"] for outline in report.sections[0]["outlines"]] == ["tissue", "cells"]
    one = Report(pl.report(second, tmp_path / "b.html", key="second", library_id="toy"))
    assert [section["key"] for section in one.sections] == ["second"]
    with pytest.raises(KeyError, match="Found no projection 'third' in the store; it holds 'projection', 'second'"):
        pl.report(second, tmp_path / "c.html", key="third")
    with pytest.raises(KeyError, match="Found no projection 'projection' of the library 'x'"):
        pl.report(second, tmp_path / "c.html", library_id="x")


def test_what_cannot_be_outlined_is_told(second, tmp_path, monkeypatch):
    from sphisto.io.export.report import outlines

    monkeypatch.setattr(outlines, "MOST_CORNERS", 5)
    report = Report(pl.report(second, tmp_path / "a.html"))
    assert [outline["name"] for outline in report.sections[0]["outlines"]] == ["tissue"]
    assert re.search("The element &#x27;cells&#x27; is not drawn: .* corners, more than the 5", report.page)


def test_too_many_spots_are_left_out_and_that_is_told(store, tmp_path, monkeypatch):
    from sphisto.pl import _report_content

    monkeypatch.setattr(_report_content, "_MOST_SPOTS", 10)
    report = Report(pl.report(store, tmp_path / "a.html"))
    assert report.sections[0]["spots"] is None
    assert "places that were measured are too many to be drawn" in report.page


def test_stores_of_the_first_format_are_shown(tmp_path):
    with tarfile.open(GOLDEN / "0.1.0.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    [store] = tmp_path.glob("*.zarr")
    report = Report(pl.report(store, tmp_path / "a.html"))
    [section] = report.sections
    exact = get.gene_raster(store, [gene["name"] for gene in section["genes"]]).values
    for gene, raster in zip(section["genes"], exact, strict=True):
        assert_within_half_a_step(report.values(gene, report.tissue(section)), raster)


def test_an_image_alone_has_no_spots(fitted, store, tmp_path):
    import sphisto as sp

    path = tmp_path / "alone.zarr"
    image = sp.datasets.toy_image(fitted)
    tl.predict(tl.load(fitted), sp.io.section(image, image_um_per_px=2.0), store=path, device="cpu")
    report = Report(pl.report(path, tmp_path / "a.html"))
    assert report.sections[0]["spots"] is None
    assert "measured" not in report.sections[0]["genes"][0]
    assert "Nothing was measured on this section" in report.page


def test_genes_with_nothing_but_background_are_shown_as_such(store, tmp_path, monkeypatch):
    from sphisto.pl import _report_content

    real = _report_content._rasters
    monkeypatch.setattr(
        _report_content, "_rasters", lambda *args: (np.where(np.isfinite(r), 0, r) for r in real(*args))
    )
    report = Report(pl.report(store, tmp_path / "a.html", genes="class1_a"))
    [gene] = report.sections[0]["genes"]
    assert (gene["low"], gene["high"], gene["top"]) == (0, 0, 1)
    assert np.nanmax(report.values(gene, report.tissue(report.sections[0]))) == 0


ODD = ["</script><script>boom()</script>", "it's \"5'\"", "\U0001f9e0", "a/b\\c", "<img src=x onerror=boom()>", "&amp;"]


def renamed(store):
    """A store whose first genes have odd names."""
    sdata = sd.read_zarr(store)
    sdata["table"].var_names = [*ODD, *sdata["table"].var_names[len(ODD) :]]
    return sdata


def test_names_are_never_markup(store, tmp_path):
    report = Report(pl.report(renamed(store), tmp_path / "a.html", genes=ODD))
    assert [gene["name"] for gene in report.sections[0]["genes"]] == ODD
    assert "boom()</script>" not in report.page
    assert "<img src=x" not in report.page


# ---- refusals, before any work


@pytest.fixture
def unread(monkeypatch):
    """No pixel of a gene may be read."""

    def refuse(*args, **words):
        pytest.fail("work was begun")

    monkeypatch.setattr("sphisto.pl._report_content._rasters", refuse)


@pytest.mark.usefixtures("unread")
def test_a_file_that_is_there_stays(store, tmp_path):
    path = tmp_path / "a.html"
    path.write_text("mine")
    with pytest.raises(
        FileExistsError, match="is left alone. Choose another `path`, or replace it by `overwrite=True`"
    ):
        pl.report(store, path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        pl.report(store, tmp_path / "absent" / "a.html")
    assert path.read_text() == "mine"


def test_a_file_that_is_there_is_replaced_if_asked_for_and_stays_if_that_fails(store, tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("sphisto.pl._report_content.jpeg", lambda pixels: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pl.report(store, path, overwrite=True)
    assert path.read_text() == "mine"
    pl.report(store, path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html"]


@pytest.mark.usefixtures("unread")
def test_what_holds_no_projection_is_refused(small_toy, store, tmp_path):
    import zarr

    with pytest.raises(KeyError, match=r"Did not find a projection in .uns. Run `sphisto.tl.fit_projection` first"):
        pl.report(small_toy, tmp_path / "a.html")
    with pytest.raises(TypeError, match="expected the path of a store"):
        pl.report(3, tmp_path / "a.html")
    with pytest.raises(FileNotFoundError, match="Found no store at .*Run `sphisto.tl.fit_projection`"):
        pl.report(tmp_path / "absent.zarr", tmp_path / "a.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="holds no projection of sphisto. Run `sphisto.tl.fit_projection`"):
        pl.report(tmp_path / "folder", tmp_path / "a.html")
    empty = shutil.copytree(store, tmp_path / "empty.zarr")
    root = zarr.open_group(empty, mode="r+", use_consolidated=False)
    root.attrs["sphisto"] = dict(root.attrs["sphisto"]) | {"keys": {}}
    with pytest.raises(ValueError, match="holds no projection, so there is nothing to show. Run `sphisto.tl.fit_"):
        pl.report(empty, tmp_path / "a.html")
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.usefixtures("unread")
def test_genes_and_sides_that_cannot_be_are_refused(store, large, tmp_path):
    with pytest.raises(
        KeyError, match="Found no gene 'class1_x' among the 18 of the table. Close to 'class1_x': class1_"
    ):
        pl.report(store, tmp_path / "a.html", genes=["class1_a", "class1_x"])
    with pytest.raises(ValueError, match="Found no gene to draw"):
        pl.report(store, tmp_path / "a.html", genes=[])
    with pytest.raises(ValueError, match="Found max_side=100; the coarsest level of 'projection' has 448 px"):
        pl.report(large, tmp_path / "a.html", max_side=100)
    with pytest.raises(ValueError, match="`max_side` must be at least 1, found 0"):
        pl.report(store, tmp_path / "a.html", max_side=0)


@pytest.mark.usefixtures("unread")
def test_two_thousand_genes_of_a_large_section_are_refused_with_the_size_of_the_file(large, tmp_path):
    sdata = sd.read_zarr(large)
    table, n = sdata["table"], 112
    import anndata as ad

    many = ad.concat([table] * n, axis="var", merge="first", uns_merge="first")
    many.var_names = [f"gene{i}" for i in range(many.n_vars)]
    many.varm["projection_loadings"] = np.tile(table.varm["projection_loadings"], (n, 1))
    sdata.tables["table"] = many
    on_tissue = np.count_nonzero(stores.raster(large, "projection_tissue").read(0, Window(0, 0, 1536, 1792)))
    size = f"{2000 * on_tissue * 0.15 / 1e6:,.0f}"
    message = f"2,000 genes at 1536 x 1792 px would make a file of some {size} MB; expected at most 100 MB.*Name fewer `genes`"
    with pytest.raises(ValueError, match=message):
        pl.report(sdata, tmp_path / "a.html", genes=list(many.var_names[:2000]))
