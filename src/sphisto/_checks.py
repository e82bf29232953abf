"""Checks of arrays before they are used. No heavy imports; what is wrong is returned as text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.pieces import in_pieces


def check_counts(x: Any, *, at_once: int = 1_000_000) -> str | None:
    """Return what keeps the values from being raw counts, None if nothing does.

    Of a sparse matrix only the stored values are read, ``at_once`` of them: the temporary arrays stay at a few
    megabytes.

    Returns
    -------
    Words that follow the name of the matrix (``"holds a negative value (-1)"``), or None for finite, non-negative whole
    numbers of any dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto._checks import check_counts
    >>> check_counts(np.array([[0.0, 3.0]])) is None
    True
    >>> check_counts(np.array([[0.0, 0.5]]))
    'holds a value that is not a whole number (0.5)'
    """
    values = x.data if sparse.issparse(x) else np.asarray(x)
    if values.dtype.kind in "bu":
        return None
    if values.dtype.kind not in "if":
        return f"holds values of dtype {values.dtype}"
    flat = values.reshape(-1)
    for some in in_pieces(flat.size, at_once=at_once):
        problem = _check_chunk(flat[some])
        if problem:
            return problem
    return None


def require_counts(x: Any, name: str) -> None:
    """Raise ValueError if the matrix called ``name`` does not hold raw counts."""
    problem = check_counts(x)
    if problem:
        msg = (
            f"{name} {problem}, expected raw counts: finite, non-negative whole numbers. "
            "Give the table as the instrument's software wrote it, not normalised, scaled or corrected."
        )
        raise ValueError(msg)


def number_of(value: Any) -> float:
    """Return a value, also one alone in a list or an array as R writes it, as a number; NaN for what is none."""
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def require_positive(value: Any, name: str) -> float:
    """Return a value as a number; raise ValueError if it is none that is finite and above zero."""
    number = number_of(value)
    if not 0 < number < float("inf"):
        msg = f"Found {name}={value!r}; expected a finite number above 0."
        raise ValueError(msg)
    return number


def unmasked(array: np.ma.MaskedArray[Any, Any], where: str, remedy: str) -> NDArray[Any]:
    """Return the values of a masked array (any shape); raise ValueError if any of them is masked."""
    hidden = int(np.ma.getmaskarray(array).sum())
    if hidden:
        msg = f"Found {hidden} masked values in {where}; expected none. {remedy}"
        raise ValueError(msg)
    return np.asarray(array.data)


def _check_chunk(values: NDArray[Any]) -> str | None:
    """Return what keeps some values (n,) from being counts."""
    if values.dtype.kind == "f":
        strange = ~np.isfinite(values)
        if strange.any():
            return f"holds a value that is not finite ({values[strange][0]})"
        broken = values != np.floor(values)
    else:
        broken = np.zeros(0, bool)
    if (values < 0).any():
        return f"holds a negative value ({values.min():g})"
    if broken.any():
        return f"holds a value that is not a whole number ({values[broken][0]:g})"
    return None
