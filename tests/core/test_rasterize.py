from __future__ import annotations

import numpy as np

from sphisto.core.rasterize import cover, ring_edges


def test_a_triangle_covers_the_parts_that_geometry_says():
    triangle = np.array([[(0.0, 0.0), (0.0, 2.0), (2.0, 0.0)]])
    region, y, x, share = cover(ring_edges(triangle), np.zeros(3, dtype=np.int64), 1)
    found = {(int(a), int(b)): round(float(s), 6) for a, b, s in zip(y, x, share, strict=True)}
    assert found == {(0, 0): 1.0, (0, 1): 0.5, (1, 0): 0.5}
    assert (region == 0).all()


def test_orientation_does_not_matter():
    ring = np.array([[(0.3, 0.2), (3.7, 1.1), (2.2, 4.9)]])
    one = cover(ring_edges(ring), np.zeros(3, dtype=np.int64), 1)
    other = cover(ring_edges(ring[:, ::-1]), np.zeros(3, dtype=np.int64), 1)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_regions_without_edges_cover_nothing():
    square = ring_edges(np.array([[(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]]))
    region, *_ = cover(square, np.full(4, 2), 4)
    assert set(region) == {2}
    assert len(cover(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), 3)[0]) == 0
