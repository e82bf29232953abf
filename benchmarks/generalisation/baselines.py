"""What anyone can do in a few lines: the others' mean, regression on the stain, interpolation of the known spots."""

import numpy as np
from benchmarks.generalisation.cases import texture_of
from scipy.spatial.distance import cdist

from sphisto.scoring import baselines, metrics
from sphisto.scoring.held_out import without

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the median distance of features
RIDGES = tuple(10.0**i for i in range(-2, 3))
STRIPS = 4  # of a section that is the only other one


def mean_profile(case):
    """Everywhere the mean of the other sections' spots."""
    return np.tile(_counts(case).mean(axis=0), (len(case.hidden), 1)), None


def gaussian(case):
    """Gaussian-weighted averages of the target's known spots."""
    spots = case.slide.footprint().select(case.hidden)
    return baselines.gaussian(without(case.slide, ~case.known), spots)[0].values, None


def ridge(case):
    """Kernel ridge regression of counts on the texture that sphisto describes, standardised in each section.

    Width and penalty are those that predict the log-normalised values of left-out sections best, or of left-out strips if
    there is only one other section.
    """
    texture, counts = [_texture(case, i)[case.kept[i]] for i in case.others], _counts(case)
    groups = np.repeat(np.arange(len(texture)), [len(each) for each in texture])
    if len(texture) == 1:
        along = case.slides[case.others[0]].spots.centers[case.kept[case.others[0]]]
        along = along[:, np.argmax(np.ptp(along, axis=0))]
        groups[np.argsort(along, kind="stable")] = np.arange(len(along)) * STRIPS // len(along)
    known, target = np.concatenate(texture), _texture(case, case.at)[case.hidden]
    apart = cdist(known, known, "sqeuclidean")
    usual, logs = np.median(apart[apart > 0]), metrics.log_normalised(counts)[:, case.scored]

    def error(width, penalty):
        found = np.empty_like(logs)
        for group in np.unique(groups):
            out = groups == group
            alike = np.exp(-apart[:, ~out] / (2 * width * usual))
            found[out] = _solved(alike[~out], alike[out], logs[~out], penalty)
        return np.square(found - logs).sum()

    width, penalty = min(((w, r) for w in WIDTHS for r in RIDGES), key=lambda each: error(*each))
    alike, here = (np.exp(-d / (2 * width * usual)) for d in (apart, cdist(target, known, "sqeuclidean")))
    least = 0.01 * counts.mean(axis=0)  # a regression may fall below nothing
    return np.maximum(_solved(alike, here, counts, penalty), least), None


def _counts(case):
    return np.concatenate([case.slides[i].spots.values[case.kept[i]].toarray() for i in case.others]).astype(np.float64)


def _texture(case, section):
    slide = case.slides[section]
    found = texture_of(slide).maps.at_spots(slide.spots.centers)
    return (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-9)


def _solved(alike, here, values, penalty):
    mean = values.mean(axis=0)
    return mean + here @ np.linalg.solve(alike + penalty * np.eye(len(alike)), values - mean)
