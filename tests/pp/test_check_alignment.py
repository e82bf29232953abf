from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp


def test_a_section_that_fits_is_scored(small_toy):
    found = sp.pp.check_alignment(small_toy)
    assert found.n_spots == small_toy.n_obs
    assert found.inside == 1
    assert found.on_tissue > 0.9
    assert 0.5 < found.fit <= found.best_fit <= 1


def test_spots_beside_the_tissue_are_refused(small_toy):
    section = sp.io.section(small_toy, tissue=np.pad(np.ones((8, 8), dtype=bool), ((0, 88), (0, 104))))
    with pytest.raises(ValueError, match="toy: .*tissue"):
        sp.pp.check_alignment(section)
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + 500
    with pytest.raises(ValueError, match="toy: .*outside"):
        sp.pp.check_alignment(small_toy)
