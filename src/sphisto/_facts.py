"""How a noun shows itself: a title and facts by name, as text and, in a notebook, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def as_text(title: str, facts: Mapping[str, str]) -> str:
    """Write a fact on a line, below the title."""
    width = max(map(len, facts), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in facts.items())])


def as_html(title: str, facts: Mapping[str, str]) -> str:
    """Make a table of facts; without colours of its own, so that it is read on light and dark pages."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left; vertical-align: top">{escape(name)}</th>'
        f'<td style="text-align: left; overflow-wrap: anywhere">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def some(names: Sequence[str], most: int = 6) -> str:
    """List the first names, and say how many there are if they are more."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def gate_words(gate: float | None) -> str:
    """Say what the gate of a projection means: whether its rasters are the network's or the co-kriging's."""
    if gate is None:
        return "none: all that the network draws is used"
    if gate == 0:
        return "0: held-out spots do not show that the network helps, the rasters are the co-kriging of the spots"
    return f"{gate:g}: held-out spots show that the network helps, {gate:.0%} of what it adds to the co-kriging is used"
