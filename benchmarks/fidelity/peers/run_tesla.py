"""Predict a case with TESLA. Run by the Python of its environment: ``python run_tesla.py FOLDER``.

As its tutorial does: logarithm of raw counts, a contour of the tissue, ``tesla.imputation`` with its defaults (the 10
nearest spots in x, y and a colour scalar, weights 1 / distance ** 2). Superpixels are as fine as the regions asked for.
One known defect is kept: spots' colour is a plain grey mean, superpixels' a mean weighted by variance.
"""

from __future__ import annotations

import contextlib
import io
import sys

import anndata
import cv2
import exchange
import numpy as np
import pandas as pd
import TESLA as tesla


def main(folder) -> None:
    case = exchange.read(folder)
    res = max(1, int(2 * case.reach + 0.01))
    image, shift = aligned(case, res)
    columns, rows = np.floor(case.centers).astype(int).T
    obs = pd.DataFrame({"pixel_x": rows + shift[1], "pixel_y": columns + shift[0]})  # x is the row
    obs.index = [f"spot{i}" for i in range(len(obs))]
    kept = np.isin(case.genes, case.wanted)
    raw = anndata.AnnData(np.log1p(case.counts[:, kept]), obs=obs, var=pd.DataFrame(index=case.genes[kept]))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports every thousandth superpixel
        found = tesla.imputation(
            img=image, raw=raw, cnt=contour(case, image, shift), genes=list(raw.var_names), shape="None", res=res
        )
    points = found.obs[["y", "x"]].to_numpy(dtype=np.float64) + 0.5 - shift
    values = np.expm1(np.asarray(found.X, dtype=np.float32))
    exchange.write(folder, exchange.over_regions(case, points, values), raw.var_names)


def aligned(case, res):
    """Pad the image so that superpixels, which sit at multiples of ``res``, sit in the middle of square regions.

    Returns it and the (x, y) px that were added before the first column and row.
    """
    before = -np.floor(case.regions[0]).astype(np.int64) % res + res
    after = res + 1  # superpixels begin one step from the border and end before it
    padded = np.pad(case.image[..., ::-1], [(before[1], after), (before[0], after), (0, 0)], mode="edge")
    return np.ascontiguousarray(padded), before


def contour(case, image, shift):
    """One contour of the tissue: of all its pieces, one after the other."""
    after = np.array(image.shape[:2]) - case.tissue.shape - shift[::-1]
    mask = np.pad(case.tissue.astype(np.uint8), [(shift[1], after[0]), (shift[0], after[1])])
    pieces, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    home = pieces[0][:1]  # back to the first point after each piece: the ways there and back enclose nothing
    return np.concatenate([part for piece in pieces for part in (piece, piece[:1], home)])


if __name__ == "__main__":
    main(sys.argv[1])
