"""Names of a store, by what it records of itself."""

from __future__ import annotations

import pytest

from sphisto.io.store.names import check_free

MARK = {
    "library_id": "A",
    "keys": {
        "own": {"library_id": "A"},
        "both_A": {"library_id": "A", "joint": "both"},
        "both_B": {"library_id": "B", "joint": "both"},
    },
    "libraries": {"A": {"table": "table"}, "B": {"table": "B_table"}},
}


def check(store, library, key, *together):
    """Check a key for a section alone, or for one of those that are fitted together."""
    name = f"{key}_{library}" if together else key
    check_free(store, MARK, library, name, key if together else None, together)


@pytest.mark.parametrize(
    ("library", "key", "together", "said"),
    [
        ("A", "both", (), r"'both' of several sections \('A', 'B'\)"),
        ("C", "both", (), r"'both' of several sections \('A', 'B'\)"),
        ("A", "Both", (), r"'Both' of several sections \('A', 'B'\)"),  # one file, on some systems
        ("A", "both_A", (), r"'both_A' as a part of the projection 'both' of several sections"),
        ("A", "own", ("A", "B"), r"'own' of 'A' alone, whose model"),
        ("B", "OWN", ("A", "B"), r"'own' of 'A' alone, whose model"),
        ("A", "both", ("A", "C"), r"'both' of 'B', too, which would be left without a model"),
        ("C", "both", ("C", "D"), r"'both' of 'A', 'B', too, which would be left without a model"),
        ("A", "both_A", ("A", "C"), r"'both_A' of 'A' alone"),
    ],
)
def test_a_model_that_is_also_of_other_sections_is_not_replaced(tmp_path, library, key, together, said):
    with pytest.raises(FileExistsError, match=rf"holds a projection {said}|holds {said}"):
        check(tmp_path / "a.zarr", library, key, *together)


@pytest.mark.parametrize(
    ("library", "key", "together"),
    [("A", "own", ()), ("A", "both", ("A", "B")), ("C", "both", ("A", "B", "C")), ("C", "other", ("C", "A"))],
)
def test_a_projection_is_replaced_by_one_of_all_its_sections(tmp_path, library, key, together):
    check(tmp_path / "a.zarr", library, key, *together)
