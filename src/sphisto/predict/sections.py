"""Several sections: what they share, what they teach each other, and the field of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sphisto._naming import naming
from sphisto._settings import logger
from sphisto.config import FitConfig
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window
from sphisto.core.upsample import block_middles
from sphisto.features.config import TextureConfig
from sphisto.features.maps import FeatureMaps, SectionFeatures
from sphisto.features.shared import SCALINGS, BoundFeatures, Scaling, share_features, sites
from sphisto.features.source import FeatureSource
from sphisto.features.surroundings import Surroundings
from sphisto.features.texture import Texture
from sphisto.field.drift import Drift, checked
from sphisto.field.field import Field
from sphisto.field.regress import regress
from sphisto.field.regression import Regression
from sphisto.genes.levels import SharedModel, at_levels, fit_shared, levels_of, reconciled
from sphisto.genes.loadings import Loadings
from sphisto.genes.model import rates
from sphisto.genes.observations import Observations, observe
from sphisto.predict.fitted import Fitted, SectionFit
from sphisto.slide.fingerprint import fingerprint_of_counts, fingerprint_of_image
from sphisto.slide.frames import Frame, GridInFrame, require_fixed
from sphisto.slide.registration import Registration
from sphisto.slide.slide import Slide

LEAST_SHARED = 0.5
"""Of a section's counts, or of a model's: with fewer genes in common a spot does not determine its factors."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What c sections share."""

    model: SharedModel  # loadings, and each section's levels
    regressions: dict[Scaling, Regression]  # what all of them teach, by how features are standardised
    scaling: Scaling  # how features are standardised among these sections
    bound: tuple[BoundFeatures, ...]  # features of each, so standardised
    placed: tuple[GridInFrame | None, ...]  # each where it lies upon others; None of one that does not

    @property
    def regression(self) -> Regression:
        """What all of them teach each other."""
        return self.regressions[self.scaling]

    def drift(self, section: int) -> Drift | None:
        """Return what the others tell about a section; ``None`` if there is no other with spots."""
        name = self.bound[section].name
        others = self.regression.without(name)
        return Drift(others, self.bound[section], self.placed[section]) if others.sections else None


def fit_together(
    slides: Sequence[Slide],
    kept: Sequence[NDArray[np.bool_]],
    sources: Sequence[FeatureSource],
    config: FitConfig,
    scaling: Scaling,
    seed: int,
    *,
    loadings: Loadings | None = None,
    model: SharedModel | None = None,
    maps: Sequence[FeatureMaps] | None = None,
    settled: bool = False,
) -> Shared:
    """Fit what sections share to the ``kept`` (n,) spots of each, all of the same genes.

    None is kept of a section that is to be predicted without spots. ``loadings`` are given ones, which take the place
    of factors; those of a ``model`` stay as they are, and if it is ``settled`` so do its levels. ``maps`` are what
    :func:`wide_maps` read, read here if not given.
    """
    if model is None:
        model = shared_model(slides, kept, config, seed, loadings)
    if maps is None:
        maps = wide_maps(slides, sources, config)
    observed = _observed(slides, kept, model, config)
    if not settled and len(observed) > 1 and config.genes.level_shift > 0:
        first = _regressed(slides, observed, model, config, scaling, seed, maps, (scaling,))
        model = _levelled(first, observed, config)
        observed = _observed(slides, kept, model, config)
    return _regressed(slides, observed, model, config, scaling, seed, maps)


def _observed(
    slides: Sequence[Slide], kept: Sequence[NDArray[np.bool_]], model: SharedModel, config: FitConfig
) -> dict[int, Observations]:
    """What sections measured, of which spots are kept, by their number."""
    return {i: observe(slides[i], model.of(i), some, config.genes) for i, some in enumerate(kept) if some.any()}


def _regressed(
    slides: Sequence[Slide],
    observed: dict[int, Observations],
    model: SharedModel,
    config: FitConfig,
    scaling: Scaling,
    seed: int,
    maps: Sequence[FeatureMaps],
    scalings: Sequence[Scaling] = SCALINGS,
) -> Shared:
    """Let the sections that were observed teach, by features as each of the ``scalings`` standardises them."""
    placed = _placed(slides, config)
    regressions: dict[Scaling, Regression] = {}
    for each in scalings:
        features = share_features([slides[i] for i in observed], [maps[i] for i in observed], each, config.drift, seed)
        sections = [
            (slides[i].name, observations, features.of(slides[i], maps[i]).over(observations.area))
            for i, observations in observed.items()
        ]
        regressions[each] = regress(
            features,
            sections,
            config.drift,
            least_sum=config.field.least_sum,
            placed=[placed[i] for i in observed] if placed else (),
        )
    features = regressions[scaling].features
    bound = tuple(features.of(slide, each) for slide, each in zip(slides, maps, strict=True))
    return Shared(model, regressions, scaling, bound, tuple(placed or [None] * len(slides)))


def _levelled(shared: Shared, observed: dict[int, Observations], config: FitConfig) -> SharedModel:
    """Reconcile levels with what the image of each section leads the others to expect of it, registered or not."""
    own = np.full((len(shared.bound), shared.model.shared.n_factors), np.nan)
    expected = own.copy()
    for i, observations in observed.items():
        drift = shared.drift(i)
        assert drift is not None  # several were observed
        own[i] = observations.density.mean(axis=0)
        expected[i] = replace(drift, placed=None).alone().density(observations.centers).mean(axis=0)
    return reconciled(shared.model, own, expected, config.genes)


def shared_model(
    slides: Sequence[Slide], kept: Sequence[NDArray[np.bool_]], config: FitConfig, seed: int, loadings: Loadings | None
) -> SharedModel:
    """Find loadings that sections share, and their levels; the usual ones are those of :func:`largest_spot`."""
    areas = [slide.spot.area_px(1.0) / largest_spot(slides).area_px(1.0) for slide in slides]
    return fit_shared([slide.spots for slide in slides], kept, config.genes, seed, loadings, areas=areas)


def largest_spot(slides: Sequence[Slide]) -> Spot:
    """Return what counts are per area of where a section has no spots of its own: the largest of those of others."""
    return max((slide.spot for slide in slides), key=lambda spot: spot.area_px(1.0))


def _placed(slides: Sequence[Slide], config: FitConfig) -> list[GridInFrame]:
    """Slides where they lie among each other; none if no registration is to be used, now or later."""
    frames = [slide.frame or Frame(slide.name, np.eye(3), number) for number, slide in enumerate(slides)]
    if len({frame.group for frame in frames}) == len(slides) and not config.drift.keep_spots:
        return []
    return [GridInFrame(frame, slide.grid) for frame, slide in zip(frames, slides, strict=True)]


def wide_maps(slides: Sequence[Slide], sources: Sequence[FeatureSource], config: FitConfig) -> list[FeatureMaps]:
    """Read the features of sections by which these teach each other."""
    out = []
    for slide in slides:
        with naming(slide.name):
            out.append(SectionFeatures(slide, wide_sources(sources, config)).maps)
    return out


def wide_sources(sources: Sequence[FeatureSource], config: FitConfig) -> tuple[FeatureSource, ...]:
    """Return the sources of features by which sections teach each other: texture reaches farther than for one alone."""
    texture = Texture(replace(TextureConfig(), scales=config.drift.scales))
    return (texture, Surroundings(), *(source for source in sources if source.name != texture.name))


def field_of(
    slide: Slide,
    shared: Shared,
    section: int,
    known: NDArray[np.bool_],
    features: SectionFeatures | None,
    config: FitConfig,
) -> Field:
    """Fit the field of one of the sections to its ``known`` (n,) spots, with what the others tell."""
    observations = observe(slide, shared.model.of(section), known, config.genes)
    return field_with(shared.drift(section), observations, features, config)


def field_with(
    drift: Drift | None, observations: Observations, features: SectionFeatures | None, config: FitConfig
) -> Field:
    """Fit the field of a section with what others tell, of which a registration that does harm at its spots is left out."""
    return Field.fit(observations, features, config.field, None if drift is None else checked(drift, observations))


def warn_if_nothing_followed(field: Field, slide: Slide) -> None:
    """Warn if the field of a section uses nothing of what the others tell."""
    if field.followed == 0:
        logger.warning(
            "%s: its left-out spots are predicted better without what the other sections lead to expect, so that it follows "
            "nothing of them. It shares loadings with them all the same, which may suit it less than its own. If it is of "
            "other tissue, fit it by itself: `sphisto.tl.evaluate` of it alone and of all shows what is better.", slide.name,
        )  # fmt: skip


def uses_neighbours(field: Field, slide: Slide) -> bool | None:
    """Whether the field of a section uses the sections it is registered to, ``None`` if there are none; warn if it does not."""
    used = None if field.drift is None else field.drift.uses_neighbours
    if used is False:
        logger.warning(
            "%s: its spots are predicted better without the sections that it is registered to, so that these are not "
            "used place by place. Look at `sphisto.pl.registration`, or give the section without `registered`.", slide.name,
        )  # fmt: skip
    return used


def of_common_genes(slides: Sequence[Slide]) -> list[Slide]:
    """Bring sections to the genes that all of them have, in the order of the first, and log what is left out."""
    common = set(slides[0].spots.genes).intersection(*(slide.spots.genes for slide in slides[1:]))
    genes = tuple(gene for gene in slides[0].spots.genes if gene in common)
    out = []
    for slide in slides:
        spots, shared = slide.spots, slide.spots.of(genes)
        share = float(shared.values.sum()) / max(float(spots.values.sum()), 1e-12)
        if share < LEAST_SHARED:
            other = min(
                (each for each in slides if each is not slide),
                key=lambda each: len(set(each.spots.genes) & set(spots.genes)),
                default=slide,
            )
            found = (
                f"The sections have {len(genes)} genes in common, which carry {share:.0%} of the counts of "
                f"{slide.name!r}; expected at least {LEAST_SHARED:.0%}."
            )
            if set(other.spots.genes) <= set(spots.genes):  # names are of one kind
                msg = (
                    f"{found} {other.name!r} has only {len(other.spots.genes)} of its {len(spots.genes)} genes, by the same names: "
                    f"leave {other.name!r} out, or cut all sections to its genes (`adata[:, other.var_names].copy()`)."
                )
                raise ValueError(msg)
            msg = (
                f"{found} Names of its genes look like {', '.join(spots.genes[:3])}, those of {other.name!r} like "
                f"{', '.join(other.spots.genes[:3])}: "
                "bring both to symbols or to ids (`adata.var_names = adata.var['gene_ids']`), of one species."
            )
            raise ValueError(msg)
        if len(genes) < len(spots.genes):
            logger.info(
                "%s: %d of %d genes are in all sections and are used; they carry %.1f %% of its counts.",
                slide.name, len(genes), len(spots.genes), 100 * share,
            )  # fmt: skip
        out.append(replace(slide, measured=shared))
    return out


def drift_about(
    fitted: Fitted, slide: Slide, known: NDArray[np.bool_], sources: Sequence[FeatureSource], scaling: Scaling | None
) -> tuple[Fitted, Drift | None]:
    """Return a projection of several sections as it is in one, and what the other sections tell about that.

    A section that was not among them gets levels of its genes from its ``known`` (n,) spots, or the usual ones.
    ``scaling`` is how its features are standardised, ``None`` as those of the fit.
    """
    regression = fitted.regressions[scaling or fitted.params["scaling"]]
    if slide.name in fitted.sections:
        logger.info("%s is taken for the section of that name that the projection was fitted to.", slide.name)
        fitted, regression = fitted.of_section(slide.name), regression.without(slide.name)
    (maps,) = wide_maps([slide], sources, fitted.config)
    placed = None if slide.frame is None else GridInFrame(slide.frame, slide.grid)
    drift = Drift(regression, regression.features.of(slide, maps), placed) if regression.sections else None
    if drift is not None:
        strange = _strange(drift.features, slide)
        if slide.name not in fitted.sections:  # a section of the fit is recorded as the fit did, also by a resumed run
            fitted = replace(fitted, params={**fitted.params, "strange": strange})
    if drift is None or slide.name in fitted.sections:
        return fitted, drift
    if not known.any():
        area = slide.spot.area_px(1.0) / fitted.spot.area_px(1.0)
        usual = at_levels(fitted.model, np.full(len(fitted.model.genes), np.log(area)))
        return replace(fitted, model=usual, skill=fitted.skill.unknown()), drift
    rows = np.flatnonzero(known)
    expected = drift.alone().density(slide.spots.centers[rows])
    share = np.clip(
        np.nan_to_num(slide.footprint().select(rows).mean(slide.tissue)), fitted.config.genes.least_tissue, 1
    )
    loadings = np.nan_to_num(fitted.model.loadings.astype(np.float64))
    sums = (rates(expected, loadings, fitted.model.n_contrasts) * share).sum(axis=0)
    counts = np.full(len(fitted.model.genes), np.nan)
    counts[fitted.model.places(slide.spots.genes)] = slide.spots.values[rows].sum(axis=0)
    levels = levels_of(fitted.model, counts, sums, fitted.config.genes)
    return replace(fitted, model=at_levels(fitted.model, levels)), drift


def frame_in(fitted: Fitted, name: str, registration: Registration | None) -> Frame | None:
    """Return where a section lies among those that a projection was fitted to; ``None`` if it does not, or that is not known."""
    regression = next(iter(fitted.regressions.values()))
    frames = {own: each.frame for own, each in zip(regression.sections, regression.neighbours, strict=False)}
    if name in fitted.sections:
        if registration is not None:
            logger.info(
                "%s was among the sections of the fit, and lies where it lay there: `registered` changes nothing.", name
            )
        return frames.get(name)
    if registration is None or not registration.trusted:
        return None
    require_fixed(registration, dict.fromkeys(regression.sections))
    if registration.fixed not in frames:
        msg = (
            f"{name!r} is registered to {registration.fixed!r}, but the projection keeps no factors at the spots of its "
            "sections, as none of them was registered when it was fitted. Fit with "
            "`config=FitConfig(drift=DriftConfig(keep_spots=True))`, or give the slide without `registered`."
        )
        raise ValueError(msg)
    return frames[registration.fixed].on_top(registration)


def require_same_section(known: SectionFit, slide: Slide) -> None:
    """Refuse a section that bears the name of one of the fit and holds other counts; warn of an image that is another."""
    if slide.measured is not None and known.counts not in ("", fingerprint_of_counts(slide.spots)):
        msg = (
            f"Found counts of {slide.name!r} that are not those of the section of that name which the projection was fitted "
            f"to; expected the same. Give another section another name, in `uns['spatial']` or by `library_id` of "
            "`sphisto.io.section`; of the same section, give all genes and the spots that the fit was given."
        )
        raise ValueError(msg)
    if slide.measured is None and known.image not in ("", fingerprint_of_image(slide)):
        logger.warning(
            "The image of %r is not that of the section of that name which the projection was fitted to, and is taken for "
            "another one of it. If it is another section, give it another `library_id` in `sphisto.io.section`.",
            slide.name,
        )  # fmt: skip


def _strange(features: BoundFeatures, slide: Slide) -> float:
    """Share of the tissue that looks like nothing the projection has seen; warn if it is much."""
    most_strange = 0.3  # of the tissue; of another section of the same some 10 % can be
    strange = float((features.shift(sites(slide)) > 1).mean())
    if strange > most_strange:
        logger.warning(
            "%s: %.0f %% of its tissue looks like none of the sections that the projection was fitted to (1 %% of those does): "
            "another tissue, stain or magnification? What is predicted there from the image alone means little; the "
            "deviations are widened. Fit with sections like this one, or check `image_um_per_px`.",
            slide.name, 100 * strange,
        )  # fmt: skip
    return strange


def shift_map(slide: Slide, drift: Drift) -> tuple[NDArray[np.float32], int]:
    """(y, x) how far features are from all that others taught by, and how many times the slide's grid is halved for it.

    Over what 99 % of the places keep to that taught; 0 where there is no tissue. No finer than the features are.
    """
    step, (height, width) = drift.features.maps.stride, slide.grid.shape
    halvings = max(int(np.log2(max(min(step, height, width), 1))), 0)
    side = 1 << halvings
    out = np.zeros((height // side, width // side), dtype=np.float32)
    for row in range(len(out)):
        window = Window(row * side, 0, (row + 1) * side, out.shape[1] * side)
        tissue = np.asarray(slide.tissue[window.slices]).reshape(side, -1, side).any(axis=(0, 2))
        if tissue.any():
            out[row, tissue] = drift.features.shift(block_middles(window, side)[tissue])
    return out, halvings
