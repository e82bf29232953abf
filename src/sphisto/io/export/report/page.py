"""One HTML file that holds all that it shows: markup, style, script, numbers, pixels."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from sphisto.io.disk import new_file

_DATA = "\0data\0"  # no text holds this


class Blobs:
    """Packed texts that a page holds beside its JSON, and finds by their number: each is unpacked when it is needed."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str) -> int:
        """Add one; return its number."""
        self.texts.append(text)
        return len(self.texts) - 1


def write_page(path: Path, about: dict[str, Any], panels: list[dict[str, str]], blobs: Blobs) -> None:
    """Write a page, as a whole or not at all.

    Its script reads what it is ``about``: plain values, numpy's too, the ``title`` among them, and numbers of
    ``blobs``; NaN becomes null. ``panels`` are the HTML of the tabs below the map, by tab, for each section.
    """
    style, script = _part("report.css"), _part("report.js")
    # the policy lets the page run this script and nothing else, and lets it ask for nothing outside of itself
    parts = {
        "title": html.escape(about["title"]), "style-hash": _hash(style), "script-hash": _hash(script), "style": style,
        "script": script, "panels": "".join(_panel(tab, [each[tab] for each in panels]) for tab in panels[0]), "data": _DATA,
    }  # fmt: skip
    page = re.sub(r"\{\{([a-z-]+)\}\}", lambda mark: parts[mark[1]], _part("template.html"))
    before, after = page.split(_DATA)
    with new_file(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write(before)
        file.write(f'<script type="application/json" id="report">{as_json(about)}</script>\n')
        for number, text in enumerate(blobs.texts):
            file.write(f'<script type="text/plain" id="blob-{number}">{text}</script>\n')
        file.write(after)


def _panel(tab: str, of_sections: list[str]) -> str:
    """Panel of a tab, with a part for each section, of which one is shown."""
    parts = "\n".join(f'<div data-section="{i}">{part}</div>' for i, part in enumerate(of_sections))
    return f'<div class="panel" role="tabpanel" id="panel-{tab}" aria-labelledby="tab-{tab}" tabindex="0" hidden>{parts}</div>\n'


def as_json(value: Any) -> str:
    """JSON that may stand inside an element ``script``: whatever names say, it cannot end there."""
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # a lone surrogate, which a name in a table may hold, has no bytes in UTF-8
    text = text.encode("utf-8", "replace").decode("utf-8")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(value: Any) -> Any:
    """Values that JSON knows: numbers that are not finite become ``None``, float32 the shortest text that names them."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype == np.float32:
            value = np.array([float(str(number)) for number in value.ravel()]).reshape(value.shape)
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.float32):
        value = float(str(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _part(name: str) -> str:
    return (resources.files("sphisto.io.export.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
