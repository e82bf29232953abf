"""Write the tables between the marks of docs/benchmarks.md and docs/peers.md, and the figure of all methods."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.fidelity import results, table
from benchmarks.fidelity.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE, PEERS, FIGURES = (ROOT / "docs" / name for name in ("benchmarks.md", "peers.md", "_static/fidelity"))
COLOURS = {"interpolation": "#8c8c8c", "image": "#4c78a8", "peer": "#e8a33d", "ours": "#c8373c"}


def write(folder=results.RESULTS, page=PAGE, peers=PEERS, figures=FIGURES) -> None:
    """Write tables and figure."""
    found, text = table.wide(results.read(folder)), page.read_text()
    figures.mkdir(parents=True, exist_ok=True)
    draw(found, figures / "methods.svg")
    details = [(key, table.of(found, *key)) for key in table.FINER]
    parts = {
        "held-out spots": table.overview(found, table.SPOTS),
        "finer truth": table.overview(found, table.FINER),
        "deviance": table.overview(found, table.SPOTS, "deviance"),
        "details": "\n\n".join(f"**{', '.join(key)}**\n\n{table.details(some)}" for key, some in details if len(some)),
        "targets": table.targets_table(found),
        "ablations": table.ablations(found),
        "intervals": table.intervals(found),
    }
    for name, content in parts.items():
        text = between(text, name, content)
    page.write_text(text)
    peers.write_text(between(peers.read_text(), "held-out spots", table.beside_peers(found)))


def between(text: str, name: str, content: str) -> str:
    """Replace what stands between the two marks of a name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        msg = f"Found no marks {begin!r} and {end!r} in the page; put them where the table belongs."
        raise ValueError(msg)
    return f"{text.split(begin)[0]}{begin}\n\n{content}\n\n{end}{text.split(end)[1]}"


def draw(found, path) -> None:
    """A panel for each set and kind, a dot for each seed, methods in the same order everywhere."""
    groups = list(found.groupby(["set", "kind"]))
    methods = [m for m in table.MAIN if m in set(found.method)][::-1]
    rows = -(-len(groups) // 5)
    size = (13.2, (0.17 * len(methods) + 0.7) * rows)
    figure, axes = plt.subplots(rows, 5, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, ((name, kind), some) in zip(axes.flat, groups, strict=False):
        for y, method in enumerate(methods):
            values = some.pearson[some.method == method].to_numpy()
            panel.plot(values, np.full(len(values), y), "o", ms=4, color=COLOURS[METHODS[method].kind], alpha=0.8)
        panel.set_yticks(range(len(methods)), methods, fontsize=7)
        panel.set_title(f"{name}\n{kind}", fontsize=8)
        panel.tick_params(axis="x", labelsize=7)
        panel.grid(axis="y", color="0.93")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes.flat[len(groups) :]:
        panel.set_visible(False)
    with plt.rc_context({"svg.hashsalt": "fidelity"}):  # the same results give the same file
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
