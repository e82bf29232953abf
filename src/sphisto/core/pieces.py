"""Work on a table piece by piece, so that what is in memory at once stays small."""

from __future__ import annotations


def in_pieces(n: int, each: int = 1, *, at_once: int = 2**22) -> list[slice]:
    """Cut n rows of ``each`` numbers into slices of about ``at_once`` numbers, of a row at least; a single empty one of none."""
    step = max(at_once // max(each, 1), 1)
    return [slice(start, min(start + step, n)) for start in range(0, max(n, 1), step)]
