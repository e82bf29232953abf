"""Visium and Visium HD sections from the folder that Space Ranger writes, in any of its versions."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import number_of
from sphisto._settings import logger
from sphisto.io.bins import BIN_UM, block_centers, block_keys, choose_bins, summed
from sphisto.io.image.open import read_image
from sphisto.io.positions import decoded, find_one, read_positions, spatial_of, visible
from sphisto.io.spaceranger_counts import read_counts
from sphisto.io.spaceranger_folder import bins_in, existing_path, find_counts, find_folder, without_counts
from sphisto.io.window import as_bbox, inside, nothing_in, sample_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.io.window import BBox

_SUFFIX = r"-\d+$"  # of a barcode: the number of its section
_BARCODE = rf"^(?:[ACGT]+|s_\d+um_\d+_\d+)({_SUFFIX})"
_IMAGES = [suffix for lower in ("png", "jpg", "jpeg", "tif", "tiff") for suffix in (lower, lower.upper())]
_FACTORS = ("spot_diameter_fullres", "bin_size_um", "microns_per_pixel")  # and all that hold "scalef"


def read_visium(
    path: str | Path,
    *,
    image: str | Path | None = None,
    library_id: str | None = None,
    bin_um: float | None = None,
    bbox: BBox | None = None,
) -> AnnData:
    """Read a Visium section (6.5 or 11 mm, CytAssist or not), or the bins of a Visium HD section.

    Parameters
    ----------
    path
        The run's folder, or its ``outs``; of Visium HD also ``outs/binned_outputs`` or the folder of one bin size in it,
        such as ``square_016um``. It must hold the counts (``filtered_feature_bc_matrix.h5``, with any prefix,
        or the folder ``filtered_feature_bc_matrix``; else the raw matrix) and ``spatial`` with positions and scale
        factors; ``tissue_hires_image`` and ``tissue_lowres_image`` (png or jpg) are read if they are there.
    image
        The full-resolution image, the one given to Space Ranger: tif, png, jpg, the folder of an OME-Zarr image, or
        with the extra ``sphisto[slides]`` a slide in a scanner vendor's format. Only its absolute path is kept, as
        ``source_image_path``; it is read when it is needed.
    library_id
        Name of the section; by default the one in the counts file, else the folder's name.
    bin_um
        Side in um of the bins of a Visium HD section; default: 8, of the folder of one bin size its own. If there are
        none of that size, counts of smaller ones are summed up, of which a whole number must lie along a side.
    bbox
        (x_min, y_min, x_max, y_max) in full-resolution px, as in ``obsm["spatial"]``: only spots or bins with their
        centre in it are kept. Of an h5 file the counts of others are not read.

    Returns
    -------
    AnnData (spots x genes) in the layout of ``scanpy.read_visium``: ``X`` csr float32 counts, ``obs`` in_tissue,
    array_row, array_col, ``var`` gene_ids and, if known, feature_types, ``obsm["spatial"]`` (x, y) float64 in
    full-resolution px, ``uns["spatial"][library_id]`` images (uint8), scalefactors, metadata. Of a raw matrix the
    spots under tissue are kept; of several feature types the genes; names of genes that occur twice get a number. What
    is left out is logged. Positions may have been saved again by R, pandas or Excel.

    Raises
    ------
    FileNotFoundError
        If the folder, the counts, the positions, the scale factors or ``image`` are missing.
    ImportError
        If positions are in parquet and pyarrow is not installed.
    ValueError
        If a file cannot be read as what it should be, no barcode of the counts has a position, bins of ``bin_um`` cannot be
        had, nothing lies in ``bbox``, or the folder holds something else than one section of spots or bins: segmented
        cells, the sections that ``spaceranger aggr`` joined.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.io.read_visium("my_section/outs", image="my_section.tif")  # doctest: +SKIP
    """
    return read_run(path, image=image, library_id=library_id, bin_um=bin_um, bbox=bbox)[0]


def read_run(
    path: str | Path, *, image: str | Path | None, library_id: str | None, bin_um: float | None, bbox: BBox | None
) -> tuple[AnnData, AnnData | None]:
    """Read a section as :func:`read_visium` does, and with ``bbox`` a sample of rows outside it, without their places."""
    run = find_folder(existing_path(path))
    source_image = None if image is None else _existing_image(image)
    folder, factor, side = _bins_to_read(run, bin_um)
    spatial, counts_path = spatial_of(folder), find_counts(folder)
    if spatial == folder:
        logger.info(
            "%s has no folder `spatial`: positions, scale factors and images beside the counts are read.", folder
        )
    is_raw, choose = "raw_feature" in counts_path.name, None
    if bbox is not None:
        positions = _positions_within(spatial, as_bbox(bbox), factor)
        choose = partial(_rows_to_read, positions, factor, is_raw)
    adata, attributes = read_counts(counts_path, choose)
    _refuse_joined(adata, folder)
    if bbox is None:
        positions = read_positions(spatial)
    others = None
    if bbox is not None:
        own = _barcodes_as_in(positions.index, adata.obs_names).isin(positions.index)
        others = adata[~own].copy() if not own.all() else None
        adata = adata[own].copy()
        if not adata.n_obs:
            msg = f"Found counts of none of the {len(positions)} positions in bbox={bbox}; expected some. Choose a window on the tissue."
            raise ValueError(msg)
    adata = _placed(adata, positions, is_raw=is_raw)
    named, outs = attributes.pop("library_id", None), run.resolve()
    library = library_id or named or (outs.parent.name if outs.name == "outs" else outs.name)
    if source_image is not None:
        attributes["source_image_path"] = source_image
    images = _read_images(spatial if folder == run or visible(spatial, "*tissue_*res_image*") else run / "spatial")
    factors = _read_scalefactors(spatial)
    adata.uns["spatial"] = {library: {"images": images, "scalefactors": factors, "metadata": attributes}}
    if factor > 1:
        adata = summed(adata, factor, side, adata.obsm["spatial"][:, ::-1])
        others = None if others is None else summed(others, factor, side)
    return adata, others


def _bins_to_read(run: Path, bin_um: float | None) -> tuple[Path, int, float]:
    """Folder to read, how many of its bins lie along the side of one that is taken, and that side in um (0 for spots)."""
    bins = bins_in(run)
    if not bins:
        if bin_um is None:
            return run, 1, 0.0
        own = re.fullmatch(r"square_(\d+)um", run.resolve().name)
        stated = _read_scalefactors(spatial_of(run)).get("bin_size_um", float(own.group(1)) if own else None)
        if stated is None:
            msg = f"Found bin_um={bin_um:g}, and no bins in {str(run)!r}; expected a Visium HD run. Leave `bin_um` out."
            raise ValueError(msg)
        bins = {stated: run}
    own_um, factor = choose_bins(bins, bin_um, repr(str(run)))
    if lacking := without_counts(run):
        logger.warning(
            "Found no counts in %s of %r; %s used. Copy them there, or choose bins by `bin_um`.", " and ".join(lacking), str(run),
            "it is not" if len(lacking) == 1 else "they are not",
        )  # fmt: skip
    if len(bins) > 1 or factor > 1 or (bin_um is None and own_um != BIN_UM and run not in bins.values()):
        logger.info(
            "Of bins of %s um those of %g um are read%s. Choose others by `bin_um`.", ", ".join(f"{um:g}" for um in sorted(bins)),
            own_um, f" and summed up to {own_um * factor:g} um" if factor > 1 else "",
        )  # fmt: skip
    return bins[own_um], factor, own_um * factor


def _positions_within(spatial: Path, bbox: BBox, factor: int) -> pd.DataFrame:
    """Positions in a window; of bins that will be summed up all those of larger bins with their centre in it."""
    side = 0.0 if factor == 1 else _read_scalefactors(spatial).get("spot_diameter_fullres", 100.0)
    margin = 1.5 * factor * side
    x_min, y_min, x_max, y_max = bbox
    near = read_positions(spatial, (x_min - margin, y_min - margin, x_max + margin, y_max + margin))
    centers = near[["pxl_row_in_fullres", "pxl_col_in_fullres"]].to_numpy(dtype=np.float64)
    if factor > 1 and len(near):
        centers = block_centers(centers, near[["array_row", "array_col"]].to_numpy(dtype=np.int64), factor)
    kept = inside(centers, bbox) & (near["in_tissue"] == 1).to_numpy()
    if not kept.any():
        every = read_positions(spatial)  # of a parquet file only those near the window were read
        known = every.loc[every["in_tissue"] == 1, ["pxl_row_in_fullres", "pxl_col_in_fullres"]]
        raise ValueError(nothing_in(bbox, known.to_numpy(dtype=np.float64)))
    return near[kept]


def _rows_to_read(positions: pd.DataFrame, factor: int, is_raw: bool, barcodes: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """Rows of the counts that have one of the positions, and, where all are under tissue, a sample of the others."""
    names = positions.index.to_numpy().astype("S")
    own = np.isin(barcodes, names)
    if not own.any():  # barcodes without the number at their end
        own = np.isin(np.array([name.split(b"-")[0] for name in barcodes]), [name.split(b"-")[0] for name in names])
    if not is_raw:
        beside = np.flatnonzero(~own)
        own[beside[sample_of(block_keys(barcodes, factor)[beside])]] = True
    return np.flatnonzero(own)


def _refuse_joined(adata: AnnData, folder: Path) -> None:
    """Raise for counts of several runs: the number after a barcode distinguishes them, or barcodes occur twice."""
    if not adata.obs_names.is_unique:
        msg = (
            f"The counts in {str(folder)!r} name {adata.obs_names.duplicated().sum()} of {adata.n_obs} barcodes more than "
            "once; expected one section. Give each section's own run."
        )
        raise ValueError(msg)
    sections = sorted(set(adata.obs_names.str.extract(_BARCODE, expand=False).dropna()))
    if len(sections) > 1:
        msg = (
            f"The barcodes of the counts in {str(folder)!r} end in {', '.join(sections[:5])}: several sections were joined, "
            "as `spaceranger aggr` does. Give each section's own run."
        )
        raise ValueError(msg)


def _placed(adata: AnnData, positions: pd.DataFrame, *, is_raw: bool) -> AnnData:
    """Give the spots their positions; those without, and of a raw matrix those beside the tissue, are left out."""
    names = _barcodes_as_in(positions.index, adata.obs_names)
    known = names.isin(positions.index)
    if not known.any():
        few = f"such as {positions.index[0]!r}" if len(positions) else "none"
        msg = (
            f"None of the {adata.n_obs} barcodes of the counts (such as {adata.obs_names[0]!r}) is among the "
            f"{len(positions)} positions ({few}). Counts and `spatial` must be of one run."
        )
        raise ValueError(msg)
    if not known.all():
        logger.warning("%d of %d spots have no position and were left out. Complete the positions in `spatial` if they "
                       "should count.", (~known).sum(), adata.n_obs)  # fmt: skip
    kept = known & names.isin(positions.index[positions["in_tissue"] == 1]) if is_raw else known
    if not kept.any():
        msg = f"None of the {known.sum()} spots of the raw counts lies under tissue. Use the filtered counts."
        raise ValueError(msg)
    if is_raw:
        logger.warning(
            "Raw counts: %d of %d spots lie under tissue and were kept. Put the filtered ones, "
            "`filtered_feature_bc_matrix.h5`, into the folder if there are any.",
            kept.sum(), adata.n_obs,
        )  # fmt: skip
    adata = adata[kept].copy() if not kept.all() else adata
    here = positions.loc[names[kept]]
    for name in ("in_tissue", "array_row", "array_col"):
        adata.obs[name] = here[name].to_numpy(dtype=np.int64)
    adata.obsm["spatial"] = here[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(dtype=np.float64)
    return adata


def _barcodes_as_in(positions: pd.Index, names: pd.Index) -> pd.Index:
    """Barcodes of the counts as the positions write them: with their number (AAAC-1) or without."""
    if names.isin(positions).any():
        return names
    short = names.str.replace(_SUFFIX, "", regex=True)
    full = dict(zip(positions.str.replace(_SUFFIX, "", regex=True), positions, strict=True))
    matched = short.map(lambda name: full.get(name, name))
    if len(full) < len(positions) or not matched.is_unique or not matched.isin(positions).any():
        return names
    logger.warning(
        "The barcodes of the counts (such as %s) and of the positions (%s) are the same but for the number at their end: "
        "they are matched without it. If they are of two runs, put the files of one into the folder (`spatial`).", names[0], positions[0],
    )  # fmt: skip
    return matched


def _read_scalefactors(spatial: Path) -> dict[str, float]:
    path = find_one(spatial, ["scalefactors_json.json", "scalefactors_json.json.gz"])
    if path is None:
        expected = str(spatial / "scalefactors_json.json")
        msg = f"Found no scale factors at {expected!r}. Without them the images cannot be laid under the spots."
        raise FileNotFoundError(msg)
    try:
        factors = json.loads(decoded(path))
    except json.JSONDecodeError as error:
        msg = f"{str(path)!r} is not valid JSON ({error}). Copy it again from the run."
        raise ValueError(msg) from error
    if not isinstance(factors, dict):
        msg = f"{str(path)!r} holds no scale factors by name. Copy it again from the run."
        raise ValueError(msg)
    # R writes a number as a list of one, other programs as text
    values = {
        name: number_of(value[0] if isinstance(value, list) and len(value) == 1 else value)
        for name, value in factors.items()
        if not isinstance(value, bool)
    }
    needed = {name for name in values if name in _FACTORS or "scalef" in name}
    kept = {name: value for name, value in values.items() if np.isfinite(value) and (value > 0 or name not in needed)}
    wrong = ", ".join(f"{name} = {factors[name]!r}" for name in sorted(needed - set(kept)))
    if wrong:
        logger.warning(
            "%s: expected numbers above 0, found %s: left out. Correct the file, or give `image_scale`.", path, wrong
        )
    others = ", ".join(name for name in factors if name not in needed and name not in kept)
    if others:
        logger.info("%s: %s are no numbers and were left out.", path, others)
    return kept


def _read_images(spatial: Path) -> dict[str, Any]:
    images = {}
    for kind in ("hires", "lowres"):
        found = find_one(spatial, [f"tissue_{kind}_image.{suffix}" for suffix in _IMAGES])
        if found is not None:
            images[kind] = np.asarray(read_image(found))
    packed = ", ".join(path.name for path in visible(spatial, "*tissue_*res_image.*.gz"))
    hint = f" Unpack {packed}." if packed else ""
    if not images:
        logger.warning(
            "Found neither a hires nor a lowres tissue image in %s.%s A fit needs one, or `image`.", spatial, hint
        )
    elif "hires" not in images:
        logger.info("Found no hires tissue image in %s: the lowres one is taken.%s", spatial, hint)
    return images


def _existing_image(image: str | Path) -> str:
    path = existing_path(image)
    if not path.exists():
        msg = (
            f"Found no image file at {str(path)!r} (`image=`). Give the path of the full-resolution image, or leave `image` "
            "out: the hires image of the folder is taken then."
        )
        raise FileNotFoundError(msg)
    return str(path.resolve())
