"""The pages say what is so: links lead somewhere, code that is shown is code that runs, figures are those of the tables."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import sphisto as sp

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "sphisto"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & {*page.parts})]
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def extension(name: str) -> Any:
    """One of the extensions that build the pages."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


# ---- links


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in addresses, on GitHub and in the documentation."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def wrong(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return not target.exists() or bool(anchor and target.suffix == ".md" and anchor not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_and_images_lead_somewhere(page):
    links = re.findall(r"\]\(<?([^)\s>]+)>?\)", prose(page)) + re.findall(
        r"^```\{figure\} (\S+)", page.read_text(), re.M
    )
    assert [link for link in links if not re.match(r"[a-z]+:", link) and wrong(page, link)] == []


def test_every_page_is_in_a_list_of_contents():
    listed = set()
    for page in (DOCS / "index.md", DOCS / "api" / "index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    pages = {page for page in PAGES if DOCS in page.parents and page != DOCS / "index.md"}
    assert pages == listed


# ---- code


def test_the_landing_page_shows_the_code_that_is_run():
    """tests/installed.py runs that of the README."""
    first = [re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)[0] for page in ("README.md", "docs/index.md")]
    assert first[0] == first[1]


@pytest.fixture
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_shows_every_plot_and_its_code(gallery):
    page, script = text_of("docs/gallery.md"), text_of("docs/gallery.py")
    names = set(sp.pl.__all__) - {"report"}  # which has a page of its own
    drawn = {drawn.__name__: drawn.__name__ for drawn in gallery.DRAWN} | {"deviation": "projection"}
    assert set(drawn.values()) == names
    assert {*re.findall(r":start-after: \"# \[(\w+)\]\"", page)} == set(drawn) | {"fit"}
    assert {*re.findall(r"_static/gallery/(\w+).jpg", page)} == set(drawn)
    for name, function in drawn.items():
        (code,) = re.findall(rf"# \[{name}\]\n(.*?)# \[end\]", script, re.DOTALL)
        assert f"sp.pl.{function}(" in code
    assert "```python" not in page, "code that no script runs"
    assert sum(path.stat().st_size for path in gallery.OUT.iterdir()) < 1.5e6


def test_the_gallery_draws_a_picture_of_each(gallery, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "GENES", ["class1_a", "nuclei_a"])
    monkeypatch.setattr(
        gallery,
        "DRAWN",
        [
            drawn
            for drawn in gallery.DRAWN
            if drawn.__name__ not in ("umap", "evaluation", "registration", "integration")
        ],
    )
    gallery.draw(fitted, Path(fitted.uns["projection"]["store"]), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {drawn.__name__ for drawn in gallery.DRAWN}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_settings_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8").replace("a setting that does not exist (`FieldConfig(nugget=1)`)", "")
    named = re.findall(r"(TrainConfig|FieldConfig|GeneModelConfig)\(([^()]*)\)", text)
    for kind, settings in named:
        known = {field.name for field in dataclasses.fields(getattr(sp.config, kind))}
        assert set(re.findall(r"(\w+)=", settings)) <= known, f"{kind}({settings})"


# ---- figures


def table_after(text: str, mark: str) -> list[list[str]]:
    """Cells of the first table after a mark, without the line below its head."""
    lines = text[text.index(mark) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next((i for i, line in enumerate(lines[start:], start) if not line.startswith("|")), len(lines))
    return [[cell.strip(" *") for cell in lines[i].strip("|").split("|")] for i in range(start, end) if i != start + 1]


def test_figures_beside_other_tools_are_those_of_the_benchmark():
    head, *rows = table_after(text_of("docs/benchmarks.md"), "<!-- held-out spots: begin -->")
    score = {row[0]: dict(zip(head, (cell.split(" ")[0] for cell in row), strict=True)) for row in rows}
    methods = ("sphisto", "prior", "gaussian", "tesla", "noise ceiling")
    figures = table_after(text_of("docs/peers.md"), "## Figures")[1:]
    assert len(figures) == 5
    for name, *found in figures:
        assert found == [score[method][f"{name} random"] for method in methods]


# ---- messages

messages = extension("error_words")  # which section of the page a module's errors belong to


def test_what_is_refused_belongs_to_a_section_of_the_page():
    raising = [
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if any(
            isinstance(node, ast.Raise) and node.exc for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert [name for name in raising if not messages.subject_of(SOURCE / name)] == []
    titles = re.findall(r"^## (.*)$", text_of("docs/errors.md"), flags=re.MULTILINE)
    assert set(messages.SUBJECTS) | {"Warnings", "Errors by their words"} == set(titles)


@pytest.mark.parametrize(
    ("cause", "subject"),
    [
        (lambda: sp.io.section(sp.datasets.toy(96, 96, pitch_um=24)[:1].copy()), "The section"),
        (lambda: sp.config.GeneModelConfig(n_factors=0), "Settings and networks"),
        (lambda: sp.get.raster("nowhere.zarr", "a"), "Store and model"),
    ],
)
def test_an_error_is_found_in_the_list_by_its_words(cause, subject):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        cause()
    message = " ".join(str(caught.value).split())
    fitting = [
        of
        for text, of in messages.listed()
        if re.match(".*?".join(map(re.escape, text.rstrip(" …").split("…"))), message)
    ]
    assert subject in fitting


def test_the_list_of_errors_holds_nearly_all():
    assert len(messages.listed()) > 300
    assert all(subject for _, subject in messages.listed())


def words_of(node: ast.expr) -> str:
    """A message's own words, with a mark for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    found = node.value if isinstance(node, ast.Constant) else ""
    return re.sub(r"%[.\d]*[a-z]", "\0", found) if isinstance(found, str) else ""


def warnings_in(path: Path) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return [words_of(call.args[0]) for call in calls if ast.unparse(call.func) == "logger.warning"]


def test_every_warning_is_found_on_the_page_by_its_words():
    section = text_of("docs/errors.md").partition("## Warnings")[2].partition("\n## ")[0]
    listed = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    listed = [words for words in listed if words and not words.startswith(("**", "--", "words of"))]
    warned = [text for path in SOURCE.rglob("*.py") for text in warnings_in(path) if len(text) > 10]
    assert [text for text in warned if not any(words in text for words in listed)] == []
    assert [words for words in listed if not any(words in text for text in warned)] == [], "no warning has these words"
