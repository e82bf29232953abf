from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse


def test_the_truth_of_bins_is_the_mean_rate_times_their_area(toy_case):
    from sphisto.datasets import toy_truth

    case = toy_case
    rates = toy_truth(case.adata, list(case.adata.var_names[case.scored])).to_numpy()
    k = len(case.regions) // 2
    y, x = (case.regions.centers[k] - 2).astype(int)
    expected = rates[:, y : y + 4, x : x + 4].mean(axis=(1, 2)) * 16 / case.slide.spot_area
    np.testing.assert_allclose(case.truth[k], expected, rtol=1e-5)


def test_each_pattern_has_two_scored_genes_and_noise_none(toy_case):
    names = toy_case.adata.var_names[toy_case.scored]
    assert "class0_a" in names
    assert "noise_a" in toy_case.adata.var_names
    assert not any(name.startswith("noise") for name in names)
    assert {sum(name.startswith(kind) for name in names) for kind in ("class0", "nuclei", "gradient")} == {2}


def test_held_out_spots_are_not_in_the_training_data(spots_case):
    from scipy.spatial.distance import cdist

    assert cdist(spots_case.centers, spots_case.regions.centers).min() > 0.9 * spots_case.pitch
    assert len(spots_case.centers) == spots_case.adata.n_obs


def test_pooling_averages_pixels(toy_case):
    rows = np.broadcast_to(np.arange(toy_case.slide.grid.height, dtype=np.float32)[:, None], toy_case.slide.grid.shape)
    at_spots, at_regions = toy_case.pooled(rows[None] + 0.5)
    np.testing.assert_allclose(at_spots[:, 0], toy_case.centers[:, 0], atol=0.05)
    np.testing.assert_allclose(at_regions[:, 0], toy_case.regions.centers[:, 0], atol=1e-3)


def test_transcripts_fall_within_their_cell_and_spots_get_their_share(rng):
    from benchmarks.fidelity.sets.dapi import fallen

    share = sparse.csr_array(np.array([[0.5, 0.0], [0.25, 0.0], [0.0, 1.0]]))
    counts = np.array([[40_000, 0], [7, 300]])
    found = fallen(share, counts, 3, rng)
    np.testing.assert_allclose(found[:2, 0], [20_000, 10_000], rtol=0.03)
    np.testing.assert_array_equal(found[2], [7, 300])
    assert found[:2, 1].sum() == 0


def test_an_array_of_pseudo_spots_lies_in_the_picture_at_its_pitch(rng):
    from benchmarks.fidelity.sets.dapi import PITCH_UM, SPOT_UM, UM_PER_PX, lattice

    from sphisto.core.spot import median_pitch

    centers, rows, columns = lattice((545, 689), rng)
    margin = SPOT_UM / UM_PER_PX / 2
    assert (centers >= margin).all()
    assert (centers <= np.array([545, 689]) - margin).all()
    assert median_pitch(centers) == pytest.approx(PITCH_UM / UM_PER_PX)
    assert ((rows + columns) % 2 == 0).all()


@pytest.mark.parametrize(("name", "split"), [("mob_st_1", "random"), ("mob_st_1", "blocks")])
def test_real_spots_are_split_before_genes_are_chosen(real_section, name, split):
    from benchmarks.fidelity.sets import make_case

    case = make_case(name, split, 0, real_section(name).parent)
    assert 0.1 < len(case.truth) / (len(case.truth) + case.adata.n_obs) < 0.3
    assert ((case.counts > 0).mean(axis=0) > 0.03).all()
    assert case.truth.shape[1] == case.adata.n_vars


def test_pseudo_spots_hold_whole_transcripts_and_bins_all_of_them(real_section):
    from benchmarks.fidelity.sets import make_case

    case = make_case("xenium_breast_dapi", "finer", 0, real_section("xenium_breast_dapi").parent)
    assert (case.counts == np.rint(case.counts)).all()
    in_spots = case.counts[:, case.scored].sum() / len(case.centers)
    in_bins = case.truth.sum() / case.regions.size.sum()
    assert in_spots == pytest.approx(in_bins, rel=0.05)  # counts per spot area
