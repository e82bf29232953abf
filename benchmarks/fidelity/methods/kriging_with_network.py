"""Co-kriging that a network helps: one that sees the picture only, as external drift or as texture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.methods.ablations import changed
from benchmarks.fidelity.methods.network_ablations import BLIND, nothing_told, trained
from benchmarks.fidelity.methods.networks import expected, kriged
from scipy import ndimage
from torch.nn import functional as F

from sphisto.core.kriging import Kriging, fit_kriging
from sphisto.core.tiles import read_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray

    from sphisto.core.factors import Factors
    from sphisto.core.tiles import Window
    from sphisto.model.fitted import Fitted
    from sphisto.model.neighbours import Prior

FOLDS = 2  # each a whole training; what a network says of spots that it learned from is no measure of it
AROUND = 1.0  # spot radii: surroundings over which hidden features are averaged, beside the place itself


def external_drift(case: Case, **options: Any) -> Prediction:
    """Networks that see the picture only predict the factors; what they leave at the training spots is kriged and added.

    Two networks learn from a half of the spots each, and say what is to be expected at the others; elsewhere their mean
    counts. Of what they say, as roots, each factor takes the share that fits its spots best. Drawn at every pixel; spots' sums stay as measured.
    """
    from sphisto.model.config import FitConfig
    from sphisto.model.fit import evidence_of, find_factors, informative
    from sphisto.model.neighbours import make_prior

    known = informative(case.slide)
    factors = find_factors(case.slide.spots, known, FitConfig().n_factors, case.seed)
    fold = np.random.default_rng(case.seed).permutation(len(known)) % FOLDS
    maps = [by_picture(case, factors, known & (fold != i), options) for i in range(FOLDS)]
    at_spots = np.choose(fold[:, None], [at_known(case, each, factors) for each in maps])
    trend = Trend(np.mean(maps, axis=0), at_spots[known], factors.n_signed)
    as_measured = {"sphisto.model.neighbours:_LEAST_SUM": np.inf}
    with changed({"sphisto.model.neighbours:fit_kriging": trend.fit} | as_measured):
        told = make_prior(evidence_of(case.slide, factors, known), known)
    return Prediction(expected(case, at_every_pixel(told, case), factors), note=f"share of the drift {trend.note}")


def features_in_covariance(case: Case, **options: Any) -> Prediction:
    """The covariance also looks at the last hidden layer of a network that sees the picture only, as a deep kernel does.

    The 16 channels and their means within a spot radius join the texture, and are averaged over the spots as that is.
    The network has learned from the same spots, so what the covariance takes from left-out ones flatters it.
    """
    from sphisto.model.evidence import texture as usual

    with changed(BLIND):
        fitted, _ = trained(case, **options)
    features = hidden_features(case, fitted)

    def more(image: Any, radius: float, stride: int, window: Window) -> NDArray[np.float32]:
        here = torch.from_numpy(features[None, :, *window.slices])
        own = F.avg_pool2d(here, stride, ceil_mode=True)[0].numpy()
        around = ndimage.gaussian_filter(own, (0, *(AROUND * radius / stride,) * 2), truncate=3)
        return np.concatenate([usual(image, radius, stride, window), own, around])

    with changed({"sphisto.model.evidence:texture": more}):
        told, factors = kriged(case)
        return Prediction(expected(case, told, factors), note="looked at" if told.sees_texture else "not looked at")


def by_picture(
    case: Case, factors: Factors, learned: NDArray[np.bool_], options: dict[str, Any]
) -> NDArray[np.float32]:
    """(K, y, x) maps of given factors by a network that sees no spots and learned from some; 0 outside tissue."""
    from sphisto.model.inference import predict_tiles, tiles_of

    given = {
        "sphisto.model.fit:_split": lambda *_: (learned, np.zeros_like(learned)),
        "sphisto.model.fit:informative": lambda _: learned,  # nor does the mean know of the others
        "sphisto.model.fit:find_factors": lambda *_: factors,
    }
    with changed(BLIND | given):
        fitted, _ = trained(case, **options)
    out = np.zeros((factors.n_factors, *case.slide.grid.shape), dtype=np.float32)
    told, tiles = nothing_told(case, fitted), tiles_of(fitted, case.slide)
    for tile, maps in predict_tiles(fitted, case.slide, told, device=torch.device("cpu"), tiles=tiles):
        out[:, *tile.core.slices] = np.nan_to_num(maps.factors)
    return out


def at_known(case: Case, maps: NDArray[np.float32], factors: Factors) -> Floats:
    """(n, K) densities of maps at the spots, as those of measured values."""
    from sphisto.model.evidence import Evidence

    return Evidence(case.slide, np.nan_to_num(case.slide.footprint().mean(maps)), None, factors.n_signed).density


@dataclass
class Trend:
    """What networks say of each quantity that is kriged.

    Parameters
    ----------
    maps
        (K, y, x) densities.
    at_spots
        (n, K) densities of the known spots, by networks that did not learn from them.
    n_signed
        Number of factors that have signs.
    note
        How much of it is used.
    """

    maps: NDArray[np.float32]
    at_spots: Floats
    n_signed: int
    note: str = ""

    def fit(self, centers: Floats, drift: Floats, quantities: Floats, pitch: float, **more: Any) -> Kriging:
        """As :func:`sphisto.core.kriging.fit_kriging`, of what the trend leaves."""
        from sphisto.model.neighbours import _quantities

        trend = _quantities(self.at_spots, self.n_signed, None)
        apart, own = (values - values.mean(axis=0) for values in (quantities, trend))
        share = np.clip((apart * own).sum(axis=0) / np.maximum(np.square(own).sum(axis=0), 1e-12), 0, 1)
        self.note = f"{np.median(share):.2f} in the middle, {share.min():.2f} to {share.max():.2f}"
        field = fit_kriging(centers, drift, quantities - share * trend, pitch, **more)

        def at(points: Floats) -> Floats:
            y, x = (np.clip(v.astype(int), 0, side - 1) for v, side in zip(points.T, self.maps.shape[1:], strict=True))
            return share * _quantities(self.maps[:, y, x].T.astype(np.float64), self.n_signed, None)

        return KrigedRest(**vars(field), trend=at, trend_at_spots=share * trend)


@dataclass(frozen=True, eq=False)
class KrigedRest(Kriging):
    """A trend, and a kriged field of what it leaves.

    Parameters
    ----------
    trend
        (m, 2) points to (m, K) values.
    trend_at_spots
        (n, K) values.
    """

    trend: Callable[[Floats], Floats]
    trend_at_spots: Floats

    def at(self, points: Floats, drift: Floats, weights: Any) -> Floats:
        return super().at(points, drift, weights) + self.trend(points)

    def at_spots(self) -> Floats:
        nobody = np.zeros(len(self.centers), dtype=bool)
        return super().at(self.centers, self.drift, self.weights(nobody)) + self.trend_at_spots

    def left_out(self) -> Floats:
        return super().left_out() + self.trend_at_spots


def at_every_pixel(told: Prior, case: Case) -> Prior:
    """Let a kriged prior speak at every pixel instead of every few, as its trend is that fine."""
    from sphisto.model.neighbours import Kriged

    if not isinstance(told, Kriged):
        msg = f"A prior of {len(case.centers)} spots is not kriged: there is nothing to add a drift to."
        raise TypeError(msg)
    texture = torch.from_numpy(told.texture)[None]
    drawn = F.interpolate(texture, scale_factor=told.texture_stride, mode="bilinear", align_corners=False)[0].numpy()
    return replace(told, stride=1, texture=drawn, texture_stride=1)


def hidden_features(case: Case, fitted: Fitted) -> NDArray[np.float32]:
    """(c, y, x) values of the layer before the last, of a network that sees no spots."""
    from sphisto.model.inference import tiles_of

    module: Any = fitted.module()
    module.last = torch.nn.Identity()
    told, n_plain = nothing_told(case, fitted), len(fitted.level)
    tiles, out = tiles_of(fitted, case.slide), None
    for tile in tiles:
        picture = torch.from_numpy(read_window(case.slide.image, tile.view).astype(np.float32) / 255)
        prior = torch.from_numpy(told.prior(tile.view)[:n_plain])
        with torch.inference_mode():
            found = module.features(picture[None], prior[None])[0].numpy()
        out = np.empty((len(found), *case.slide.grid.shape), dtype=np.float32) if out is None else out
        out[:, *tile.core.slices] = found[:, *tile.core.within(tile.view)]
    return out
