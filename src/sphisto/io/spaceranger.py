"""Visium and Visium HD sections from the folder that Space Ranger writes, in any of its versions."""

from __future__ import annotations

import csv
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import number_of
from sphisto.io.image.open import read_image
from sphisto.io.positions import decoded, find_one, read_positions

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger("sphisto")

_COUNTS = "feature_bc_matrix"
_CELLS = "feature_cell_matrix"
_GENES = "Gene Expression"
_SUFFIX = r"-\d+$"  # of a barcode: the number of its section
_BARCODE = rf"^(?:[ACGT]+|s_\d+um_\d+_\d+)({_SUFFIX})"
_FACTORS = ("spot_diameter_fullres", "bin_size_um", "microns_per_pixel")  # and all that hold "scalef"


def read_visium(path: str | Path, *, image: str | Path | None = None, library_id: str | None = None) -> AnnData:
    """Read a Visium section (6.5 or 11 mm, CytAssist or not), or the bins of a Visium HD section.

    Parameters
    ----------
    path
        The run's folder, or its ``outs``; of Visium HD the folder of one bin size, such as
        ``outs/binned_outputs/square_016um``. It must hold the counts (``filtered_feature_bc_matrix.h5``, with any prefix,
        or the folder ``filtered_feature_bc_matrix``; else the raw matrix) and ``spatial`` with positions and scale
        factors; ``tissue_hires_image`` and ``tissue_lowres_image`` (png or jpg) are read if they are there.
    image
        The full-resolution picture, the one given to Space Ranger: tif, png, jpg, the folder of an OME-Zarr image, or
        with the extra ``sphisto[slides]`` a slide in a scanner vendor's format. Only its absolute path is kept, as
        ``source_image_path``; it is read when it is needed.
    library_id
        Name of the section; by default the one in the counts file, else the folder's name.

    Returns
    -------
    AnnData (spots x genes) in the layout of ``scanpy.read_visium``: ``X`` csr float32 counts, ``obs`` in_tissue,
    array_row, array_col, ``var`` gene_ids and, if known, feature_types, ``obsm["spatial"]`` (x, y) float64 in
    full-resolution px, ``uns["spatial"][library_id]`` images (uint8), scalefactors, metadata. Of a raw matrix the
    spots under tissue are kept; of several feature types the genes; names of genes that occur twice get a number. What
    is left out is said in the log. Positions may have been saved again by R, pandas or Excel.

    Raises
    ------
    FileNotFoundError
        If the folder, the counts, the positions, the scale factors or ``image`` are missing.
    ValueError
        If a file cannot be read as what it should be, no barcode of the counts has a position, or the folder holds
        something else than one section of spots or bins: all of a Visium HD run, segmented cells, the sections that
        ``spaceranger aggr`` joined.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.io.read_visium("my_section/outs", image="my_section.tif")  # doctest: +SKIP
    """
    folder = _find_folder(_existing(path))
    source_image = None if image is None else _existing_image(image)
    counts_path = _find_counts(folder)
    adata, attributes = _read_counts(counts_path)
    _refuse_joined(adata, folder)
    adata = _placed(adata, read_positions(folder / "spatial"), is_raw="raw_feature" in counts_path.name)
    library = library_id or attributes.pop("library_id", None) or _folder_name(folder)
    attributes.pop("library_id", None)
    if source_image is not None:
        attributes["source_image_path"] = source_image
    adata.uns["spatial"] = {
        library: {
            "images": _read_images(folder / "spatial"),
            "scalefactors": _read_scalefactors(folder / "spatial"),
            "metadata": attributes,
        }
    }
    return adata


def is_spaceranger_folder(path: str | Path) -> bool:
    """Tell whether a folder is one that Space Ranger wrote, or ``read_visium`` knows what to say about.

    Folders of Visium HD runs, of segmented cells and of joined sections are among them; zarr folders are not.
    """
    try:
        folder = _existing(path)
    except TypeError:
        return False
    if not folder.is_dir() or any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray")):
        return False
    if (folder / "outs").is_dir() and is_spaceranger_folder(folder / "outs"):
        return True
    marks = (
        f"*{_COUNTS}", f"*{_COUNTS}.h5", f"*{_CELLS}", f"*{_CELLS}.h5", "square_???um", "binned_outputs", "segmented_outputs",
        "spatial/*scalefactors_json.json", "spatial/*tissue_positions*", "*scalefactors_json.json",
    )  # fmt: skip
    return _COUNTS in folder.name or any(any(folder.glob(mark)) for mark in marks)


def _existing(path: Any) -> Path:
    """Return the path as it is, else with ``~`` and Windows' separators read as they are meant, where that exists."""
    try:
        given = Path(path)
    except TypeError as error:
        msg = f"Found a {type(path).__name__} for a path; expected text or a pathlib.Path."
        raise TypeError(msg) from error
    if given.exists():
        return given
    for other in (given, Path(str(path).replace("\\", "/"))):
        try:
            expanded = other.expanduser()
        except RuntimeError:  # no such user
            continue
        if expanded.exists():
            logger.info("%r is read as %s.", str(path), expanded)
            return expanded
    return given


def _find_folder(path: Path) -> Path:
    """Return the folder that holds counts and ``spatial``: the given one or its ``outs``."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        msg = f"Found {found} at {str(path)!r}. Expected the folder of a Space Ranger run (or its `outs`)."
        if path.exists():
            msg += f"{_run_above(path)}"
        raise FileNotFoundError(msg)
    folder = path / "outs" if (path / "outs").is_dir() and not (path / "spatial").is_dir() else path
    holds_run = (folder / "spatial").is_dir()
    if (path.name == "spatial" and not holds_run) or (_COUNTS in path.name and any(path.glob("*matrix.mtx*"))):
        msg = f"{str(path)!r} is a part of a run. Expected the folder of a Space Ranger run.{_run_above(path)}"
        raise ValueError(msg)
    _refuse_hd_run(path, folder)
    _refuse_cells(path, folder)
    _refuse_aggr(folder, [])
    return folder


def _run_above(path: Path) -> str:
    """Name the run that a file or folder is a part of."""
    above = (folder for folder in path.absolute().parents if (folder / "spatial").is_dir())
    run = next(above, None)
    return "" if run is None else f" Give {str(run)!r}."


def _refuse_hd_run(path: Path, folder: Path) -> None:
    """Raise for a Visium HD run as a whole: which bins are meant is not guessed."""
    bins = sorted((folder / "binned_outputs").glob("square_*um")) or sorted(folder.glob("square_*um"))
    if bins or (folder / "binned_outputs").is_dir():
        choice = ", ".join(repr(str(found)) for found in bins) or "none"
        msg = f"{str(path)!r} is a Visium HD run. Give the folder of one bin size, for instance square_016um; found: {choice}."
        raise ValueError(msg)


def _refuse_cells(path: Path, folder: Path) -> None:
    """Raise for cells that Space Ranger segmented: they have outlines, no positions on the array."""
    cells = any(folder.glob(f"*{_CELLS}*")) and not any(folder.glob(f"*{_COUNTS}*"))
    if cells or (folder / "segmented_outputs").is_dir():
        beside = sorted((folder.parent / "binned_outputs").glob("square_*um"))
        choice = f" ({', '.join(repr(str(found)) for found in beside)})" if beside else ""
        msg = (
            f"{str(path)!r} holds segmented cells, whose counts are not those of spots or bins. Give the folder of one bin "
            f"size, binned_outputs/square_016um{choice}; `sphisto.tl.aggregate` then sums the rasters over the outlines "
            "of cells (cell_segmentations.geojson)."
        )
        raise ValueError(msg)


def _refuse_aggr(folder: Path, libraries: list[str]) -> None:
    """Raise for sections that ``spaceranger aggr`` joined; they have no common picture."""
    spatial = folder / "spatial"
    listed = next(
        (folder / name for name in ("aggregation.csv", "aggregation_csv.csv") if (folder / name).is_file()), None
    )
    if listed is None and len(libraries) < 2 and not any(spatial.glob("*aggr_tissue_positions*")):
        return
    rows = [] if listed is None else [row for row in csv.DictReader(decoded(listed).splitlines()) if row]
    names = [row.get("library_id") or row.get("sample_id") or "" for row in rows] or libraries
    names = [name for name in names if name] or sorted(
        file.parent.name for file in spatial.glob("*/scalefactors_json.json")
    )
    runs = [str(Path(row["molecule_h5"]).parent) for row in rows if row.get("molecule_h5")]
    msg = (
        f"{str(folder)!r} holds several sections that `spaceranger aggr` joined ({', '.join(names) or 'of unknown names'}). "
        f"Give each section's own run (the outs of `spaceranger count`){': ' + ', '.join(runs) if runs else ''}."
    )
    raise ValueError(msg)


def _refuse_joined(adata: AnnData, folder: Path) -> None:
    """Raise for counts of several runs: the number after a barcode tells them apart, or barcodes come twice."""
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
        folders = [p for p in sorted(folder.glob(f"*{kind}_{_COUNTS}")) if p.is_dir()]
        if len(folders) == 1:
            return folders[0]
    others = sorted(folder.glob(f"*{_COUNTS}.h5"))
    if others:
        return others[0]
    holds = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
    packed = sorted(p.name for p in folder.iterdir() if p.name.endswith((".tar.gz", ".tgz", ".zip", ".tar")))
    runs = sorted(str(p) for p in folder.iterdir() if p.is_dir() and is_spaceranger_folder(p))
    hint = f" Unpack {', '.join(packed)}." if packed else f" Give one of: {', '.join(runs)}." if runs else ""
    msg = (
        f"Found no counts in {str(folder)!r} (it holds: {holds}). Expected filtered_{_COUNTS}.h5 or the folder "
        f"filtered_{_COUNTS}.{hint}"
    )
    raise FileNotFoundError(msg)


def _read_counts(path: Path) -> tuple[AnnData, dict[str, str]]:
    """Read counts of genes, with what the file says about the run."""
    from scipy import sparse

    adata, attributes = (_read_mtx(path), {}) if path.is_dir() else _read_h5(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* names are not unique")
        adata = _genes_only(adata, path)
    genomes = sorted(set(adata.var["genome"].astype(str)) - {""}) if "genome" in adata.var else []
    if len(genomes) > 1:
        logger.info("Genes of %d genomes were kept: %s.", len(genomes), ", ".join(genomes))
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        logger.info("%d gene names occur more than once (%s): numbered.", len(twice), ", ".join(twice[:5]))
        adata.var_names_make_unique()
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float32)
    return adata, attributes


def _read_mtx(folder: Path) -> AnnData:
    """Read the folder of an mtx matrix with its barcodes and features, each packed or not."""
    import anndata as ad
    import pandas as pd
    from scipy import io as scipy_io
    from scipy import sparse

    def part(*names: str) -> Path:
        found = find_one(folder, [f"{name}{packed}" for name in names for packed in (".gz", "")])
        if found is None:
            holds = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
            msg = f"Found no {names[0]} in {str(folder)!r}, packed (.gz) or not; it holds: {holds}. Copy the folder again."
            raise FileNotFoundError(msg)
        return found

    def table(path: Path) -> pd.DataFrame:
        rows = [line.split("\t") for line in decoded(path).splitlines() if line]
        return pd.DataFrame(rows, dtype=object)

    matrix_path = part("matrix.mtx")
    barcodes, features = table(part("barcodes.tsv")), table(part("features.tsv", "genes.tsv"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The default value for `spmatrix`")  # either kind will do
            matrix = sparse.csr_matrix(scipy_io.mmread(matrix_path).T)
    except (ValueError, OSError, EOFError) as error:
        msg = f"{str(matrix_path)!r} cannot be read ({error}); the copy or download may be broken. Fetch it again."
        raise ValueError(msg) from error
    if matrix.shape != (len(barcodes), len(features)):
        msg = (
            f"Found {matrix.shape[1]} features x {matrix.shape[0]} barcodes in {str(matrix_path)!r}, but {len(features)} "
            f"features and {len(barcodes)} barcodes beside it; expected files of one run."
        )
        raise ValueError(msg)
    described = {"gene_ids": features[0].to_numpy()}
    if features.shape[1] > 2:
        described["feature_types"] = features[2].to_numpy()
    names = features[1 if features.shape[1] > 1 else 0].astype(str)
    obs = pd.DataFrame(index=pd.Index(barcodes[0].astype(str).to_numpy()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* names are not unique")
        return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(described, index=pd.Index(names.to_numpy())))


def _read_h5(path: Path) -> tuple[AnnData, dict[str, str]]:
    """Read a counts file with its library id, chemistry and software version, as far as it names them."""
    import h5py
    import scanpy as sc

    if not h5py.is_hdf5(path):
        msg = f"{str(path)!r} is not an HDF5 file; the copy or download may be broken. Fetch it again."
        raise ValueError(msg)
    names = {
        "library_ids": "library_id",
        "chemistry_description": "chemistry_description",
        "software_version": "software_version",
    }
    try:
        with h5py.File(path, "r") as file:
            if "obs" in file and "var" in file:
                msg = (
                    f"{str(path)!r} is an AnnData file (h5ad). Read it with `anndata.read_h5ad`, and give it as it is."
                )
                raise ValueError(msg)
            needed = [f"matrix/{name}" for name in ("barcodes", "data", "indices", "indptr", "shape", "features/id")]
            missing = [name for name in needed if name not in file]
            if missing:
                msg = (
                    f"{str(path)!r} lacks {', '.join(missing)} (it holds: {', '.join(file) or 'nothing'}); expected a counts "
                    f"file of Space Ranger, filtered_{_COUNTS}.h5."
                )
                raise ValueError(msg)
            attributes = {
                kept: _text(file.attrs[name]) for name, kept in names.items() if np.size(file.attrs.get(name, ()))
            }
            libraries = [_text(name) for name in np.atleast_1d(file.attrs.get("library_ids", []))]
        _refuse_aggr(path.parent, libraries)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* names are not unique")
            return sc.read_10x_h5(path, gex_only=False), attributes
    except OSError as error:
        msg = f"{str(path)!r} cannot be read ({error}); the copy or download may be broken. Fetch it again."
        raise ValueError(msg) from error


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
        logger.warning("%d of %d spots have no position and were left out.", (~known).sum(), adata.n_obs)
    kept = known & names.isin(positions.index[positions["in_tissue"] == 1]) if is_raw else known
    if not kept.any():
        msg = f"None of the {known.sum()} spots of the raw counts lies under tissue. Use the filtered counts."
        raise ValueError(msg)
    if is_raw:
        logger.warning(
            "Raw counts: %d of %d spots lie under tissue and were kept. Expected the filtered counts, which were not there.",
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
        "they are matched without it.", names[0], positions[0],
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
        logger.warning("%s: expected numbers above 0, found %s: left out.", path, wrong)
    others = ", ".join(name for name in factors if name not in needed and name not in kept)
    if others:
        logger.info("%s: %s are no numbers and were left out.", path, others)
    return kept


def _read_images(spatial: Path) -> dict[str, Any]:
    images = {}
    for kind in ("hires", "lowres"):
        found = find_one(spatial, [f"tissue_{kind}_image.{suffix}" for suffix in ("png", "jpg", "jpeg", "tif", "tiff")])
        if found is not None:
            images[kind] = np.asarray(read_image(found))
    packed = ", ".join(sorted(path.name for path in spatial.glob("*tissue_*res_image.*.gz")))
    if not images:
        hint = f" Unpack {packed}." if packed else ""
        logger.warning("Found neither a hires nor a lowres tissue image in %s.%s", spatial, hint)
    elif "hires" not in images:
        hint = f" Unpack {packed}." if packed else ""
        logger.info("Found no hires tissue image in %s: the lowres one is taken.%s", spatial, hint)
    return images


def _existing_image(image: str | Path) -> str:
    path = _existing(image)
    if not path.exists():
        msg = f"Found no image file at {str(path)!r} (`image=`). Give the path of the full-resolution picture."
        raise FileNotFoundError(msg)
    return str(path.resolve())


def _folder_name(folder: Path) -> str:
    resolved = folder.resolve()
    return resolved.parent.name if resolved.name == "outs" else resolved.name
