from __future__ import annotations

import json

import numpy as np
import pytest

from sphisto.core.lattice import calibrate


def visium(um_per_px: float, n: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.mgrid[:n, :n].reshape(2, -1)
    column = 2 * column + row % 2
    return np.stack([row * 100 * np.sqrt(3) / 2, column * 50.0], axis=1) / um_per_px, row, column


def test_the_pitch_decides_and_not_space_rangers_spot_diameter():
    centers, row, column = visium(0.7)
    found = calibrate(centers, array_row=row, array_col=column, spot_diameter_px=65 / 0.7)
    assert found.um_per_px == pytest.approx(0.7)
    assert found.spot_um == 55
    assert "pitch of the Visium array" in found.source


def test_a_turned_array_is_recognised():
    centers, row, column = visium(0.5)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert calibrate(centers @ turn, array_row=row, array_col=column).um_per_px == pytest.approx(0.5)


def test_hexagonal_centres_are_enough():
    centers, _, _ = visium(0.7, 12)
    found = calibrate(centers)
    assert found.um_per_px == pytest.approx(0.7)
    assert "hexagonal" in found.source


@pytest.mark.parametrize("um_per_px", [0.7, 5.9])
@pytest.mark.parametrize("kept", [1.0, 0.8, 0.6])
def test_hexagonal_centres_are_enough_where_spots_are_missing(rng, kept, um_per_px):
    centers, _, _ = visium(um_per_px, 16)
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    centers = np.round(centers @ turn)[rng.random(len(centers)) < kept]  # 5.9 um per px: 17 px apart
    assert calibrate(centers, spot_diameter_px=65 / um_per_px).um_per_px == pytest.approx(um_per_px, rel=0.01)
    assert "hexagonal" in calibrate(centers).source


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


def test_positions_that_do_not_belong_to_the_centres_are_not_believed(rng):
    centers, row, column = visium(0.7)
    order = rng.permutation(len(row))
    found = calibrate(centers, array_row=row[order], array_col=column[order])
    assert "hexagonal" in found.source
    assert found.um_per_px == pytest.approx(0.7)


def test_the_diameter_is_the_last_resort_and_is_said(rng):
    found = calibrate(rng.uniform(0, 1000, (20, 2)), spot_diameter_px=130)
    assert found.um_per_px == pytest.approx(0.5)
    assert found.source == "the spot diameter, taken for 65 um"


def test_a_stated_scale_wins():
    centers, row, column = visium(0.7)
    found = calibrate(centers, array_row=row, array_col=column, microns_per_px=0.3, spot_um=2)
    assert (found.um_per_px, found.spot_um) == (0.3, 2)


def test_nothing_known_is_an_error(rng):
    with pytest.raises(ValueError, match="Cannot tell how many um a pixel measures.*microns_per_pixel"):
        calibrate(rng.uniform(0, 1000, (20, 2)))


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
        spot_diameter_px=factors["spot_diameter_fullres"],
    )
    assert found.um_per_px == pytest.approx(um_per_px, rel=0.02)
    assert found.spot_um == spot_um


def test_spots_that_share_their_places_are_refused():
    with pytest.raises(ValueError, match="Found 30 spots at 1 different places.*Correct"):
        calibrate(np.full((30, 2), 5.0), microns_per_px=0.5)
