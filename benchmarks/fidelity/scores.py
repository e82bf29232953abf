"""Scores of a prediction in a case: one number that methods are compared by, and arrays by gene."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphisto.scoring import metrics

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats, Prediction

KEPT = 300  # genes whose scores are kept one by one, evenly spread over abundance; means are over all
HALVINGS = 10  # of the held-out spots, to tell how repeatable the skill of genes is
VARIABLE = 32  # and the most variable ones: those of networks that model single genes


def score(case: Case, predicted: Prediction, *, free: bool) -> dict[str, Any]:
    """All scores of a prediction.

    Parameters
    ----------
    case, predicted
        What was asked and what was answered.
    free
        Whether the form of held-out scores may be chosen by the result: an advantage that only baselines get.
    """
    modelled = np.isfinite(predicted.counts).all(axis=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN|Mean of empty", RuntimeWarning)  # genes that are not modelled
        by_gene = (_finer if case.finer else _held_out)(case, predicted, free)
    table = {name: np.where(modelled, values, np.nan) for name, values in by_gene.genes.items()}
    table["ceiling"] = np.nan_to_num(case.ceiling)
    whole = dict(by_gene.whole)
    if predicted.inside is not None:
        table["coverage"] = predicted.inside.mean(axis=0)
        fifths = np.array_split(np.argsort(case.truth.sum(axis=0), kind="stable"), 5)
        whole |= {f"coverage_{i + 1}": float(table["coverage"][fifth].mean()) for i, fifth in enumerate(fifths)}
    if predicted.skill is not None:
        table["skill"] = predicted.skill
        both = np.isfinite(predicted.skill) & np.isfinite(table["pearson"])
        whole["skill_spearman"] = float(metrics.spearman(predicted.skill[both, None], table["pearson"][both, None])[0])
        whole["skill_ceiling"] = _skill_ceiling(case, predicted)
    known = modelled & np.isfinite(table["pearson"])
    summary = {f"mean_{name}": _mean(values[known]) for name, values in table.items()}
    summary |= {f"median_{name}": _mean(values[known], np.nanmedian) for name, values in table.items()}
    shown = np.union1d(_spread(case.truth.sum(axis=0)), case.variable()[:VARIABLE])
    names = np.asarray(case.slide.spots.genes)[case.scored]
    return {
        "regions": len(case.truth),
        "spots": len(case.centers),
        "n_genes": int(known.sum()),
        **{name: _round(value) for name, value in (summary | whole).items()},
        "note": predicted.note,
        "genes": names[shown].tolist(),
        "counts": [_round(value) for value in case.truth.sum(axis=0)[shown]],
        "by_gene": {name: [_round(value, 3) for value in values[shown]] for name, values in table.items()},
    }


def headline(case: Case, predicted: Prediction, *, free: bool = True) -> float:
    """The one number by which a choice may be made: mean Pearson over genes of spots, median of finer truths."""
    if case.finer:
        return float(np.nanmedian(metrics.pearson(predicted.counts, case.truth)))
    forms = _forms(case, predicted)
    truth = metrics.log_normalised(case.truth)
    scores = [float(np.nanmean(metrics.pearson(form, truth))) for form in forms.values()]
    return max(scores) if free else scores[0]


class _Scores:
    """Scores by gene, and of the whole."""

    def __init__(self, genes: dict[str, Floats], whole: dict[str, Any]) -> None:
        self.genes, self.whole = genes, whole


def _forms(case: Case, predicted: Prediction) -> dict[str, Floats]:
    """Log-normalised values that a prediction stands for; genes it does not model count with their mean for the total."""
    usual = case.counts[:, case.scored].mean(axis=0)
    rates = np.where(np.isfinite(predicted.counts), predicted.counts, usual)
    forms = {"expected": metrics.expected_log_normalised(rates), "plain": metrics.log_normalised(rates)}
    return forms if predicted.logs is None else forms | {"own": predicted.logs}


def _held_out(case: Case, predicted: Prediction, free: bool) -> _Scores:
    truth = metrics.log_normalised(case.truth)
    modelled = np.isfinite(predicted.counts).all(axis=0)
    pearson = {name: metrics.pearson(form, truth) for name, form in _forms(case, predicted).items()}
    means = {name: _mean(values[modelled]) for name, values in pearson.items()}
    form = max(means, key=lambda name: means[name]) if free else "expected"
    genes = {"pearson": pearson[form], "deviance": _deviance(case, predicted.counts)}
    return _Scores(genes, {"form": form, **{f"mean_pearson_{name}": value for name, value in means.items()}})


def _skill_ceiling(case: Case, predicted: Prediction) -> float:
    """Spearman correlation over genes which the true skill would reach with the skill at these held-out spots.

    As :func:`sphisto.scoring.metrics.noise_ceiling`, but the halves are of the spots, and there are many ways to halve them.
    """
    told, truth = _forms(case, predicted)["expected"], metrics.log_normalised(case.truth)
    rng, found = np.random.default_rng(case.seed), []
    for _ in range(HALVINGS):
        halves = np.array_split(rng.permutation(len(truth)), 2)
        first, second = (metrics.pearson(told[rows], truth[rows]) for rows in halves)
        both = np.isfinite(first) & np.isfinite(second)
        found.append(float(metrics.spearman(first[both, None], second[both, None])[0]))
    r = max(float(np.mean(found)), 0.0)
    return float(np.sqrt(2 * r / (1 + r)))


def _finer(case: Case, predicted: Prediction, _: bool) -> _Scores:
    counts, truth = predicted.counts, case.truth
    genes = {
        "pearson": metrics.pearson(counts, truth),
        "spearman": metrics.spearman(counts, truth),
        "rmse": metrics.min_max_rmse(counts, truth),
        "ssim": metrics.min_max_ssim(_maps(case, counts), _maps(case, truth)),
        "deviance": _deviance(case, counts),
    }
    totals = np.nansum(counts, axis=1)[:, None], truth[:, np.isfinite(counts).all(axis=0)].sum(axis=1)[:, None]
    whole = {"total_pearson": float(metrics.pearson(*totals)[0])}
    if case.same_units:
        whole["calibration"] = float(totals[0].sum() / totals[1].sum())
    return _Scores(genes, whole)


def _deviance(case: Case, counts: Floats) -> Floats:
    """Share of the deviance of a constant map, at the training spots' mean, which the prediction explains."""
    constant = case.counts[:, case.scored].mean(axis=0)
    flat = constant * np.broadcast_to(case.regions.size[:, None], counts.shape)
    if not case.same_units:
        with np.errstate(invalid="ignore", divide="ignore"):
            counts, flat = (rate * (case.truth.sum(axis=0) / rate.sum(axis=0)) for rate in (counts, flat))
    return metrics.deviance_explained(counts, case.truth, flat)


def _maps(case: Case, values: Floats) -> Floats:
    """(S, rows, columns) maps, NaN where no region lies."""
    rows, columns = case.regions.shape or (0, 0)
    maps = np.full((values.shape[1], rows * columns), np.nan)
    maps[:, case.regions.cells] = values.T
    return maps.reshape(-1, rows, columns)


def _spread(abundance: Floats) -> NDArray[np.int64]:
    """At most ``KEPT`` genes, evenly spread over the order of abundance."""
    order = np.argsort(abundance, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(KEPT, len(order))).astype(np.int64)]


def _mean(values: Floats, how: Any = np.nanmean) -> float:
    return float(how(values)) if np.isfinite(values).any() else float("nan")


def _round(value: Any, digits: int = 4) -> Any:
    """For JSON: few digits, and ``None`` for what is not a number."""
    if isinstance(value, str | int):
        return value
    return round(float(value), digits) if np.isfinite(value) else None
