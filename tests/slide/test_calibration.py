from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.slide.calibration import calibrate


def visium(um_per_px: float, n: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.mgrid[:n, :n].reshape(2, -1)
    column = 2 * column + row % 2
    return np.stack([row * 100 * np.sqrt(3) / 2, column * 50.0], axis=1) / um_per_px, row, column


def test_the_pitch_decides_and_not_space_rangers_spot_diameter():
    centers, row, column = visium(0.7)
    found = calibrate(centers, array_row=row, array_col=column, spot_px=65 / 0.7)
    assert found.um_per_px == pytest.approx(0.7)
    assert found.spot_um == 55
    assert "pitch of the Visium array" in found.scale_source


def test_a_turned_array_is_recognised():
    centers, row, column = visium(0.5)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert calibrate(centers @ turn, array_row=row, array_col=column).um_per_px == pytest.approx(0.5)


def test_hexagonal_centres_are_enough():
    centers, _, _ = visium(0.7, 12)
    found = calibrate(centers)
    assert found.um_per_px == pytest.approx(0.7)
    assert "hexagonal" in found.scale_source


@pytest.mark.parametrize("um_per_px", [0.7, 5.9])
@pytest.mark.parametrize("kept", [1.0, 0.8, 0.6])
def test_hexagonal_centres_are_enough_where_spots_are_missing(rng, kept, um_per_px):
    centers, _, _ = visium(um_per_px, 16)
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    centers = np.round(centers @ turn)[rng.random(len(centers)) < kept]  # 5.9 um per px: 17 px apart
    assert calibrate(centers, spot_px=65 / um_per_px).um_per_px == pytest.approx(um_per_px, rel=0.01)
    assert "hexagonal" in calibrate(centers).scale_source


@pytest.mark.parametrize("kept", [1.0, 0.7])
def test_square_centres_are_not_taken_for_hexagonal(rng, kept):
    row, column = np.mgrid[:16, :16].reshape(2, -1)
    centers = (np.stack([row, column], axis=1) * 40.0)[rng.random(256) < kept]
    with pytest.raises(ValueError, match="no known array"):
        calibrate(centers)


def test_square_arrays_are_those_of_spatial_transcriptomics():
    row, column = np.mgrid[:6, :6].reshape(2, -1)
    found = calibrate(np.stack([row, column], axis=1) * 250.0, array_row=row, array_col=column)
    assert (found.um_per_px, found.spot_um) == (pytest.approx(0.8), 100)


def test_square_arrays_of_other_spots_are_not_those_of_spatial_transcriptomics():
    row, column = np.mgrid[:30, :30].reshape(2, -1)  # spots of 25 um, 50 um apart, 5 um per px
    given = {"centers": np.stack([row, column], axis=1) * 10.0, "array_row": row, "array_col": column, "spot_px": 5.0}
    for shape in (None, "square"):
        found = calibrate(**given, spot_um=25, spot_shape=shape)
        assert (found.um_per_px, found.spot_um, found.pitch_um) == (5, 25, pytest.approx(50))
    with pytest.raises(ValueError, match="10 px apart, but spots of 7.5 px; expected about 5 px.*it is another array"):
        calibrate(**{**given, "spot_px": 7.5})


def test_a_wrong_diameter_is_blamed_before_the_positions():
    row, column = np.mgrid[:12, :12].reshape(2, -1)  # Spatial Transcriptomics of 1,000 spots, and of 2,000
    square = {"centers": np.stack([row, column], axis=1) * 290.0, "array_row": row, "array_col": column}
    diagonal = {name: value[(row + column) % 2 == 0] for name, value in square.items()}
    for array, spot_px, expected in ((square, 272.5, 145), (square, 60, 145), (diagonal, 330.0, 159.5)):
        with pytest.raises(
            ValueError,
            match=rf"but spots of {spot_px:.4g} px; expected about {expected} px.*Most likely the diameter is wrong",
        ) as caught:
            calibrate(**array, spot_px=spot_px)
        assert f"({spot_px / expected:.2g} times the expected one)" in str(caught.value)
        assert "array_row and array_col fit" in str(caught.value)
        assert calibrate(**array).um_per_px == pytest.approx(
            100 / 290 * (1 if array is diagonal else 2)
        )  # diameter removed
    with pytest.raises(
        ValueError, match="Give the side of a bin.*If they are printed spots.*about 145 px are expected"
    ):
        calibrate(**square, spot_px=290.0)  # may be bins that touch


def test_the_stated_scale_that_would_fit_is_named(caplog):
    centers, row, column = visium(0.7)
    with pytest.raises(
        ValueError, match="42.86 um with microns_per_pixel=0.3, and 100 um are expected.*pixel=0.7 would fit"
    ):
        calibrate(centers, array_row=row, array_col=column, microns_per_px=0.3)
    with pytest.raises(
        ValueError, match=r"image_um_per_px=1.5, and 100 um are expected.*image_um_per_px=3\.5 would fit"
    ):
        calibrate(centers, array_row=row, array_col=column, microns_per_px=0.3, image_scale=0.2)
    assert calibrate(centers, array_row=row, array_col=column, microns_per_px=0.77).um_per_px == 0.77
    assert "110 um with microns_per_pixel=0.77, and 100 um are expected" in caplog.text


def test_a_stated_scale_against_an_arrangement_alone_is_taken_and_said(caplog):
    centers = visium(0.7, 12)[0]
    assert calibrate(centers, microns_per_px=1.4, spot_px=93).spot_um == pytest.approx(130.2)
    assert "not taken for those of an array that they are placed as" in caplog.text
    assert "microns_per_pixel=0.7 would fit" in caplog.text
    caplog.clear()
    calibrate(centers, microns_per_px=1.4, spot_um=110, spot_px=79)
    assert caplog.text == ""


def test_a_square_lattice_is_not_visiums_whatever_its_diameter():
    row, column = np.mgrid[:20, :20].reshape(2, -1)
    with pytest.raises(ValueError, match="spots of 6.5 px of unknown um"):
        calibrate(np.stack([row, column], axis=1) * 10.0, spot_px=6.5)


def test_spots_exchanged_against_their_places_on_the_array_are_refused(rng):
    centers, row, column = visium(0.7)
    order = rng.permutation(len(row))
    with pytest.raises(ValueError, match="Rows of the positions and of the table seem to be exchanged"):
        calibrate(centers, array_row=row[order], array_col=column[order])
    shifted = np.roll(np.arange(len(row)), 1)
    with pytest.raises(ValueError, match="exchanged"):
        calibrate(centers, array_row=row[shifted], array_col=column[shifted])


def test_columns_that_are_no_positions_on_a_visium_array_are_not_believed(rng):
    centers, row, column = visium(0.7)
    found = calibrate(centers, array_row=rng.permutation(len(row)), array_col=rng.permutation(len(row)))
    assert "hexagonal" in found.scale_source
    assert found.um_per_px == pytest.approx(0.7)


def test_the_diameter_is_the_last_resort_and_is_said(rng):
    centers = visium(0.5)[0]
    warped = centers + rng.normal(0, 18, centers.shape)  # of 200 px pitch: hexagonal no more
    found = calibrate(warped, spot_px=130)
    assert found.um_per_px == pytest.approx(0.5)
    assert found.scale_source == "the spot diameter, taken for 65 um"
    thinned = centers[rng.random(len(centers)) < 0.15]
    assert calibrate(thinned, spot_px=130).um_per_px == pytest.approx(0.5)


@pytest.mark.parametrize("spot_px", [1, 130, 400])
def test_a_diameter_says_nothing_where_spots_do_not_lie_as_visiums(rng, spot_px):
    with pytest.raises(
        ValueError, match=f"no array_row/array_col that fit them and spots of {spot_px} px of unknown um"
    ):
        calibrate(rng.uniform(0, 1000, (60, 2)), spot_px=spot_px)
    row, column = np.mgrid[:9, :9].reshape(2, -1)  # Spatial Transcriptomics without its positions
    with pytest.raises(ValueError, match="spots of 100 px of unknown um"):
        calibrate(np.column_stack([row, column]) * 200.0, spot_px=100)


def cells(rng, side_px: float = 4.0, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Mean place in px, and on the array, of the bins of n x n cells of 5 x 5 bins, of which some are no cell's."""
    place = np.array([np.argwhere(rng.random((5, 5)) < 0.7).mean(axis=0) for _ in range(n * n)])
    place += 5 * np.argwhere(np.ones((n, n)))
    return (place + 0.5) * side_px, place + 300


@pytest.mark.parametrize("with_positions", [True, False])
def test_cells_made_of_bins_are_no_bins(rng, with_positions):
    centers, place = cells(rng)
    given = {"spot_px": 4.0, "bin_um": 2, "microns_per_px": 0.5}
    if with_positions:
        given |= {"array_row": place[:, 0], "array_col": place[:, 1]}
    with pytest.raises(
        ValueError, match=r"Found 144 centres about \d+.*px apart that lie on no lattice .* of 2 um, 4 px.*aggregate"
    ):
        calibrate(centers, **given)
    found = calibrate(centers, **given, spot_um=8)
    assert (found.um_per_px, found.spot_um, found.spot_shape, found.array) == (0.5, 8, "disc", "unknown")
    del given["microns_per_px"]
    assert calibrate(centers, **given, spot_um=8).um_per_px == 0.5


def test_cells_with_the_diameter_of_bins_are_said(rng, caplog):
    found = calibrate(cells(rng)[0], spot_px=4.0, microns_per_px=0.5)
    assert found.spot_um == 2
    assert "spots of 2 um (spot_diameter_fullres) that lie 9" in caplog.text
    assert "If they are cells" in caplog.text


@pytest.mark.parametrize("kept", [1.0, 0.1])
@pytest.mark.parametrize("angle", [0.0, 0.3])
@pytest.mark.parametrize("side_px", [2.1, 29.3])
def test_bins_without_positions_are_bins_however_few_are_left(rng, kept, angle, side_px):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centers = np.round(np.argwhere(rng.random((60, 60)) < kept) * side_px @ turn)
    found = calibrate(centers, spot_px=side_px, bin_um=8)
    assert (found.spot_um, found.spot_shape, found.pitch_um) == (8, "square", 8)
    assert found.um_per_px == pytest.approx(8 / side_px)


@pytest.mark.parametrize("kept", [1.0, 0.1])
def test_bins_are_squares_also_where_only_their_diameter_is_told(rng, kept):
    centers = np.round(np.argwhere(rng.random((60, 60)) < kept) * 29.3)
    found = calibrate(centers, spot_px=29.3, microns_per_px=8 / 29.3)  # as readers leave it that know no bins
    assert (found.spot_um, found.spot_shape, found.pitch_um) == (pytest.approx(8), "square", pytest.approx(8))


def test_columns_that_repeat_the_coordinates_are_no_positions():
    centers, _, _ = visium(0.73)
    found = calibrate(centers, array_row=centers[:, 0], array_col=centers[:, 1], spot_um=55)
    assert found.um_per_px == pytest.approx(0.73)


def test_a_stated_scale_wins():
    centers, row, column = visium(0.7)
    found = calibrate(centers, array_row=row, array_col=column, microns_per_px=0.3, spot_um=2)
    assert (found.um_per_px, found.spot_um) == (0.3, 2)


def test_nothing_known_is_an_error(rng):
    with pytest.raises(ValueError, match="Cannot determine how many um a pixel measures.*microns_per_pixel"):
        calibrate(rng.uniform(0, 1000, (20, 2)))


VISIUM_ARRAYS = {"Visium, 6.5 mm": (78, 128), "Visium, 11 mm": (128, 224)}
BINS = {2: 3350, 8: 838, 16: 419, 24: 280, 32: 210, 48: 140, 96: 70}  # um: bins along a side of 6.5 mm


def positions(kind: str | int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Rows and columns of an array, um per row and um per column; of bins the far corner, of 40 x 40."""
    if isinstance(kind, int):
        row, col = np.mgrid[BINS[kind] - 40 : BINS[kind], BINS[kind] - 40 : BINS[kind]].reshape(2, -1)
        return row, col, kind, kind
    n_rows, n_cols, row_um, col_um = {
        "Spatial Transcriptomics 1k": (34, 36, 200, 200),
        "Spatial Transcriptomics 2k": (64, 67, 100, 100),
    }.get(kind) or (*VISIUM_ARRAYS[kind], 100 * np.sqrt(3) / 2, 50)
    row, col = np.mgrid[:n_rows, :n_cols].reshape(2, -1)
    printed = (row + col) % 2 == 0 if kind != "Spatial Transcriptomics 1k" else np.full(len(row), True)
    return row[printed], col[printed], row_um, col_um


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([*VISIUM_ARRAYS, "Spatial Transcriptomics 1k", "Spatial Transcriptomics 2k", *BINS]),
    kept=st.floats(0.05, 1),
    angle=st.floats(0, 2 * np.pi),
    mirrored=st.booleans(),
    step_px=st.floats(1.5, 500),
    whole=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_every_array_is_recognised_however_it_lies(kind, kept, angle, mirrored, step_px, whole, seed):
    row, col, row_um, col_um = positions(kind)
    um_per_px = col_um / step_px
    chosen = np.random.default_rng(seed).random(len(row)) < kept
    row, col = row[chosen], col[chosen]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centers = np.stack([row * row_um, col * col_um * (-1 if mirrored else 1)], axis=1) @ turn / um_per_px + 1e4
    centers = np.round(centers) if whole else centers
    bins = isinstance(kind, int)
    spot_px = (kind if bins else 65) / um_per_px
    found = calibrate(centers, array_row=row, array_col=col, spot_px=spot_px, bin_um=kind if bins else None)
    assert found.um_per_px == pytest.approx(um_per_px, rel=0.01)
    if bins:
        assert (found.spot_um, found.spot_shape, found.pitch_um) == (kind, "square", kind)
        assert found.array == f"Visium HD, {kind} um bins"
    else:
        spot_um, pitch_um = {"Spatial Transcriptomics 1k": (100, 200), "Spatial Transcriptomics 2k": (55, 141.42)}.get(
            kind, (55, 100)
        )
        assert (found.spot_um, found.spot_shape) == (spot_um, "disc")
        assert found.pitch_um == pytest.approx(pitch_um, rel=1e-3)
        assert found.array in ({kind, "Visium"} if kind == "Visium, 6.5 mm" else {kind})


@pytest.mark.parametrize(("kind", "name"), [(kind, kind) for kind in VISIUM_ARRAYS])
def test_whole_visium_arrays_are_named(kind, name):
    row, col, row_um, col_um = positions(kind)
    centers = np.stack([row * row_um, col * col_um], axis=1)
    assert calibrate(centers, array_row=row, array_col=col).array == name
    part = (row < 30) & (col < 60)
    assert calibrate(centers[part], array_row=row[part], array_col=col[part]).array == "Visium"


def test_hexagonal_positions_beyond_any_product_are_said_to_be_taken_for_visium():
    centers, row, column = visium(0.5, 140)
    found = calibrate(centers, array_row=row, array_col=column)
    assert (found.array, found.um_per_px) == ("hexagonal, taken for Visium", pytest.approx(0.5))


def bins(side_px: float, first: int = 400, n: int = 12) -> dict:
    row, col = np.mgrid[first : first + n, first : first + n].reshape(2, -1)
    centers = np.stack([row, col], axis=1) * side_px
    return {"centers": centers, "array_row": row, "array_col": col}


@pytest.mark.parametrize("first", [0, 400])
@pytest.mark.parametrize("is_true", [True, False])
def test_bins_of_unknown_side_are_not_taken_for_spots(first, is_true):
    given = bins(8.0, first) | {"spot_px": 8.0, "spot_px_is_true": is_true}
    with pytest.raises(
        ValueError, match=r"a square one, 8 px apart. Give the side of a bin as `spot_um`.*microns_per_pi"
    ):
        calibrate(**given)
    found = calibrate(**given, spot_um=16)
    assert (found.um_per_px, found.pitch_um) == (pytest.approx(2), pytest.approx(16))
    assert (found.spot_um, found.spot_shape) == (16, "square")
    assert found.scale_source == "the stated 16 um as pitch of the square array, whose bins touch"
    found = calibrate(**given, microns_per_px=1)
    assert (found.um_per_px, found.spot_um, found.spot_shape, found.pitch_um) == (
        1,
        pytest.approx(8),
        "square",
        pytest.approx(8),
    )
    assert calibrate(**given, spot_um=16, spot_shape="disc").spot_shape == "disc"


def test_bins_of_unknown_side_without_a_size_are_not_taken_for_spots():
    with pytest.raises(ValueError, match="a square one, 8 px apart"):
        calibrate(**bins(8.0))


def test_a_stated_scale_tells_bins_from_a_square_array_of_spots():
    given = bins(8.0, 0)
    assert calibrate(**given).array == "Spatial Transcriptomics 1k"  # nothing speaks against it
    with pytest.raises(ValueError, match="144 spots 8 um apart in no known array.*Give `spot_um`"):
        calibrate(**given, microns_per_px=1)
    assert calibrate(**given, microns_per_px=1, spot_um=8, spot_shape="square").pitch_um == pytest.approx(8)


def test_touching_bins_without_positions_are_not_taken_for_spots_of_65_um():
    with pytest.raises(ValueError, match="a square one, 8 px apart. Give the side of a bin as `spot_um`"):
        calibrate(bins(8.0)["centers"], spot_px=8.0)


def test_spots_that_lie_apart_on_a_square_lattice_are_measured_by_their_diameter():
    found = calibrate(**bins(50.0), spot_px=25.0, spot_um=10)
    assert (found.um_per_px, found.spot_um, found.spot_shape, found.pitch_um) == (0.4, 10, "disc", pytest.approx(20))


def test_bins_are_told_by_their_scale_factors_alone():
    centers = bins(8.0)["centers"]
    found = calibrate(centers, spot_px=8.0, bin_um=16)
    assert (found.um_per_px, found.spot_um, found.spot_shape) == (2, 16, "square")
    assert calibrate(centers, microns_per_px=0.25, bin_um=2).pitch_um == 2


def test_drawn_circles_of_no_array_are_taken_as_they_are(rng):
    centers = rng.uniform(0, 1000, (20, 2))
    found = calibrate(centers, spot_px=40, spot_px_is_true=True, microns_per_px=0.5)
    assert (found.spot_um, found.spot_source) == (20, "the size of the spots drawn")
    with pytest.raises(ValueError, match="spots of 40 px of unknown um"):
        calibrate(centers, spot_px=40, spot_px_is_true=True)
    assert calibrate(centers, spot_px=40, spot_px_is_true=True, spot_um=80).um_per_px == 2


@pytest.mark.parametrize(("spot_px", "spot_um"), [(130, 55), (40, 20)])
def test_spacerangers_diameter_is_65_um_or_that_of_another_array(rng, spot_px, spot_um):
    found = calibrate(rng.uniform(0, 1000, (20, 2)), spot_px=spot_px, microns_per_px=0.5)
    assert (found.spot_um, found.array) == (spot_um, "unknown")


def test_an_unknown_size_is_asked_for_where_a_visium_spot_has_no_room():
    centers = np.random.default_rng(0).uniform(0, 100, (50, 2))
    with pytest.raises(
        ValueError, match=r"Cannot determine how large a spot is.*Give `spot_um` \(um\) and `spot_shape`"
    ):
        calibrate(centers, microns_per_px=0.5)


@pytest.mark.parametrize(("stated", "warned"), [(0.72, False), (0.8, True), (0.5, True)])
def test_a_stated_scale_that_differs_from_the_array_is_said(stated, warned, caplog):
    centers, row, column = visium(0.7)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        found = calibrate(centers, array_row=row, array_col=column, microns_per_px=stated)
    assert (found.um_per_px, found.spot_um) == (stated, 55)
    assert ("the 100 um pitch of the Visium array gives 0.7 um per px" in found.scale_source) is warned
    assert ("is taken from the stated scale" in caplog.text) is warned


@pytest.mark.parametrize("stated", [0.3, 4.1])
def test_a_stated_scale_that_contradicts_the_array_is_refused(stated):
    centers, row, column = visium(0.7)
    with pytest.raises(
        ValueError,
        match=rf"a stated scale .*={stated}, and 100 um are expected \(the 100 um pitch of the Visi.*pixel=0.7 would fit",
    ):
        calibrate(centers, array_row=row, array_col=column, microns_per_px=stated)
    with pytest.raises(
        ValueError, match=r"16 um are expected \(the 16 um pitch of the bins\): microns_per_pixel=2 would fit"
    ):
        calibrate(**bins(8.0), bin_um=16, microns_per_px=stated)
    assert calibrate(centers, microns_per_px=stated, spot_px=10).array == "unknown"  # hexagonal, but not Visium


def test_sections_that_were_joined_are_refused():
    centers, row, column = visium(0.7)
    two = {"array_row": np.tile(row, 2), "array_col": np.tile(column, 2)}
    with pytest.raises(ValueError, match="128 spots at 64 different positions.*Several sections seem to be joined"):
        calibrate(np.concatenate([centers, centers + 5000]), **two)
    row[5], column[5] = row[6], column[6]
    with pytest.raises(ValueError, match="64 spots at 63 different positions"):
        calibrate(centers, array_row=row, array_col=column)


def test_columns_that_hold_no_positions_say_nothing():
    centers, row, column = visium(0.7, 12)
    zeros = np.zeros(len(row))
    assert "hexagonal" in calibrate(centers, array_row=zeros, array_col=zeros).scale_source
    assert "hexagonal" in calibrate(centers, array_row=zeros + np.nan, array_col=zeros).scale_source
    some = np.where(row > 8, np.nan, row)
    found = calibrate(centers, array_row=some, array_col=column)
    assert (found.array, found.um_per_px) == ("Visium", pytest.approx(0.7))


@pytest.mark.parametrize(
    ("name", "um_per_px", "spot_um"),
    [("mouse_brain_coronal", 0.728, 55), ("her2st_C2", 0.69, 100), ("mob_st_1", 4.4, 55)],
)
def test_real_arrays_are_recognised(real_section, name, um_per_px, spot_um):
    import pandas as pd

    folder = real_section(name) / "spatial"
    table = pd.read_csv(folder / "tissue_positions.csv").query("in_tissue == 1")
    factors = json.loads((folder / "scalefactors_json.json").read_text())
    found = calibrate(
        table[["pxl_row_in_fullres", "pxl_col_in_fullres"]].to_numpy(float),
        array_row=table["array_row"],
        array_col=table["array_col"],
        spot_px=factors["spot_diameter_fullres"],
    )
    assert found.um_per_px == pytest.approx(um_per_px, rel=0.02)
    assert found.spot_um == spot_um


def test_spots_that_share_their_places_are_refused():
    with pytest.raises(ValueError, match="Found 30 spots at 1 different places.*Correct"):
        calibrate(np.full((30, 2), 5.0), microns_per_px=0.5)
