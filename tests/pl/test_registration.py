from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.slide.registration import Registration


@pytest.fixture
def pair():
    """A section and the same one shifted by 20 px, with that as a registration."""
    first = sp.datasets.toy(120, 120, um_per_px=8, rng=3)
    second = first.copy()
    second.uns["spatial"] = {"second": second.uns["spatial"].pop("toy")}
    for adata, name, left in ((first, "toy", 20), (second, "second", 40)):
        images = adata.uns["spatial"][name]["images"]
        images["hires"] = np.pad(images["hires"], ((20, 20), (left, 60 - left), (0, 0)), constant_values=245)
        adata.obsm["spatial"] = adata.obsm["spatial"] + [left, 20]
    matrix = np.array([[1.0, 0, -20], [0, 1, 0], [0, 0, 1]])
    values = (0.97, 0.8, 0.2, 0.0, 0.4, 0.3, 1.0, "all agree")
    found = Registration("second", "toy", matrix, (8.0, 8.0), "rigid", False, *values)
    second.uns["registration"] = found.as_dict()
    return second, first, found


def test_outlines_of_both_lie_on_each_image(pair):
    second, first, found = pair
    left, right = sp.pl.registration(sp.io.section(second, check=False), first, show=False)
    assert left.get_title() == "toy, fixed"
    assert right.get_title() == "second, turned by 0°"
    for axis in (left, right):
        solid, dashed = ([line for line in axis.lines if line.get_linestyle() == style] for style in ("-", "--"))
        solid = [line for line in solid if line.get_gid() != "scale bar"]
        own, other = (np.concatenate([line.get_xydata() for line in lines]) for lines in (solid, dashed))
        np.testing.assert_allclose(own.mean(axis=0), other.mean(axis=0), atol=4)
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["toy", "second"]


def test_a_registration_can_be_given(pair):
    from dataclasses import replace

    second, first, found = pair
    del second.uns["registration"]
    second = sp.io.section(second, check=False)
    doubted = replace(found, weight=0.0)
    _, right = sp.pl.registration(second, first, registration=doubted, show=False)
    assert right.get_title().endswith("not trusted")
    with pytest.raises(KeyError, match="Run `sphisto.pp.register` first"):
        sp.pl.registration(second, first, show=False)
    with pytest.raises(
        ValueError, match="Found a registration of 'second' to 'toy' with the sections 'toy' and 'second'"
    ):
        sp.pl.registration(first, second, registration=found, show=False)
