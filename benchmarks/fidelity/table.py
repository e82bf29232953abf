"""Tables of the results: means over seeds, and the targets checked one by one."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.fidelity.cases import HELD_OUT, SETS
from benchmarks.fidelity.methods import BASELINES, METHODS
from benchmarks.fidelity.results import KEY

REFERENCE = Path(__file__).resolve().parent / "reference"
VERSION = "86b044d"  # whose held-out scores must not be lost
OLD = "shared molecules (old)"  # truth that peers were last scored on, and that is no longer one
KRIGING = tuple(name for name in METHODS if "kriging" in name)
MAIN = [name for name, method in METHODS.items() if method.kind not in ("ablation", "control")]
SPOTS = [key for key in SETS if key[1] in ("random", "blocks")]
FINER = [key for key in SETS if key not in SPOTS]
DETAILS = {
    "genes": "genes", "pearson": "Pearson, median", "pearson_mean": "mean", "pearson_variable": "of 50 variable genes",
    "share": "of the ceiling", "deviance": "deviance explained", "better_than_gaussian": "genes better than gaussian",
    "rmse": "min-max RMSE", "calibration": "calibration", "seconds": "seconds",
}  # fmt: skip
COVERAGE = ["coverage", *(f"coverage_{i}" for i in range(1, 6)), "skill_spearman"]


def wide(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each result and for the peers' last ones, a column for each metric."""
    peers = pd.read_csv(REFERENCE / "peers.csv").query("truth != @OLD")
    found = pd.concat([found, peers]).drop_duplicates([*KEY, "metric"])
    out = found.pivot_table(index=KEY, columns="metric", values="value")
    out = out.join(found.groupby(KEY)[["seconds", "version"]].first()).reset_index()
    names = [*DETAILS, *COVERAGE, "ceiling"]
    return out.reindex(columns=list(dict.fromkeys([*out, *names]))).assign(share=lambda t: t.pearson / t.ceiling)


def report(found: pd.DataFrame) -> str:
    """Everything for a terminal."""
    found = wide(found)
    parts = ["Held-out spots: mean Pearson correlation over genes", overview(found, SPOTS)]
    parts += ["Truth finer than spots: median Pearson correlation over genes", overview(found, FINER)]
    for key in SETS:
        parts += [", ".join(key), details(of(found, *key))]
    parts += ["Ablations and controls", ablations(found), "Intervals of the prior", intervals(found)]
    return "\n\n".join([*parts, "Targets", targets_table(found)])


def overview(found: pd.DataFrame, keys, metric="pearson") -> str:
    """Methods x sets: a score, mean over seeds and its spread; the best of methods of all genes in bold."""
    columns = [{m: _cell(of(found, *key), m, metric) for m in MAIN} for key in keys]
    rows = [[m, *(column[m] for column in columns)] for m in MAIN if any(column[m] for column in columns)]
    if metric == "pearson":
        rows.append(["noise ceiling", *(number(of(found, *key, "gaussian").ceiling.mean()) for key in keys)])
    return markdown(["method", *(" ".join(key) for key in keys)], rows)


def beside_peers(found: pd.DataFrame) -> str:
    """Real sections x sphisto, and what it is compared with, at a random fifth of the spots."""
    methods = {"sphisto": "sphisto", "its co-kriging alone": "prior", "Gaussian weights": "gaussian", "TESLA": "tesla"}
    rows = []
    for key in (key for key in SPOTS if key[1] == "random"):
        some = of(found, *key)
        means = some.groupby("method").pearson.mean()
        ceiling = some[some.method == "gaussian"].ceiling.mean()
        rows.append([key[0], *(number(means.get(name, np.nan)) for name in methods.values()), number(ceiling)])
    return markdown(["section", *methods, "noise ceiling"], rows)


def details(some: pd.DataFrame) -> str:
    """All scores of one set and kind."""
    means = some.groupby("method")[list(DETAILS)].mean().dropna(axis=1, how="all")
    rows = [[m, *(number(v, c) for c, v in means.loc[m].items())] for m in MAIN if m in means.index]
    return markdown(["method", *(DETAILS[c] for c in means)], rows)


def ablations(found: pd.DataFrame) -> str:
    """The first seed of the prior, and by how much each ablation and control differs from it."""
    found = found[found.seed == 0].pivot_table(index="method", columns=["set", "kind"], values="pearson")
    others = [m for m in METHODS if m not in MAIN and m in found.index]
    if not others:
        return "Not run."
    found = found.loc[["prior", *others]].dropna(axis=1, thresh=2)
    change = found.loc[others] - found.loc["prior"]
    rows = [["prior", *map(number, found.loc["prior"])], *([m, *map("{:+.3f}".format, change.loc[m])] for m in others)]
    return markdown(["", *(" ".join(key) for key in found)], rows).replace("+nan", "").replace("nan", "")


def intervals(found: pd.DataFrame) -> str:
    """Share of held-out counts inside the prior's 90 % intervals, and how well the skill it expects orders genes."""
    means = found[found.method == "prior"].groupby(["set", "kind"])[COVERAGE].mean().dropna()
    rows = [[" ".join(key), *map(number, row)] for key, row in zip(means.index, means.to_numpy(), strict=True)]
    return markdown(["", "overall", "rarest fifth", "", "", "", "most abundant", "skill, Spearman"], rows)


def targets(found: pd.DataFrame) -> pd.DataFrame:
    """What is wanted, what sphisto and its prior reach, and whether sphisto does; over the seeds of which each ran."""
    rows = []

    def add(text, wanted, sphisto, prior=np.nan, *, at_most=False):
        met = sphisto <= wanted if at_most else sphisto >= wanted
        state = ("pass" if met else "short") if np.isfinite(sphisto - wanted) else "not run"
        rows.append((text, f"at {'most' if at_most else 'least'} {number(wanted)}", sphisto, prior, state))

    def both(text, wanted, reached):
        add(text, wanted, reached("sphisto"), reached("prior"))

    dapi, he_if = "xenium_breast_dapi", "xenium_breast_he_if"
    both(f"{dapi}: Pearson over gaussian's", 1.20, partial(_ratio, of(found, dapi, "finer"), ["gaussian"]))
    both(f"{dapi}: Pearson over the best kriging's", 1.06, partial(_ratio, of(found, dapi, "finer"), KRIGING))
    for name, wanted in (("toy", 0.30), ("toy_sparse", 0.13)):
        both(f"{name}: way from the best baseline to 1", wanted, partial(_way, of(found, name, "finer")))
    for kind in ("finer", "cells"):
        both(f"{he_if}, {kind}: Pearson over gaussian's", 1.0, partial(_ratio, of(found, he_if, kind), ["gaussian"]))
    for name in (dapi, he_if, "toy", "toy_sparse"):
        better = of(found, name, "finer").groupby("method").better_than_gaussian.mean()
        both(f"{name}: genes of better deviance than gaussian's", 0.8, lambda m, b=better: b.get(m, np.nan))
    before, new = pd.read_csv(REFERENCE / f"{VERSION}.csv"), found[~found.version.str.startswith(VERSION)]
    for name, kind in [key for key in SPOTS if key[0] in HELD_OUT]:
        change = partial(_change, of(before, name, kind), of(new, name, kind))
        both(f"{name}, {kind}: Pearson since {VERSION}", -0.001, change)
    spots = found[found.kind.isin(["random", "blocks"])].groupby(["method", "set", "kind"]).mean(numeric_only=True)
    inside = spots.coverage.get("prior", pd.Series(dtype=float))
    add("counts in 90 % intervals of the prior, least of all sets", 0.87, inside.min())
    add("the same, most of all sets", 0.93, inside.max(), at_most=True)
    shuffled = spots.pearson.get("control: genes shuffled", pd.Series(dtype=float)).abs().max()
    add("genes shuffled: most absolute Pearson at held-out spots", 0.02, shuffled, at_most=True)
    other = found[found.method == "control: other colours"].coverage.min()
    add("other colours change less than the standard deviation, least share", 0.95, other)
    return pd.DataFrame(rows, columns=["target", "wanted", "sphisto", "prior", "state"])


def targets_table(found: pd.DataFrame) -> str:
    rows = [[t.target, t.wanted, number(t.sphisto), number(t.prior), t.state] for t in targets(found).itertuples()]
    return markdown(["target", "wanted", "sphisto", "prior", ""], rows)


def of(found: pd.DataFrame, name: str, kind: str, method=None) -> pd.DataFrame:
    """Rows of a set and kind, and of a method."""
    some = found[(found.set == name) & (found.kind == kind)]
    return some if method is None else some[some.method == method]


def best(some: pd.DataFrame, method: str, others=BASELINES) -> float:
    """The best of others' mean Pearson, over the seeds of which a method ran: splits differ more than methods."""
    same = some[some.seed.isin(some.seed[some.method == method]) & some.method.isin(others)]
    return same.groupby("method").pearson.mean().max()


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table that reads well as text, too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(f"| {line} |" for line in (lines[0], " | ".join("-" * w for w in widths), *lines[1:]))


def number(value: float, name: str = "") -> str:
    """Three decimals, whole genes and seconds; nothing for what is not known."""
    return "" if not np.isfinite(value) else f"{value:.0f}" if name in ("genes", "seconds") else f"{value:.3f}"


def _ratio(some, others, method):
    return some.pearson[some.method == method].mean() / best(some, method, others)


def _way(some, method):
    below = best(some, method)
    return (some.pearson[some.method == method].mean() - below) / (1 - below)


def _change(before, now, method):
    now, before = (table[table.method == method].set_index("seed").pearson for table in (now, before))
    return (now - before).mean()


def _cell(some, method, metric):
    values, genes = some[some.method == method][metric].dropna(), some.groupby("method").genes.mean()
    if not len(values):
        return ""
    text = f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")
    whole = genes[genes >= 0.9 * genes.max()].index
    if method not in whole and len(whole):
        return f"{text} ({genes[method]:.0f} genes)"
    main = some[some.method.isin(MAIN)].groupby("method")[metric].mean()
    return f"**{text}**" if main[method] >= main.reindex(whole).max() else text
