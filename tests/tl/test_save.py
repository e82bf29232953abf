from __future__ import annotations

import pytest

import sphisto as sp


def test_what_is_loaded_can_be_saved_and_loaded_again(fitted, tmp_path):
    one = sp.tl.load(fitted)
    sp.tl.save(one, tmp_path / "copy.pt")
    assert sp.tl.load(tmp_path / "copy.pt").genes == one.genes
    assert sp.tl.load(str(tmp_path / "copy.pt")).spot == one.spot


def test_an_anndata_without_projection_is_said(small_toy):
    with pytest.raises(KeyError, match=r"Found no projection uns\['projection'\]. Run `sphisto.tl.fit_projection`"):
        sp.tl.load(small_toy)
