"""What a peer is given and gives, as files in a folder: numpy and scipy only, as it runs in the peer's environment.

``case.npz``: ``image`` (rows, columns, 3), ``counts`` (n, G) raw, ``genes`` (G,), ``wanted`` (S,) genes to predict,
``centers`` (n, 2) of spots and ``regions`` (m, 2) of regions (x, y) in px, pixel i covering i to i + 1; ``radius`` of
spots, ``reach`` half the side of regions; ``tissue`` (rows, columns); ``log``, whether log-normalised values are scored.
``prediction.npz``: ``values`` (m, S) in counts per spot area, ``logs`` (m, S) log-normalised or NaN, ``genes`` (S,).
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.spatial import cKDTree


def read(folder):
    with np.load(Path(folder) / "case.npz") as found:
        return SimpleNamespace(**{name: found[name] if found[name].ndim else found[name].item() for name in found})


def write(folder, values, genes, logs=None):
    logs = np.full_like(values, np.nan) if logs is None else logs
    np.savez(Path(folder) / "prediction.npz", values=values, logs=logs, genes=np.asarray(genes, dtype=np.str_))


def over_regions(case, points, values):
    """Average (p, K) values at (p, 2) points (x, y) over each region; the nearest point's where a region holds none."""
    tree = cKDTree(points)
    nearest, found = tree.query(case.regions)[1], tree.query_ball_point(case.regions, case.reach, p=np.inf)
    return np.array([values[i if i else [near]].mean(axis=0) for i, near in zip(found, nearest, strict=True)])
