"""Where there is tissue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.core.spot import Spot
from sphisto.io.sections import as_section, section
from sphisto.io.slides import make_slide
from sphisto.io.store.tables import require_own
from sphisto.io.understood import Section

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData


def tissue_mask(
    data: Section | AnnData | SpatialData | NDArray[Any] | str | Path,
    *,
    image: Any = None,
    um_per_px: float | None = None,
    library_id: str | None = None,
    key_added: str = "tissue_share",
) -> NDArray[np.bool_]:
    """Find the tissue in an H&E image: all its pieces, with holes; without fiducial marks, dust and glass.

    Glass is recognised by its lack of texture and stain; gaps up to the size of a fat cell are closed, so that pale fat is
    tissue, and holes above 0.02 mm2 stay holes.

    Parameters
    ----------
    data
        AnnData in the Visium layout, SpatialData, the folder of a Space Ranger run, or a :class:`sphisto.io.Section`; or a
        image alone, path or array (y, x, 3).
    um_per_px
        Um per pixel of an image alone, and so of its mask; required for one, and for one only.
    image, library_id
        As in :func:`sphisto.io.section`.
    key_added
        Column of ``obs`` to write.

    Returns
    -------
    (y, x) bool mask of the image's size. Edit it where it is wrong and pass it on as ``tissue=`` to
    :func:`sphisto.io.section`.

    Writes
    ------
    `adata.obs[key_added]` : float32 (spots,)
        Share of each spot's disc that lies on the mask, if there are spots.

    Raises
    ------
    ValueError
        If an image comes without its scale, the section cannot be read, or a column of that name holds something else.

    Examples
    --------
    >>> import sphisto as sp
    >>> adata = sp.datasets.toy(128, 128, pitch_um=24)
    >>> sp.pp.tissue_mask(adata).shape
    (128, 128)
    """
    if um_per_px is None:
        found = as_section(data, image=image, library_id=library_id)
    elif image is not None or hasattr(data, "obsm") or hasattr(data, "tables") or isinstance(data, Section):
        msg = f"Found um_per_px={um_per_px!r} with data of known scale; expected it with an image alone. Leave it out."
        raise ValueError(msg)
    else:
        found = section(data, image_um_per_px=um_per_px, library_id=library_id)
    if found.adata is not None:
        obs = found.adata.obs
        own = key_added in obs and obs[key_added].dtype == np.float32
        require_own(obs, key_added, own, where="obs", remedy="Give another `key_added`.")
    # the mask of an image alone does not depend on the size of any spot
    slide = make_slide(replace(found, check=False), spot=Spot(found.grid.um_per_px), repair=False)
    if found.adata is not None:
        share = slide.footprint().mean(slide.tissue)[:, 0].astype(np.float32)
        obs[key_added] = found.spread(share)
    return np.asarray(slide.tissue)
