from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sphisto.core.splits import random_spots, split_counts, spot_blocks


@pytest.fixture
def lattice():
    """Centres of 30 x 30 spots of a hexagonal array with pitch 7."""
    row, col = (i.ravel() for i in np.mgrid[:30, :30])
    return 7.0 * np.stack([row * np.sqrt(3) / 2, col + 0.5 * (row % 2)], axis=1)


def nearest_known(centers, held_out):
    """Distance of each held-out spot to the nearest that is not."""
    apart = np.sqrt(np.square(centers[held_out][:, None] - centers[~held_out]).sum(axis=-1))
    return apart.min(axis=1)


def test_random_spots_are_the_share_and_differ_by_seed():
    first, second = (random_spots(200, 0.2, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.sum() == second.sum() == 40
    assert (first != second).any()
    np.testing.assert_array_equal(first, random_spots(200, 0.2, np.random.default_rng(0)))


def test_at_least_one_spot_is_held_out(rng):
    assert random_spots(3, 0.01, rng).sum() == 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_blocks_are_the_share_but_for_half_a_block(lattice, share, rng):
    assert spot_blocks(lattice, 7.0, share, rng).sum() == pytest.approx(share * len(lattice), abs=15)


def test_blocks_leave_spots_without_neighbours(lattice, rng):
    blocks = spot_blocks(lattice, 7.0, 0.2, rng)
    single = random_spots(len(lattice), 0.2, rng)
    assert nearest_known(lattice, blocks).max() > 2.4 * 7  # the middle of a block of 5 x 5
    assert np.median(nearest_known(lattice, blocks)) > np.median(nearest_known(lattice, single))


def test_blocks_do_not_depend_on_the_unit(lattice):
    a = spot_blocks(lattice, 7.0, 0.2, np.random.default_rng(3))
    b = spot_blocks(lattice * 10, 70.0, 0.2, np.random.default_rng(3))
    np.testing.assert_array_equal(a, b)


def test_what_cannot_be_split_is_refused(lattice, rng):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        random_spots(10, 1.0, rng)
    with pytest.raises(ValueError, match="at least two"):
        random_spots(1, 0.5, rng)
    with pytest.raises(ValueError, match=r"holds all 2 spots.*single spots instead"):
        spot_blocks(np.array([[0.0, 0.0], [0.0, 1e-6]]), 1.0, 0.2, rng)


@pytest.mark.parametrize("seed", [0, np.random.default_rng(0)], ids=["seed", "generator"])
def test_halves_of_counts_are_two_measurements_of_the_same(seed, rng):
    counts = sparse.csr_array(rng.poisson(3, (200, 40)).astype(np.float32))
    first, second = split_counts(counts, seed)
    np.testing.assert_array_equal((first + second).toarray(), 2 * counts.toarray())
    assert min(first.data.min(), second.data.min()) >= 0
    assert first.sum() == pytest.approx(counts.sum(), rel=0.05)
    error = (first - second).toarray()
    assert np.square(error).mean() == pytest.approx(4 * counts.mean(), rel=0.1)  # Poisson: half has twice
    assert (first.data != second.data).any()
