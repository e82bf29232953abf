"""Scale and spots of a section, from what its container holds and what the user states."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import require_positive
from sphisto.core.grid import SAME_SCALE
from sphisto.core.spot import SpotShape
from sphisto.io.layouts import Layout, stated_scale
from sphisto.slide.calibration import Calibration, calibrate


def calibration_of(
    found: Layout, image_um: float | None = None, spot_um: float | None = None, spot_shape: SpotShape | None = None
) -> Calibration:
    """Find scale and spots from what the layout holds and the user states."""
    if spot_um is not None:
        spot_um = require_positive(spot_um, "spot_um")
    stated = None if image_um is None or found.image_scale is None else image_um * found.image_scale
    scale = calibrate(
        found.centers,
        array_row=_column(found, "array_row"),
        array_col=_column(found, "array_col"),
        spot_px=found.spot_px,
        spot_px_is_true=found.spot_px_is_true,
        drawn=found.drawn,
        microns_per_px=stated or found.microns_per_px,
        image_scale=found.image_scale if stated else None,
        bin_um=found.bin_um,
        spot_um=spot_um,
        spot_shape=spot_shape,
        turn=found.turn,
    )
    _refuse_wide_spots(scale)
    return scale


def _refuse_wide_spots(scale: Calibration, most_pitches: float = 5.0) -> None:
    """Raise for spots that cannot lie side by side; the areas of far larger ones would fill the memory."""
    if scale.spot_um > most_pitches * scale.pitch_um:
        msg = (
            f"Found spots of {scale.spot_um:.3g} um that lie {scale.pitch_um:.3g} um apart (the scale is taken from "
            f"{scale.scale_source}); expected spots side by side. Give `spot_um` in um (not in pixels), correct the scale, or "
            "take one section of several that were joined."
        )
        raise ValueError(msg)


def _column(found: Layout, name: str) -> NDArray[np.float64] | None:
    """Column of ``obs`` at the section's rows as numbers, NaN for what is none; ``None`` where there is no such column."""
    if name not in found.adata.obs:
        return None
    import pandas as pd

    column = found.adata.obs[name].iloc[found.rows].astype(object)
    return np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)


def scale_of_stated(image_um: float | None, scale: Calibration) -> float:
    """Px of an image of stated resolution per full-resolution px; of any other, 1: it is taken for the full-resolution one."""
    if image_um is None:
        return 1.0
    found = scale.um_per_px / image_um
    near = abs(found - 1) < SAME_SCALE
    return 1.0 if near else stated_scale(found, f"image_um_per_px={image_um:g}, that is a scale which")
