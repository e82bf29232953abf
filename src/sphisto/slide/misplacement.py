"""What is wrong where spots and tissue do not agree, and what mends it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sphisto.slide.config import PlacementConfig
from sphisto.slide.placement import SWAPPED, TURNS, Alignment

SCALE = "that the scale factor is the one of this image (hires and lowres have their own, the full-resolution image 1)"
_SAME_FACTOR = 0.03  # the outline of the tissue tells a scale factor to 1 or 2 %


def explain(
    alignment: Alignment,
    centers_yx: NDArray[np.floating],
    shape: tuple[int, int],
    *,
    image_scale: float = 1.0,
    factors: Mapping[str, float] = MappingProxyType({}),
    fullres_per_px: tuple[float, float] = (1.0, 1.0),
    config: PlacementConfig = PlacementConfig(),
) -> str | None:
    """Return what is wrong with the spots or the image and what to do about it, None if nothing is.

    Parameters
    ----------
    alignment
        The result of :func:`check_alignment`.
    centers_yx
        (n, 2) centres of the spots, (y, x) in pixels of the image.
    shape
        (height, width) of the image in pixels.
    image_scale
        Scale factor by which the spots were laid on the image.
    factors
        Scale factors that are known, by name: one of them may be the right one.
    fullres_per_px
        Full-resolution px (y, x) of a pixel of the image.

    Returns
    -------
    Sentences for an error message, or None: spots beyond the image (more than 1 %), off the tissue (more than half),
    or another orientation or place that explains at least 0.10 more of the tissue.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.slide.misplacement import explain
    >>> from sphisto.slide.placement import check_alignment
    >>> mask = np.zeros((100, 100), bool)
    >>> mask[10:50, 20:40] = True
    >>> centers = np.argwhere(mask)[::7] + 0.5
    >>> explain(check_alignment(centers, mask, pitch_px=3.0), centers, mask.shape) is None
    True
    >>> "Mend the image with `image[:, ::-1]`" in explain(
    ...     check_alignment(centers, mask[:, ::-1], pitch_px=3.0), centers, mask.shape
    ... )
    True
    """
    turned = alignment.best_fit >= max(alignment.fit + config.clearly_better, config.plausible)
    by_shift = "" if explain_scale(alignment, image_scale, factors) else explain_shift(alignment, fullres_per_px)
    shifted = bool(by_shift) and alignment.shift_fit >= alignment.fit + config.shift_gain[1]
    if alignment.inside < 1 - config.max_outside:
        found = f"{_count(1 - alignment.inside, alignment)} spots lie outside the image: {_extent(centers_yx, shape)}"
    elif alignment.on_tissue < config.min_on_tissue:
        found = f"{_count(1 - alignment.on_tissue, alignment)} spots lie off the tissue: {_extent(centers_yx, shape)}"
    elif turned or shifted:
        found = f"The spots lie in the image, but do not follow the outline of the tissue: {_extent(centers_yx, shape)}"
    else:
        return None
    if shifted:
        return f"{found}. {by_shift}"
    if turned and alignment.scale == 1:
        return f"{found}. {_explain_turn(alignment, image_scale)} If the image is right as it is, check {SCALE}."
    outside = bool(np.any(np.asarray(centers_yx) >= shape))
    wanted = explain_scale(alignment, image_scale, factors) or (
        _factor_with_spots_inside(centers_yx, shape, image_scale, factors) if outside else ""
    )
    return (
        f"{found}. Expected spots on the tissue. {wanted}{' Else check' if wanted else 'Check'} that the image is the one of "
        f"this section and not cropped, and {SCALE}."
    )


def explain_shift(
    alignment: Alignment, fullres_per_px: tuple[float, float], *, config: PlacementConfig = PlacementConfig()
) -> str:
    """Return by how much the spots seem to be shifted against the image, as a sentence; empty if another scale explains more.

    Parameters as of :func:`explain`.
    """
    scaled = alignment.scale != 1 and alignment.scale_fit >= alignment.shift_fit + config.as_good
    if alignment.shift == (0.0, 0.0) or scaled:
        return ""
    y, x = (round(shift * px) for shift, px in zip(alignment.shift, fullres_per_px, strict=True))
    return (
        f"Spots and image seem to be shifted: with the spots {x:+d} full-resolution px along x and {y:+d} along y their overlap with the "
        f"tissue would be {alignment.shift_fit:.2f} instead of {alignment.fit:.2f}. Give the image as it was before it was cropped, "
        f'or move the spots, `adata.obsm["spatial"] += ({x}, {y})`.'
    )


def explain_scale(
    alignment: Alignment,
    image_scale: float,
    factors: Mapping[str, float],
    *,
    config: PlacementConfig = PlacementConfig(),
) -> str:
    """Return which scale factor would fit the outline of the tissue better, as a sentence; empty if a shift explains more.

    Parameters as of :func:`explain`.
    """
    shifted = alignment.shift != (0.0, 0.0) and alignment.shift_fit >= alignment.scale_fit + config.as_good
    if alignment.scale == 1 or shifted:
        return ""
    wanted = image_scale * alignment.scale
    gain = f"the overlap of spots and tissue would be {alignment.scale_fit:.2f} instead of {alignment.fit:.2f}"
    known = [
        (name, factor)
        for name, factor in factors.items()
        if abs(factor / wanted - 1) < _SAME_FACTOR < abs(factor / image_scale - 1)
    ]
    if known:
        name, factor = min(known, key=lambda item: abs(item[1] / wanted - 1))
        return f"The scale factor {name} = {factor:.4g} would fit ({_stated(factor)}): {gain}."
    if wanted < 1 + _SAME_FACTOR:
        wanted = 1.0 if wanted > 1 - _SAME_FACTOR else wanted
        which = ", that of the full-resolution image," if wanted == 1 else ""
        return f"A scale factor of about {wanted:.3g}{which} would fit instead of {image_scale:.4g} ({_stated(wanted, 3)}): {gain}."
    return (
        f"The positions seem to be pixels of a smaller image, not full-resolution ones: {alignment.scale:.3g} times as large, {gain}. "
        f'State that ({_stated(wanted, 3)}), multiply `adata.obsm["spatial"]`, or choose the image that they belong to.'
    )


def _factor_with_spots_inside(
    centers: NDArray[np.floating], shape: tuple[int, int], image_scale: float, factors: Mapping[str, float]
) -> str:
    """Return the known scale factor that brings all spots into the image, where no outline of tissue shows which is right."""
    for name, factor in factors.items():
        scale = factor / image_scale
        if np.all(centers * scale < shape) and abs(scale - 1) > _SAME_FACTOR:
            return f"The scale factor {name} = {factor:.4g} would fit ({_stated(factor)})."
    return ""


def _stated(factor: float, digits: int = 4) -> str:
    return f"`image_scale={factor:.{digits}g}`, in a shell `--image-scale {factor:.{digits}g}`"


def _explain_turn(alignment: Alignment, image_scale: float) -> str:
    """Return what seems to have happened to the image, and what corrects it, in Python and in a shell."""
    overlap = f"the overlap of spots and tissue would be {alignment.best_fit:.2f} instead of {alignment.fit:.2f}"
    if alignment.ties:
        either = ", or ".join(f"{name} (mended by `{TURNS[name].mend}`)" for name in (alignment.best, *alignment.ties))
        return (
            f"The image seems to be {either}: {overlap}. The outline of the tissue cannot decide which. "
            f"{_in_a_shell(alignment.best, image_scale)}"
        )
    mend = f"Mend the image with `{TURNS[alignment.best].mend}`"
    if alignment.best == SWAPPED:
        mend += ', or swap the columns of `adata.obsm["spatial"]`, which are (x, y)'
    return (
        f"The image seems to be {alignment.best}: {overlap} without that. {mend}. "
        f"{_in_a_shell(alignment.best, image_scale)}"
    )


def _in_a_shell(turn: str, image_scale: float) -> str:
    """Return the commands that write the corrected image to a file and take that."""
    scale = "" if abs(image_scale - 1) < _SAME_FACTOR else f" --image-scale {image_scale:.4g}"
    return (
        f"In a shell write it to a file, `python -c \"from PIL import Image; Image.open('IMAGE')"
        f".transpose(Image.Transpose.{TURNS[turn].transpose}).save('mended.png')\"` with its name for IMAGE, and add "
        f"`--image mended.png{scale}`."
    )


def _count(share: float, alignment: Alignment) -> str:
    """Return a share of the spots as words."""
    return f"{round(share * alignment.n_spots)} of {alignment.n_spots}"


def _extent(centers: NDArray[np.floating], shape: tuple[int, int]) -> str:
    """Return where the spots are and how large the image is, as words."""
    (y0, x0), (y1, x1) = np.min(centers, axis=0), np.max(centers, axis=0)
    spots = f"they span y {y0:.0f} to {y1:.0f} and x {x0:.0f} to {x1:.0f} px"
    return f"{spots}, the image has {shape[0]} x {shape[1]} px (y, x)"
