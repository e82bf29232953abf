from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.scoring.held_out import hold_out


@pytest.fixture(scope="session")
def toy_slide(small_toy_once):
    return make_slide(sp.io.section(small_toy_once))


@pytest.fixture(scope="session")
def held_out(toy_slide):
    return hold_out(toy_slide, "random", 0.3, np.random.default_rng(0))


@pytest.fixture(scope="session")
def spots(toy_slide, held_out):
    return toy_slide.footprint().select(held_out)
