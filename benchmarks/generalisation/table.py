"""Tables of the results: scores by the share of spots that is known, means over seeds, and targets checked one by one."""

from itertools import product

import numpy as np
import pandas as pd
from benchmarks.fidelity import page
from benchmarks.fidelity.results import KEY
from benchmarks.fidelity.table import markdown
from benchmarks.generalisation.cases import GROUPS, SHARES, TARGETS
from benchmarks.generalisation.methods import METHODS

BOTH = ["pearson", "pearson_often"]
CURVES = {
    "pearson": ("Mean Pearson correlation: genes seen in more than 3 % / in more than 10 % of the known spots", BOTH),
    "deviance": ("Deviance explained", ["deviance"]),
    "coverage": ("Share of counts in 90 % intervals", ["coverage"]),
    "seconds": ("Seconds of one core", ["seconds"]),
}
SCORES = [*BOTH, "deviance", "coverage"]
BREAST, BULB = GROUPS
KNOWN = [share for share, value in SHARES.items() if value > 0]


def wide(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each result, a column for each score."""
    out = found.pivot_table(index=KEY, columns="metric", values="value")
    out = out.join(found.groupby(KEY).seconds.first()).reset_index().rename(columns={"kind": "share"})
    return out.reindex(columns=list(dict.fromkeys([*out, "spots", "seconds", *SCORES])))


def report(found: pd.DataFrame) -> str:
    """Everything for a terminal."""
    n_seeds = found.groupby(["set", "share", "method"]).seed.nunique()
    parts = [f"Means over {n_seeds.min()} to {n_seeds.max()} seeds." if len(n_seeds) else "Nothing was computed yet."]
    for title, scores in CURVES.values():
        parts += [title, curve(found, scores)]
    return "\n\n".join(
        [*parts, "What other sections are worth in spots", worth(found), "Targets", targets_table(found)]
    )


def write(found: pd.DataFrame) -> None:
    """Write the tables between their marks in docs/benchmarks.md."""
    text = page.PAGE.read_text()
    parts = {name: curve(found, CURVES[name][1]) for name in ("pearson", "deviance", "coverage")}
    for name, part in (parts | {"worth": worth(found), "targets": targets_table(found)}).items():
        text = page.between(text, f"generalisation {name}", part)
    page.PAGE.write_text(text)


def curve(found: pd.DataFrame, scores: list[str]) -> str:
    """Targets and methods x shares of the spots that are known."""
    means, spots, rows = found.groupby(["set", "method", "share"])[scores].mean(), found.groupby("set").spots.max(), []
    for target, method in product(TARGETS, METHODS):
        ran = [means.loc[at] if (at := (target, method, share)) in means.index else [] for share in SHARES]
        cells = [" / ".join(f"{v:.0f}" if scores == ["seconds"] else _cell(v) for v in each) for each in ran]
        if any(cells):
            n = spots[target]
            rows.append([target if not np.isfinite(n) else f"{target}, {n:.0f} spots", method, *cells])
    return markdown(["target", "method", *(f"{value:.0%} known".replace("%", " %") for value in SHARES.values())], rows)


def worth(found: pd.DataFrame) -> str:
    """How many of its spots a section alone needs, to be predicted as well as without any and with the other sections."""
    means, rows = found.groupby(["set", "method", "share"]).pearson.mean(), []
    for target in TARGETS:
        wanted = [means.get((target, "sphisto", share), np.nan) for share in ("0%", "5%", "20%")]
        reached = np.array([means.get((target, "alone", share), np.nan) for share in KNOWN])
        if np.isfinite([*wanted, *reached]).all():
            rows.append([target, *(_needed(value, np.maximum.accumulate(reached)) for value in wanted)])
    return markdown(["spots that a section alone needs for the same as", "none", "5 %", "20 %"], rows)


def _needed(wanted, rising) -> str:
    if wanted > rising[-1]:
        return "more than 80 %"
    shares = [SHARES[share] for share in KNOWN]
    return f"{100 * np.interp(wanted, rising, shares):.0f} %" if wanted > rising[0] else "less than 5 %"


def targets(found: pd.DataFrame, method: str = "sphisto") -> pd.DataFrame:
    """What is wanted, and what a method reaches by genes seen in more than 3 and 10 % of the known spots."""
    ours = found[found.method == method].groupby(["share", "set"])[SCORES].mean()

    def of(share, name):
        return ours.reindex([(share, name)])

    def over(other, share, names):
        """Differences from another method over the seeds of which both ran: orders of spots differ more than methods."""
        at = found[found.share == share].set_index(["set", "seed"])
        apart = at[at.method == method][SCORES] - at[at.method == other][SCORES]
        return apart.groupby("set").mean().reindex(list(names))

    ridge, full = over("ridge", "0%", BREAST), over("alone", "80%", TARGETS)
    inside = ours.reindex(product(("20%", "80%"), TARGETS)).coverage
    everywhere = pd.concat([over("alone", share, TARGETS) for share in KNOWN])
    listed = [
        ("her2st_C4 without spots", 0.185, of("0%", "her2st_C4").mean()),
        ("her2st without spots, mean over ridge's", 0.02, ridge.mean(skipna=False)),
        ("the same, the least of them", 0.0, ridge.min(skipna=False)),
        ("mob_st_2 without spots", 0.365, of("0%", "mob_st_2").mean()),
        ("mob_st_1 without spots, over ridge's", 0.03, over("ridge", "0%", ["mob_st_1"]).mean()),
        ("her2st_C4 with 5% of the spots", 0.185, of("5%", "her2st_C4").mean()),
        ("mob_st_2 with 5% of the spots", 0.38, of("5%", "mob_st_2").mean()),
        ("her2st_C4 with 20% of the spots", 0.19, of("20%", "her2st_C4").mean()),
        ("mob_st_2 with 20% of the spots", 0.39, of("20%", "mob_st_2").mean()),
        ("her2st with 80% of the spots, mean over alone's", 0.012, full.loc[list(BREAST)].mean(skipna=False)),
        ("mob_st with 80% of the spots, mean over alone's", 0.005, full.loc[list(BULB)].mean(skipna=False)),
        ("over alone's, the least anywhere", -0.003, everywhere.min(skipna=False)),
        ("deviance explained with 80%, over alone's, the least", 0.0, {"pearson": full.deviance.min(skipna=False)}),
        ("counts in 90 % intervals at 20% and 80%, least", 0.87, {"pearson": inside.min(skipna=False)}),
        ("the same, most", 0.93, {"pearson": inside.max(skipna=False)}),
    ]
    rows = []
    for text, wanted, reached in listed:
        first, most = reached["pearson"], text.endswith("most")
        state = (
            "not run"
            if not np.isfinite(first)
            else "pass"
            if (first <= wanted if most else first >= wanted)
            else "short"
        )
        rows.append(
            (text, f"at {'most' if most else 'least'} {wanted:.3f}", first, reached.get(BOTH[1], np.nan), state)
        )
    return pd.DataFrame(rows, columns=["target", "wanted", "reached", "often", "state"])


def targets_table(found: pd.DataFrame) -> str:
    """By what places look like alone, and of registered sections: both choices of genes."""
    tables = [targets(found, method).itertuples() for method in ("sphisto", "sphisto registered")]
    rows = [
        [
            plain.target,
            plain.wanted,
            *(f"{_cell(t.reached)} / {_cell(t.often)}".strip(" /") for t in (plain, registered)),
        ]
        for plain, registered in zip(*tables, strict=True)
    ]
    return markdown(["target", "wanted", "sphisto", "registered"], rows)


def _cell(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else ""
