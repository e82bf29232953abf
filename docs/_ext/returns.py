"""What a function returns, in words: napoleon would take each line of such a text for the name of a type."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

AFTER = (":rtype:", ":raises", ".. rubric::", ".. admonition::")  # fields and sections that follow what is returned


def setup(app: Sphinx) -> dict[str, bool]:
    words: dict[str, list[str]] = {}

    def take(_app: Sphinx, _what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
        """Take the section *Returns* out before napoleon reads it; unquote the names under *Writes*."""
        lines[:] = [re.sub(r"`(adata\.[^`]*)`(?=.* : |, `| : )", r"\1", line) for line in lines]
        starts = [i for i, rule in enumerate(lines[1:]) if re.fullmatch("-{3,}", rule)] + [len(lines)]
        for start, end in zip(starts, starts[1:], strict=False):
            if lines[start] == "Returns":
                words[name] = [line.strip() for line in lines[start + 2 : end] if line.strip()]
                del lines[start:end]
                return

    def put(_app: Sphinx, _what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
        """Put it back as a field, once all else is one."""
        if found := words.pop(name, None):
            at = next((i for i, line in enumerate(lines) if line.startswith(AFTER)), len(lines))
            lines[at:at] = ["", f":returns: {found[0]}", *(f"    {line}" for line in found[1:]), ""]

    app.connect("autodoc-process-docstring", take, priority=400)
    app.connect("autodoc-process-docstring", put)  # after napoleon and before the types, by the order in conf.py
    return {"parallel_read_safe": True, "parallel_write_safe": True}
