"""Scores of a prediction in a case, each a number for all genes, and some of them gene by gene."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from sphisto.scoring import metrics


def score(case, predicted, gaussian, *, free):
    """Scores of a prediction by name, and a table by gene.

    Parameters
    ----------
    case, predicted, gaussian
        What was asked, what was answered, and what the Gaussian baseline answers.
    free
        Whether the form of held-out scores may be chosen by the result: an advantage that only baselines get.
    """
    modelled = np.isfinite(predicted.counts).all(axis=0)
    genes = {"pearson": pearson(case, predicted, free=free), "deviance": deviance(case, predicted.counts)}
    if case.kind == "protein":  # of another unit and without counts: only where it is can be compared
        return {"pearson": genes["pearson"].mean()}, pd.DataFrame({"pearson": genes["pearson"]}, index=case.genes)
    better = genes["deviance"] > deviance(case, gaussian.counts)
    if not case.held_out:
        genes["rmse"] = metrics.min_max_rmse(predicted.counts, case.truth)
    if predicted.inside is not None:
        genes["coverage"] = predicted.inside.mean(axis=0)
    table = pd.DataFrame({name: np.where(modelled, values, np.nan) for name, values in genes.items()}, index=case.genes)
    table["ceiling"] = np.where(modelled, np.nan_to_num(case.ceiling), np.nan)  # 0 where noise hides all
    table["counts"] = case.truth.sum(axis=0)
    known = table[modelled & table.pearson.notna()]
    found = {
        "pearson": known.pearson.mean(),
        "pearson_median": known.pearson.median(),
        "pearson_variable": table.pearson.iloc[case.variable()].mean(),
        "ceiling": known.ceiling.mean(),
        "deviance": known.deviance.median(),
        "better_than_gaussian": better[modelled & table.pearson.notna()].mean(),
        "genes": len(known),
    }
    if "rmse" in table:
        found["rmse"] = known.rmse.median()
    if case.same_units and not case.held_out:
        found["calibration"] = predicted.counts[:, modelled].sum() / case.truth[:, modelled].sum()
    if "coverage" in table:
        fifths = np.array_split(table.sort_values("counts", kind="stable").coverage, 5)
        found |= {"coverage": table.coverage.mean()}
        found |= {f"coverage_{i + 1}": fifth.mean() for i, fifth in enumerate(fifths)}
    if predicted.skill is not None:
        table["skill"] = predicted.skill
        found["skill_spearman"] = table[["skill", "pearson"]].corr("spearman").iloc[0, 1]
    return found, table


def pearson(case, predicted, *, free):
    """(S,) Pearson correlations: of held-out spots those of log-normalised values, of finer truth those of counts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN|Mean of empty", RuntimeWarning)  # genes that are not modelled
        if not case.held_out:
            return metrics.pearson(predicted.counts, case.truth)
        truth = metrics.log_normalised(case.truth)
        found = [metrics.pearson(form, truth) for form in _forms(case, predicted)]
        modelled = np.isfinite(predicted.counts).all(axis=0)
        return max(found, key=lambda by_gene: np.nanmean(by_gene[modelled])) if free else found[0]


def _forms(case, predicted):
    """Log-normalised values that a prediction stands for; genes it does not model count with their mean for the total."""
    usual = case.counts[:, case.scored].mean(axis=0)
    rates = np.where(np.isfinite(predicted.counts), predicted.counts, usual)
    forms = [metrics.expected_log_normalised(rates), metrics.log_normalised(rates)]
    return forms if predicted.logs is None else [*forms, predicted.logs]


def deviance(case, counts):
    """(S,) share of the Poisson deviance of a constant map, the training spots' mean, which a prediction explains."""
    flat = case.in_counts(np.broadcast_to(case.counts[:, case.scored].mean(axis=0), counts.shape))
    if not case.same_units:
        with np.errstate(invalid="ignore", divide="ignore"):
            counts, flat = (rate * (case.truth.sum(axis=0) / rate.sum(axis=0)) for rate in (counts, flat))
    return metrics.deviance_explained(counts, case.truth, flat)
