from __future__ import annotations

import pytest

from sphisto.io.spaceranger_folder import names_apart


@pytest.mark.parametrize(
    ("names", "folders", "expected"),
    [
        (["a", "b"], ["x/1", "x/2"], ["a", "b"]),
        (["a", "a", "b"], ["x/1", "x/2", "x/3"], ["1", "2", "b"]),
        (["a", "A"], ["x/1/outs", "x/2/outs"], ["1", "2"]),  # in a store case does not count
        (["s", "s"], ["x/s", "y/s/outs"], ["x_s", "y_s"]),
        (["s 1", "s_1"], ["x/s", "y/s"], ["x_s", "y_s"]),  # nor letters that are replaced
        (["a", "a", "1"], ["x/1", "y/2", "z/3"], ["x_1", "y_2", "1"]),  # the third one has its name from nowhere else
    ],
)
def test_sections_of_one_name_are_called_by_their_folders(tmp_path, names, folders, expected):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert names_apart(names, [tmp_path / folder for folder in folders]) == expected


def test_a_folder_that_is_given_twice_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run" / "outs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for other in ("run", "run/", "run/outs", tmp_path / "run"):
        with pytest.raises(ValueError, match=r"Found the folder .*run.* more than once; expected a folder for each"):
            names_apart(["a", "a"], ["run", other])
