"""Scores of a prediction in a case, each one number for all genes."""

import warnings

import numpy as np
from scipy.stats import rankdata

from sphisto.scoring import metrics


def score(case, predicted, gaussian, *, free):
    """Scores of a prediction by name, given what the Gaussian baseline predicts.

    ``free``: whether the form of held-out scores may be chosen by the result, an advantage that only baselines get.
    """
    by_gene = pearson(case, predicted, free=free)
    if case.kind == "protein":  # of another unit and without counts: only where it is can be compared
        return {"pearson": float(by_gene[0])}
    known = np.isfinite(predicted.counts).all(axis=0) & np.isfinite(by_gene)
    explained = deviance(case, predicted.counts)
    found = {
        "pearson": headline(case, by_gene[known]),
        "pearson_mean": by_gene[known].mean(),
        "pearson_variable": headline(case, by_gene[case.variable()]),
        "ceiling": headline(case, np.nan_to_num(case.ceiling[known])),  # 0 where noise hides all
        "deviance": np.median(explained[known]),
        "better_than_gaussian": (explained > deviance(case, gaussian.counts))[known].mean(),
        "genes": known.sum(),
    }
    if not case.held_out:
        found["rmse"] = np.median(min_max_rmse(predicted.counts[:, known], case.truth[:, known]))
    if not case.held_out and case.same_units:
        found["calibration"] = predicted.counts[:, known].sum() / case.truth[:, known].sum()
    if predicted.inside is not None:
        fifths = np.array_split(np.argsort(case.truth.sum(axis=0), kind="stable"), 5)
        found["coverage"] = predicted.inside.mean()
        found |= {f"coverage_{i + 1}": predicted.inside[:, fifth].mean() for i, fifth in enumerate(fifths)}
    if predicted.skill is not None:
        both = known & np.isfinite(predicted.skill)
        found["skill_spearman"] = metrics.pearson(
            rankdata(predicted.skill[both])[:, None], rankdata(by_gene[both])[:, None]
        )[0]
    return {name: float(value) for name, value in found.items()}


def min_max(values):
    """Stretch each column of a (n, G) table from its least to its greatest value onto 0 to 1."""
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return (values - low) / (high - low + 1e-12)


def min_max_rmse(predicted, truth):
    """Root mean squared difference of the columns of two (n, G) tables, each stretched by :func:`min_max`.

    It rewards flat predictions of sparse genes; read it beside the deviance.
    """
    return np.sqrt(np.nanmean(np.square(min_max(predicted) - min_max(truth)), axis=0))


def headline(case, by_gene):
    """The one number that methods are compared by: the mean over genes of held-out spots, the median of finer truth."""
    return (np.nanmean if case.held_out else np.nanmedian)(by_gene)


def pearson(case, predicted, *, free=True):
    """(S,) Pearson correlations: of held-out spots those of log-normalised values, of finer truth those of counts."""
    if not case.held_out:
        return metrics.pearson(predicted.counts, case.truth)
    modelled = np.isfinite(predicted.counts).all(axis=0)
    usual = case.counts[:, case.scored].mean(axis=0)  # stands for genes that are not modelled, in the total
    rates, truth = np.where(modelled, predicted.counts, usual), metrics.log_normalised(case.truth)
    forms = [metrics.expected_log_normalised(rates), metrics.log_normalised(rates)]
    forms += [] if predicted.logs is None else [predicted.logs]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty", RuntimeWarning)
        found = [np.where(modelled, metrics.pearson(form, truth), np.nan) for form in forms]
        return max(found, key=np.nanmean) if free else found[0]


def deviance(case, counts):
    """(S,) share of the Poisson deviance of a constant map, the training spots' mean, which a prediction explains."""
    flat = case.in_counts(np.broadcast_to(case.counts[:, case.scored].mean(axis=0), counts.shape))
    if not case.same_units:
        with np.errstate(invalid="ignore", divide="ignore"):
            counts, flat = (rate * (case.truth.sum(axis=0) / rate.sum(axis=0)) for rate in (counts, flat))
    return metrics.deviance_explained(counts, case.truth, flat)
