"""Write the tables between the marks of docs/benchmarks.md, and the figures that are drawn of results."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.fidelity import results, table
from benchmarks.fidelity.cases import SETS
from benchmarks.fidelity.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "_static" / "fidelity"
COLOURS = {"interpolation": "#8c8c8c", "image": "#4c78a8", "peer": "#e8a33d", "ours": "#c8373c"}


def write(folder=results.RESULTS, page=PAGE, figures=FIGURES) -> None:
    """Write tables and figures."""
    found, genes = table.wide(results.read(folder)), results.read_genes(folder)
    figures.mkdir(parents=True, exist_ok=True)
    _save(draw_methods(found), figures / "methods.svg")
    _save(draw_genes(genes), figures / "genes.svg")
    _save(draw_calibration(found, genes), figures / "calibration.svg")
    finer = [(n, k, found[(found.set == n) & (found.kind == k)]) for n, k in SETS if k not in ("random", "blocks")]
    parts = {
        "held-out spots": table.overview(found, held_out=True),
        "finer truth": table.overview(found, held_out=False),
        "deviance": table.overview(found, held_out=True, metric="deviance"),
        "details": "\n\n".join(f"**{n}, {k}**\n\n{table.details(some)}" for n, k, some in finer if len(some)),
        "targets": table.targets_table(found),
        "ablations": table.ablations(found),
        "intervals": table.intervals(found),
    }
    text = page.read_text()
    for name, content in parts.items():
        text = between(text, name, content)
    page.write_text(text)


def between(text: str, name: str, content: str) -> str:
    """Replace what stands between the two marks of a name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        msg = f"Found no marks {begin!r} and {end!r} in the page; put them where the table belongs."
        raise ValueError(msg)
    return f"{text.split(begin)[0]}{begin}\n\n{content}\n\n{end}{text.split(end)[1]}"


def draw_methods(found):
    """A panel for each set and kind, a dot for each seed, methods in the same order everywhere."""
    keys = [key for key in SETS if ((found.set == key[0]) & (found.kind == key[1])).any()]
    methods = [m for m in table.MAIN if m in set(found.method)][::-1]
    rows = -(-len(keys) // 5)
    size = (13.2, (0.17 * len(methods) + 0.7) * rows)
    figure, axes = plt.subplots(rows, 5, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, (name, kind) in zip(axes.flat, keys, strict=False):
        some = found[(found.set == name) & (found.kind == kind)]
        for y, method in enumerate(methods):
            values, colour = some.pearson[some.method == method].to_numpy(), COLOURS[METHODS[method].kind]
            panel.plot(values, np.full(len(values), y), "o", ms=4, color=colour, alpha=0.8)
        panel.set_yticks(range(len(methods)), methods, fontsize=7)
        panel.set_title(f"{name}\n{kind}", fontsize=8)
        panel.tick_params(axis="x", labelsize=7)
        panel.grid(axis="y", color="0.93")
    return _finished(figure, axes)


def draw_genes(genes):
    """Each gene's correlation by sphisto, or by its prior where sphisto has not run, against the Gaussian baseline's."""
    keys = [key for key in SETS if ((genes.set == key[0]) & (genes.kind == key[1])).any()]
    rows = max(1, -(-len(keys) // 5))
    figure, axes = plt.subplots(rows, 5, figsize=(13.2, 2.6 * rows), squeeze=False, layout="constrained")
    for panel, (name, kind) in zip(axes.flat, keys, strict=False):
        some = genes[(genes.set == name) & (genes.kind == kind)]
        by_method = some.pivot_table(index="gene", columns="method", values="pearson")
        ours = "sphisto" if "sphisto" in by_method else "prior"
        if ours in by_method and "gaussian" in by_method:
            counts = some.groupby("gene").counts.first()[by_method.index]
            panel.scatter(by_method.gaussian, by_method[ours], c=np.log10(counts + 1), s=6, cmap="viridis")
        panel.axline((0, 0), slope=1, color="0.6", lw=0.8)
        panel.set(xlabel="gaussian", ylabel=ours)
        panel.set_title(f"{name}, {kind}", fontsize=8)
    return _finished(figure, axes)


def draw_calibration(found, genes):
    """Coverage of the prior's intervals by abundance, and expected against actual skill of genes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    left.axhspan(0.87, 0.93, color="0.92")
    left.axhline(0.9, color="0.6", lw=0.8)
    fifths = [f"coverage_{i}" for i in range(1, 6)]
    some = found[found.method == "prior"].dropna(subset=[c for c in fifths if c in found])
    for (name, kind), means in some.groupby(["set", "kind"]) if set(fifths) <= set(found) else ():
        left.plot(range(1, 6), means[fifths].mean(), "o-", ms=3, lw=0.8, label=f"{name}, {kind}")
    look = {"xlabel": "fifth of genes, rarest to most abundant", "ylabel": "counts inside 90 % intervals"}
    left.set(ylim=(0.75, 1), xticks=range(1, 6), **look)
    left.legend(fontsize=6, frameon=False, ncols=2, loc="lower right")
    known = genes.dropna(subset=["skill"]) if "skill" in genes else genes.head(0)
    for name, points in known[known.kind == "random"].groupby("set"):
        right.plot(points.skill, points.pearson, ".", ms=2.5, alpha=0.5, label=name)
    right.axline((0, 0), slope=1, color="0.6", lw=0.8)
    right.set(xlabel="skill that the fit expects (Pearson)", ylabel="skill at held-out spots")
    right.legend(fontsize=6, frameon=False, markerscale=3)
    return _finished(figure, np.array([[left, right]]))


def _finished(figure, axes):
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_visible(bool(panel.has_data() or panel.get_title()))
    return figure


def _save(figure, path) -> None:
    """As svg without a date, so that the same results give the same file."""
    with plt.rc_context({"svg.hashsalt": "fidelity"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
