"""Numbers below the map of a report, as HTML: training, spots, input, settings, and what the file holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ORDER = (
    "layout",
    "rows",
    "values",
    "array",
    "spots",
    "scale",
    "frame",
    "image",
    "tissue",
)  # as sphisto.io.section records it
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 420, 210, 60, 36, 8, 10  # px of a chart and of its margins


# ---- training


def training(history: Mapping[str, Any] | None, gate: Any, seconds: Mapping[str, float]) -> str:
    """Losses by epoch, as :func:`sphisto.pl.history` draws them, whether the network was confirmed, and how long it took."""
    parts = [_of_gate(gate)] if isinstance(gate, int | float) else []
    if history is None:
        parts.append(_paragraph("The store holds no history of the training for this projection."))
    else:
        parts.append(_losses(history))
    if seconds:
        parts += ["<h3>Seconds</h3>", facts({name: f"{value:,.3g}" for name, value in seconds.items()})]
    return "\n".join(parts)


def _of_gate(gate: float) -> str:
    if gate > 0:
        return _paragraph(
            f"Spots that were held out confirmed the network: {gate:.0%} of what it adds to the co-kriging of the spots is "
            "used."
        )
    return _paragraph(
        "Spots that were held out did not confirm the network: what is shown is the co-kriging of the spots in position and "
        "image texture alone."
    )


def _losses(history: Mapping[str, Any]) -> str:
    epoch = np.asarray(history["epoch"], dtype=float)
    image_only = epoch[np.asarray(history["phase"]) == "image"]
    shade = (float(image_only.min()) - 0.5, float(image_only.max()) + 0.5) if len(image_only) else None
    lines = {
        "Image loss": {"image_loss": ("", "series-1")},
        "Spot loss": {
            "spot_loss": ("spots learned from", "series-1"),
            "held_out_loss": ("spots held out", "series-2"),
            "held_out_interpolated": ("held out, prior alone", "series-3"),
        },
        "Learning rate": {"learning_rate": ("", "series-3")},
    }
    charts = []
    for title, named in lines.items():
        known = {name: np.asarray(history[name], dtype=float) for name in named}
        known = {name: values for name, values in known.items() if np.isfinite(values).any()}
        if known:
            drawn = [(epoch, values, named[name][1]) for name, values in known.items()]
            key = {named[name][0]: named[name][1] for name in known if named[name][0]}
            charts.append(_chart(title, "epoch", lines=drawn, key=key, shade=shade))
    note = "Shaded: epochs in which the network learned to redraw the image only." if shade else ""
    return f'<div class="figures">{"".join(charts)}</div>' + (_paragraph(note, "soft") if note else "")


# ---- spots


def spots(
    totals: NDArray[Any],
    detected: NDArray[Any],
    n_genes: int,
    removed: Any,
    xy: NDArray[Any],
    size: float,
    is_disc: bool,
) -> str:
    """Counts and genes of each spot, as histograms and in place.

    (n,) ``totals`` of counts, and ``detected`` genes that have any, of spots around (n, 2) centres, of a size in
    full-resolution px; what quality control ``removed``, by reason, ``None`` where nobody knows.
    """
    most_drawn = 5_000  # spots of the map of counts, each an element of the page
    about = {
        "spots": f"{len(totals):,}", "genes measured": f"{n_genes:,}",
        "counts per spot, median": f"{np.median(totals):,.4g}", "genes per spot, median": f"{np.median(detected):,.4g}",
    }  # fmt: skip
    if removed is not None:
        about["taken out by quality control"] = words(removed)
    charts = [_histogram("Counts per spot", totals), _histogram("Genes per spot", detected)]
    if len(totals) <= most_drawn:
        charts.append(_map(totals, xy, size, is_disc=is_disc))
    return f'{facts(about)}<div class="figures">{"".join(charts)}</div>'


def nothing_measured() -> str:
    """Say that there are no spots."""
    return _paragraph("Nothing was measured on this section: the projection was predicted from its image.")


def _histogram(title: str, values: NDArray[Any], *, n: int = 30) -> str:
    heights, edges = np.histogram(values, bins=n)
    bars = list(zip(edges[:-1].tolist(), edges[1:].tolist(), heights.tolist(), strict=True))
    return _chart(title, f"{title.lower()} (height: spots)", bars=bars)


def _map(totals: NDArray[Any], xy: NDArray[Any], size: float, *, is_disc: bool) -> str:
    """Spots in place, coloured by their counts."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    low, high = xy.min(axis=0) - size, xy.max(axis=0) + size
    scale, top = _WIDTH / max(high - low), float(totals.max()) or 1.0
    width, height = (high - low) * scale
    drawn, side = [], size * scale
    for (x, y), total in zip((xy - low) * scale, totals, strict=True):
        fill = to_hex(mpl.colormaps["viridis"](total / top))
        shape = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{side / 2:.2f}" fill="{fill}"/>'
            if is_disc
            else f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.2f}" height="{side:.2f}" fill="{fill}"/>'
        )
        drawn.append(shape)
    name = f"Counts of each spot in place, from {totals.min():,.4g} to {top:,.4g}"
    return (
        f'<div><h3>Counts in place</h3><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{name}">'
        f"{''.join(drawn)}</svg>{_paragraph(f'From 0 (dark) to {top:,.4g} counts (bright).', 'soft')}</div>"
    )


# ---- input, settings, file


def understood(section: Mapping[str, Any]) -> str:
    """Text of the section, see :func:`sphisto.io.section`, decision by decision."""
    known = sorted(section, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    lead = _paragraph("What was understood of the data that were handed over, and from what.", "soft")
    found = facts({name: words(section[name]) for name in known}) if known else _paragraph("The store does not say.")
    return lead + found


def settings(versions: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Versions and all settings; those that belong together fold away under their name."""
    single = {name: value for name, value in params.items() if not isinstance(value, dict)}
    groups = {name: value for name, value in params.items() if isinstance(value, dict)}
    config = groups.pop("config", {})
    folded = {**{name: part for name, part in config.items() if isinstance(part, dict)}, **groups}
    parts = [
        facts({**{name: words(value) for name, value in versions.items()}, **{n: words(v) for n, v in single.items()}})
    ]
    for name, group in folded.items():
        settings = facts({key: words(value) for key, value in group.items()})
        parts.append(f"<details><summary>{escape(name)}</summary>{settings}</details>")
    return "\n".join(parts)


def about_file(texts: Iterable[str], call: str) -> str:
    """Paragraphs on what the file holds and how exactly, and the call that gives exact values."""
    paragraphs = "\n".join(_paragraph(text) for text in texts)
    return f'{paragraphs}\n<p>Exact values:</p><code class="call">{escape(call)}</code>'


# ---- parts of all


def facts(about: Mapping[str, str]) -> str:
    """List of names and what they are."""
    pairs = (f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in about.items())
    return f'<dl class="facts">{"".join(pairs)}</dl>'


def words(value: Any) -> str:
    """Say a setting in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {words(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return "none" if value is None else str(value)


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def _chart(
    title: str,
    x_label: str,
    *,
    lines: Sequence[tuple[NDArray[Any], NDArray[Any], str]] = (),
    bars: Sequence[tuple[float, float, float]] = (),
    key: Mapping[str, str] | None = None,
    shade: tuple[float, float] | None = None,
) -> str:
    """Draw lines (x, y, class of the style) or bars (from, to, height) as SVG, in the colours of the page's theme."""
    xs = np.concatenate([*(x for x, _, _ in lines), [edge for bar in bars for edge in bar[:2]]])
    ys = np.concatenate([*(y[np.isfinite(y)] for _, y, _ in lines), [bar[2] for bar in bars]])
    x0, x1, low, y1 = float(xs.min()), float(xs.max()), float(ys.min()), float(ys.max())
    y0 = 0.0 if bars or 0 <= low < 0.6 * y1 else low - 0.08 * (y1 - low)

    def px(x: float) -> float:
        return _LEFT + (x - x0) / ((x1 - x0) or 1) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y0) / ((y1 - y0) or 1) * (_HEIGHT - _BOTTOM - _TOP)

    drawn = []
    if shade:
        start, end = max(shade[0], x0), min(shade[1], x1)
        drawn.append(
            f'<rect class="shade" x="{px(start):.1f}" y="{_TOP}" width="{px(end) - px(start):.1f}" '
            f'height="{_HEIGHT - _BOTTOM - _TOP}"/>'
        )
    for y in (y0, y1) if bars else (y0, (y0 + y1) / 2, y1):  # no half spots
        drawn.append(f'<path class="axis" d="M{_LEFT} {py(y):.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:,.3g}</text>')
    below = _HEIGHT - _BOTTOM + 16
    for x, anchor in ((x0, "start"), (x1, "end")):
        drawn.append(f'<text x="{px(x):.1f}" y="{below}" text-anchor="{anchor}">{x:,.4g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    drawn.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for start, end, y in bars:
        width = max(px(end) - px(start) - 1, 0.5)
        drawn.append(
            f'<rect class="bars" x="{px(start) + 0.5:.1f}" y="{py(y):.1f}" width="{width:.1f}" height="{py(y0) - py(y):.1f}"/>'
        )
    for of_x, of_y, style in lines:
        points = [(px(a), py(b)) for a, b in zip(of_x, of_y, strict=True) if math.isfinite(b)]
        path = "".join(f"{'L' if i else 'M'}{a:.1f} {b:.1f}" for i, (a, b) in enumerate(points))
        drawn.append(f'<path class="series {style}" d="{path}"/>')
    named = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for name, style in (key or {}).items())
    return (
        f'<div><h3>{escape(title)}</h3><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}, from {low:,.3g} to {y1:,.3g}">{"".join(drawn)}</svg><div class="key">{named}</div></div>'
    )
