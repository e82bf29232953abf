"""A section drawn by rule, whose expression is known at every pixel."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._checks import require_positive
from sphisto._rng import RNG, seed_of
from sphisto.core.spot import Spot
from sphisto.core.tiles import TILE, Window, plan_tiles
from sphisto.datasets._drawing import Drawing
from sphisto.slide.arrays import SPACERANGER_SPOT_UM, VISIUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    import xarray as xr
    from anndata import AnnData
    from numpy.typing import NDArray

LIBRARY_ID = "toy"
_FIDUCIAL_UM = 105.0  # Space Ranger's fiducial diameter beside its spot of 65 um
_BLOCK = 2 * TILE  # px, of lazy arrays


def toy(
    height: int = 512,
    width: int = 512,
    *,
    um_per_px: float = 2.0,
    pitch_um: float = 100.0,
    spot_um: float | None = None,
    bin_um: float | None = None,
    n_noise: int = 4,
    mean_counts: float = 10.0,
    min_tissue: float = 0.5,
    rng: RNG = 0,
) -> AnnData:
    """Draw a Visium section by rule, with an H&E-like image and genes whose true rate is known at every pixel.

    The section has background glass, a hole, four classes of tissue with irregular borders (0 fibrous stroma,
    1 lymphoid tissue, 2 epithelium, 3 fat) and nuclei of 6 to 8 um whose density depends on the class. The names of its
    genes state what they follow: ``class0_a`` .. ``class3_a`` the class alone and ``_b`` also how strongly it is
    stained, ``nuclei_a`` and ``nuclei_b`` the nuclei (``_b`` times stain strength), ``total_a`` and ``total_b``
    (a third as high) the RNA content, ``gradient_a`` and ``gradient_b`` ramps over the section which the image does
    NOT show, ``noise_a``, ... nothing: they are constant within tissue.

    Counts are Poisson, with the true rate averaged over the exact disc of each spot, or square of each bin, as their mean.

    Parameters
    ----------
    height, width
        Size of the full-resolution image in px. Sections of 20,000 px are drawn block by block, in bounded memory.
    um_per_px
        Micrometres per px; above about 4 the nuclei blur away.
    pitch_um
        Distance of neighbouring spots of the hexagonal array. Lower it for small images: 48 x 48 px of 2 um hold
        no Visium spot, but 11 at ``pitch_um=24``. What takes its scale from Visium's pitch then reads pixels as
        larger than they are, which changes nothing as long as the spots keep their share of the pitch.
    spot_um
        Diameter of a spot; by default Visium's share of the pitch, 55 of 100.
    bin_um
        Draw abutting squares of that side in place of spots, as Visium HD has them, of the same tissue: on average a spot
        holds the counts of the bins it covers.
    n_noise
        Number of noise genes.
    mean_counts
        Rate of a noise gene in counts per spot; those of the others are of the same order. Lower it for sparse data.
    min_tissue
        Spots with a smaller share of tissue under them are left out.
    rng
        Seed of the drawing and of the counts; the same seed gives the same section at the same size.

    Returns
    -------
    AnnData (spots x genes) in Visium layout: ``X`` csr float32 raw counts, ``obs`` in_tissue, array_row, array_col,
    ``var["kind"]``, ``obsm["spatial"]`` (x, y) in full-resolution px, ``uns["spatial"]["toy"]`` with images uint8
    (hires at most 2000 px: the full image where that is not larger) and scale factors, of which
    ``spot_diameter_fullres`` is that of a 65 um spot for each 55 um, as Space Ranger writes it (of bins their side, with
    ``bin_size_um`` and ``microns_per_pixel``), and ``uns["toy"]`` the parameters, from which :func:`toy_image` and :func:`toy_truth` draw the section again.

    Raises
    ------
    ValueError
        If a parameter is out of range or no spot fits.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.toy(48, 48, pitch_um=24)
    >>> sphisto.datasets.toy_truth(adata, ["nuclei_a"]).shape
    (1, 48, 48)
    """
    spot_um = pitch_um * VISIUM.spot_um / VISIUM.pitch_um if spot_um is None else spot_um
    _check(
        n_noise, min_tissue, height=height, width=width, um_per_px=um_per_px, pitch_um=pitch_um, spot_um=spot_um,
        mean_counts=mean_counts,
    )  # fmt: skip
    seed = seed_of(rng)
    drawing = Drawing(int(height), int(width), float(um_per_px), int(n_noise), float(mean_counts), seed)
    unit = Spot(spot_um)
    if bin_um is None:
        shape = unit
        rows, columns, centers = _lattice(drawing, pitch_um, spot_um)
    else:
        shape = Spot(require_positive(bin_um, "bin_um"), "square")
        rows, columns, centers = _bins(drawing, shape.um)
    expected, share = _pooled(drawing, centers, shape)
    expected *= shape.area_px(1.0) / unit.area_px(1.0)  # the drawing's rates are those of a spot
    kept = share >= min_tissue
    if not kept.any():
        msg = (
            f"None of the {len(centers)} spots that fit into {height} x {width} px of {um_per_px:g} um has "
            f"{min_tissue:.0%} tissue under it. Draw a larger section, or lower `pitch_um` ({pitch_um:g} um) or "
            "`min_tissue`."
        )
        raise ValueError(msg)
    counts = np.random.default_rng(seed).poisson(expected[kept])
    adata = _assemble(drawing, counts, rows[kept], columns[kept], centers[kept])
    adata.uns[LIBRARY_ID] = asdict(drawing) | {"pitch_um": float(pitch_um), "spot_um": float(spot_um)}
    adata.uns["spatial"] = {LIBRARY_ID: _spatial(drawing, spot_um)}
    if bin_um is not None:
        adata.obs_names = [
            f"s_{shape.um:03.0f}um_{row:05d}_{column:05d}-1"
            for row, column in zip(rows[kept], columns[kept], strict=True)
        ]
        adata.uns[LIBRARY_ID]["bin_um"] = shape.um
        adata.uns["spatial"][LIBRARY_ID]["scalefactors"] |= {
            "spot_diameter_fullres": shape.um / um_per_px, "bin_size_um": shape.um, "microns_per_pixel": float(um_per_px),
        }  # fmt: skip
    return adata


def toy_image(adata: AnnData) -> da.Array:
    """Draw the full-resolution image of a toy section again, lazily.

    Parameters
    ----------
    adata
        What :func:`toy` returned, or a part of it.

    Returns
    -------
    Dask array (y, x, 3), uint8; computing a part draws only that part.

    Raises
    ------
    ValueError
        If ``adata`` is not a toy section.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.toy(48, 48, pitch_um=24)
    >>> sphisto.datasets.toy_image(adata)[:10, :10].compute().shape
    (10, 10, 3)
    """
    return _lazy_image(_recall(adata))


def toy_truth(adata: AnnData, genes: str | Sequence[str] | None = None) -> xr.DataArray:
    """Give the true rate of genes of a toy section at every full-resolution pixel, lazily.

    Parameters
    ----------
    adata
        What :func:`toy` returned, or a part of it.
    genes
        Gene names; by default all of ``adata.var_names`` that the drawing knows.

    Returns
    -------
    DataArray (gene, y, x), float32, in expected counts per spot area, or per bin area, 0 outside tissue; y and x are pixel centres in
    full-resolution px. ``noise_a > 0`` is the tissue. Attributes: ``unit``, ``um_per_px``.

    Raises
    ------
    ValueError
        If ``adata`` is not a toy section or has no such gene.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.toy(48, 48, pitch_um=24)
    >>> truth = sphisto.datasets.toy_truth(adata, "class0_a")
    >>> float(truth.min())
    0.0
    """
    import xarray as xr

    drawing = _recall(adata)
    names = _known_genes(drawing, adata, genes)
    coords = {"gene": names, "y": np.arange(drawing.height) + 0.5, "x": np.arange(drawing.width) + 0.5}
    about = adata.uns[LIBRARY_ID]
    shape = Spot(about["bin_um"], "square") if "bin_um" in about else Spot(about["spot_um"])
    rates = _lazy_rates(drawing, names) * np.float32(shape.area_px(1.0) / Spot(about["spot_um"]).area_px(1.0))
    attrs = {"unit": _keys.unit(shape.shape, is_counts=True), "um_per_px": drawing.um_per_px}
    return xr.DataArray(rates, dims=("gene", "y", "x"), coords=coords, name="rate", attrs=attrs)


def _check(n_noise: int, min_tissue: float, **positive: float) -> None:
    for name, value in positive.items():
        if not (np.isfinite(value) and value > 0):
            msg = f"`{name}` must be a positive number, found {value}."
            raise ValueError(msg)
    if n_noise < 0:
        msg = f"`n_noise` must not be negative, found {n_noise}."
        raise ValueError(msg)
    if not 0 <= min_tissue <= 1:
        msg = f"`min_tissue` is a share between 0 and 1, found {min_tissue}."
        raise ValueError(msg)


def _lattice(
    drawing: Drawing, pitch_um: float, spot_um: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Array row, array column and centre (y, x) in px of all Visium positions whose discs lie in the image."""
    um = drawing.um_per_px
    row_um, col_um = pitch_um * np.sqrt(3) / 2, pitch_um / 2
    free = [side * um - spot_um for side in (drawing.height, drawing.width)]
    if min(free) < 0:
        msg = (
            f"A spot of {spot_um:g} um does not fit into {drawing.height} x {drawing.width} px of {um:g} um. Draw a "
            f"larger section or lower `pitch_um` ({pitch_um:g} um), which lowers the spot with it."
        )
        raise ValueError(msg)
    n_rows, n_cols = int(free[0] // row_um) + 1, int(free[1] // col_um) + 1
    row, col = (index.ravel() for index in np.mgrid[:n_rows, :n_cols])
    printed = (row + col) % 2 == 0
    row, col = row[printed], col[printed]
    y = (spot_um + free[0] - (n_rows - 1) * row_um) / 2 + row * row_um
    x = (spot_um + free[1] - (n_cols - 1) * col_um) / 2 + col * col_um
    return row, col, np.stack([y, x], axis=1) / um


def _bins(drawing: Drawing, side_um: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Array row, array column and centre (y, x) in px of all bins that lie in the image, the first at its corner."""
    n_rows, n_cols = (int(side * drawing.um_per_px / side_um + 1e-9) for side in (drawing.height, drawing.width))
    row, col = (index.ravel() for index in np.mgrid[:n_rows, :n_cols])
    return row, col, (np.stack([row, col], axis=1) + 0.5) * side_um / drawing.um_per_px


def _pooled(
    drawing: Drawing, centers: NDArray[np.float64], spot: Spot, *, tile: int = TILE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean rate of each gene (n, g) and share of tissue (n,) under each spot or bin, drawn tile by tile.

    The 19 float32 planes of a tile of 512 px stay below 30 MB.
    """
    genes = list(drawing.kinds)
    means = np.zeros((len(centers), len(genes) + 1))
    margin = int(np.ceil(spot.reach_um / drawing.um_per_px)) + 1
    for part in plan_tiles((drawing.height, drawing.width), size=tile):
        core = part.core
        inside = ((centers >= (core.y0, core.x0)) & (centers < (core.y1, core.x1))).all(axis=1)
        if not inside.any():
            continue
        window = core.grown(margin)
        layers = drawing.layers(window)
        raster = np.concatenate([drawing.rates_of(layers, genes), layers.tissue[None].astype(np.float32)])
        under = spot.footprint(window.shape, centers[inside] - (window.y0, window.x0), drawing.um_per_px)
        means[inside] = under.mean(raster)
    return means[:, :-1], means[:, -1]


def _assemble(
    drawing: Drawing,
    counts: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    centers: NDArray[np.float64],
) -> AnnData:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    obs = pd.DataFrame(
        {"in_tissue": np.ones(len(rows), dtype=np.int64), "array_row": rows, "array_col": columns},
        index=_barcodes(rows, columns),
    )
    var = pd.DataFrame({"kind": list(drawing.kinds.values())}, index=list(drawing.kinds))
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    adata.obsm["spatial"] = np.ascontiguousarray(centers[:, ::-1])
    return adata


def _barcodes(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> list[str]:
    """Sixteen bases that look random and differ for each place of the array."""
    place = (rows.astype(np.uint64) << np.uint64(16)) + columns.astype(np.uint64)
    mixed = (place * np.uint64(2654435761)) % np.uint64(2**32)  # an odd factor: no two places become one
    digits = (mixed[:, None] >> (2 * np.arange(16, dtype=np.uint64))) & np.uint64(3)
    return ["".join("ACGT"[d] for d in word) + "-1" for word in digits]


def _spatial(
    drawing: Drawing, spot_um: float, *, hires_px: int = 2000, lowres_px: int = 600, block: int = _BLOCK
) -> dict[str, Any]:
    """Return what Space Ranger writes about the image: two smaller ones, each with px on its longer side, and scales."""
    longer = max(drawing.height, drawing.width)
    reduction = -(-longer // hires_px)
    hires = _reduced(_lazy_image(drawing, block), reduction, block)
    again = -(-max(hires.shape[:2]) // lowres_px)
    lowres = _block_mean(hires, again)
    spot_px = spot_um / drawing.um_per_px * SPACERANGER_SPOT_UM / VISIUM.spot_um
    return {
        "images": {"hires": hires, "lowres": lowres},
        "scalefactors": {
            "tissue_hires_scalef": 1.0 / reduction,
            "tissue_lowres_scalef": 1.0 / (reduction * again),
            "spot_diameter_fullres": spot_px,
            "fiducial_diameter_fullres": spot_px * (_FIDUCIAL_UM / SPACERANGER_SPOT_UM),
        },
        "metadata": {"chemistry_description": "none: drawn by sphisto.datasets.toy"},
    }


def _reduced(image: da.Array, factor: int, block: int) -> NDArray[np.uint8]:
    """Compute an image reduced by block means, a block at a time."""
    if factor == 1:
        return np.asarray(image.compute())
    side = max(block // factor, 1) * factor
    blocks = image.rechunk((side, side, 3))
    chunks = tuple(tuple(-(-n // factor) for n in sides) for sides in blocks.chunks[:2])
    reduced = blocks.map_blocks(_block_mean, factor, dtype=np.uint8, chunks=(*chunks, (3,)))
    return np.asarray(reduced.compute())


def _block_mean(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Mean of squares of ``factor`` px; those at the far border hold only what there is."""
    rows, columns = (np.arange(0, side, factor) for side in image.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0, dtype=np.float64), columns, axis=1)
    height = np.diff(rows, append=image.shape[0])[:, None, None]
    width = np.diff(columns, append=image.shape[1])[None, :, None]
    return np.asarray(np.rint(sums / (height * width)), dtype=np.uint8)


def _recall(adata: AnnData) -> Drawing:
    """Return the drawing which an AnnData was made from."""
    if LIBRARY_ID not in adata.uns:
        msg = f"Did not find .uns[{LIBRARY_ID!r}]: only a section drawn by `sphisto.datasets.toy` has a known truth."
        raise ValueError(msg)
    kept = adata.uns[LIBRARY_ID]
    kind: dict[str, type] = {
        "height": int,
        "width": int,
        "um_per_px": float,
        "n_noise": int,
        "mean_counts": float,
        "seed": int,
    }
    missing = [name for name in kind if name not in kept]
    if missing:
        msg = f".uns[{LIBRARY_ID!r}] lacks {', '.join(missing)}; draw the section again with `sphisto.datasets.toy`."
        raise ValueError(msg)
    return Drawing(**{name: convert(kept[name]) for name, convert in kind.items()})


def _known_genes(drawing: Drawing, adata: AnnData, genes: str | Sequence[str] | None) -> list[str]:
    known = drawing.kinds
    if genes is None:
        return [gene for gene in adata.var_names if gene in known]
    names = [genes] if isinstance(genes, str) else list(genes)
    unknown = [gene for gene in names if gene not in known]
    if unknown:
        msg = f"The toy section has no gene {', '.join(map(repr, unknown))}. It has: {', '.join(known)}."
        raise ValueError(msg)
    return names


def _lazy_image(drawing: Drawing, block: int = _BLOCK) -> da.Array:
    import dask.array as da

    image: da.Array = da.map_blocks(
        _draw_image,
        chunks=(_blocks(drawing.height, block), _blocks(drawing.width, block), (3,)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), dtype=np.uint8),
        drawing=drawing,
    )
    return image


def _lazy_rates(drawing: Drawing, genes: Sequence[str], block: int = _BLOCK) -> da.Array:
    import dask.array as da

    rates: da.Array = da.map_blocks(
        _draw_rates,
        chunks=((len(genes),), _blocks(drawing.height, block), _blocks(drawing.width, block)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), dtype=np.float32),
        drawing=drawing,
        genes=tuple(genes),
    )
    return rates


def _draw_image(drawing: Drawing, block_info: Any = None) -> NDArray[np.uint8]:
    (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
    return drawing.image(Window(y0, x0, y1, x1))


def _draw_rates(drawing: Drawing, genes: Sequence[str], block_info: Any = None) -> NDArray[np.float32]:
    _, (y0, y1), (x0, x1) = block_info[None]["array-location"]
    return drawing.rates(Window(y0, x0, y1, x1), genes)


def _blocks(length: int, block: int) -> tuple[int, ...]:
    whole, rest = divmod(length, block)
    return (block,) * whole + ((rest,) if rest else ())
