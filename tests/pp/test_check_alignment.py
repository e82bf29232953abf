from __future__ import annotations

import re

import numpy as np
import pytest

import sphisto as sp
from sphisto.core.spot import median_pitch


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


REAL = ("her2st_C2", "her2st_C5", "mob_st_1", "mouse_brain_coronal", "breast_visium_xenium")


@pytest.mark.parametrize("name", REAL)
def test_real_sections_fit_at_their_scale_and_not_a_tenth_beside_it(real_section, name, caplog):
    adata = sp.io.read_visium(real_section(name))
    right = next(iter(adata.uns["spatial"].values()))["scalefactors"]["tissue_hires_scalef"]
    assert sp.pp.check_alignment(sp.io.section(adata, image="hires", image_scale=right)).scale == 1
    assert "the same outline" not in caplog.text
    if name == "breast_visium_xenium":  # its tissue fills the image: no outline tells the scale
        return
    for wrong in (0.9, 1.1) if right < 0.9 else (0.9,):
        caplog.clear()
        found = sp.pp.check_alignment(sp.io.section(adata, image="hires", image_scale=right * wrong))
        assert found.scale * wrong == pytest.approx(1, abs=0.02)
        assert f"The scale factor tissue_hires_scalef = {right:.4g} would fit" in caplog.text
    with pytest.raises(ValueError, match=f"tissue_hires_scalef = {right:.4g} would fit"):
        sp.pp.check_alignment(sp.io.section(adata, image="hires", image_scale=right / 2))


@pytest.mark.parametrize("name", ["her2st_C2", "mob_st_1", "mouse_brain_coronal"])
def test_real_sections_whose_image_was_cropped_are_refused_with_the_shift(real_section, name):
    adata = sp.io.read_visium(real_section(name))
    ((library, about),) = adata.uns["spatial"].items()
    factor, image = about["scalefactors"]["tissue_hires_scalef"], np.asarray(about["images"]["hires"])
    pitches = 6 if name == "mob_st_1" else 3  # where three pitches, and a scale a tenth off, explain each other
    cut = round(pitches * median_pitch(np.asarray(adata.obsm["spatial"], dtype=float)) * factor)
    adata.uns["spatial"][library]["images"] = {"hires": image[cut:, cut:]}
    with pytest.raises(ValueError, match=r"seem to be shifted.*before it was cropped") as refused:
        sp.pp.check_alignment(sp.io.section(adata, image="hires", image_scale=factor))
    words = re.search(r'"spatial"\] \+= \((-?\d+), (-?\d+)\)', str(refused.value)).groups()
    np.testing.assert_allclose([int(word) for word in words], -cut / factor, rtol=0.2)
