from __future__ import annotations

import pytest

from sphisto.io.store.unfinished import note_unfinished, read_unfinished


def test_what_is_noted_is_read_again(tmp_path):
    note_unfinished(tmp_path / "a.sections", {"slides": ["x", "y", "z"], "rng": 0}, ["one"])
    left = read_unfinished(tmp_path / "a.sections")
    assert (left.call["rng"], left.written) == (0, ("one",))
    assert str(left).endswith("1 of 3 sections are written (one)")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"call": 3, "written": []}', b"\xff"])
def test_anything_else_is_no_fit(tmp_path, content):
    (tmp_path / "a.sections").write_bytes(content)
    assert read_unfinished(tmp_path / "a.sections") is None
    assert read_unfinished(tmp_path / "b.sections") is None
