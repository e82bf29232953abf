"""Read the results: tables of means over seeds, and the targets checked one by one."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.methods import EVERY, METHODS
from benchmarks.fidelity.sets import SETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

OURS = "sphisto"
HELD_OUT = {
    "mean_pearson": "Pearson, mean",
    "median_pearson": "median",
    "ceiling_share": "of the ceiling",
    "median_deviance": "deviance explained",
}
FINER = {
    "median_pearson": "Pearson",
    "median_spearman": "Spearman",
    "median_rmse": "min-max RMSE",
    "median_ssim": "SSIM",
    "median_deviance": "deviance explained",
    "total_pearson": "Pearson of totals",
    "calibration": "calibration",
    "ceiling_share": "of the ceiling",
}
LOWER_IS_BETTER = {"median_rmse"}


@dataclass(frozen=True)
class Task:
    """A data set and a split, with the results of all methods and seeds."""

    name: str
    split: str
    results: dict[str, list[dict[str, Any]]]

    @property
    def title(self) -> str:
        """Name for a heading."""
        return f"{self.name}, {'finer than spots' if self.split == 'finer' else f'held-out spots, {self.split}'}"

    @property
    def main(self) -> str:
        """The score that methods are ranked by."""
        return "median_pearson" if self.split == "finer" else "mean_pearson"

    @property
    def columns(self) -> dict[str, str]:
        """Scores and their headings."""
        return FINER if self.split == "finer" else HELD_OUT

    def paired(self) -> Task:
        """Only the seeds of which ours ran: each seed has a split of its own, and splits differ more than methods."""
        seeds = {r["seed"] for r in self.results.get(OURS, ())}
        same = {method: [r for r in found if r["seed"] in seeds] for method, found in self.results.items()}
        return replace(self, results=same if seeds else self.results)

    def values(self, method: str, score: str) -> NDArray[np.float64]:
        """A score for each seed that ran."""
        found = [r for r in self.results.get(method, ()) if "error" not in r]
        if score == "ceiling_share":
            return np.array([r[self.main] / r[self.main.replace("pearson", "ceiling")] for r in found])
        return np.array([np.nan if r.get(score) is None else r[score] for r in found], dtype=np.float64)

    def mean(self, method: str, score: str | None = None) -> float:
        """Mean of a score over seeds; NaN if there is none."""
        values = self.values(method, score or self.main)
        return float(values.mean()) if len(values) else float("nan")

    def comparable(self, *kinds: str) -> list[str]:
        """Methods of these kinds (default: all but ours) that ran and model all genes."""
        most = max((r["n_genes"] for rs in self.results.values() for r in rs if "error" not in r), default=0)
        return [
            name
            for name, method in METHODS.items()
            if method.kind in (kinds or ("interpolation", "picture", "network", "peer"))
            and any("error" not in r and r["n_genes"] >= 0.9 * most for r in self.results.get(name, ()))
        ]

    def best(self, score: str, *kinds: str) -> tuple[float, str]:
        """Best mean of a score among such methods, and whose it is."""
        candidates = [(self.mean(name, score), name) for name in self.comparable(*kinds)]
        candidates = [c for c in candidates if np.isfinite(c[0])]
        if not candidates:
            return float("nan"), "none"
        return (min if score in LOWER_IS_BETTER else max)(candidates)

    def share_better(self, other: str, score: str) -> float:
        """Share of the genes, over seeds, for which ours scores better than another method."""
        theirs = {r["seed"]: r for r in self.results.get(other, ()) if "error" not in r}
        won: list[bool] = []
        for ours in self.results.get(OURS, ()):
            if "error" in ours or ours["seed"] not in theirs:
                continue
            pairs = zip(ours["by_gene"][score], theirs[ours["seed"]]["by_gene"][score], strict=True)
            won += [(a < b) if score == "rmse" else (a > b) for a, b in pairs if a is not None and b is not None]
        return float(np.mean(won)) if won else float("nan")


def load(results: Path) -> list[Task]:
    """All results that are there, by task."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(results.glob("*.json")):
        name, split, method, seed = path.stem.split(".")
        if (name, split) in SETS and method in EVERY:
            found[name, split][method].append({"seed": int(seed)} | json.loads(path.read_text()))
    return [Task(*key, dict(found[key])) for key in SETS if key in found]


def report(results: Path) -> str:
    """Everything for a terminal: overview, a table for each task, targets, errors."""
    tasks = load(results)
    if not tasks:
        return f"No results in {results}."
    parts = ["Pearson: mean over genes of held-out spots, median over genes of finer truths", overview(tasks)]
    for task in tasks:
        parts += [task.title, detail(task)]
    parts += ["Targets", targets_table(tasks)]
    failed = errors(tasks)
    return "\n\n".join([*parts, *(["Errors", failed] if failed else [])])


def overview(tasks: list[Task]) -> str:
    """Methods x tasks: the main score, mean over seeds with its spread; the best in bold."""
    rows = []
    for method in METHODS:
        if any(method in task.results for task in tasks):
            rows.append([method, *(_cell(task, method) for task in tasks)])
    ceiling = [_ceiling(task) for task in tasks]
    rows.append(["noise ceiling", *ceiling])
    return markdown(["method", *(f"{task.name} {task.split}" for task in tasks)], rows)


def detail(task: Task) -> str:
    """All scores of one task, and for how many genes ours is better."""
    better = {"pearson": "ours better, Pearson", "deviance": "ours better, deviance"}
    rows = []
    for method in METHODS:
        found = [r for r in task.results.get(method, ()) if "error" not in r]
        if not found:
            continue
        scores = [_number(task.mean(method, score)) for score in task.columns]
        shares = [_percent(task.share_better(method, score)) if method != OURS else "" for score in better]
        cost = [f"{np.mean([r['seconds'] for r in found]):.0f}", f"{np.mean([r['peak_mb'] for r in found]):.0f}"]
        rows.append([method, str(found[0]["n_genes"]), *scores, *shares, *cost])
    return markdown(["method", "genes", *task.columns.values(), *better.values(), "seconds", "MB"], rows)


@dataclass(frozen=True)
class Target:
    """One thing to be shown: what was found, and what was to be found."""

    text: str
    found: float
    goal: float
    at_most: bool = False

    @property
    def state(self) -> str:
        """pass, short, or not run."""
        if not (np.isfinite(self.found) and np.isfinite(self.goal)):
            return "not run"
        return "pass" if (self.found <= self.goal if self.at_most else self.found >= self.goal) else "short"


def targets(tasks: list[Task]) -> list[Target]:
    """The targets, as far as their results are there; methods are compared on the same seeds."""
    tasks = [task.paired() for task in tasks]
    by_key = {(task.name, task.split): task for task in tasks}
    out: list[Target] = []
    brain = by_key.get(("mouse_brain_coronal", "random"))
    if brain:
        ours = brain.mean(OURS)
        out.append(Target("1 brain, random: co-kriging + 0.01", ours, brain.mean("cokriging") + 0.01))
        out.append(Target("1 brain, random: 0.80 of the ceiling", brain.mean(OURS, "ceiling_share"), 0.80))
    blocks = by_key.get(("mouse_brain_coronal", "blocks"))
    if blocks:
        out.append(_against("1 brain, blocks: above", blocks, "mean_pearson", 1.0))
    others = [t for t in tasks if t.split != "finer" and t.name != "mouse_brain_coronal"]
    out += [_against(f"2 {t.name}, {t.split}: -0.005 of", t, t.main, 1.0, -0.005) for t in others]
    if others:
        gains = [t.mean(OURS) - t.best(t.main)[0] for t in others]
        out.append(Target("2 all other held-out sets: mean gain over the best baseline", float(np.mean(gains)), 0.01))
    for name in ("xenium_breast_dapi", "toy", "toy_sparse"):
        if (name, "finer") in by_key:
            out += _finer_targets(by_key[name, "finer"])
    neighbour = by_key.get(("breast_visium_xenium", "finer"))
    if neighbour:
        out.append(_against("3 breast_visium_xenium, finer: above", neighbour, "median_pearson", 1.0))
    out += [target for task in tasks for target in _peer_targets(task)]
    return out + _interval_targets(tasks) + _control_targets(tasks) + (_time_targets(brain) if brain else [])


def _finer_targets(task: Task) -> list[Target]:
    name = f"3 {task.name}:"
    rival = task.best("median_deviance", "interpolation")[1]
    return [
        _against(f"{name} Pearson 1.15 x", task, "median_pearson", 1.15, 0, "interpolation"),
        _against(f"{name} Pearson 1.03 x", task, "median_pearson", 1.03),
        _against(f"{name} RMSE 0.85 x", task, "median_rmse", 0.85, 0, "interpolation"),
        Target(f"{name} genes of better deviance than {rival}", task.share_better(rival, "deviance"), 0.80),
    ]


def _peer_targets(task: Task) -> list[Target]:
    scores = ("median_pearson", "median_spearman", "median_rmse", "median_ssim", "median_deviance")
    return [
        Target(
            f"4 {task.name}, {task.split}: {score} of {peer}",
            task.mean(OURS, score),
            task.mean(peer, score),
            score in LOWER_IS_BETTER,
        )
        for peer in task.comparable("peer")
        for score in (scores if task.split == "finer" else HELD_OUT)
        if score != "ceiling_share"
    ]


def _interval_targets(tasks: list[Task]) -> list[Target]:
    fifths = tuple(f"coverage_{i}" for i in range(1, 6))
    held_out = [task for task in tasks if np.isfinite(task.mean("prior", "coverage_1"))]
    overall = [task.mean("prior", "mean_coverage") for task in held_out]
    each = [task.mean("prior", name) for task in held_out for name in fifths]
    skill = {task.title: task.mean("prior", "skill_spearman") for task in held_out}
    if not held_out:
        return []
    return [
        Target("5 counts in 90 % intervals, least of all sets", min(overall), 0.87),
        Target("5 counts in 90 % intervals, most of all sets", max(overall), 0.93, at_most=True),
        Target("5 the same in fifths of genes, least", min(each), 0.80),
        Target("5 the same in fifths of genes, most", max(each), 0.97, at_most=True),
        *(Target(f"5 expected against actual skill: {name}", found, 0.8) for name, found in skill.items()),
    ]


def _control_targets(tasks: list[Task]) -> list[Target]:
    chance = [abs(task.mean("shuffled_genes")) for task in tasks if task.split != "finer"]
    inside = [task.mean("other_colours", "mean_coverage") for task in tasks]
    chance, inside = ([x for x in found if np.isfinite(x)] for found in (chance, inside))
    out = [Target("6 genes shuffled, |Pearson|, most of all sets", max(chance), 0.02, at_most=True)] if chance else []
    if inside:
        out.append(Target("6 other colours change less than the sd, share of values, least", min(inside), 0.95))
    return out


def _time_targets(brain: Task) -> list[Target]:
    fast, cokriging = brain.mean("fast"), brain.mean("cokriging")
    return [
        Target("7 brain: seconds of a fit with all defaults", brain.mean(OURS, "seconds"), 300, at_most=True),
        Target("7 brain: seconds of the fast preset", brain.mean("fast", "seconds"), 60, at_most=True),
        Target("7 brain: fast preset not worse than co-kriging", fast, cokriging),
    ]


def _against(text: str, task: Task, score: str, times: float, plus: float = 0.0, *kinds: str) -> Target:
    best, whose = task.best(score, *kinds)
    return Target(f"{text} {whose}", task.mean(OURS, score), times * best + plus, score in LOWER_IS_BETTER)


def targets_table(tasks: list[Task]) -> str:
    """The targets as a table."""
    rows = [
        [t.text, _number(t.found), f"{'at most' if t.at_most else 'at least'} {_number(t.goal)}", t.state]
        for t in targets(tasks)
    ]
    return markdown(["target", "found", "wanted", ""], rows)


def errors(tasks: Iterable[Task]) -> str:
    """Cells that failed, one a line."""
    return "\n".join(
        f"- {task.title}, {method}, seed {r['seed']}: {r['error']}"
        for task in tasks
        for method, found in task.results.items()
        for r in found
        if "error" in r
    )


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table that reads well as text, too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    line: Callable[[list[str]], str] = lambda cells: (
        "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
    )
    return "\n".join([line(header), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows)])


def _cell(task: Task, method: str) -> str:
    values = task.values(method, task.main)
    if len(values) == 0:
        return "error" if method in task.results else ""
    text = f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")
    every = task.comparable("interpolation", "picture", "network", "peer", "ours")
    if method not in every:
        return f"{text} ({task.results[method][0]['n_genes']} genes)"
    return f"**{text}**" if task.mean(method) == max(task.mean(name) for name in every) else text


def _ceiling(task: Task) -> str:
    every = task.comparable("interpolation", "picture", "network", "peer", "ours")
    return _number(max((task.mean(m, task.main.replace("pearson", "ceiling")) for m in every), default=np.nan))


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""


def _percent(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else ""
