"""Sections that many tests share: small, drawn by rule, made once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent))  # for what several modules read with

# the sections are too small for threads to gain anything, and threads of parallel runs hinder each other badly
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

# set for tutorials, too, which look there
os.environ.setdefault("SPHISTO_DATA", str(Path(__file__).resolve().parents[2] / "shared" / "data"))
REAL_DATA = Path(os.environ["SPHISTO_DATA"])


@pytest.fixture(scope="session", autouse=True)
def _short_epochs() -> Iterator[None]:
    """Train small sections for four batches an epoch instead of sixteen, by default."""
    from sphisto.config import PRESETS, FitConfig, TrainConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "default", FitConfig(train=TrainConfig(least_batches=4)))
        yield


@pytest.fixture(scope="session")
def small_toy_once() -> AnnData:
    import sphisto as sp

    return sp.datasets.toy(96, 112, pitch_um=24, rng=1)


@pytest.fixture
def small_toy(small_toy_once: AnnData) -> AnnData:
    """96 x 112 px section, some 50 spots."""
    return small_toy_once.copy()


@pytest.fixture(scope="session")
def fitted_once(small_toy_once: AnnData, tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    import sphisto as sp

    adata = small_toy_once.copy()
    sp.tl.fit_projection(adata, store=tmp_path_factory.mktemp("fitted") / "toy.zarr", max_epochs=4, device="cpu")
    return adata


@pytest.fixture
def fitted(fitted_once: AnnData) -> AnnData:
    """A small section with a projection; its store must not be written to."""
    return fitted_once.copy()


@pytest.fixture
def store(fitted: AnnData) -> Path:
    """Path of that projection's store."""
    return Path(fitted.uns["projection"]["store"])


@pytest.fixture(scope="session")
def large(fitted_once: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with factor maps and tissue of three levels: those of a small one, each pixel 16 x 16 times, and noise.

    It must not be written to.
    """
    import copy
    import shutil

    import zarr

    from sphisto.core.tiles import Window, nested, plan_tiles
    from sphisto.io.store import read as stores
    from sphisto.io.store.raster import completed, create_raster, open_raster, open_tissue, write_mask

    small = Path(fitted_once.uns["projection"]["store"])
    store = Path(shutil.copytree(small, tmp_path_factory.mktemp("large") / "toy.zarr"))
    maps = stores.raster(store, "projection_factors")
    values = maps.read(0, Window(0, 0, *maps.shapes[0]))
    tissue = np.kron(np.isfinite(values[0]), np.ones((16, 16), bool))
    values = np.kron(np.nan_to_num(values, nan=0), np.ones((16, 16), np.float32))
    values *= np.random.default_rng(0).uniform(0.9, 1.1, tissue.shape).astype(np.float32)
    grid = maps.grid.resized(*tissue.shape)
    write_mask(store, "projection_tissue", tissue, grid)
    create_raster(store, "projection_factors", maps.channels, grid, together=True)
    writer = open_raster(store, "projection_factors", open_tissue(store, "projection_tissue"))
    windows = [tile.core for tile in nested(plan_tiles(grid.shape))]
    for window, coarser in zip(windows, completed(windows, writer.shapes), strict=True):
        writer.write(window, values[:, *window.slices])
        for level, part in coarser:
            writer.coarsen(level, part)
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    mark: Any = copy.deepcopy(dict(root.attrs["sphisto"]))
    for name in ("projection_factors", "projection_tissue"):
        mark["grids"][name] |= {
            "height": grid.height, "width": grid.width, "um_per_px": grid.um_per_px,
            "fullres_per_px": list(grid.fullres_per_px),
        }  # fmt: skip
    root.attrs["sphisto"] = mark
    zarr.consolidate_metadata(store)
    return store


def _lazy(counts: Any, chunk: Callable[[Any], Any] = np.asarray) -> Any:
    import dask.array as da

    whole = da.from_array(counts, chunks=(7, 5))
    return whole.map_blocks(chunk, dtype=counts.dtype, meta=chunk(counts[:0, :0]))


def _twice(counts: Any) -> Any:
    """Make sparse rows that hold each value in two halves for one place."""
    one = sparse.csr_matrix(counts)
    halves = np.stack([one.data - np.minimum(one.data, 1), np.minimum(one.data, 1)], 1).ravel()
    return sparse.csr_matrix((halves, np.repeat(one.indices, 2), 2 * one.indptr), shape=one.shape)


MATRICES: dict[str, Callable[[Any], Any]] = {
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "sparse, values in parts": _twice,
    "sparse, int64": lambda counts: sparse.csr_array(counts.astype(np.int64)),
    "sparse, bool-like uint8": lambda counts: sparse.csc_matrix(counts.astype(np.uint8)),
    "dense": np.asarray,
    "dense, columns first": np.asfortranarray,
    "np.matrix": np.matrix,
    "nothing masked": np.ma.asarray,
    "big-endian": lambda counts: counts.astype(">f4"),
    **{name: lambda counts, name=name: counts.astype(name)
       for name in ("int8", "uint16", "int32", "uint64", "float16", "float64")},
    "lazy": _lazy,
    "lazy csr_matrix": lambda counts: _lazy(counts, sparse.csr_matrix),
    "lazy csr_array": lambda counts: _lazy(counts, sparse.csr_array),
    "lazy csc_matrix": lambda counts: _lazy(counts, sparse.csc_matrix),
}  # fmt: skip


@pytest.fixture(params=MATRICES)
def matrix(request: pytest.FixtureRequest) -> Callable[[NDArray[np.float32]], Any]:
    """Turn (spots, genes) counts below 100 into one of the kinds of matrix that an AnnData may hold."""
    return MATRICES[request.param]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_section() -> Callable[[str], Path]:
    """Find the folder of a real section, or skip."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"the real section {name} is not on this machine")
        return folder

    return find


@pytest.fixture(scope="session")
def registration():
    """Make a rigid motion of one section upon another, in x, y of full-resolution px, as ``pp.register`` gives it."""
    from sphisto.slide.registration import Registration

    def make(moving, fixed, turn=0.0, shift=(0.0, 0.0), um_per_px=(1.0, 1.0), weight=1.0):
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        scale = um_per_px[0] / um_per_px[1]
        matrix = np.array([[scale * c, -scale * s, shift[0]], [scale * s, scale * c, shift[1]], [0, 0, 1]])
        return Registration(
            moving, fixed, matrix, um_per_px, "rigid", False, 1.0, 1.0, 1.0, 0.0, np.nan, np.nan, weight, "because"
        )  # fmt: skip

    return make
