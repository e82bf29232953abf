"""Digests by which sections are recognised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.slide.fingerprint import fingerprint_of_counts, fingerprint_of_image


@pytest.fixture(scope="module")
def slide():
    return make_slide(sp.io.section(sp.datasets.toy(96, 112, pitch_um=24)))


def test_counts_are_known_in_any_order_and_whatever_else_changes(slide, rng):
    spots = slide.spots
    rows, genes = rng.permutation(len(spots.centers)), rng.permutation(len(spots.genes))
    other = replace(
        spots, values=sparse.csr_array(spots.values[rows][:, genes]), genes=tuple(spots.genes[i] for i in genes),
        centers=spots.centers * 2,
    )  # fmt: skip
    assert fingerprint_of_counts(other) == fingerprint_of_counts(spots)


def test_one_count_more_and_one_spot_less_are_other_counts(slide):
    values = slide.spots.values.toarray()
    more = values.copy()
    more[3, 2] += 1
    found = {
        fingerprint_of_counts(replace(slide.spots, values=sparse.csr_array(v))) for v in (values, more, values[1:])
    }
    assert len(found) == 3


def test_an_image_is_known_by_its_pixels_alone(slide):
    alone = replace(slide, name="other", measured=None)
    assert fingerprint_of_image(alone) == fingerprint_of_image(slide)
    assert fingerprint_of_image(replace(slide, image=255 - np.asarray(slide.image))) != fingerprint_of_image(slide)
