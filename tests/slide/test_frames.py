"""Frames that registrations join: a place of one section is where its registrations say in all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.slide.frames import Frame, frames_of, in_um


def grid(um_per_px=1.0, fullres_per_px=2.0):
    return Grid(40, 50, um_per_px * fullres_per_px, (fullres_per_px,) * 2)


def test_places_of_a_chain_lie_where_its_registrations_put_them(rng, registration):
    """By way of full-resolution px of each section, as Registration.to_fixed gives them."""
    second = registration("b", "a", 30, (100, -20), (0.5, 2.0))
    third = registration("c", "b", -70, (7, 900), (1.25, 0.5))
    frames, points = (
        frames_of({"a": None, "b": second, "c": third}),
        rng.uniform(0, 40, (20, 2)),
    )  # y, x in px of the third's slide
    assert [frames[name].group for name in "abc"] == ["a"] * 3
    fullres_xy = points[:, ::-1] * 4
    in_first = second.to_fixed(third.to_fixed(fullres_xy))[:, ::-1] * 2.0  # um of the first
    np.testing.assert_allclose(frames["c"].common(grid(1.25, 4.0), points), in_first, atol=1e-6)
    np.testing.assert_allclose(frames["a"].common(grid(2.0), points), points * 2 * 2.0, atol=1e-9)


def test_it_does_not_matter_which_of_two_moved(rng, registration):
    there = registration("b", "a", 40, (10, 20), (0.5, 2.0))
    back = replace(there, moving="a", fixed="b", matrix=np.linalg.inv(there.matrix), um_per_px=(2.0, 0.5))
    points = rng.uniform(0, 40, (5, 2))
    for name, own in (("a", grid(2.0)), ("b", grid(0.5))):
        both = ({"a": None, "b": there}, {"a": back, "b": None})
        found, expected = (frames_of(each)[name].common(own, points) for each in both)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_steps_are_those_of_the_order_and_one_at_least(registration):
    frames = frames_of({"a": None, "b": registration("b", "a"), "c": registration("c", "a")})
    assert [frames["a"].steps_to(frames[name]) for name in "abc"] == [1, 1, 2]
    new = frames["c"].on_top(registration("new", "c", 10, (5, 5)))
    assert [new.steps_to(frames[name]) for name in "abc"] == [3, 2, 1]
    np.testing.assert_allclose(new.matrix, frames["c"].matrix @ in_um(registration("new", "c", 10, (5, 5))))


def test_what_is_not_trusted_joins_nothing(registration):
    frames = frames_of({"a": None, "b": registration("b", "a", weight=0.0), "c": None})
    assert [frames[name].group for name in "abc"] == ["a", "b", "c"]
    assert all(np.array_equal(frame.matrix, np.eye(3)) for frame in frames.values())


def test_a_section_that_is_not_there_is_refused(registration):
    with pytest.raises(ValueError, match=r"'b' registered to 'z'.*'a', 'b'"):
        frames_of({"a": None, "b": registration("b", "z")})


def test_frames_of_other_groups_are_no_neighbours():
    from sphisto.features.config import DriftConfig
    from sphisto.field.neighbours import Neighbour, upon

    def neighbour(group, step):
        return Neighbour(Frame(group, np.eye(3), step), np.zeros((1, 2)), 1.0, np.zeros((1, 1)), np.zeros((1, 1)))

    others = [neighbour("a", 1), neighbour("b", 1), neighbour("a", 40)]
    assert upon(Frame("a", np.eye(3), 0), others, DriftConfig()) == others[:1]
    assert upon(Frame("a", np.eye(3), 0), others, DriftConfig(per_section=0.0)) == []
