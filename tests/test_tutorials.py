"""The tutorials: as they are committed, and run again at a size that takes less time."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
execute = runpy.run_path(str(ROOT / "tutorials" / "run.py"))["execute"]

# what their cells with the tag `parameters` set, for a shorter run
SHORTER = {
    "first_projection": {"size": 256, "max_epochs": 1},
    "mouse_brain": {"um_per_px": 8, "max_epochs": 1},
    "full_resolution_slide": {"um_per_px": 16, "max_epochs": 2, "coarsest": 0},
    "is_it_right": {"height": 512, "width": 640, "max_epochs": 1},
    "ecosystem": {"square_um": 100},
    "visium_hd": {"size": 480, "max_epochs": 1, "array_mm": 3},
    "two_sections": {"um_per_px": 25, "shares": (0.9,)},
    "slide_without_spots": {"um_per_px": 25},
}
NEEDS_SECTIONS = {
    "mouse_brain": ("mouse_brain_coronal",),
    "full_resolution_slide": ("her2st_C2",),
    "ecosystem": ("mob_st_1",),
    "two_sections": ("mob_st_1", "mob_st_2"),
    "slide_without_spots": ("her2st_C2", "her2st_C3", "her2st_C4", "her2st_C5"),
}
NEEDS_LIBRARY = {"ecosystem": "squidpy"}

each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def skip_without_library(name):
    library = NEEDS_LIBRARY.get(name)
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{name} needs {library}, which is not installed")


@each_tutorial
def test_a_tutorial_is_committed_as_it_ran_from_top_to_bottom(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < 2_500_000


@each_tutorial
def test_a_tutorial_names_no_path_of_the_machine_it_ran_on(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = json.dumps([cell.source for cell in cells] + [cell.get("outputs") for cell in cells])
    assert not re.findall(r"(?<![\w.~<])/(?:home|root|tmp|work|mnt|scratch|Users)/[\w./]*", shown)


def test_the_documentation_describes_every_tutorial():
    page = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert {path.stem for path in TUTORIALS} == set(re.findall(r"^tutorials/(\w+)\n", page, flags=re.MULTILINE))


@pytest.mark.slow  # whole fits
@each_tutorial
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path, real_section):
    for name in NEEDS_SECTIONS.get(path.stem, ()):
        real_section(name)
    skip_without_library(path.stem)
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, tmp_path, instead=SHORTER[path.stem])
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.slow  # a kernel each
@pytest.mark.parametrize("name", NEEDS_SECTIONS)
def test_a_tutorial_without_its_sections_says_where_to_get_it(name, tmp_path, monkeypatch):
    skip_without_library(name)
    monkeypatch.setenv("SPHISTO_DATA", os.fspath(tmp_path))
    notebook = nbformat.read(ROOT / "tutorials" / f"{name}.ipynb", as_version=4)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="SPHISTO_DATA") as caught:
        execute(notebook, tmp_path)
    assert caught.value.ename == "FileNotFoundError"
    assert "https://" in caught.value.evalue


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_has_a_small_picture_of_what_it_shows(path):
    page = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert f":img-top: _static/tutorials/{path.stem}.jpg" in page
    made = runpy.run_path(str(ROOT / "docs" / "thumbnails.py"))["thumbnail"](path.stem)
    file = ROOT / "docs" / "_static" / "tutorials" / f"{path.stem}.jpg"
    assert file.stat().st_size < 60_000
    shown = np.asarray(Image.open(file).convert("RGB"), dtype=float)
    assert np.abs(shown - np.asarray(made)).mean() < 5, "run docs/thumbnails.py again"
