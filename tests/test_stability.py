"""docs/stability.md promises what the code does."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

import sphisto as sp
from sphisto import _keys
from sphisto._former import former_keywords, named

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "stability.md").read_text()


@former_keywords(colour=named("color"))
def draw(*, color: str = "red") -> str:
    return color


def test_a_renamed_keyword_works_under_both_names_and_says_which_is_new():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw() == "red"
        assert draw(color="blue") == "blue"
    with pytest.warns(FutureWarning) as warned:
        assert draw(colour="blue") == "blue"
    (one,) = warned
    assert (
        str(one.message) == "colour='blue' is written color='blue' now; the former keyword will go in the next release."
    )
    assert one.filename == __file__  # the caller's own line
    with pytest.raises(TypeError, match="Found color= together with the name that it had before"):
        draw(colour="blue", color="red")
    with pytest.raises(TypeError, match="unexpected keyword argument 'hue'"):
        draw(hue="blue")


def test_the_warning_that_the_page_shows_is_the_one_that_is_given(small_toy, monkeypatch):
    from sphisto.tl import _recipe

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_recipe, "settings_for", stop)
    with pytest.warns(FutureWarning) as warned, pytest.raises(KeyboardInterrupt):
        sp.tl.fit_projection(small_toy, preset="fast")
    assert f"FutureWarning: {warned[0].message}\n" in PAGE


def test_a_store_of_every_format_ever_written_is_kept_for_the_tests():
    told = re.search(r"formats ([\d, and]+) today", PAGE)
    formats = [int(number) for number in re.findall(r"\d+", told[1])]
    assert formats == list(range(1, _keys.FORMAT + 1))
    archives = {path.name for path in (ROOT / "tests" / "golden").glob("*.tar.xz")}
    assert "0.1.0.tar.xz" in archives  # of format 1, before formats had numbers
    assert all(any(name.endswith(f"-format{n}.tar.xz") for name in archives) for n in formats[1:])


def test_the_page_names_the_format_of_models():
    from sphisto.predict import fitted

    assert f"Model files (`.pt`) are of format {fitted._FORMAT}," in PAGE


def test_public_names_do_not_vanish_unnoticed():
    """The names of the first release that are public today; one that goes needs a former name, or a line under Changed."""
    rooms = {room: set(getattr(sp, room).__all__) for room in ("config", "datasets", "get", "io", "pl", "pp", "tl")}
    assert rooms["tl"] >= {"aggregate", "evaluate", "fit_projection", "load", "predict", "save", "upgrade"}
    assert rooms["io"] >= {"RasterFeatures", "Section", "read_visium", "section"}
    assert rooms["get"] >= {"gene_raster", "raster"}
    assert rooms["pp"] >= {"check_alignment", "explore", "normalize", "qc", "tissue_mask"}
    assert rooms["pl"] >= {"comparison", "evaluation", "history", "measured", "projection", "reconstruction", "umap"}
    assert rooms["config"] >= {"FieldConfig", "FitConfig", "GeneModelConfig", "TrainConfig"}
    assert rooms["datasets"] >= {"toy", "toy_image", "toy_truth", "visium"}
