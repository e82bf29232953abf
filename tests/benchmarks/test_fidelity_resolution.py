from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


@pytest.mark.parametrize("times", [2, 4])
def test_places_stay_where_they_are_in_um(times, toy_case):
    from benchmarks.fidelity.methods.resolution import coarser

    found, before, after = coarser(toy_case, times), toy_case.slide, None
    after = found.slide
    assert after.grid.um_per_px == pytest.approx(times * before.grid.um_per_px)
    um, coarse_um = before.grid.um_per_px, after.grid.um_per_px
    np.testing.assert_allclose(found.centers * coarse_um, toy_case.centers * um)
    np.testing.assert_allclose(found.regions.centers * coarse_um, toy_case.regions.centers * um)
    assert found.pitch * coarse_um == pytest.approx(toy_case.pitch * um)
    assert after.spot_area * coarse_um**2 == pytest.approx(before.spot_area * um**2)
    np.testing.assert_array_equal(found.regions.size, toy_case.regions.size)
    np.testing.assert_array_equal(found.truth, toy_case.truth)


def test_pixels_are_means_of_blocks_and_odd_ones_are_cut(toy_case):
    from benchmarks.fidelity.methods.resolution import coarser

    slide = toy_case.slide
    odd = replace(slide, image=np.asarray(slide.image)[:, :399], tissue=slide.tissue[:399, :])
    odd = replace(odd, grid=replace(slide.grid, height=399))
    found = coarser(replace(toy_case, slide=odd), 4).slide
    assert found.grid.shape == (99, 100)
    assert found.image.shape == (3, 99, 100)
    block = np.asarray(slide.image)[:, 40:44, 80:84].mean(axis=(1, 2))
    np.testing.assert_allclose(found.image[:, 10, 20], block, atol=0.51)
    assert found.tissue[10, 20] == (slide.tissue[40:44, 80:84].mean() >= 0.5)


def test_what_spots_see_is_about_the_same(toy_case):
    from benchmarks.fidelity.methods.resolution import coarser

    found = coarser(toy_case, 4)
    fine, coarse = (
        case.slide.footprint().mean(np.asarray(case.slide.image).astype(float)) for case in (toy_case, found)
    )
    np.testing.assert_allclose(fine, coarse, atol=3)
