from __future__ import annotations

import pytest

from sphisto.core.atomic import require_free

MEND = "Give another"


def test_a_file_that_is_there_is_left_alone_unless_it_may_go(tmp_path):
    path = tmp_path / "x.ome.tif"
    require_free(path, overwrite=False, mend=MEND)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"x\.ome\.tif exists and is left alone\. Give another\."):
        require_free(path, overwrite=False, mend=MEND)
    require_free(path, overwrite=True, mend=MEND)
    assert path.read_text() == "old"


def test_folders_are_no_files(tmp_path):
    with pytest.raises(FileExistsError, match="is a folder"):
        require_free(tmp_path, overwrite=True, mend=MEND)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none for x\.ome\.tif"):
        require_free(tmp_path / "none" / "x.ome.tif", overwrite=False, mend=MEND)


def test_a_name_that_is_too_long_is_said_before(tmp_path):
    with pytest.raises(OSError, match="Cannot write"):
        require_free(tmp_path / ("a" * 250 + ".h5ad"), overwrite=False, mend=MEND)
