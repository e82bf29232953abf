"""Predict a case with TESLA. Run by the Python of its environment: ``python run_tesla.py FOLDER``.

As its tutorial does: logarithm of raw counts, a contour of the tissue, ``tesla.imputation`` with its defaults (the 10
nearest spots in x, y and a colour scalar, weights 1 / distance ** 2). Superpixels are as fine as the regions asked for.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import cv2
import numpy as np
import pandas as pd
import TESLA as tesla
from exchange import PeerCase, means_over_regions, read_case, write_prediction
from numpy.typing import NDArray


def main(folder: Path) -> None:
    """Read the case, impute, write the prediction."""
    warnings.filterwarnings("ignore")
    started = time.perf_counter()
    case = read_case(folder)
    res = superpixel(case)
    img, shift = aligned(cv2.imread(str(case.image)), case, res)
    raw = spots(case, shift)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports every thousandth superpixel
        found = tesla.imputation(
            img=img, raw=raw, cnt=contour(case, img, shift), genes=list(raw.var_names), shape="None", res=res
        )
    logs = np.asarray(found.X, dtype=np.float32)
    points = found.obs[["y", "x"]].to_numpy(dtype=np.float64) + 0.5 - shift
    values, held = means_over_regions(case, points, np.expm1(logs))
    notes = (
        f"TESLAforST {tesla.__version__}; {len(points):,} superpixels of {res} px ({res * case.um_per_px:.1f} um), "
        f"otherwise defaults (s=1, k=2, num_nbs=10); {1 - held.mean():.0%} of the regions hold none and take the nearest. "
        "Kept as it is: spots' colour is a grey mean, superpixels' a mean weighted by variance."
    )
    write_prediction(case, values, raw.var_names.to_numpy(), seconds=time.perf_counter() - started, notes=notes)


def superpixel(case: PeerCase) -> int:
    """Side of a superpixel in whole px: at most a square region's, or half of a disc's diameter (tutorial: about 25 um)."""
    return max(1, int(case.size + 0.01))


def aligned(image: NDArray[np.uint8], case: PeerCase, res: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pad the picture so that superpixels, which sit at multiples of ``res``, sit in the middle of square regions.

    Returns it and the (x, y) px that were added before the first column and row.
    """
    shift = np.zeros(2, dtype=np.int64)
    if case.square and abs(case.size - res) < 0.01:
        shift = -np.floor(case.regions[0]).astype(np.int64) % res
    after = res + 1  # superpixels begin one step from the border and end before it
    before = shift + res
    padded = np.pad(image, [(before[1], after), (before[0], after), (0, 0)], mode="edge")
    return np.ascontiguousarray(padded), before


def spots(case: PeerCase, shift: NDArray[np.int64]) -> anndata.AnnData:
    """Spots as TESLA takes them: log(1 + raw counts), ``pixel_x`` the row and ``pixel_y`` the column."""
    columns, rows = np.floor(case.centers).astype(int).T
    obs = pd.DataFrame({"pixel_x": rows + shift[1], "pixel_y": columns + shift[0]})
    obs.index = [f"spot{i}" for i in range(len(obs))]
    var = pd.DataFrame(index=case.genes[case.wanted])
    return anndata.AnnData(np.log1p(case.counts[:, case.wanted]), obs=obs, var=var)


def contour(case: PeerCase, image: NDArray[np.uint8], shift: NDArray[np.int64]) -> Any:
    """One contour of the tissue: of all its pieces, one after the other; of all spots, where it is not known."""
    if case.tissue is None:
        corners = [(dx, dy) for dx in (-case.pitch, case.pitch) for dy in (-case.pitch, case.pitch)]
        around = np.concatenate([case.centers + corner for corner in corners]) + shift
        edge = np.clip(around, 0, np.array(image.shape[1::-1]) - 1)
        return cv2.convexHull(edge.astype(np.int32))
    rows, columns = case.tissue.shape
    after = (image.shape[0] - rows - shift[1], image.shape[1] - columns - shift[0])
    mask = np.pad(case.tissue.astype(np.uint8), [(shift[1], after[0]), (shift[0], after[1])])
    pieces, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    home = pieces[0][:1]  # back to the first point after each piece: the ways there and back enclose nothing
    return np.concatenate([part for piece in pieces for part in (piece, piece[:1], home)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
