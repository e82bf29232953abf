"""What the benchmark and a peer tell each other: one folder for each case, so that a peer needs nothing of sphisto.

``train.npz``, written by :func:`write_case`:

- ``counts`` (n, G) float32 raw counts, ``genes`` (G,) names, ``centers_xy_px`` (n, 2), ``spot_radius_px``,
  ``pitch_px``, ``um_per_px``;
- ``tissue`` (rows, columns) bool, optional: where the tissue is, if the methods of the benchmark are told.

``image.png``: the picture, (rows, columns, 3) uint8. Pixel i covers i to i + 1 in all coordinates.

``query.npz``: ``regions_xy_px`` (m, 2) centres, and ``region_radius_px`` (discs) or ``region_side_px`` (squares);
``genes``, optional: names of those to predict (all, if it is missing).

``prediction.npz``, written by :func:`write_prediction` in the peer's environment:

- ``values`` (m, S) float32 and what they are: ``unit``, always :data:`COUNTS`;
- ``log_values`` (m, S), of peers that predict log-normalised values, and ``log_unit``; else they are missing;
- ``genes`` (S,) names; a gene that the peer does not model is missing;
- ``seconds``, ``peak_mb``, ``notes`` (what was reduced, changed or left out).

Needs numpy only; :func:`write_case` needs Pillow, too.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNTS = "counts per spot area"
LOGS = "log(1 + counts per 10,000)"


@dataclass(frozen=True, eq=False)
class PeerCase:
    """A case as a peer sees it.

    Parameters
    ----------
    folder
        Where it lies.
    counts, genes, centers
        (n, G) raw counts, (G,) names and (n, 2) centres (x, y) of the training spots in px.
    radius, pitch, um_per_px
        Of spots in px, of their array in px, and the picture's scale.
    tissue
        (rows, columns) where the tissue is; ``None`` where the peer has to find it itself.
    regions
        (m, 2) centres (x, y) in px of where to predict.
    size, square
        Radius of these in px, or their side if they are squares.
    wanted
        (S,) columns of the genes to predict.
    """

    folder: Path
    counts: NDArray[np.float32]
    genes: NDArray[np.str_]
    centers: NDArray[np.float64]
    radius: float
    pitch: float
    um_per_px: float
    tissue: NDArray[np.bool_] | None
    regions: NDArray[np.float64]
    size: float
    square: bool
    wanted: NDArray[np.int64]

    @property
    def image(self) -> Path:
        """Path of the picture."""
        return self.folder / "image.png"


def write_case(
    folder: Path,
    image: NDArray[np.uint8],
    counts: NDArray[Any],
    genes: NDArray[Any],
    centers: NDArray[Any],
    regions: NDArray[Any],
    *,
    radius: float,
    pitch: float,
    um_per_px: float,
    region_radius: float | None = None,
    region_side: float | None = None,
    wanted: NDArray[Any] | None = None,
    tissue: NDArray[np.bool_] | None = None,
) -> None:
    """Write a case: (rows, columns, 3) picture, (n, G) counts, names, and centres (x, y) of spots and regions in px."""
    from PIL import Image

    if (region_radius is None) == (region_side is None):
        msg = f"Say one of region_radius and region_side, not {region_radius} and {region_side}."
        raise ValueError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "image.png")
    more: dict[str, Any] = {} if tissue is None else {"tissue": tissue}
    np.savez_compressed(
        folder / "train.npz",
        counts=np.asarray(counts, dtype=np.float32),
        genes=np.asarray(genes, dtype=np.str_),
        centers_xy_px=np.asarray(centers, dtype=np.float64),
        spot_radius_px=radius,
        pitch_px=pitch,
        um_per_px=um_per_px,
        **more,
    )
    shape: dict[str, Any] = (
        {"region_side_px": region_side} if region_radius is None else {"region_radius_px": region_radius}
    )
    some: dict[str, Any] = {} if wanted is None else {"genes": np.asarray(wanted, dtype=np.str_)}
    np.savez_compressed(folder / "query.npz", regions_xy_px=np.asarray(regions, dtype=np.float64), **shape, **some)


def read_case(folder: Path) -> PeerCase:
    """Read a case."""
    with np.load(folder / "train.npz") as train, np.load(folder / "query.npz") as query:
        square = "region_side_px" in query
        genes = train["genes"]
        column = {gene: i for i, gene in enumerate(genes)}
        return PeerCase(
            folder=folder,
            counts=train["counts"],
            genes=genes,
            centers=train["centers_xy_px"],
            radius=float(train["spot_radius_px"]),
            pitch=float(train["pitch_px"]),
            um_per_px=float(train["um_per_px"]),
            tissue=train.get("tissue"),
            regions=query["regions_xy_px"],
            size=float(query["region_side_px" if square else "region_radius_px"]),
            square=square,
            wanted=np.array([column[gene] for gene in query.get("genes", genes)], dtype=np.int64),
        )


def write_prediction(
    case: PeerCase,
    values: NDArray[Any],
    genes: NDArray[Any],
    *,
    seconds: float,
    notes: str,
    log_values: NDArray[Any] | None = None,
) -> Path:
    """Write what the peer predicts, with the most memory that this process and its children held."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own: dict[str, Any] = {} if log_values is None else {"log_values": log_values.astype(np.float32), "log_unit": LOGS}
    path = case.folder / "prediction.npz"
    np.savez(
        path,
        values=values.astype(np.float32),
        unit=COUNTS,
        genes=np.asarray(genes, dtype=np.str_),
        seconds=round(seconds, 1),
        peak_mb=round(peak / 1024),
        notes=notes,
        **own,
    )
    return path


def read_prediction(folder: Path) -> dict[str, Any]:
    """Read a prediction: arrays, and the scalars as plain numbers and strings."""
    with np.load(folder / "prediction.npz") as found:
        return {name: found[name] if found[name].ndim else found[name].item() for name in found}


def means_over_regions(
    case: PeerCase, points: NDArray[Any], values: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Average (p, K) values at (p, 2) points (x, y) over each region; the nearest point's where a region holds none.

    Returns the (m, K) averages, and which regions held a point.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    norm, reach = (np.inf, case.size / 2) if case.square else (2, case.size)
    out = np.empty((len(case.regions), values.shape[1]))
    held = np.zeros(len(case.regions), dtype=bool)
    for start in range(0, len(case.regions), 4_000):
        some = case.regions[start : start + 4_000]
        nearest = tree.query(some)[1]
        for i, inside in enumerate(tree.query_ball_point(some, reach, p=norm), start):
            held[i] = len(inside) > 0
            out[i] = values[inside].mean(axis=0) if inside else values[nearest[i - start]]
    return out, held
