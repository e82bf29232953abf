"""Sections that many tests share: small, drawn by rule, made once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

# the sections are too small for threads to gain anything, and threads of parallel runs hinder each other badly
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TQDM_DISABLE"] = "1"

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _short_epochs() -> Iterator[None]:
    """Train small sections for four batches an epoch instead of sixteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sphisto.model.training._LEAST_BATCHES", 4)
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
