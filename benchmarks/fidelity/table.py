"""Tables of the results: means over seeds, and the targets checked one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.fidelity.cases import HELD_OUT, SETS
from benchmarks.fidelity.methods import BASELINES, METHODS

REFERENCE = Path(__file__).resolve().parent / "reference"
VERSION = "86b044d"  # whose held-out scores must not be lost
KRIGING = tuple(name for name in METHODS if "kriging" in name)
MAIN = [name for name, method in METHODS.items() if method.kind not in ("ablation", "control")]
DETAILS = {
    "genes": "genes", "pearson": "Pearson", "pearson_variable": "of 50 variable genes", "of the ceiling": "of the ceiling",
    "deviance": "deviance explained", "better_than_gaussian": "genes better than gaussian", "rmse": "min-max RMSE",
    "calibration": "calibration", "seconds": "seconds",
}  # fmt: skip


def wide(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each result, a column for each metric."""
    metrics = found.pivot_table(index=["set", "kind", "seed", "method"], columns="metric", values="value")
    seconds = found.groupby(["set", "kind", "seed", "method"]).seconds.first()
    out = metrics.assign(seconds=seconds).reset_index()
    return out.assign(**{"of the ceiling": out.pearson / out.get("ceiling", np.nan)})


def report(found: pd.DataFrame) -> str:
    """Everything for a terminal."""
    if found.empty:
        return "No results."
    found = wide(found)
    parts = ["Pearson correlation, mean over genes", overview(found, held_out=True), overview(found, held_out=False)]
    for name, kind in SETS:
        some = found[(found.set == name) & (found.kind == kind)]
        parts += [f"{name}, {kind}", details(some)] if len(some) else []
    parts += ["Ablations and controls", ablations(found), "Targets", targets_table(found)]
    return "\n\n".join(parts)


def overview(found: pd.DataFrame, *, held_out: bool, metric="pearson") -> str:
    """Methods x sets: a score, mean over seeds and its spread; the best of methods of all genes in bold."""
    keys = [key for key in SETS if (key[1] in ("random", "blocks")) == held_out]
    keys = [key for key in keys if ((found.set == key[0]) & (found.kind == key[1])).any()]
    rows = []
    for method in [m for m in MAIN if m in set(found.method)]:
        rows.append([method, *(_cell(_of(found, *key), method, metric) for key in keys)])
    ceilings = [_of(found, *key) for key in keys]
    rows.append(["noise ceiling", *(number(some[some.method.isin(BASELINES)].ceiling.mean()) for some in ceilings)])
    return markdown(["method", *(f"{name} {kind}" for name, kind in keys)], [r for r in rows if any(r[1:])])


def details(some: pd.DataFrame) -> str:
    """All scores of one set and kind."""
    means = some.groupby("method").mean(numeric_only=True)
    columns = [c for c in DETAILS if c in means and means[c].notna().any()]
    rows = [[m, *(number(v, c) for c, v in means.loc[m, columns].items())] for m in MAIN if m in means.index]
    return markdown(["method", *(DETAILS[c] for c in columns)], rows)


def ablations(found: pd.DataFrame) -> str:
    """The first seed of the prior, and by how much each ablation and control differs from it."""
    found = found[found.seed == 0].pivot_table(index="method", columns=["set", "kind"], values="pearson")
    others = [m for m in METHODS if m not in MAIN and m in found.index]
    if not others or "prior" not in found.index:
        return "Not run."
    keys = [key for key in SETS if key in found.columns and found.loc[others, key].notna().any()]
    rows = [["prior", *(number(found.loc["prior", key]) for key in keys)]]
    rows += [
        [m, *(f"{d:+.3f}" if np.isfinite(d := found.loc[m, k] - found.loc["prior", k]) else "" for k in keys)]
        for m in others
    ]
    return markdown(["", *(f"{name} {kind}" for name, kind in keys)], rows)


def intervals(found: pd.DataFrame) -> str:
    """Share of held-out counts inside the prior's 90 % intervals, and how well the skill it expects orders genes."""
    columns = ["coverage", *(f"coverage_{i}" for i in range(1, 6)), "skill_spearman"]
    some = found[found.method == "prior"].dropna(subset=[c for c in columns if c in found])
    if some.empty:
        return "Not run."
    means = some.groupby(["set", "kind"], sort=False)[columns].mean()
    rows = [
        [f"{name} {kind}", *map(number, row)] for (name, kind), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return markdown(["", "overall", "rarest fifth", "", "", "", "most abundant", "skill, Spearman"], rows)


def targets(found: pd.DataFrame) -> pd.DataFrame:
    """The targets: what is wanted, what sphisto and its prior reach, and whether sphisto does; of the same seeds."""
    rows = []

    def add(text, wanted, sphisto, prior=np.nan, *, at_most=False):
        known = np.isfinite(sphisto) and np.isfinite(wanted)
        state = "not run" if not known else "pass" if (sphisto <= wanted if at_most else sphisto >= wanted) else "short"
        rows.append((text, f"at {'most' if at_most else 'least'} {number(wanted)}", sphisto, prior, state))

    def both(text, wanted, of):
        add(text, wanted, *(of(method) for method in ("sphisto", "prior")))

    dapi = _of(found, "xenium_breast_dapi", "finer")
    both("xenium_breast_dapi: Pearson over gaussian's", 1.20, lambda m: _ratio(dapi, m, ("gaussian",)))
    both("xenium_breast_dapi: Pearson over the best kriging's", 1.06, lambda m: _ratio(dapi, m, KRIGING))
    for name, wanted in (("toy", 0.30), ("toy_sparse", 0.13)):
        both(
            f"{name}: share of the way from the best baseline to 1",
            wanted,
            lambda m: _way(_of(found, name, "finer"), m),
        )
    for kind in ("finer", "cells"):
        some = _of(found, "xenium_breast_he_if", kind)
        both(f"xenium_breast_he_if, {kind}: Pearson over gaussian's", 1.0, lambda m: _ratio(some, m, ("gaussian",)))  # noqa: B023
    for name in ("xenium_breast_dapi", "xenium_breast_he_if", "toy", "toy_sparse"):
        some = _of(found, name, "finer")
        both(f"{name}: genes of better deviance than gaussian's", 0.8, lambda m: _mean(some, m, "better_than_gaussian"))  # noqa: B023
    reference = pd.read_csv(REFERENCE / f"{VERSION}.csv")
    for name, kind in [key for key in SETS if key[0] in HELD_OUT and key[1] != "finer"]:
        before, now = (_of(table, name, kind) for table in (reference, found))
        both(f"{name}, {kind}: change since {VERSION}", -0.001, lambda m: _change(before, now, m))  # noqa: B023
    inside = found[found.kind.isin(["random", "blocks"])].groupby(["method", "set", "kind"]).mean(numeric_only=True)
    if "coverage" in inside and "prior" in inside.index:
        add("counts in 90 % intervals of the prior, least of all sets", 0.87, inside.coverage["prior"].min())
        add("the same, most of all sets", 0.93, inside.coverage["prior"].max(), at_most=True)
    controls = found[found.method.str.startswith("control") & (found.kind == "random")].groupby("method")
    add("control: genes shuffled, most absolute Pearson", 0.02,
        controls.pearson.apply(lambda r: r.abs().max()).get("control: genes shuffled", np.nan), at_most=True)  # fmt: skip
    if "coverage" in found:
        add("control: other colours change less than the sd, least share", 0.95,
            controls.coverage.min().get("control: other colours", np.nan))  # fmt: skip
    return pd.DataFrame(rows, columns=["target", "wanted", "sphisto", "prior", "state"])


def targets_table(found: pd.DataFrame) -> str:
    """The targets as a table."""
    rows = [[t.target, t.wanted, number(t.sphisto), number(t.prior), t.state] for t in targets(found).itertuples()]
    return markdown(["target", "wanted", "sphisto", "prior", ""], rows)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table that reads well as text, too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(f"| {line} |" for line in (lines[0], " | ".join("-" * w for w in widths), *lines[1:]))


def number(value: float, name: str = "") -> str:
    """Three decimals, whole genes and seconds; nothing for what is not known."""
    return "" if not np.isfinite(value) else f"{value:.0f}" if name in ("genes", "seconds") else f"{value:.3f}"


def best(some: pd.DataFrame, methods=BASELINES) -> tuple[str, float]:
    """The method of the highest mean Pearson over seeds, and that mean."""
    means = some[some.method.isin(methods)].groupby("method").pearson.mean()
    return (means.idxmax(), means.max()) if len(means) else ("none", np.nan)


def _of(found, name, kind):
    return found[(found.set == name) & (found.kind == kind)]


def _mean(some, method, metric="pearson"):
    return some.loc[some.method == method, metric].mean() if metric in some else np.nan


def _paired(some, method):
    """Only the seeds of which a method ran: each has a split of its own, and splits differ more than methods."""
    return some[some.seed.isin(some.seed[some.method == method])]


def _ratio(some, method, others):
    return _mean(some, method) / best(_paired(some, method), others)[1]


def _way(some, method):
    below = best(_paired(some, method))[1]
    return (_mean(some, method) - below) / (1 - below)


def _change(before, now, method):
    both = [table[table.method == method].set_index("seed").pearson for table in (now, before)]
    return (both[0] - both[1]).mean()


def _cell(some, method, metric):
    values = some.loc[some.method == method, metric].dropna() if metric in some else []
    if not len(values):
        return ""
    text = f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")
    genes = some.groupby("method").genes.mean() if "genes" in some else {}
    if len(genes) and genes.get(method, 0) < 0.9 * genes.max():
        return f"{text} ({genes[method]:.0f} genes)"
    means = some.groupby("method")[metric].mean().reindex(MAIN)
    return f"**{text}**" if means[method] >= means.max() else text
