"""Pixels and place of SpatialData elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import SAME_SCALE


def matrix_to(element: Any, system: str) -> NDArray[np.float64]:
    """(3, 3) matrix that brings an element's own (x, y, 1) to a coordinate system."""
    from spatialdata.transformations import get_transformation

    return np.asarray(get_transformation(element, system).to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)


def relative_scale(matrix: NDArray[np.float64]) -> float | None:
    """Return the scale that a (3, 3) matrix is; ``None`` if it is more than that."""
    scale = scale_and_shift(matrix)
    return None if scale is None or is_shifted(matrix) else scale


def scale_and_shift(matrix: NDArray[np.float64]) -> float | None:
    """Return the scale that a (3, 3) matrix is, a shift aside; ``None`` if it is more than both."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    return scale if np.allclose(matrix[:2, :2], scale * np.eye(2), rtol=SAME_SCALE, atol=1e-6 * scale) else None


def is_shifted(matrix: NDArray[np.float64], most_px: float = 0.5) -> bool:
    """Whether a (3, 3) matrix shifts by more than rounding: ``most_px`` of the element."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    return bool(np.abs(matrix[:2, 2]).max() > most_px * scale)


def finest(element: Any, dims: tuple[str, ...]) -> Any:
    """Pixels of the finest level of an image or labels element, perhaps lazy, in the given order of axes."""
    from xarray import DataTree

    array = next(iter(element["scale0"].data_vars.values())) if isinstance(element, DataTree) else element
    return array.transpose(*dims).data
