"""Visium sections from the folder that Space Ranger writes, in any of its versions."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.io.images import read_image

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("sphisto")

_COUNTS = "feature_bc_matrix"
_POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv", "tissue_positions.parquet")
_COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
_GENES = "Gene Expression"


def read_visium(path: str | Path, *, image: str | Path | None = None, library_id: str | None = None) -> AnnData:
    """Read a Visium section that Space Ranger wrote.

    Parameters
    ----------
    path
        The run's folder, or its ``outs``. It must hold the counts (``filtered_feature_bc_matrix.h5``, with any prefix,
        or the folder ``filtered_feature_bc_matrix``; else the raw matrix) and ``spatial`` with positions and scale
        factors; ``tissue_hires_image`` and ``tissue_lowres_image`` (png or jpg) are read if they are there.
    image
        The full-resolution picture, the one given to Space Ranger: tif, png, jpg, the folder of an OME-Zarr image, or
        with the extra ``sphisto[slides]`` a slide in a scanner vendor's format. Only its path is kept, as
        ``source_image_path``; it is read when it is needed.
    library_id
        Name of the section; by default the one in the counts file, else the folder's name.

    Returns
    -------
    AnnData (spots x genes) in the layout of ``scanpy.read_visium``: ``X`` csr float32 counts, ``obs`` in_tissue,
    array_row, array_col, ``var`` gene_ids and, if known, feature_types, ``obsm["spatial"]`` (x, y) float64 in
    full-resolution px, ``uns["spatial"][library_id]`` images (uint8), scalefactors, metadata. Of a raw matrix the
    spots under tissue are kept; of several feature types the genes; names of genes that occur twice get a number. What
    is left out is said in the log.

    Raises
    ------
    FileNotFoundError
        If the folder, the counts, the positions, the scale factors or ``image`` are missing.
    ValueError
        If a file cannot be read as what it should be, or no barcode of the counts has a position.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.io.read_visium("my_section/outs", image="my_section.tif")  # doctest: +SKIP
    """
    folder = _find_folder(Path(path))
    counts_path = _find_counts(folder)
    adata, attributes = _read_counts(counts_path)
    positions = _read_positions(folder / "spatial")
    adata = _placed(adata, positions, is_raw="raw_feature" in counts_path.name)
    library = library_id or attributes.pop("library_id", None) or _folder_name(folder)
    if image is not None:
        attributes["source_image_path"] = _existing_image(image)
    attributes.pop("library_id", None)
    adata.uns["spatial"] = {
        library: {
            "images": _read_images(folder / "spatial"),
            "scalefactors": _read_scalefactors(folder / "spatial"),
            "metadata": attributes,
        }
    }
    return adata


def _find_folder(path: Path) -> Path:
    """Return the folder that holds counts and ``spatial``: the given one or its ``outs``."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        msg = f"Found {found} at {str(path)!r}. Expected the folder of a Space Ranger run (or its `outs`)."
        raise FileNotFoundError(msg)
    if (path / "binned_outputs").is_dir() or (path / "outs" / "binned_outputs").is_dir():
        msg = (
            f"{str(path)!r} is a Visium HD run. Give the folder of one bin size, for instance "
            "`binned_outputs/square_008um` in it."
        )
        raise ValueError(msg)
    return path / "outs" if (path / "outs").is_dir() and not (path / "spatial").is_dir() else path


def _find_counts(folder: Path) -> Path:
    """Return the counts of a run: filtered before raw, h5 before mtx."""
    for kind in ("filtered", "raw"):
        exact = folder / f"{kind}_{_COUNTS}.h5"
        prefixed = sorted(folder.glob(f"*{kind}_{_COUNTS}.h5"))
        if exact.is_file():
            return exact
        if len(prefixed) > 1:
            msg = f"Found several counts files in {str(folder)!r}: {', '.join(p.name for p in prefixed)}. Keep one."
            raise ValueError(msg)
        if prefixed:
            return prefixed[0]
        if (folder / f"{kind}_{_COUNTS}").is_dir():
            return folder / f"{kind}_{_COUNTS}"
    others = sorted(folder.glob(f"*{_COUNTS}.h5"))
    if others:
        return others[0]
    holds = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
    msg = (
        f"Found no counts in {str(folder)!r} (it holds: {holds}). Expected filtered_{_COUNTS}.h5 or the folder "
        f"filtered_{_COUNTS}."
    )
    raise FileNotFoundError(msg)


def _read_counts(path: Path) -> tuple[AnnData, dict[str, str]]:
    """Read counts of genes, with what the file says about the run."""
    import scanpy as sc
    from scipy import sparse

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        if path.is_dir():
            adata, attributes = sc.read_10x_mtx(path, make_unique=False, gex_only=False), {}
        else:
            attributes = _h5_attributes(path)
            adata = sc.read_10x_h5(path, gex_only=False)
        adata = _genes_only(adata, path)
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        logger.info("%d gene names occur more than once (%s): numbered.", len(twice), ", ".join(twice[:5]))
        adata.var_names_make_unique()
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    return adata, attributes


def _h5_attributes(path: Path) -> dict[str, str]:
    """Library id, chemistry and software version, as far as the file names them."""
    import h5py

    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is not an HDF5 file; the copy or download may be broken. Fetch it again."
        raise ValueError(msg)
    names = {
        "library_ids": "library_id",
        "chemistry_description": "chemistry_description",
        "software_version": "software_version",
    }
    with h5py.File(path, "r") as file:
        return {kept: _text(file.attrs[name]) for name, kept in names.items() if name in file.attrs}


def _text(value: Any) -> str:
    """Return text of an attribute that may be text, bytes or an array of them."""
    first = np.atleast_1d(value)[0]
    return first.decode() if isinstance(first, bytes) else str(first)


def _genes_only(adata: AnnData, path: Path) -> AnnData:
    if "feature_types" not in adata.var:
        return adata
    is_gene = (adata.var["feature_types"] == _GENES).to_numpy()
    if is_gene.all():
        return adata
    others = ", ".join(sorted(set(adata.var["feature_types"][~is_gene])))
    if not is_gene.any():
        msg = f"{str(path)!r} holds no features of type {_GENES!r}, only {others}."
        raise ValueError(msg)
    logger.info("%d features that are not genes (%s) were left out.", (~is_gene).sum(), others)
    return adata[:, is_gene].copy()


def _read_positions(spatial: Path) -> pd.DataFrame:
    """Read the positions of all spots, by barcode, whichever version wrote them."""
    import pandas as pd

    found = next((spatial / name for name in _POSITIONS if (spatial / name).is_file()), None)
    if found is None:
        msg = f"Found no positions in {str(spatial)!r}. Expected one of: {', '.join(_POSITIONS)}."
        raise FileNotFoundError(msg)
    if found.suffix == ".parquet":
        table = pd.read_parquet(found)
    else:
        with found.open() as file:
            has_header = file.readline().startswith("barcode")
        table = pd.read_csv(found, header=0 if has_header else None)
        if not has_header and table.shape[1] == len(_COLUMNS):
            table.columns = pd.Index(_COLUMNS)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        msg = f"{str(found)!r} lacks the columns {', '.join(missing)}; found {', '.join(map(str, table.columns))}."
        raise ValueError(msg)
    table = table.set_index("barcode")
    table.index = table.index.astype(str)
    if not table.index.is_unique:
        msg = (
            f"{str(found)!r} names {table.index.duplicated().sum()} barcodes more than once; each must have one place."
        )
        raise ValueError(msg)
    return table


def _placed(adata: AnnData, positions: pd.DataFrame, *, is_raw: bool) -> AnnData:
    """Give the spots their positions; those without, and of a raw matrix those beside the tissue, are left out."""
    known = adata.obs_names.isin(positions.index)
    if not known.any():
        msg = (
            f"None of the {adata.n_obs} barcodes of the counts (such as {adata.obs_names[0]!r}) is among the "
            f"{len(positions)} positions (such as {positions.index[0]!r}). Counts and `spatial` must be of one run."
        )
        raise ValueError(msg)
    if not known.all():
        logger.warning("%d of %d spots have no position and were left out.", (~known).sum(), adata.n_obs)
    kept = known & adata.obs_names.isin(positions.index[positions["in_tissue"] == 1]) if is_raw else known
    if not kept.any():
        msg = f"None of the {known.sum()} spots of the raw counts lies under tissue. Use the filtered counts."
        raise ValueError(msg)
    if is_raw:
        logger.info("Raw counts: %d of %d spots lie under tissue and were kept.", kept.sum(), adata.n_obs)
    adata = adata[kept].copy() if not kept.all() else adata
    here = positions.loc[adata.obs_names]
    for name in ("in_tissue", "array_row", "array_col"):
        adata.obs[name] = here[name].to_numpy(dtype=np.int64)
    adata.obsm["spatial"] = here[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(dtype=np.float64)
    return adata


def _read_scalefactors(spatial: Path) -> dict[str, float]:
    path = spatial / "scalefactors_json.json"
    if not path.is_file():
        msg = f"Found no scale factors at {str(path)!r}. Without them the images cannot be laid under the spots."
        raise FileNotFoundError(msg)
    try:
        factors = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        msg = f"{str(path)!r} is not valid JSON ({error}). Copy it again from the run."
        raise ValueError(msg) from error
    if not isinstance(factors, dict):
        msg = f"{str(path)!r} holds no scale factors by name. Copy it again from the run."
        raise ValueError(msg)
    return {name: float(value) for name, value in factors.items() if isinstance(value, int | float)}


def _read_images(spatial: Path) -> dict[str, Any]:
    images = {}
    for kind in ("hires", "lowres"):
        files = [spatial / f"tissue_{kind}_image.{suffix}" for suffix in ("png", "jpg", "jpeg", "tif", "tiff")]
        found = next((path for path in files if path.is_file()), None)
        if found is not None:
            images[kind] = np.asarray(read_image(found))
    if not images:
        logger.warning("Found neither a hires nor a lowres tissue image in %s.", spatial)
    return images


def _existing_image(image: str | Path) -> str:
    path = Path(image)
    if not path.exists():
        msg = f"Found no image file at {str(path)!r} (`image=`). Give the path of the full-resolution picture."
        raise FileNotFoundError(msg)
    return str(path.resolve())


def _folder_name(folder: Path) -> str:
    resolved = folder.resolve()
    return resolved.parent.name if resolved.name == "outs" else resolved.name


def is_spaceranger_folder(path: str | Path) -> bool:
    """Stub."""
    path = Path(path)
    return path.is_dir() and ((path / "spatial").is_dir() or (path / "outs").is_dir())
