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
