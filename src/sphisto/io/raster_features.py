"""Features that somebody else computed of a section's image, such as an encoder's output, as a source for a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import SAME_SCALE, Grid
from sphisto.core.tiles import Window
from sphisto.core.upsample import at_points, block_middles
from sphisto.io.elements import finest, matrix_to, scale_and_shift
from sphisto.slide.fingerprint import fingerprint
from sphisto.slide.slide import Slide


@dataclass(frozen=True, eq=False)
class RasterFeatures:
    """Features of a section's image in a raster of your own, for ``features=`` of a fit.

    Parameters
    ----------
    raster
        (c, y, x) numbers, finite everywhere: a numpy, dask or zarr array, which covers the whole image at any
        resolution; or an image element of a SpatialData, which lies where its transformation to ``global``
        (full-resolution pixels) says. It is read by window. For several sections a dictionary of such rasters, by the
        names of the sections (``library_id``).
    name
        By which messages and the model call it. A model only predicts with features of the same name, and of the same
        ``version``.
    version
        Of the features, such as the encoder and its weights; it is written into the model.
    channels
        Names of the c features; default: their numbers.

    Raises
    ------
    ValueError, TypeError
        If the raster has other than three dimensions or does not lie on the section by a scale and a shift.

    Examples
    --------
    >>> import numpy as np
    >>> import sphisto as sp
    >>> encoded = np.random.default_rng(0).random((8, 24, 24), dtype=np.float32)
    >>> features = sp.io.RasterFeatures(encoded, name="encoder", version="v1")
    >>> adata = sp.datasets.toy(96, 96, pitch_um=24, spot_um=13)
    >>> sp.tl.fit_projection(adata, features=["texture", features], store="toy.zarr")  # doctest: +SKIP
    """

    raster: Any
    name: str = "raster"
    version: str = ""
    channels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self._rasters:
            msg = "Found no raster of features; expected one for each section: `RasterFeatures({library_id: raster})`."
            raise ValueError(msg)
        for raster in self._rasters.values():
            shape: tuple[int, ...] = getattr(_values(raster), "shape", ())
            if len(shape) != 3 or 0 in shape:
                msg = f"Found a raster of features of shape {tuple(shape)}; expected (channels, y, x), none of them 0."
                raise ValueError(msg)
            if shape[0] != self._n_features:
                msg = f"Found rasters of {self._n_features} and of {shape[0]} features; expected the same of all sections."
                raise ValueError(msg)
        if self.channels is not None and len(self.channels) != self._n_features:
            msg = f"Found {len(self.channels)} names for {self._n_features} features; expected one for each."
            raise ValueError(msg)

    @property
    def _by_section(self) -> bool:
        return isinstance(self.raster, Mapping) and not _is_element(self.raster)

    @property
    def _rasters(self) -> dict[str, Any]:
        return {str(name): one for name, one in self.raster.items()} if self._by_section else {"": self.raster}

    @property
    def _n_features(self) -> int:
        return int(_values(next(iter(self._rasters.values()))).shape[0])

    @property
    def hash(self) -> str:
        """Of name, version and number of features: those of another section are the same source."""
        return fingerprint([self.name, self.version, self._n_features])

    def require_sections(self, names: Sequence[str]) -> None:
        """Refuse several sections of which not each has a raster of its own."""
        lacking = [name for name in names if name not in self._rasters] if self._by_section else []
        if lacking or (len(names) > 1 and not self._by_section):
            found = f"for {', '.join(self._rasters)}" if self._by_section else "of one raster"
            msg = (
                f"Found features {self.name!r} {found}, and the section{'s' * (len(names) > 1)} {', '.join(names)}; expected a raster "
                "for each: `RasterFeatures({library_id: raster, ...})`."
            )
            raise ValueError(msg)

    def of(self, slide: Slide) -> _Placed:
        """Return the features on a section's image."""
        if self._by_section:
            self.require_sections([slide.name])
        raster = self._rasters[slide.name if self._by_section else ""]
        values = _values(raster)
        scale, shift = (
            _of_element(raster, slide.grid) if _is_element(raster) else _of_array(values, slide.grid, self.name)
        )
        names = self.channels or tuple(f"{self.name} {i}" for i in range(self._n_features))
        return _Placed(values, names, scale, shift, slide.grid)


def _is_element(raster: Any) -> bool:
    return hasattr(raster, "dims") or hasattr(raster, "children")  # of xarray: DataArray, DataTree


def _values(raster: Any) -> Any:
    return finest(raster, ("c", "y", "x")) if _is_element(raster) else raster


def _of_array(values: Any, grid: Grid, name: str) -> tuple[float, tuple[float, float]]:
    """Return px of the grid per px of an array that covers it, and no shift."""
    ratio = np.array(grid.shape) / values.shape[1:]
    rounding = 1 / np.array(values.shape[1:]).min() + SAME_SCALE
    if abs(ratio[0] / ratio[1] - 1) > rounding:
        msg = (
            f"Found features {name!r} of {values.shape[1]} x {values.shape[2]} px (y, x) for an image "
            f"of {grid.height} x {grid.width}; expected a raster of the whole image, of the same proportions. Give an "
            "image element with a transformation if it covers another area."
        )
        raise ValueError(msg)
    return float(np.sqrt(ratio[0] * ratio[1])), (0.0, 0.0)


def _of_element(element: Any, grid: Grid) -> tuple[float, tuple[float, float]]:
    """Return px of the grid per px of an element, and where its corner lies (y, x) in px of the grid."""
    matrix = matrix_to(element, "global")
    scale = scale_and_shift(matrix)
    if scale is None:
        msg = (
            f"Found features that lie in 'global' by more than a scale and a shift: {np.round(matrix, 4).tolist()}. "
            "Transform them first (`spatialdata.transform`)."
        )
        raise ValueError(msg)
    shift = grid.from_fullres(matrix[:2, 2][::-1][None])[0]
    return scale / float(np.sqrt(np.prod(grid.fullres_per_px))), (float(shift[0]), float(shift[1]))


@dataclass(frozen=True, eq=False)
class _Placed:
    """Features on the grid of a section, linearly interpolated to blocks of whole pixels."""

    values: Any
    channels: tuple[str, ...]
    scale: float
    shift: tuple[float, float]
    grid: Grid

    @property
    def stride(self) -> int:
        """Side of a block in px: about that of a pixel of the raster."""
        return max(1, round(self.scale))

    @property
    def um_per_px(self) -> float:
        """Side of a block in um."""
        return self.grid.um_per_px * self.stride

    def read(self, window: Window) -> NDArray[np.float32]:
        """(c, h / stride, w / stride) features of the blocks of a window, rounded up."""
        height, width = (-(-side // self.stride) for side in window.shape)
        blocks = Window(window.y0, window.x0, window.y0 + height * self.stride, window.x0 + width * self.stride)
        points = (block_middles(blocks, self.stride) - self.shift) / self.scale  # in px of the raster
        low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
        high = np.ceil(points.max(axis=0)).astype(int) + 1
        low = np.minimum(low, np.array(self.values.shape[1:]) - 1)
        part = np.asarray(self.values[:, low[0] : max(high[0], low[0] + 1), low[1] : max(high[1], low[1] + 1)])
        if part.dtype.kind not in "fiu":
            msg = f"Found features of dtype {part.dtype}; expected numbers."
            raise TypeError(msg)
        found = at_points(part.astype(np.float32), points, (int(low[0]), int(low[1])), 1)
        return np.ascontiguousarray(found.T.reshape(-1, height, width))
