"""Where there is tissue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.core.grid import Grid
from sphisto.io.images import open_image
from sphisto.io.intake import make_slide
from sphisto.io.pyramid import as_pyramid
from sphisto.io.section import read_section
from sphisto.io.tables import require_own
from sphisto.io.working_picture import tissue_in

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData


def tissue_mask(
    data: AnnData | SpatialData | NDArray[Any] | str | Path,
    *,
    um_per_px: float | None = None,
    library_id: str | None = None,
    key_added: str = "tissue_share",
) -> NDArray[np.bool_]:
    """Find the tissue in an H&E picture: all its pieces, with holes; without fiducial marks, dust and glass.

    Glass is told by its lack of texture and stain; gaps up to the size of a fat cell are closed, so that pale fat is
    tissue, and holes above 0.02 mm2 stay holes.

    Parameters
    ----------
    data
        AnnData in the Visium layout or SpatialData; or a picture alone, path or array (y, x, 3).
    um_per_px
        Um per pixel of a picture alone; required for one.
    library_id
        Which section to take, where ``data`` holds several.
    key_added
        Column of ``obs`` to write.

    Returns
    -------
    (y, x) bool mask of the picture's size. Change it by hand where it is wrong and pass it on as ``tissue=`` to
    :func:`sphisto.tl.fit_projection`.

    Writes
    ------
    `adata.obs[key_added]` : float32 (spots,)
        Share of each spot's disc that lies on the mask, if there are spots.

    Raises
    ------
    ValueError
        If a picture comes without its scale, the section cannot be read, or a column of that name holds something else.

    Examples
    --------
    >>> import sphisto as sp
    >>> adata = sp.datasets.toy(128, 128, pitch_um=24)
    >>> sp.pp.tissue_mask(adata).shape
    (128, 128)
    """
    if not (hasattr(data, "obsm") or hasattr(data, "shapes")):
        if um_per_px is None:
            msg = "A picture alone does not tell its scale; give `um_per_px` (um per pixel of the picture)."
            raise ValueError(msg)
        pyramid = as_pyramid(open_image(data) if isinstance(data, str | Path) else data)
        return np.asarray(tissue_in(pyramid, pyramid.picture(), Grid(*pyramid.shape, um_per_px)))
    section = read_section(data, library_id=library_id)
    obs = section.table.obs
    own = key_added in obs and obs[key_added].dtype == np.float32
    require_own(obs, key_added, own, where="obs", remedy="Give another `key_added`.")
    slide = make_slide(section, check=False, repair=False)
    section.table.obs[key_added] = slide.footprint().mean(slide.tissue)[:, 0].astype(np.float32)
    return np.asarray(slide.tissue)
