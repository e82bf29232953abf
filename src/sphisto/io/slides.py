"""From a section or an image to a Slide: everything is checked, and refused or repaired, before long work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import number_of
from sphisto._settings import logger
from sphisto.core.grid import Grid
from sphisto.core.mask import Mask
from sphisto.core.spot import Spot
from sphisto.core.squares import in_squares
from sphisto.core.tiles import TILE
from sphisto.io.image.working_image import resized_mask, tissue_in, working_image
from sphisto.io.understood import Section
from sphisto.slide.misplacement import explain, explain_scale, explain_shift
from sphisto.slide.placement import Alignment, check_alignment
from sphisto.slide.slide import Slide

_PX_PER_BIN = 4  # along a side: at two um per px the bins of 8 um show cells, and rasters are finer than they are


def make_slide(
    section: Section, *, um_per_px: float | None = None, spot: Spot | None = None, repair: bool = True
) -> Slide:
    """Turn a section into arrays on one grid.

    Parameters
    ----------
    section
        What :func:`sphisto.io.section` understood.
    um_per_px
        Wanted um per grid pixel; the image is averaged over whole blocks of pixels, so that the nearest whole multiple
        of its own resolution is used. Default: the image's own; of bins the one in which four pixels or a few more lie
        along a side, as far as the image has it.
    spot
        The spot whose area is the unit of rasters, for an image alone.
    repair
        Whether the area of spots that measured RNA off the tissue is added to it, and a section without a spot
        that measured anything on the image is refused.
    """
    if um_per_px is None:
        um_per_px = _default_um_per_px(section)
    image, grid, block = working_image(section.image, section.grid, um_per_px)
    logger.info("%s: working at %.3g um per px on %d x %d px.", section.library_id, grid.um_per_px, *grid.shape)
    given = section.tissue
    mask = tissue_in(section.image, image, grid, block) if given is None else resized_mask(given, grid, block)
    if section.bbox is not None:
        image, mask = _window_of(section.bbox, image, grid, mask)
    size = section.spot or spot
    if size is None:
        msg = f"The section {section.library_id!r} has no spots; expected `spot_um`: its area is the unit of rasters."
        raise ValueError(msg)
    if section.measured is None:
        return Slide(section.library_id, image, grid, mask, size)
    if size.um < _PX_PER_BIN * grid.um_per_px:
        logger.warning(
            "%s: at %.3g um per px a spot of %.3g um is %.2g px wide, so the image shows no cells: the rasters will "
            "hardly be finer than the spots. Give an `image` of higher resolution, or a smaller `um_per_px`.",
            section.library_id, grid.um_per_px, size.um, size.um / grid.um_per_px,
        )  # fmt: skip
    pitch = section.measured.pitch / float(np.sqrt(np.prod(grid.fullres_per_px)))
    measured = replace(section.measured, centers=grid.from_fullres(section.measured.centers), pitch=pitch)
    slide = Slide(section.library_id, image, grid, mask, size, measured)
    problem = misfit(section, slide)[1] if section.check else None
    if problem:
        msg = (
            f"{problem} If spots and image are right as they are, pass `check=False` to `sphisto.io.section` (in a shell "
            "`--no-check`)."
        )
        raise ValueError(msg)
    if not repair:
        return slide
    _refuse_nothing_measured(slide)
    return replace(slide, tissue=_with_missed_spots(slide, mask))


def _default_um_per_px(section: Section) -> float | None:
    """Um per px at which at least so many pixels lie along the side of a bin; ``None``, the image's own, of spots."""
    own = section.grid.um_per_px
    spot = section.spot
    if spot is None or section.measured is None or not spot.is_bin:
        return None
    block = max(1, int(spot.um / _PX_PER_BIN / own + 1e-6))
    if block > 1:
        logger.info("%s: pixels of %.3g um are taken for bins of %g um; the image has %.3g. Choose others by `um_per_px`.",
                    section.library_id, own * block, spot.um, own)  # fmt: skip
    return own * block


def _window_of(bbox: tuple[float, float, float, float], image: Any, grid: Grid, mask: Mask) -> tuple[Any, Mask]:
    """End the tissue at the border of a window, and blacken the image far beyond it: that is neither read nor kept.

    The frame stays that of the whole section, so that nothing has to be shifted to lie where it did.
    """
    x_min, y_min, x_max, y_max = bbox
    low, high = (grid.from_fullres(np.array([corner]))[0] for corner in ((y_min, x_min), (y_max, x_max)))
    cut = mask.within((float(low[0]), float(low[1])), (float(high[0]), float(high[1])))
    sides = []
    for first, end, n in zip(low, high, grid.shape, strict=True):
        start = min(max(int(first) // TILE - 1, 0) * TILE, n)
        sides.append((start, min(max((int(end) // TILE + 2) * TILE, start), n)))
    (y0, y1), (x0, x1) = sides
    kept = image[:, y0:y1, x0:x1]
    beyond = ((0, 0), (y0, grid.height - y1), (x0, grid.width - x1))
    if not any(map(any, beyond)):
        return image, cut
    if isinstance(image, np.ndarray):
        return np.pad(kept, beyond), cut
    from dask.array import pad

    return pad(kept, beyond).rechunk(image.chunks), cut


def um_per_px_for(section: Section, longest_side: int | None) -> float:
    """Um per px at which the image is at most so many px long, if that is limited, and bins no finer than by default."""
    times = 1 if longest_side is None else max(1, -(-max(section.grid.shape) // longest_side))
    return max(section.grid.um_per_px * times, _default_um_per_px(section) or 0.0)


def misfit(section: Section, slide: Slide) -> tuple[Alignment, str | None]:
    """Compare spots and tissue; return that, and what cannot be right and what corrects it (``None`` if nothing is wrong).

    Where only another scale factor would fit clearly better, that is warned of.
    """
    centers, own, factors = (
        slide.spots.centers,
        section.grid.fullres_um_per_px / section.grid.um_per_px,
        _scale_factors(section),
    )
    found = check_alignment(centers, slide.tissue, slide.spots.pitch)
    px = slide.grid.fullres_per_px
    problem = explain(found, centers, slide.grid.shape, image_scale=own, factors=factors, fullres_per_px=px)
    if problem is not None:
        return found, f"{section.library_id}: {problem}"
    ways = [way for way in (explain_scale(found, own, factors), explain_shift(found, px)) if way]
    if ways:
        logger.warning(
            "%s: spots and tissue do not have the same outline. %s If the tissue was found wrongly, give `tissue`.",
            section.library_id, " Or: ".join(ways),
        )  # fmt: skip
    return found, None


def _scale_factors(section: Section) -> dict[str, float]:
    """Scale factors of images that the section's table knows, by name."""
    libraries = {} if section.adata is None else section.adata.uns.get("spatial", {})
    found: dict[str, float] = {}
    for library in libraries.values():
        factors = library.get("scalefactors") if isinstance(library, Mapping) else None
        if isinstance(factors, Mapping):
            found |= {str(name): number_of(value) for name, value in factors.items() if "scalef" in str(name)}
    return {name: factor for name, factor in found.items() if 0 < factor <= 1}


def _with_missed_spots(slide: Slide, mask: Mask, least_share: float = 0.5) -> Mask:
    """Add the area of spots that measured RNA where the mask has no tissue, in whole blocks of the mask.

    The mask missed a spot if less than ``least_share`` of it is tissue: it did measure RNA.
    """
    spots = slide.footprint()
    rows = _missed_bins(slide) if slide.spot.is_bin else spots.mean(mask)[:, 0] < least_share
    missed = spots.select(rows)
    if len(missed) == 0:
        return mask
    logger.warning(
        "%s: %d of %d spots lie off the tissue found in the image; their area is added to it. Else give "
        "`tissue` to `sphisto.io.section`.",
        slide.name, len(missed), len(spots),
    )  # fmt: skip
    return mask.with_spots(missed)


def _missed_bins(slide: Slide, least: float = 0.25, firm: int = 20, some: int = 5) -> NDArray[np.intp]:
    """Bins beside the mask where about as much was measured as on tissue: ``least`` of it, and ``some`` counts at least.

    That is asked of squares of them which would hold ``firm`` counts on tissue, never of one of a few counts: RNA strays, and
    to add the bins that it strayed to would add glass where it was found, and only there.
    """
    total, on_tissue = np.asarray(slide.spots.values.sum(axis=1)).ravel(), slide.on_tissue
    usual = float(total[on_tissue].mean()) if total[on_tissue].any() else float(total.mean())
    beside = np.flatnonzero(~on_tissue & slide.on_image)
    if not (len(beside) and usual > 0):
        return beside[:0]
    side = math.ceil(math.sqrt(firm / usual))
    square = in_squares(slide.spots.centers[beside], slide.spot.um / slide.grid.um_per_px, side, turn=slide.spot.turn)
    sums = np.bincount(square, total[beside])
    enough = (sums >= least * usual * np.bincount(square)) & (sums >= some)
    return beside[enough[square]]


def _refuse_nothing_measured(slide: Slide) -> None:
    """Raise if no spot measured anything on the image."""
    spots, on_image = slide.spots, slide.on_image
    if not on_image.any():
        low, high = spots.centers.min(axis=0), spots.centers.max(axis=0)
        msg = (
            f"None of the {len(on_image)} spots lies on the image, which measures {slide.grid.height} x {slide.grid.width} "
            f"px (y, x): they reach from {_place(low)} to {_place(high)} (y, x). Correct the positions or the scale "
            "factor, or choose another image."
        )
        raise ValueError(msg)
    if not spots.values[on_image].sum() > 0:
        msg = (
            f"The {on_image.sum()} of {len(on_image)} spots that lie on the image hold no counts; expected some there. "
            "Correct the positions, or choose the image and the table of one section."
        )
        raise ValueError(msg)


def _place(point: NDArray[np.float64]) -> str:
    return f"({point[0]:.4g}, {point[1]:.4g})"
