"""Formulas as MathML, made of TeX when the pages are built: browsers draw them without a script, a font or a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

# "is distributed as" is a relation, not a letter with the accent's sign
BETTER = {"<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>"}


def mathml(tex: str, display: str) -> str:
    """Turn a formula of TeX into an element ``math``; ``display`` is ``"inline"`` or ``"block"``."""
    found = convert(tex.strip(), display=display)
    for wrong, right in BETTER.items():
        found = found.replace(wrong, right)
    return found


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), "inline"))
    raise SkipNode  # the TeX within is not shown beside it


def visit_displaymath(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="formula"))
    self.body.append(mathml(node.astext(), "block") + "</div>\n")
    raise SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
