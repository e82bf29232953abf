from __future__ import annotations

import logging
import warnings

import pytest

from sphisto.io.quiet import quiet


def say():
    warnings.warn("Consolidated metadata is currently not part of the specification", UserWarning, stacklevel=2)
    logging.getLogger("ome_zarr.reader").warning("no parent found for %s: %s", "labels", None)


def test_what_is_known_is_not_said_within_the_block_and_again_after_it(caplog):
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("error", append=True)
        with quiet():
            say()
        say()
    assert not caplog.records
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        say()
    assert [record.getMessage() for record in caplog.records] == ["no parent found for labels: None"]


def test_anything_else_is_said(caplog):
    with quiet():
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
        logging.getLogger("ome_zarr.reader").warning("a level is missing")
    assert [record.getMessage() for record in caplog.records] == ["a level is missing"]
