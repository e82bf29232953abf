"""A directive that lists errors by their words, each with a link to the section of the page it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from error_words import listed
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Messages(SphinxDirective):
    """``{messages}``: the list, with links to the sections of the page."""

    def run(self) -> list[nodes.Node]:
        made = nodes.bullet_list(classes=["messages"])
        for text, subject in listed():
            anchor = "#" + subject.lower().replace(" ", "-")
            line = nodes.paragraph("", "", nodes.Text(text + " "), nodes.reference("", subject, refuri=anchor))
            made += nodes.list_item("", line)
        return [made]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("messages", Messages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
