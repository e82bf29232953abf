"""Errors by their words: the messages in the source, each with the section of the page it belongs to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "sphisto"

# page's section -> where its errors are raised
SUBJECTS = {
    "Loadings of your own": ("genes/loadings", "io/loadings", "tl/_loadings"),
    "Several sections": ("pp/_register", "io/registration", "slide/registration", "slide/poses", "pl/_registration",
                         "scoring/integration", "tl/_integration", "tl/_gathered", "pl/_integration", "tl/_fit_sections",
                         "tl/_evaluate_sections", "predict/sections", "features/shared", "field/drift", "field/regression", "field/regress", "slide/frames"),
    "The section": ("io/section", "io/understood", "io/layout", "io/libraries", "io/positions", "io/spaceranger", "io/calibration", "io/refusals", "io/slides", "io/bins", "io/window",
                    "io/spatialdata_images", "io/masks", "io/elements", "io/in_place", "slide", "core", "pp", "datasets"),
    "The table": ("io/counts", "_checks", "genes", "scoring", "tl/_evaluate", "tl/_genes"),
    "The image": ("io/image",),
    "Settings and networks": ("_former", "_ranges", "_rng", "config", "networks", "train", "field"),
    "Features of the image": ("features", "io/raster_features"),
    "Store and model": ("io/store", "tl/_genes", "io/disk", "io/paths", "predict", "get", "pl", "tl/_save", "tl/_predict",
                        "tl/_fit_projection", "tl/_cluster"),
    "Regions to sum over": ("io/regions", "io/spatialdata_regions", "tl/_aggregate"),
    "Files for other programs": ("io/export", "tl/_export"),
    "Processes and terminals": ("_settings", "_lazy", "__init__", "cli"),
}  # fmt: skip
FILLED_IN = "…"  # a name or number that stands there
LONGEST = 110  # letters of a message that are shown: enough to be recognised


def text_of(node: ast.expr) -> str:
    """A message as it is written in the source, with a mark for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED_IN for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def messages_in(path: Path) -> set[str]:
    """Texts of errors in a module: those called ``msg``, and what functions return whose word is raised."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    makers = {
        argument.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        for argument in node.exc.args
        if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name)
    }
    found = {
        text_of(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["msg"]
    }
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in makers:
            returned = (node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value)
            found |= {text_of(value) for value in returned}
    return {text for text in found if len(re.findall(r"[A-Za-z]{2,}", text)) > 2}


def subject_of(path: Path) -> str:
    """Section of the page that a module's errors belong to; empty if there is none."""
    name = path.relative_to(SOURCE).as_posix()
    return next((subject for subject, starts in SUBJECTS.items() if name.startswith(starts)), "")


def listed() -> list[tuple[str, str]]:
    """Shortened messages with their sections, as one looks for words in a list."""
    found = {(shortened(text), subject_of(path)) for path in SOURCE.rglob("*.py") for text in messages_in(path)}
    return sorted(found, key=lambda line: line[0].strip(FILLED_IN + " ").lower())


def shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + f" {FILLED_IN}"
