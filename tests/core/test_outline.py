from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.outline import rings


def drawn(text):
    """Labels from lines of digits."""
    return np.array([[int(c) for c in line] for line in text.split()])


def by_ring(found):
    return [found.corners[found.ring == i].tolist() for i in range(len(found.labels))]


def test_a_pixel_has_four_corners():
    found = rings(drawn("000 070 000"))
    assert by_ring(found) == [[[1, 1], [2, 1], [2, 2], [1, 2]]]
    assert found.labels.tolist() == [7]
    assert found.inside.tolist() == [[1.5, 1.5]]
    assert not found.is_hole.any()


def test_where_a_line_goes_on_straight_there_is_no_corner():
    found = rings(drawn("11 11 11"))
    assert by_ring(found) == [[[0, 0], [2, 0], [2, 3], [0, 3]]]


def test_a_hole_is_a_ring_of_the_label_around_it():
    found = rings(drawn("111 121 111"))
    assert found.labels.tolist() == [1, 2, 1]
    assert found.is_hole.tolist() == [False, False, True]
    assert sorted(by_ring(found)[2]) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_pixels_that_touch_at_a_corner_are_parts_of_their_own():
    found = rings(drawn("10 01"))
    assert by_ring(found) == [[[0, 0], [1, 0], [1, 1], [0, 1]], [[1, 1], [2, 1], [2, 2], [1, 2]]]


def test_without_labels_there_are_no_rings():
    found = rings(np.zeros((3, 4), dtype=np.int32))
    assert len(found.labels) == len(found.corners) == len(found.is_hole) == 0


@pytest.mark.parametrize("seed", range(4))
def test_areas_of_rings_are_those_of_labels(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (12, 17))
    found = rings(labels)
    area = np.zeros(4)
    for i, corners in enumerate(by_ring(found)):
        x, y = np.array(corners).T
        area[found.labels[i]] += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    np.testing.assert_array_equal(area[1:], np.bincount(labels.ravel(), minlength=4)[1:])
    for (x, y), label in zip(found.inside, found.labels, strict=True):
        assert labels[int(y), int(x)] == label
