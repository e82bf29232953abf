from __future__ import annotations

from sphisto.model.drawing import prior_stride


def test_the_stride_keeps_four_points_to_a_pitch():
    assert [prior_stride(p) for p in (3, 8, 17, 40, 1000)] == [1, 2, 4, 8, 8]
