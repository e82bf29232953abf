"""Bins of Visium HD: the size that is taken, and larger ones summed up of smaller ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._checks import require_positive
from sphisto._settings import logger
from sphisto.core.splits import evenly_spread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from numpy.typing import NDArray

BIN_UM = 8.0
"""Side of the bins that are taken where nothing states another: a cell is about as large."""
_PLACE = re.compile(r"s_\d{3}um_(\d+)_(\d+)")


def choose_bins(sizes: Iterable[float], wanted: float | None, where: str) -> tuple[float, int]:
    """Return which of the sizes there are to read, and how many of these bins lie along the side of one that is taken.

    Sides are in um; ``None`` is wanted for 8 um, or if these cannot be had, the smallest there are. ``where`` they are
    is for the message.
    """
    there = sorted(set(sizes))
    side = BIN_UM if wanted is None else require_positive(wanted, "bin_um")
    finer = [own for own in there if own <= side and abs(side / own - round(side / own)) < 1e-6]
    if finer:
        return finer[-1], round(side / finer[-1])
    if wanted is None:
        return there[0], 1
    have = " and ".join(f"{own:g}" for own in there)
    msg = (
        f"Found bins of {have} um in {where}; expected bins of {side:g} um, or smaller ones of which whole numbers lie along "
        f"their sides. Choose a multiple of {' or '.join(f'{own:g}' for own in there)} as `bin_um`, or add the "
        "counts of another size."
    )
    raise ValueError(msg)


def places_of(adata: AnnData, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """(n, 2) array_row and array_col of some rows, from ``obs`` or the names of bins."""
    if {"array_row", "array_col"} <= set(adata.obs):
        columns = adata.obs[["array_row", "array_col"]]
        places = np.stack([columns[name].to_numpy(dtype=np.float64, na_value=np.nan)[rows] for name in columns], axis=1)
        if unknown := int((~np.isfinite(places)).any(axis=1).sum()):
            msg = (
                f"Found {unknown} of {len(places)} bins with NaN in array_row or array_col of obs; expected the position of each "
                "on the array, by which larger bins are summed up. Fill them, leave these bins out, or leave `bin_um` out."
            )
            raise ValueError(msg)
        return places.astype(np.int64)
    found = [_PLACE.match(str(name)) for name in adata.obs_names[rows]]
    if None in found or not found:
        msg = (
            "Found neither array_row and array_col in obs nor names such as 's_002um_00012_00345-1'; expected the positions of "
            "bins on the array, by which larger bins are summed up. Add the columns, or leave `bin_um` out."
        )
        raise ValueError(msg)
    return np.array([match.groups() for match in found if match], dtype=np.int64)


def block_keys(barcodes: NDArray[np.bytes_], factor: int) -> NDArray[np.int64]:
    """(n,) whole number of the larger bin that each barcode of a bin lies in, in their order; of other barcodes their row."""
    width = barcodes.dtype.itemsize
    if not len(barcodes) or not all(_PLACE.match(name.decode()) for name in barcodes[[0, -1]]) or width < 19:
        return np.arange(len(barcodes))
    signs = np.frombuffer(np.ascontiguousarray(barcodes).data, dtype=np.uint8).reshape(len(barcodes), width)
    row, column = (signs[:, at : at + 5].astype(np.int64) - ord("0") for at in (8, 14))  # s_002um_00012_00345-1
    tens = 10 ** np.arange(5)[::-1]
    return np.asarray((row @ tens // factor) * 100_000 + column @ tens // factor)


def block_centers(centers: NDArray[np.float64], places: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """(n, 2) centres (y, x) of the larger bins that (n, 2) bins lie in: one for all bins of each, by the lattice of all."""
    steps, start = _lattice(centers, places)
    return np.asarray(_middles(places, factor) @ steps + start)


def _middles(places: NDArray[np.int64], factor: int) -> NDArray[np.float64]:
    """(n, 2) array_row and array_col of the middle of the larger bin that each bin lies in."""
    return np.asarray(places // factor * factor + (factor - 1) / 2)


def _lattice(
    centers: NDArray[np.float64], places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(2, 2) steps (y, x) of array_row and array_col, and the place (y, x) where both are 0."""
    sample = evenly_spread(len(places), 100_000)
    middle = places[sample].mean(axis=0)
    design = np.column_stack([places[sample] - middle, np.ones(len(sample))])
    fit, _, rank, _ = np.linalg.lstsq(design, centers[sample], rcond=None)
    if rank < 3:
        msg = f"Found {len(places)} bins in one line of the array; expected several rows and columns. Give more of the section."
        raise ValueError(msg)
    return fit[:2], fit[2] - middle @ fit[:2]


def summed(adata: AnnData, factor: int, bin_um: float, centers: NDArray[np.float64] | None = None) -> AnnData:
    """Sum the counts of bins up into larger ones, ``factor`` x ``factor`` of them each.

    ``adata`` holds bins of one section with positions on the array; those that are missing count as empty. Without (n,
    2) ``centers`` (y, x) of them the larger ones have no place.

    Returns
    -------
    The table of the larger bins, sparse, with ``in_tissue``, ``array_row``, ``array_col``, ``obsm["spatial"]``, all of
    ``var``, and ``uns`` with the scale factors of the larger bins.
    """
    import pandas as pd
    from anndata import AnnData

    places = places_of(adata, np.arange(adata.n_obs))
    block, member = np.unique(places // factor, axis=0, return_inverse=True)
    member = member.ravel()
    n = len(block)
    gather = sparse.csr_matrix(
        (np.ones(adata.n_obs, dtype=np.float32), (member, np.arange(adata.n_obs))), shape=(n, adata.n_obs)
    )
    obs = pd.DataFrame(
        {"in_tissue": np.ones(n, dtype=np.int64), "array_row": block[:, 0], "array_col": block[:, 1]},
        index=[f"s_{bin_um:03.0f}um_{row:05d}_{column:05d}-1" for row, column in block],
    )
    layers = {name: _sums(gather, values) for name, values in adata.layers.items() if name is not None}
    larger = AnnData(_sums(gather, adata.X), obs=obs, var=adata.var.copy(), uns=dict(adata.uns), layers=layers)
    larger.uns.pop("spatialdata_attrs", None)  # the larger bins are no shapes of the data
    if centers is not None:
        # by where its own bins lie: over a whole slide the lattice may be slightly warped
        near = centers + (_middles(places, factor) - places) @ _lattice(centers, places)[0]
        middles = gather @ near / np.bincount(member, minlength=n)[:, None]
        larger.obsm["spatial"] = np.ascontiguousarray(middles[:, ::-1])
    libraries = adata.uns.get("spatial", {})
    larger.uns["spatial"] = {
        name: {**entry, "scalefactors": _grown(entry.get("scalefactors"), factor, bin_um)}
        if isinstance(entry, Mapping)
        else entry
        for name, entry in libraries.items()
    }
    logger.info("%d bins were summed up to %d bins of %g um, %d x %d each.", adata.n_obs, n, bin_um, factor, factor)
    return larger


def _sums(gather: sparse.csr_matrix, values: Any) -> Any:
    return None if values is None else sparse.csr_matrix(gather @ sparse.csr_matrix(values))


def _grown(factors: Any, factor: int, bin_um: float) -> dict[str, Any]:
    """Scale factors of the larger bins."""
    grown = dict(factors or {})
    if "spot_diameter_fullres" in grown:
        grown["spot_diameter_fullres"] = float(grown["spot_diameter_fullres"]) * factor
    return grown | {"bin_size_um": float(bin_um)}


def said_of_empty(values: sparse.csr_array) -> str:
    """Say how many of (n, G) bins hold no counts, in words for the section; log it, and warn if they were taken out.

    Of bins of few counts some have none. How many there should be follows from how many have one and how many two (Chao
    1984, Scand. J. Stat.): at least the square of the former over twice the latter.
    """
    few_counted = 0.1  # share of bins with counts up to which it is warned that nearly all are empty
    many_missing = 0.05  # share of bins without counts that are not in the table, from which it is warned of
    total = np.asarray(values.sum(axis=1)).ravel()
    n, empty = len(total), int((total == 0).sum())
    once, twice = int((total == 1).sum()), int((total == 2).sum())
    missing = once * (once - 1) / (2 * (twice + 1))
    if not empty and missing > many_missing * n:
        logger.warning(
            "None of the %d bins is without counts, though %d hold one only: some %.0f empty ones seem to have been taken out, "
            "and rates will be too high by about %.0f %%. Give the table as it was before; or larger bins, by `bin_um`, for "
            "which missing ones count as empty.", n, once, missing, 100 * missing / n,
        )  # fmt: skip
    if not empty:
        return ""
    if n - empty < few_counted * n:
        logger.warning(
            "%d of %d bins hold no counts: on tissue that is a measurement, but a fit to so few counts shows little. If most "
            "of the bins lie beside the tissue, leave these out, by `obs[\"in_tissue\"]`.", empty, n,
        )  # fmt: skip
    else:
        logger.info("%d of %d bins hold no counts: on tissue that is a measurement.", empty, n)
    return f"; {empty} of these without counts"
