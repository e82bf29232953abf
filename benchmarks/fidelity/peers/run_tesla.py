"""Predict a case with TESLA. Run by the Python of its environment: ``python run_tesla.py FOLDER``.

As its tutorial does: logarithm of raw counts, a contour of the tissue, ``tesla.imputation`` with its defaults (the 10
nearest spots in x, y and a colour scalar, weights 1 / distance ** 2). Superpixels are as fine as the regions asked for.
"""

import contextlib
import io
import sys

import anndata
import cv2
import exchange
import numpy as np
import pandas as pd
import TESLA as tesla


def main(folder):
    case = exchange.read(folder)
    res = max(1, int(2 * case.reach + 0.01))
    # padded so that superpixels, which sit at multiples of ``res``, sit in the middle of square regions; they begin one
    # step from the border and end before it
    shift, after = -np.floor(case.regions[0]).astype(np.int64) % res + res, res + 1
    around = [(shift[1], after), (shift[0], after)]
    image = np.ascontiguousarray(np.pad(case.image[..., ::-1], [*around, (0, 0)], mode="edge"))
    columns, rows = np.floor(case.centers).astype(int).T
    obs = pd.DataFrame({"pixel_x": rows + shift[1], "pixel_y": columns + shift[0]})  # x is the row
    obs.index = [f"spot{i}" for i in range(len(obs))]
    kept = np.isin(case.genes, case.wanted)
    raw = anndata.AnnData(np.log1p(case.counts[:, kept]), obs=obs, var=pd.DataFrame(index=case.genes[kept]))
    outline = contour(np.pad(case.tissue.astype(np.uint8), around))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports every thousandth superpixel
        genes = list(raw.var_names)
        found = tesla.imputation(img=image, raw=raw, cnt=outline, genes=genes, shape="None", res=res)
    points = found.obs[["y", "x"]].to_numpy(dtype=np.float64) + 0.5 - shift
    values = np.expm1(np.asarray(found.X, dtype=np.float32))
    exchange.write(folder, exchange.over_regions(case, points, values), raw.var_names)


def contour(mask):
    """One contour of the tissue: of all its pieces, one after the other."""
    pieces, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    home = pieces[0][:1]  # back to the first point after each piece: the ways there and back enclose nothing
    return np.concatenate([part for piece in pieces for part in (piece, piece[:1], home)])


if __name__ == "__main__":
    main(sys.argv[1])
