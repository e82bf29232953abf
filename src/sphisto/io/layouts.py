"""What a container holds of a section, before it is judged; and checks of places and rows that all readers share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import number_of
from sphisto._settings import logger
from sphisto.io.image.open import open_image
from sphisto.io.image.pyramid import as_pyramid
from sphisto.io.paths import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.spot import SpotShape
    from sphisto.io.image.pyramid import Pyramid

_ON_TISSUE = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_BIN = re.compile(r"s_(\d{3})um_\d+_\d+")  # how Space Ranger names bins of a side in um


@dataclass(frozen=True, eq=False)
class Layout:
    """What an AnnData or a SpatialData holds of one section."""

    library_id: str
    adata: AnnData  # the very table that was given, perhaps with rows of other sections
    rows: NDArray[np.intp]  # (n,) rows of the table that are spots of this section, under tissue
    centers: NDArray[np.float64]  # (n, 2) their centres (y, x) in full-resolution px
    image: Pyramid | None = None  # the image in all its resolutions; None where it was not requested
    # image px per full-resolution px; None where nothing states it, so that it is 1 unless it is stated
    image_scale: float | None = None
    spot_px: float | None = None  # diameter of a spot, or side of a bin, in full-resolution px
    # whether that is the size of shapes that were drawn, and not Space Ranger's theoretical one
    spot_px_is_true: bool = False
    drawn: SpotShape | None = None  # shape that was drawn, where shapes were
    turn: float = 0.0  # degrees by which squares that were drawn are turned, from x towards y
    bin_um: float | None = None  # stated side of a bin in um
    microns_per_px: float | None = None  # stated um per full-resolution px
    # what was concluded and from what, by decision, in words
    concluded: Mapping[str, str] = field(default_factory=dict)


def centers_of(xy: Any) -> NDArray[np.float64]:
    """Turn (n, 2) x, y into y, x: the only place where the order changes."""
    try:
        points = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"Found spot coordinates that are no numbers ({error}); expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg) from error
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"Found spot coordinates of shape {points.shape}; expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg)
    bad = int((~np.isfinite(points[:, :2])).any(axis=1).sum())
    if bad:
        msg = f"Found {bad} of {len(points)} spots without finite coordinates; remove them or correct the positions."
        raise ValueError(msg)
    return points[:, 1::-1].copy()


def under_tissue(adata: AnnData, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], str]:
    """Leave out rows beside the tissue by ``obs["in_tissue"]``; also return what was done, in words."""
    whole = f"{'all ' if len(rows) == adata.n_obs else ''}{len(rows)} of the table's {adata.n_obs} rows"
    if "in_tissue" not in adata.obs:
        return rows, whole
    import pandas as pd

    codes, values = pd.factorize(adata.obs["in_tissue"].iloc[rows].astype(object), use_na_sentinel=False)
    words = [str(value).strip().lower() for value in values]  # of each value once: bins are millions
    strange = sorted(set(words) - set(_ON_TISSUE))
    if strange:
        msg = (
            f'Found {strange[0]!r} in obs["in_tissue"]; expected 1 (under tissue) and 0 (beside it), or true and false. '
            "Correct the column or remove it."
        )
        raise ValueError(msg)
    kept = np.array([_ON_TISSUE[word] for word in words], dtype=bool)[codes]
    if not kept.any():
        msg = (
            f'None of the {len(rows)} spots lies under tissue: obs["in_tissue"] is 0 for all. Give the spots under '
            "tissue, or correct the column."
        )
        raise ValueError(msg)
    beside = int((~kept).sum())
    if not beside:
        return rows, whole
    logger.info('%d of %d spots lie beside the tissue (obs["in_tissue"] is 0) and are left out.', beside, len(rows))
    of = f"{len(rows)} rows" if len(rows) == adata.n_obs else f"{len(rows)} rows, of {adata.n_obs} of the table"
    return rows[kept], f'{len(rows) - beside} of {of}: {beside} are left out, as obs["in_tissue"] is 0'


def bin_um_of(names: Any, most: int = 1000) -> float | None:
    """Side of the bins in um by their names, of which about ``most`` are read; ``None`` if they are not Space Ranger's."""
    matches = {_BIN.match(str(name)) for name in names[:: max(1, len(names) // most)]}
    sides = {None if match is None else match.group(1) for match in matches}
    stated = sorted(side for side in sides if side is not None)
    if len(stated) > 1:
        msg = (
            f"Found bins of {', '.join(f'{float(side):g}' for side in stated)} um in one table, by their names; expected one "
            f"size, as the larger ones hold the counts of the smaller ones again. Choose one: "
            f'`adata[adata.obs_names.str.startswith("s_{stated[0]}um")].copy()`.'
        )
        raise ValueError(msg)
    return float(stated[0]) if stated and len(sides) == 1 else None


def opened(image: Any, known: Iterable[str]) -> tuple[Pyramid, str]:
    """Open an image that was given, and return which it is."""
    if not isinstance(image, str | Path):
        return as_pyramid(image), "the array that was given"
    path = user_path(image)
    if not str(image) or not path.exists():
        msg = (
            f"Found no image file at {str(path)!r}, and in the data no image of that name but "
            f"{', '.join(map(repr, known)) or 'none'}. Give the path of a tif, png, jpg, OME-Zarr or slide, or one of these names."
        )
        raise FileNotFoundError(msg)
    return open_image(path), f"{image} as given"


def valid_scale(scale: Any, name: str) -> float:
    """Return image px per full-resolution px as the data have it; refuse what cannot be one."""
    value = number_of(scale)
    if not 0 < value <= 1 + 1e-6:
        msg = (
            f"{name} is {scale!r}; expected a number above 0 and at most 1: pixels of this image per full-resolution "
            "pixel. Correct the scale factor; of an image that is finer than the coordinates, state it as `image_scale`."
        )
        raise ValueError(msg)
    return value


def stated_scale(scale: Any, name: str = "image_scale") -> float:
    """Return image px per full-resolution px as it was stated: above 1 for an image that is finer than the coordinates."""
    value = number_of(scale)
    if not 0 < value < np.inf:
        msg = f"{name} is {scale!r}; expected a finite number above 0: pixels of this image per full-resolution pixel. Correct it."
        raise ValueError(msg)
    return value


def positive_or_none(value: Any) -> float | None:
    """Return a value as a number above 0; ``None`` for anything else."""
    number = number_of(value)
    return number if 0 < number < np.inf else None
