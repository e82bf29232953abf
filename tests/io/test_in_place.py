"""Functions that change a table in place find it in what holds one, and say what to give of what does not."""

from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.in_place import table_to_change


def spatialdata_of(**tables):
    spatialdata = pytest.importorskip("spatialdata")
    return spatialdata.SpatialData(tables=tables)


def test_the_very_table_is_changed(small_toy):
    section = sp.io.section(small_toy)
    sdata = spatialdata_of(table=small_toy)
    for data in (small_toy, section, sdata):
        assert table_to_change(data) is small_toy
    raw = small_toy.X.toarray()
    sp.pp.qc(sdata, min_genes=0, min_cells=0)
    sp.pp.normalize(section)
    assert np.array_equal(small_toy.layers["counts"].toarray(), raw)
    sp.pp.explore(sdata, n_markers=1)
    assert {"total_counts", "cluster"} <= set(sdata.tables["table"].obs)


def test_of_a_section_filtered_afterwards_the_next_call_says_so(small_toy):
    section = sp.io.section(small_toy)
    least = int((small_toy.X > 0).sum(axis=1).min())
    sp.pp.qc(section, min_genes=least + 1)
    assert section.adata is small_toy
    with pytest.raises(ValueError, match=r"sphisto\.io\.section"):
        sp.tl.fit_projection(section, store="unused.zarr")


def test_sections_of_a_list_are_judged(small_toy):
    small_toy.obs["part"] = np.where(np.arange(small_toy.n_obs) % 2, "a", "b")
    small_toy.obsm["one"] = np.random.default_rng(0).normal(size=(small_toy.n_obs, 3))
    sp.tl.integration(sp.io.section(small_toy), section_key="part", before="one", after="one")
    assert "integration" in small_toy.uns
    with pytest.raises(ValueError, match=r"some of which are the same one.*`section\.adata`"):
        sp.tl.integration([sp.io.section(small_toy), small_toy], section_key="part", before="one", after="one")


@pytest.mark.parametrize("verb", [sp.pp.qc, sp.pp.normalize, sp.pp.explore, sp.tl.integration])
def test_what_holds_no_single_table_is_refused_with_what_to_give(verb, small_toy):
    two = spatialdata_of(a=small_toy.copy(), b=small_toy.copy())
    for data, words in (
        (two, r"SpatialData of 2 tables \('a', 'b'\).*`sdata.tables\['a'\]`"),
        (spatialdata_of(), r"0 tables \(none\); expected an AnnData"),
        ("run/outs", r"path 'run/outs'.*`sphisto.io.read_visium\(path\)`"),
        (None, "Found NoneType; expected an AnnData"),
        (small_toy.obs, "Found an object of type DataFrame; expected an AnnData"),
    ):
        with pytest.raises(TypeError, match=words):
            verb(data)


def test_an_image_alone_has_no_table():
    image = sp.io.section(np.full((64, 64, 3), 200, np.uint8), image_um_per_px=1)
    with pytest.raises(ValueError, match="is an image alone"):
        sp.pp.qc(image)
