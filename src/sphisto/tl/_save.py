"""Save and load what was fitted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sphisto._settings import logger
from sphisto.io.disk import naming_full_disk
from sphisto.io.paths import user_path
from sphisto.io.store.data import recorded_path
from sphisto.io.store.names import fits_of
from sphisto.io.store.read import read_mark
from sphisto.io.store.unfinished import read_unfinished
from sphisto.predict.fitted import Fitted, load_fitted, save_fitted

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def save(fitted: Fitted, path: str | Path) -> None:
    """Save a fitted projection to one file.

    Parameters
    ----------
    fitted
        What :func:`load` returned.
    path
        File to write, replaced as a whole; ``.pt`` by custom.

    Returns
    -------
    ``None``.

    Writes
    ------
    `path`
        Weights, loadings, genes, resolution, spot size and settings, as tensors and plain values.

    Raises
    ------
    TypeError
        If ``fitted`` is anything else, such as the AnnData that was fitted.
    OSError
        If the disk fills up.

    Examples
    --------
    >>> import sphisto as sp
    >>> sp.tl.save(sp.tl.load("toy.projection.pt"), "copy.pt")  # doctest: +SKIP
    """
    require_fitted(fitted)
    target = user_path(path)
    with naming_full_disk(target, mend="Free some space or choose another `path`"):
        save_fitted(fitted, target)


def load(source: str | Path | AnnData, *, key: str = "projection") -> Fitted:
    """Load a fitted projection; nothing in the file is executed.

    Parameters
    ----------
    source
        File that :func:`save` or :func:`sphisto.tl.fit_projection` wrote, or the AnnData that was fitted.
    key
        Which projection of the AnnData.

    Returns
    -------
    The fitted projection, for :func:`sphisto.tl.predict`.

    Raises
    ------
    TypeError
        If ``source`` is neither path nor AnnData.
    FileNotFoundError
        If the file is gone.
    KeyError
        If the AnnData holds no such projection, or one that was predicted.
    ValueError
        If the file is not a fitted projection.

    Examples
    --------
    >>> import sphisto as sp
    >>> fitted = sp.tl.load("toy.projection.pt")  # doctest: +SKIP
    """
    if isinstance(source, str | os.PathLike):
        path = user_path(source)
        left = None if path.exists() else read_unfinished(path.with_suffix(".sections"))
        if left is not None:
            msg = f"Found no file {path} yet, but {left}. Bring it to its end by the same call with `resume=True`."
            raise FileNotFoundError(msg)
        fitted = load_fitted(path)
        written = _fits_beside(path)
    elif hasattr(source, "uns"):
        path = user_path(recorded_path(_model_path(source, key), "model"))
        fitted = load_fitted(path)
        written = {str(key): source.uns[key].get("params", {}).get("fit")}
    else:
        msg = (
            f"Found {type(source).__name__} as `source`; expected the path of a model's file, or the AnnData that was fitted. Give "
            "the table: `section.adata` of a Section, `sdata.tables['table']` of a SpatialData."
        )
        raise TypeError(msg)
    other = [name for name, fit in written.items() if fit != fitted.params.get("fit")]
    if fitted.sections and other:
        logger.warning(
            "The model %s is of another fit than what was written of %s: a fit was broken off, or is still writing. The same "
            "call with `resume=True` brings it to its end; or fit again.", path, ", ".join(map(repr, other)),
        )  # fmt: skip
    return fitted


def _fits_beside(model: Path) -> dict[str, str | None]:
    """Digest of the fit that wrote each section in the store beside a model, if it is called as a fit calls both."""
    parts = model.name.removesuffix(".pt").split(".")
    for i in range(1, len(parts)):
        start, joint = ".".join(parts[:i]), ".".join(parts[i:])
        for name in (f"{start}.zarr", start):
            mark = read_mark(model.parent / name)
            if mark and (found := fits_of(mark, joint)):
                return found
    return {}


def as_fitted(fitted: Fitted | str | Path) -> Fitted:
    """Return a fitted projection as it is, or read from the path of its file."""
    if isinstance(fitted, str | os.PathLike):
        return load(fitted)
    require_fitted(fitted)
    return fitted


def require_fitted(fitted: Any) -> None:
    """Refuse what is no fitted projection, such as the table that was fitted."""
    if not isinstance(fitted, Fitted):
        msg = (
            f"Found {type(fitted).__name__} as `fitted`; expected a fitted projection. Give what "
            "`sphisto.tl.load(adata)` returns of the AnnData that was fitted, or `sphisto.tl.load(path)` of its model's file."
        )
        raise TypeError(msg)


def _model_path(adata: Any, key: str) -> str:
    if key not in adata.uns or "model" not in adata.uns[key]:
        msg = f"Found no projection uns[{key!r}]. Run `sphisto.tl.fit_projection` first."
        raise KeyError(msg)
    if not str(adata.uns[key]["model"]):
        msg = (
            f"The projection uns[{key!r}] was predicted and has no model of its own. Load the one it was predicted by."
        )
        raise KeyError(msg)
    return str(adata.uns[key]["model"])
