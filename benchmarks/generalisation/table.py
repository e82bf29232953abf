"""Tables of the results: scores by the share of spots that is known, means over seeds, and targets checked one by one."""

import numpy as np
import pandas as pd
from benchmarks.fidelity import page
from benchmarks.fidelity.results import KEY
from benchmarks.fidelity.table import markdown
from benchmarks.generalisation.cases import GROUPS, SHARES, TARGETS
from benchmarks.generalisation.methods import METHODS

CURVES = {
    "pearson": "Mean Pearson correlation, genes seen in more than 3 % of the known spots",
    "pearson_often": "The same, genes seen in more than 10 %",
    "deviance": "Deviance explained",
    "coverage": "Share of counts in 90 % intervals",
    "seconds": "Seconds of one core",
}
BREAST, BULB = GROUPS
KNOWN = [share for share, value in SHARES.items() if value > 0]


def wide(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each result, a column for each score."""
    out = found.pivot_table(index=KEY, columns="metric", values="value")
    out = out.join(found.groupby(KEY).seconds.first()).reset_index().rename(columns={"kind": "share"})
    return out.reindex(columns=list(dict.fromkeys([*out, "spots", *CURVES])))


def report(found: pd.DataFrame) -> str:
    """Everything for a terminal."""
    n_seeds = found.groupby(["set", "share", "method"]).seed.nunique()
    parts = [f"Means over {n_seeds.min()} to {n_seeds.max()} seeds." if len(n_seeds) else "Nothing was computed yet."]
    for metric, title in CURVES.items():
        parts += [title, curve(found, metric)]
    return "\n\n".join(
        [*parts, "What other sections are worth in spots", worth(found), "Targets", targets_table(found)]
    )


def write(found: pd.DataFrame) -> None:
    """Write the tables between their marks in docs/benchmarks.md."""
    text = page.PAGE.read_text()
    for metric in ("pearson", "deviance", "coverage"):
        text = page.between(text, f"generalisation {metric}", curve(found, metric))
    text = page.between(text, "generalisation worth", worth(found))
    page.PAGE.write_text(page.between(text, "generalisation targets", targets_table(found)))


def curve(found: pd.DataFrame, metric: str) -> str:
    """Targets and methods x shares of the spots that are known."""
    means, rows = found.groupby(["set", "method", "share"])[metric].mean(), []
    for target in TARGETS:
        n = found.spots[found.set == target].max()
        for method in METHODS:
            cells = [_cell(means.get((target, method, share), np.nan), metric) for share in SHARES]
            if any(cells):
                rows.append([target if not np.isfinite(n) else f"{target}, {n:.0f} spots", method, *cells])
    return markdown(["target", "method", *(f"{value:.0%} known".replace("%", " %") for value in SHARES.values())], rows)


def worth(found: pd.DataFrame) -> str:
    """How many of its spots a section alone needs, to be predicted as well as without any and with the other sections."""
    means, rows = found.groupby(["set", "method", "share"]).pearson.mean(), []
    for target in TARGETS:
        wanted = [means.get((target, "sphisto", share), np.nan) for share in ("0%", "5%", "20%")]
        reached = np.array([means.get((target, "alone", share), np.nan) for share in KNOWN])
        if np.isfinite([*wanted, *reached]).all():
            rows.append([target, *(_needed(value, reached, [SHARES[share] for share in KNOWN]) for value in wanted)])
    return markdown(["spots that a section alone needs for the same as", "none", "5 %", "20 %"], rows)


def _needed(wanted, reached, shares) -> str:
    rising = np.maximum.accumulate(reached)
    if wanted > rising[-1]:
        return "more than 80 %"
    return f"{100 * np.interp(wanted, rising, shares):.0f} %" if wanted > rising[0] else "less than 5 %"


def targets(found: pd.DataFrame) -> pd.DataFrame:
    """What is wanted, and what is reached by genes seen in more than 3 and 10 % of the known spots."""
    means = found.groupby(["method", "share", "set"]).mean(numeric_only=True)
    rows = []

    def of(share, names, method="sphisto"):
        """(scores, targets); NaN where it did not run."""
        return np.array([[means[m].get((method, share, name), np.nan) for name in names] for m in CURVES])

    def add(text, wanted, reached, *, at_most=False):
        first = reached[0]
        state = (
            "not run"
            if not np.isfinite(first)
            else "pass"
            if (first <= wanted if at_most else first >= wanted)
            else "short"
        )
        rows.append((text, f"at {'most' if at_most else 'least'} {wanted:.3f}", *reached[:2], state))

    def over(other, share, names):
        """Differences from another method over the seeds of which both ran: orders of spots differ more than methods."""
        at = found[found.share == share].set_index(["set", "seed"])
        apart = at[at.method == "sphisto"][list(CURVES)] - at[at.method == other][list(CURVES)]
        return apart.groupby("set").mean().reindex(list(names)).to_numpy().T

    add("her2st_C4 without spots", 0.185, of("0%", ["her2st_C4"]).mean(axis=1))
    add("her2st without spots, mean over ridge's", 0.02, over("ridge", "0%", BREAST).mean(axis=1))
    add("the same, the least of them", 0.0, over("ridge", "0%", BREAST).min(axis=1))
    add("mob_st_2 without spots", 0.365, of("0%", ["mob_st_2"]).mean(axis=1))
    add("mob_st_1 without spots, over ridge's", 0.03, over("ridge", "0%", ["mob_st_1"]).mean(axis=1))
    for share, wanted in {"5%": (0.185, 0.38), "20%": (0.19, 0.39)}.items():
        for name, least in zip(("her2st_C4", "mob_st_2"), wanted, strict=True):
            add(f"{name} with {share} of the spots", least, of(share, [name]).mean(axis=1))
    for name, names, least in (("her2st", BREAST, 0.012), ("mob_st", BULB, 0.005)):
        add(f"{name} with 80% of the spots, mean over alone's", least, over("alone", "80%", names).mean(axis=1))
    everywhere = np.hstack([over("alone", share, TARGETS) for share in KNOWN])
    add("over alone's, the least anywhere", -0.003, everywhere.min(axis=1))
    deviance, coverage = list(CURVES).index("deviance"), list(CURVES).index("coverage")
    least = over("alone", "80%", TARGETS)[deviance].min()
    add("deviance explained with 80%, over alone's, the least", 0.0, (least, np.nan))
    inside = np.hstack([of(share, TARGETS)[coverage] for share in ("20%", "80%")])
    add("counts in 90 % intervals at 20% and 80%, least", 0.87, (inside.min(), np.nan))
    add("the same, most", 0.93, (inside.max(), np.nan), at_most=True)
    return pd.DataFrame(rows, columns=["target", "wanted", "reached", "often", "state"])


def targets_table(found: pd.DataFrame) -> str:
    rows = [[t.target, t.wanted, _cell(t.reached), _cell(t.often), t.state] for t in targets(found).itertuples()]
    return markdown(["target", "wanted", "genes > 3 %", "genes > 10 %", ""], rows)


def _cell(value: float, metric: str = "") -> str:
    return "" if not np.isfinite(value) else f"{value:.0f}" if metric == "seconds" else f"{value:.3f}"
