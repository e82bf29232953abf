"""Write the tables between the marks of docs/benchmarks.md, and the figures beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity import table
from benchmarks.fidelity.cells import ROOT, Cell
from benchmarks.fidelity.methods import ABLATED, ABLATIONS, BASE, METHODS

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "_static" / "fidelity"
BEGIN, END = "<!-- fidelity tables: begin -->", "<!-- fidelity tables: end -->"
ABLATION, ABLATION_END = "<!-- ablations: begin -->", "<!-- ablations: end -->"
INTERVALS, INTERVALS_END = "<!-- intervals: begin -->", "<!-- intervals: end -->"
COLOURS = {"interpolation": "#8c8c8c", "picture": "#4c78a8", "network": "#b279a2", "peer": "#e8a33d", "ours": "#c8373c"}


def write(results: Path, page: Path = PAGE, figures: Path = FIGURES) -> None:
    """Write figures, and the tables into the page; a page that is not there is begun."""
    tasks = table.load(results)
    figures.mkdir(parents=True, exist_ok=True)
    draw_methods(tasks, figures / "methods.svg")
    drawn = [task for task in tasks if draw_genes(task, figures / f"genes-{task.name}-{task.split}.svg")]
    text = page.read_text() if page.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    text = between(text, BEGIN, END, content(tasks, drawn), page)
    if INTERVALS in text:
        draw_calibration(tasks, figures / "calibration.svg")
        text = between(text, INTERVALS, INTERVALS_END, intervals(tasks), page)
    if ABLATION in text:
        text = between(text, ABLATION, ABLATION_END, ablations(results), page)
    page.write_text(text)


def between(text: str, begin: str, end: str, content: str, page: Path) -> str:
    """Replace what stands between two marks of a page."""
    if begin not in text or end not in text:
        msg = f"{page} lacks the marks {begin!r} and {end!r}; put them where the tables belong."
        raise ValueError(msg)
    return "\n\n".join([text.split(begin)[0] + begin, content, end]) + text.split(end)[1]


def intervals(tasks: list[table.Task]) -> str:
    """Coverage of predictive intervals and agreement of expected with actual skill, means over seeds."""
    columns = ("mean_coverage", *(f"coverage_{i}" for i in range(1, 6)), "skill_spearman", "skill_ceiling")
    lines = ["| data set | overall | rarest | | | | most abundant | skill | could reach |", "|---" * 9 + "|"]
    for task in tasks:
        found = [r for r in task.results.get("prior", ()) if "mean_coverage" in r]
        if found:
            means = " | ".join(
                f"{np.mean([r.get(name, np.nan) for r in found]):.3f}".replace("nan", "") for name in columns
            )
            lines.append(f"| {task.name}, {task.split}, {len(found)} seeds | {means} |")
    return "\n".join(lines)


def ablations(results: Path) -> str:
    """Score of each ablation, and by how much it differs from what nothing was changed in."""
    rows = []
    for method in ABLATIONS:
        found = [_ablated(results, *key, method) for key in ABLATED]
        usual = [_ablated(results, *key, BASE) for key in ABLATED]
        if not any(np.isfinite(found)):
            continue
        cells = [f"{x:.3f}" if method == BASE else f"{x - y:+.3f}" for x, y in zip(found, usual, strict=True)]
        rows.append(
            [
                method.replace("_", " ").replace("-", ": "),
                *(c.replace("+nan", "").replace("nan", "") for c in cells),
            ]
        )
    return table.markdown(["", *(f"{name} {split}" for name, split in ABLATED)], rows) if rows else "Not run."


def _ablated(results: Path, name: str, split: str, method: str) -> float:
    result = Cell(name, split, method, 0).read(results) or {}
    return float(result.get("median_pearson" if split == "finer" else "mean_pearson", np.nan))


def draw_calibration(tasks: list[table.Task], path: Path) -> None:
    """Coverage of intervals by abundance, and expected against actual skill of genes."""
    import matplotlib.pyplot as plt

    found = [(task, r) for task in tasks for r in task.results.get("prior", ()) if "coverage_1" in r and r["seed"] == 0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    left.axhspan(0.87, 0.93, color="0.92")
    left.axhline(0.9, color="0.6", lw=0.8)
    for task, result in found:
        left.plot(
            range(1, 6),
            [result[f"coverage_{i}"] for i in range(1, 6)],
            "o-",
            ms=3,
            lw=0.8,
            label=f"{task.name}, {task.split}",
        )
        if task.split == "random":
            by_gene = result["by_gene"]
            right.plot(by_gene["skill"], by_gene["pearson"], ".", ms=2.5, alpha=0.5, label=task.name)
    left.set(
        ylim=(0.75, 1),
        xticks=range(1, 6),
        xlabel="fifth of genes, rarest to most abundant",
        ylabel="counts inside 90 % intervals",
    )
    left.legend(fontsize=6, frameon=False, ncols=2, loc="lower right")
    right.axline((0, 0), slope=1, color="0.6", lw=0.8)
    right.set(xlabel="skill that the fit expects (Pearson)", ylabel="skill at held-out spots")
    right.legend(fontsize=6, frameon=False, markerscale=3)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def content(tasks: list[table.Task], drawn: list[table.Task]) -> str:
    """Tables and figures of the page."""
    parts = [
        "![Score of each method on each data set](_static/fidelity/methods.svg)",
        "Pearson correlation: mean over genes of held-out spots, median over genes of truths finer than spots; mean "
        "over seeds ± standard deviation.",
        table.overview(tasks),
        "## Targets",
        table.targets_table(tasks),
        "## By data set",
    ]
    for task in tasks:
        parts += [f"### {task.title}", table.detail(task)]
        if task in drawn:
            parts.append(
                f"![Each gene's correlation, sphisto against the best baseline]"
                f"(_static/fidelity/genes-{task.name}-{task.split}.svg)"
            )
    failed = table.errors(tasks)
    return "\n\n".join([*parts, *(["## Errors", failed] if failed else [])])


def draw_methods(tasks: list[table.Task], path: Path) -> None:
    """A panel for each task, a dot for each seed, methods in the same order everywhere."""
    import matplotlib.pyplot as plt

    methods = [m for m in METHODS if any(len(task.values(m, task.main)) for task in tasks)][::-1]
    columns = 5
    rows = -(-len(tasks) // columns)
    size = (2.4 * columns + 1.2, (0.19 * len(methods) + 0.7) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, task in zip(axes.flat, tasks, strict=False):
        _dots(panel, task, methods)
    for panel in axes.flat[len(tasks) :]:
        panel.set_visible(False)
    _save(figure, path)


def _dots(panel: Any, task: table.Task, methods: list[str]) -> None:
    every = task.comparable(*COLOURS)
    for y, method in enumerate(methods):
        values = task.values(method, task.main)
        if len(values):
            colour = COLOURS[METHODS[method].kind]
            face = colour if method in every else "white"
            panel.plot(values, np.full(len(values), y), "o", ms=4, mec=colour, mfc=face, alpha=0.8)
            panel.plot([0, values.mean()], [y, y], color=colour, lw=0.8, alpha=0.6)
    panel.set_yticks(range(len(methods)), methods, fontsize=7)
    panel.set_title(f"{task.name}\n{task.split}", fontsize=8)
    panel.tick_params(axis="x", labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)


def draw_genes(task: table.Task, path: Path) -> bool:
    """Each gene's correlation by ours against that by the best baseline; ``False`` if ours did not run."""
    import matplotlib.pyplot as plt

    _, rival = task.best(task.main)
    ours, theirs = ({r["seed"]: r for r in task.results.get(m, ()) if "error" not in r} for m in (table.OURS, rival))
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return False
    a, b = ours[seeds[0]], theirs[seeds[0]]
    x, y = (np.array(r["by_gene"]["pearson"], dtype=np.float64) for r in (b, a))
    figure, panel = plt.subplots(figsize=(3.6, 3.3), layout="constrained")
    shown = panel.scatter(x, y, c=np.log10(np.maximum(a["counts"], 1)), s=7, cmap="viridis")
    panel.axline((0, 0), slope=1, color="0.6", lw=0.8)
    panel.set(xlabel=f"{rival}", ylabel=table.OURS)
    panel.set_title(f"{task.name}, {task.split}: Pearson by gene", fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    figure.colorbar(shown, label="log10 counts in the truth", shrink=0.8)
    _save(figure, path)
    return True


def _save(figure: Any, path: Path) -> None:
    """As svg without a date, so that the same results give the same file."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "fidelity"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
