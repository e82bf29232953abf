"""Pixels and place of SpatialData elements."""

from __future__ import annotations

from typing import Any

import numpy as np

_ROUNDING = 0.02  # relative; pyramids and hires pictures round their sides to whole pixels


def scale_to(element: Any, system: str, name: str) -> float:
    """Units of a coordinate system per intrinsic unit of an element.

    Raises
    ------
    ValueError
        If the element does not lie there by a mere scale.
    """
    from spatialdata.transformations import get_transformation

    matrix = get_transformation(element, system).to_affine_matrix(("x", "y"), ("x", "y"))
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if matrix[0, 0] <= 0 or not np.allclose(matrix, np.diag([scale, scale, 1]), rtol=_ROUNDING, atol=1e-6 * scale):
        msg = (
            f"{name!r} lies in {system!r} by more than a scale: {np.round(matrix, 4).tolist()}. Rotations, shifts and "
            "shears are not supported; transform the elements first (`spatialdata.transform`)."
        )
        raise ValueError(msg)
    return scale


def finest(element: Any, dims: tuple[str, ...]) -> Any:
    """Pixels of the finest level of an image or labels element, perhaps lazy, in the given order of axes."""
    from xarray import DataTree

    array = next(iter(element["scale0"].data_vars.values())) if isinstance(element, DataTree) else element
    return array.transpose(*dims).data


def levels_of(element: Any, dims: tuple[str, ...]) -> tuple[Any, ...]:
    """Pixels of all levels of an image element, finest first, perhaps lazy, in the given order of axes."""
    from xarray import DataTree

    if not isinstance(element, DataTree):
        return (finest(element, dims),)
    arrays = [next(iter(element[level].data_vars.values())) for level in element]
    return tuple(array.transpose(*dims).data for array in arrays)
