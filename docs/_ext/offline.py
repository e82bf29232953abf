"""Pages that are read without a network: a build fails if one would load something from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# what a browser fetches by itself: scripts, styles, fonts and images, but no links that a reader may follow
IN_HTML = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=\"(https?://[^\"]+)|<link[^>]+stylesheet[^>]+href=\"(https?://[^\"]+)"
)
IN_CSS = re.compile(r"url\([\"']?(https?://[^)\"']+)|@import [\"'](https?://[^\"']+)")


def setup(app: Sphinx) -> dict[str, bool]:
    def check(app: Sphinx, failure: Exception | None) -> None:
        if failure or app.builder.format != "html":
            return
        for kind, pattern in (("html", IN_HTML), ("css", IN_CSS)):
            for path in Path(app.outdir).rglob(f"*.{kind}"):
                if found := pattern.search(path.read_text(encoding="utf-8")):
                    msg = f"{path} loads {found[1] or found[2]}: put the file into _static."
                    raise ExtensionError(msg)

    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
