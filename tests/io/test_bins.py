"""Bins of a drawn section: the oracle is the sum over the smaller bins, one by one."""

from __future__ import annotations

import logging
import re

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.io.bins import block_centers, block_keys, choose_bins, places_of, said_of_empty, summed


@pytest.fixture(scope="module")
def bins():
    return sp.datasets.toy(96, 80, bin_um=4.0, mean_counts=300)


@pytest.mark.parametrize(
    ("sizes", "wanted", "expected"),
    [
        ((2, 8, 16), None, (8, 1)), ((2, 16), None, (2, 4)), ((2, 4, 16), None, (4, 2)), ((16, 24), None, (16, 1)),
        ((5, 10), None, (5, 1)), ((2, 8, 16), 16, (16, 1)), ((2, 8), 16, (8, 2)), ((2, 8), 10, (2, 5)), ((8,), 8.0, (8, 1)),
    ],
)  # fmt: skip
def test_the_largest_bins_that_fill_those_that_are_wanted(sizes, wanted, expected):
    assert choose_bins(sizes, wanted, "the run") == expected


@pytest.mark.parametrize("wanted", [4, 12, 20])
def test_bins_that_cannot_be_had_are_refused(wanted):
    with pytest.raises(ValueError, match=rf"Found bins of 8 and 16 um in the run; expected bins of {wanted} um"):
        choose_bins((8, 16), wanted, "the run")


def test_counts_are_summed_up_in_blocks(bins):
    places, xy = bins.obs[["array_row", "array_col"]].to_numpy(), bins.obsm["spatial"]
    larger = summed(bins, 2, 8.0, xy[:, ::-1])
    assert larger.X.sum() == bins.X.sum()
    for i in range(0, larger.n_obs, 7):
        row, column = larger.obs[["array_row", "array_col"]].iloc[i]
        own = (places // 2 == (row, column)).all(axis=1)
        np.testing.assert_array_equal(larger.X[[i]].toarray()[0], bins.X[own].sum(axis=0).A1)
        np.testing.assert_allclose(
            larger.obsm["spatial"][i], (8 * column + 4) / 2, atol=1e-6
        ) if row == column else None
        assert larger.obs_names[i] == f"s_008um_{row:05d}_{column:05d}-1"
        # the centre is that of the whole square, also where some of its bins are missing
        np.testing.assert_allclose(larger.obsm["spatial"][i] * 2, [8 * column + 4, 8 * row + 4], atol=1e-6)
    factors = larger.uns["spatial"]["toy"]["scalefactors"]
    assert (factors["bin_size_um"], factors["spot_diameter_fullres"]) == (8, 4)
    assert bins.uns["spatial"]["toy"]["scalefactors"]["bin_size_um"] == 4


def test_a_section_of_larger_bins_is_that_of_a_table_of_them(bins, caplog):
    caplog.set_level(logging.INFO, "sphisto")
    own, larger = sp.io.section(bins), sp.io.section(bins, bin_um=8)
    assert (own.spot.um, larger.spot.um) == (4, 8)
    assert own.adata is bins
    assert larger.measured.values.sum() == own.measured.values.sum()
    assert larger.about["rows"].endswith(f"summed up, 2 x 2 each, to {larger.adata.n_obs} bins of 8 um")
    assert f"{bins.n_obs} bins were summed up to {larger.adata.n_obs} bins of 8 um, 2 x 2 each." in caplog.messages
    again = sp.io.section(larger.adata)
    np.testing.assert_allclose(again.measured.centers, larger.measured.centers)


def test_positions_are_those_of_the_columns_or_the_names(bins):
    bare = bins.copy()
    del bare.obs["array_row"]
    rows = np.arange(0, bins.n_obs, 3)
    np.testing.assert_array_equal(places_of(bare, rows), places_of(bins, rows))
    names = np.array(bins.obs_names, dtype="S")
    keys = block_keys(names, 2)
    expected = places_of(bins, np.arange(bins.n_obs)) // 2
    np.testing.assert_array_equal(keys, expected[:, 0] * 100_000 + expected[:, 1])
    np.testing.assert_array_equal(block_keys(np.array([b"ACGT-1", b"CCGT-1"]), 2), [0, 1])
    bare.obs_names = [f"b{i}" for i in range(bare.n_obs)]
    with pytest.raises(ValueError, match="neither array_row and array_col in obs nor names such as"):
        sp.io.section(bare, bin_um=8)


def test_centres_of_larger_bins_lie_right_on_a_turned_grid():
    places = np.argwhere(np.ones((9, 6), bool))
    turned = np.array([[0.96, 0.28], [-0.28, 0.96]]) * 3.7
    centers = (places + 0.5) @ turned + (40, 50)
    np.testing.assert_allclose(block_centers(centers, places, 3), (places // 3 * 3 + 1.5) @ turned + (40, 50))


def test_several_sizes_in_one_table_are_refused(bins):
    both = ad.concat([bins, summed(bins, 2, 8.0, bins.obsm["spatial"][:, ::-1])], uns_merge="first")
    with pytest.raises(ValueError, match=r"Found bins of 4, 8 um in one table.*startswith\(.s_004um"):
        sp.io.section(both)


def test_spots_are_no_bins():
    with pytest.raises(ValueError, match="Found bin_um=8, and spots that nothing states to be bins"):
        sp.io.section(sp.datasets.toy(96, 96, pitch_um=24, spot_um=13), bin_um=8)


@pytest.mark.parametrize(("n", "level"), [(3, "INFO"), (200, "INFO"), (1000, "WARNING")])
def test_bins_without_counts_stay_and_are_said(bins, caplog, n, level):
    caplog.set_level(logging.INFO, "sphisto")
    table = bins.copy()
    counts = table.X.toarray()
    counts[:n] = 0
    table.X = counts
    section = sp.io.section(table)
    assert section.rows.tolist() == list(range(table.n_obs))
    assert section.about["rows"].endswith(f"; {n} of these without counts")
    said = [record for record in caplog.records if "hold no counts" in record.message]
    assert [record.levelname for record in said] == [level]
    assert said[0].message.startswith(f"{n} of {table.n_obs} bins")


def test_empty_bins_that_were_taken_out_are_missed(caplog):
    """As tables are filtered that are read without them: what is left holds too much."""
    sparse_bins = sp.datasets.toy(256, 256, bin_um=4.0, mean_counts=6)
    total = np.asarray(sparse_bins.X.sum(axis=1)).ravel()
    empty = int((total == 0).sum())
    sp.io.section(sparse_bins)
    assert "is without counts" not in caplog.text
    sp.io.section(sparse_bins[total > 0].copy())
    said = re.search(
        r"None of the \d+ bins is without counts.* some (\d+) empty ones seem to have been taken out", caplog.text
    )
    assert int(said.group(1)) == pytest.approx(empty, rel=0.25)
    caplog.clear()
    deep = sp.datasets.toy(256, 256, bin_um=4.0, mean_counts=300)
    sp.io.section(deep)
    assert "is without counts" not in caplog.text


def test_millions_of_bins_without_counts_are_said_at_once_and_none_at_all_are_refused(bins, caplog):
    n = 2_000_000
    counts = sparse.csr_matrix((np.ones(9, dtype=np.float32), (np.arange(9) * 7, np.zeros(9, int))), shape=(n, 3))
    assert said_of_empty(sparse.csr_array(counts)) == f"; {n - 9} of these without counts"
    assert f"{n - 9} of {n} bins hold no counts" in caplog.text
    table = bins.copy()
    table.X = sparse.csr_matrix(table.shape, dtype=np.float32)
    with pytest.raises(ValueError, match="Found only zeros in X; expected counts"):
        sp.io.section(table)


def test_a_turned_grid_gives_turned_squares(bins):
    table = bins.copy()
    angle = np.deg2rad(4.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # of x, y: from x towards y
    table.obsm["spatial"] = (bins.obsm["spatial"] - 40) @ turn + 40
    section = sp.io.section(table, check=False)
    assert section.spot.turn == pytest.approx(4.0)
    assert "turned by 4 degrees" in section.about["spots"]
    assert sp.io.section(bins).spot.turn == 0


@pytest.mark.parametrize(
    ("bin_um", "um_per_px", "expected"), [(8, 0.5, 2.0), (8, 0.6, 1.8), (8, 2.0, 2.0), (4, 0.5, 1.0), (4, 2.0, 2.0)]
)
def test_pixels_are_a_quarter_of_a_bin_or_the_images_own(bin_um, um_per_px, expected, caplog):
    from sphisto.io.slides import make_slide, um_per_px_for

    caplog.set_level(logging.INFO, "sphisto")
    side = int(120 / um_per_px)
    section = sp.io.section(sp.datasets.toy(side, side, um_per_px=um_per_px, bin_um=bin_um), check=False)
    slide = make_slide(section)
    assert slide.grid.um_per_px == pytest.approx(expected)
    assert any("are taken for bins" in said for said in caplog.messages) == (expected > um_per_px)
    assert make_slide(section, um_per_px=um_per_px).grid.um_per_px == pytest.approx(um_per_px)
    assert um_per_px_for(section, 1000) == pytest.approx(expected)


def test_bins_without_a_place_on_the_array_are_counted(bins):
    bins.obs["array_row"] = bins.obs["array_row"].astype(float)
    bins.obs.iloc[:3, bins.obs.columns.get_loc("array_row")] = np.nan
    with pytest.raises(
        ValueError, match=rf"Found 3 of {bins.n_obs} bins with NaN in array_row or array_col.*Fill them"
    ):
        sp.io.section(bins, bin_um=8)
