"""A section as it was understood: what everything that computes is handed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._facts import as_html, as_text
from sphisto.core.grid import SAME_SCALE, Grid
from sphisto.core.spot import Spot
from sphisto.io.image.pyramid import Pyramid
from sphisto.slide.slide import Measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.io.window import BBox
    from sphisto.slide.registration import Registration

_NO_ROWS: NDArray[np.intp] = np.zeros(0, dtype=np.intp)


@dataclass(frozen=True, eq=False, repr=False)
class Section:
    """A tissue section, understood: what :func:`sphisto.io.section` made of the data. Do not construct one yourself.

    Parameters
    ----------
    library_id
        Name of the section, as elements of a store are called by it.
    image
        The image in all its resolutions, read by window.
    grid
        Where the image's finest pixels lie: their size in um and in full-resolution px.
    adata
        The very table that was given, into which results are written; ``None`` for an image alone.
    rows
        (n,) rows of the table that are spots of this section.
    measured
        What these spots measured, with centres (y, x) and pitch in full-resolution px; ``None`` for an image alone.
    spot
        Size and shape of a spot or bin; ``None`` for an image alone.
    tissue
        (y, x) bool mask that was given; ``None``: it is found in the image.
    bbox
        (x_min, y_min, x_max, y_max) in full-resolution px: the part of the section that is worked at; ``None``: all.
    check
        Whether spots that do not fit the image are refused.
    about
        What was understood and from what, by decision, in words.
    seen_shape
        Rows and columns of ``adata`` when the section was made.
    sdata
        The SpatialData that was given; ``None`` for data of other kinds.
    registration
        Where it lies upon another section, if that is to be used.
    """

    library_id: str
    image: Pyramid
    grid: Grid
    adata: AnnData | None = None
    rows: NDArray[np.intp] = field(default_factory=lambda: _NO_ROWS)
    measured: Measured | None = None
    spot: Spot | None = None
    tissue: NDArray[np.bool_] | None = None
    bbox: BBox | None = None
    check: bool = True
    about: Mapping[str, str] = field(default_factory=dict)
    seen_shape: tuple[int, int] = (0, 0)
    sdata: SpatialData | None = None
    registration: Registration | None = None

    def __repr__(self) -> str:
        return as_text(f"Section {self.library_id!r}", self.about)

    def _repr_html_(self) -> str:
        return as_html(f"Section {self.library_id!r}", self.about)

    def require_spots(self) -> None:
        """Raise if it is an image alone."""
        if self.adata is None:
            msg = f"The section {self.library_id!r} is an image alone; expected an AnnData or SpatialData with counts."
            raise ValueError(msg)

    def copy(self) -> Section:
        """Return the same section with a table of its own."""
        if self.adata is None:
            return self
        return replace(self, adata=self.adata.to_memory() if self.adata.isbacked else self.adata.copy())

    def registered(self, registration: Registration) -> Section:
        """Return the same section laid upon another, so that what was measured there may be used at the same places.

        It is where both are fitted together, or this one is predicted by a fit of the other; not if the registration is not
        trusted, or left-out spots show that it does harm.

        Parameters
        ----------
        registration
            What :func:`sphisto.pp.register` found with this section as the moving one.

        Raises
        ------
        ValueError
            If the registration is of another section, or of this one at another scale.

        Examples
        --------
        >>> import sphisto as sp
        >>> first = sp.datasets.toy(192, 192, pitch_um=24)
        >>> second = first.copy()
        >>> second.uns["spatial"] = {"second": second.uns["spatial"].pop("toy")}
        >>> laid = sp.io.section(second).registered(sp.pp.register(second, first))
        >>> laid.about["registration"]
        "upon 'toy'"
        """
        own = self.grid.fullres_um_per_px
        if registration.moving != self.library_id or not np.isclose(registration.um_per_px[0], own, rtol=SAME_SCALE):
            msg = (
                f"Found a registration of {registration.moving!r} of {registration.um_per_px[0]:.4g} um per full-resolution px "
                f"with {self.library_id!r} of {own:.4g}; expected one of this section. Call "
                "`sphisto.pp.register(this_section, other)`."
            )
            raise ValueError(msg)
        words = f"upon {registration.fixed!r}" if registration.trusted else f"not trusted: {registration.why}"
        return replace(self, registration=registration, about={**self.about, "registration": words})

    @property
    def table(self) -> AnnData:
        """The section's own rows of the table, perhaps as a view."""
        self.require_spots()
        whole: Any = self.adata
        return whole if len(self.rows) == whole.n_obs else whole[self.rows]

    def spread(self, values: NDArray[Any], fill: Any = np.nan) -> NDArray[Any]:
        """Bring (n, ...) values of the spots to the rows of the whole table; ``fill`` in rows that are not the section's."""
        if self.adata is None or len(self.rows) == self.adata.n_obs:
            return values
        whole = np.full((self.adata.n_obs, *values.shape[1:]), fill, dtype=values.dtype)
        whole[self.rows] = values
        return whole
