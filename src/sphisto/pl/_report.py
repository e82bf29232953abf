"""One file that shows a store in a browser, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphisto.core.atomic import require_free
from sphisto.io.export.report.page import write_page
from sphisto.io.paths import user_path
from sphisto.io.store.data import store_of
from sphisto.pl._report_content import content_of
from sphisto.pl._report_plan import MOST_SIDE, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sphisto.io.store.data import Data


def report(
    data: Data,
    path: str | Path = "report.html",
    *,
    genes: str | Sequence[str] | None = None,
    key: str | None = None,
    library_id: str | None = None,
    max_side: int = MOST_SIDE,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML file that shows a store in a browser: it opens from disk, needs no network and can be sent to others.

    It shows the tissue with a gene over it, or several in colours, to zoom and pan; each value with its standard
    deviation and place under the cursor; what the spots measured beside it; outlines of labels and shapes; the skill of
    all genes, the losses of the training, counts of the spots, what was understood of the input, and the settings. Values
    are those of :func:`sphisto.get.gene_raster`, in 8 bits of the square root: each root is off by at most 1/510 of the
    root of the gene's highest value. Deviations are means over blocks of 8 x 8 px, in the same way.

    Parameters
    ----------
    data
        Path of a store, the SpatialData read from it, or the AnnData that was fitted.
    path
        File to write.
    genes
        Genes of the table to put in; a file holds no others. Default: the first 20 of those that are stored as rasters, or
        where there are none the 12 with the highest skill. Deviations are known of genes that are stored as rasters.
    key
        Which projection of the store; default: all, to choose from by a menu.
    library_id
        Which section, where there are several; default: all.
    max_side
        Pixels on the longer side of what is shown. Of larger sections the finest level of the pyramid that is no larger
        is shown, and the file says so. Lower it for smaller files.
    title
        Heading of the page; default: the name of the store.
    overwrite
        Replace a file that is there.

    Returns
    -------
    Path of the file.

    Writes
    ------
    `path`
        At once, when it is complete: whatever happens before, a file that is there stays as it is. Twenty genes of
        2000 x 2000 px with tissue everywhere take some 14 MB, and up to 18 MB where the stain is rough.

    Raises
    ------
    FileExistsError
        If the file is there.
    FileNotFoundError
        If there is no store, or no folder for the file.
    KeyError
        If a gene or projection is not there.
    TypeError
        If it is nothing that leads to a store.
    ValueError
        If the store holds no projection, no level of it is as small as ``max_side``, or so many genes would make a file that
        browsers do not open well.

    Examples
    --------
    >>> import sphisto
    >>> sphisto.pl.report("toy.zarr", "toy.html", genes=["class1_a", "nuclei_a"])  # doctest: +SKIP
    """
    path = user_path(path)
    require_free(path, overwrite=overwrite)
    plan = plan_of(store_of(data, key), genes, key=key, library_id=library_id, max_side=max_side)
    write_page(path, *content_of(plan, title))
    return path
