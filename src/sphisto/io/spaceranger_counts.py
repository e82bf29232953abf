"""Counts of a Space Ranger run, from its h5 file or the folder of its mtx matrix."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._settings import logger
from sphisto.io.counts import GENE
from sphisto.io.positions import decoded, find_one
from sphisto.io.rows import read_rows
from sphisto.io.spaceranger_folder import COUNTS, refuse_aggregated

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    Choose = Callable[[NDArray[np.bytes_]], NDArray[np.intp]]


def read_counts(path: Path, choose: Choose | None = None) -> tuple[AnnData, dict[str, str]]:
    """Read counts of genes, with what the file states about the run.

    ``path`` is the h5 file, or the folder of the mtx matrix. ``choose`` gives the rows to read (ascending) of all
    barcodes (n,) of bytes; of an h5 file no others are read.
    """
    from scipy import sparse

    attributes: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* names are not unique")
        if path.is_dir():
            adata = _read_mtx(path)
            if choose is not None:
                adata = adata[choose(np.array(adata.obs_names, dtype="S"))].copy()
        else:
            adata, attributes = _read_h5(path, choose)
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
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(described, index=pd.Index(names.to_numpy())))


def _read_h5(path: Path, choose: Choose | None) -> tuple[AnnData, dict[str, str]]:
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
                    f"file of Space Ranger, filtered_{COUNTS}.h5."
                )
                raise ValueError(msg)
            attributes = {
                kept: _text(file.attrs[name]) for name, kept in names.items() if np.size(file.attrs.get(name, ()))
            }
            libraries = [_text(name) for name in np.atleast_1d(file.attrs.get("library_ids", []))]
            some = None if choose is None else _rows_of_h5(file["matrix"], choose)
        refuse_aggregated(path.parent, libraries)
        if some is not None:
            return some, attributes
        return sc.read_10x_h5(path, gex_only=False), attributes
    except OSError as error:
        msg = f"{str(path)!r} cannot be read ({error}); the copy or download may be broken. Fetch it again."
        raise ValueError(msg) from error


def _rows_of_h5(matrix: Any, choose: Choose) -> AnnData:
    """Read some barcodes of a matrix, which are its columns, stored one after another."""
    import anndata as ad
    import pandas as pd
    from scipy import sparse

    barcodes, indptr, n_genes = np.asarray(matrix["barcodes"][:]), matrix["indptr"][:], int(matrix["shape"][0])
    rows = choose(barcodes.astype("S"))

    def read(first: int, end: int) -> sparse.csr_matrix:
        entries = slice(int(indptr[first]), int(indptr[end]))
        parts = (matrix["data"][entries], matrix["indices"][entries], indptr[first : end + 1] - indptr[first])
        return sparse.csr_matrix(parts, shape=(end - first, n_genes))

    kinds = {"id": "gene_ids", "feature_type": "feature_types", "genome": "genome"}
    described = {
        ours: matrix[f"features/{name}"].asstr()[:] for name, ours in kinds.items() if name in matrix["features"]
    }
    names = matrix["features/name" if "name" in matrix["features"] else "features/id"].asstr()[:]
    return ad.AnnData(
        read_rows(read, rows, n_genes).astype(np.float32),
        obs=pd.DataFrame(index=pd.Index([_text(each) for each in barcodes[rows]])),
        var=pd.DataFrame(described, index=pd.Index(names)),
    )


def _text(value: Any) -> str:
    """Return text of an attribute that may be text, bytes or an array of them."""
    first = np.atleast_1d(value)[0]
    return first.decode() if isinstance(first, bytes) else str(first)


def _genes_only(adata: AnnData, path: Path) -> AnnData:
    if "feature_types" not in adata.var:
        return adata
    is_gene = (adata.var["feature_types"] == GENE).to_numpy()
    if is_gene.all():
        return adata
    others = ", ".join(sorted(set(adata.var["feature_types"][~is_gene])))
    if not is_gene.any():
        msg = f"{str(path)!r} holds no features of type {GENE!r}, only {others}."
        raise ValueError(msg)
    logger.info("%d features that are not genes (%s) were left out.", (~is_gene).sum(), others)
    return adata[:, is_gene].copy()
