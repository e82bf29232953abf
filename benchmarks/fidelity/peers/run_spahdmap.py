"""Predict a case with SpaHDmap. Run by the Python of its environment: ``python run_spahdmap.py FOLDER``.

The steps are its tutorial's, in its order: NMF, pretraining on the picture, graph network over spots and pseudo-spots,
Voronoi map, joint training, extraction of the map, genes as the map times metagenes. ``--schedule full`` is the package's
own schedule, which is made for a graphics card; ``reduced`` (the default) takes minutes on one core; ``smoke`` only
shows that it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = "1"

import anndata
import cv2
import numpy as np
import pandas as pd
import SpaHDmap as hdmap
import torch
from exchange import PeerCase, means_over_regions, read_case, write_prediction
from numpy.typing import NDArray

LEAST_RADIUS = 6.0  # px of a spot: its clean-up of the tissue mask needs some
TARGET = 1e4


@dataclass(frozen=True)
class Schedule:
    """How long to train; the numbers of ``full`` are those of version 0.1.7.

    Parameters
    ----------
    pretrain, frozen, joint
        Iterations on the picture alone, with the U-Net frozen, and of everything.
    graph
        Iterations of the graph network.
    batch
        Tiles of an iteration.
    tile, patch
        Side of a tile, and to which the surroundings of a spot are resized, in px.
    """

    pretrain: int = 5000
    frozen: int = 1000
    joint: int = 1000
    graph: int = 5000
    batch: int = 32
    tile: int = 256
    patch: int = 256

    def __str__(self) -> str:
        return (
            f"{self.pretrain} + {self.frozen} + {self.joint} iterations of {self.batch} tiles of {self.tile} px, graph "
            f"network {self.graph} iterations on patches of {self.patch} px"
        )


SCHEDULES = {
    "full": Schedule(),
    "reduced": Schedule(pretrain=100, frozen=200, joint=100, batch=4, tile=128, patch=64),
    "smoke": Schedule(pretrain=4, frozen=2, joint=2, graph=20, batch=2, tile=128, patch=64),
}


def main() -> None:
    """Read the case, train, write the prediction."""
    options = parser().parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    np.random.seed(options.seed)  # noqa: NPY002 - the package draws from the global generators
    torch.manual_seed(options.seed)
    started = time.perf_counter()
    case, schedule = read_case(options.folder), SCHEDULES[options.schedule]
    with tempfile.TemporaryDirectory() as results, contextlib.redirect_stdout(io.StringIO()):
        section, scale, masked = prepare(case, options.input, Path(results))
        mask = section.mask.copy()  # extraction takes pixels of little signal out of it
        mapper = fit(section, schedule, rank_of(section), results)
    logs, held = means_over_regions(case, *fitted_map(section, mask, scale))
    kept = [gene for gene in case.genes[case.wanted] if gene in mapper.metagene.index]
    # the network multiplies by the positive part of its metagenes, and so must whoever predicts with them
    logs = np.maximum(logs @ np.maximum(mapper.metagene.loc[kept].to_numpy(), 0).T, 0)
    usual = float(np.median(case.counts.sum(axis=1))) if options.input == "normalised" else TARGET
    notes = (
        f"spahdmap {hdmap.__version__}, schedule {options.schedule}: {schedule} (full: {SCHEDULES['full']}); "
        f"rank {mapper.rank}, all genes, input {options.input}, spots of {section.radius} px radius (picture "
        f"x {1 / scale:.3g}), {'its own tissue mask' if masked else 'no tissue mask'}; float32 instead of float16 at the end; "
        f"{1 - held.mean():.0%} of the regions lie off its map and take the nearest pixel"
    )
    write_prediction(
        case,
        np.expm1(logs) * usual / TARGET,
        np.array(kept),
        seconds=time.perf_counter() - started,
        notes=notes,
        log_values=logs if options.input == "normalised" else None,
    )


def parser() -> argparse.ArgumentParser:
    """Arguments of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("folder", type=Path, help="folder of the case")
    out.add_argument("--schedule", choices=SCHEDULES, default="reduced", help="how long to train (default reduced)")
    out.add_argument(
        "--input",
        choices=("normalised", "counts"),
        default="normalised",
        help="log(1 + counts per 10,000), as the package makes it itself (default), or log(1 + counts), which it takes as "
        "normalised already and which keeps how much RNA a spot holds",
    )
    out.add_argument("--seed", type=int, default=0)
    return out


def prepare(case: PeerCase, form: str, scratch: Path) -> tuple[Any, float, bool]:
    """Load spots and picture, with the package's tissue mask unless it misses spots or the tissue fills the picture.

    Returns the section, how many px of the picture make one of the network's, and whether the mask is used.
    """
    scale = min(1.0, case.radius / LEAST_RADIUS)
    image = case.image if scale == 1 else enlarged(case.image, scratch / "image.png", 1 / scale)
    fills = case.tissue is not None and bool(case.tissue.all())
    for masked in (not fills, False):
        section = hdmap.prepare_stdata(
            section_name="case",
            image_path=str(image),
            adata=spots(case, form, scale),
            select_hvgs=False,
            radius=round(case.radius / scale),
            create_mask=masked,
        )
        rows, columns = (np.round(section.spot_coord) - (section.row_range[0], section.col_range[0])).astype(int).T
        within = (rows >= 0) & (columns >= 0) & (rows < section.mask.shape[0]) & (columns < section.mask.shape[1])
        within[within] = section.mask[rows[within], columns[within]]
        if within.mean() >= 0.98 and min(section.mask.shape) >= 128:
            break
    return section, scale, masked


def spots(case: PeerCase, form: str, scale: float) -> anndata.AnnData:
    """Spots as it takes them; half a pixel is added because it counts pixels from 1, and their centres are whole."""
    counts = case.counts
    if form == "normalised":  # here, since it leaves counts below 20 as they are and drops genes and spots of others
        counts = counts * (TARGET / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    obs = pd.DataFrame(index=[f"spot{i}" for i in range(len(counts))])
    adata = anndata.AnnData(np.log1p(counts), obs=obs, var=pd.DataFrame(index=case.genes))
    adata.obsm["spatial"] = case.centers / scale + 0.5
    return adata


def enlarged(image: Path, to: Path, factor: float) -> Path:
    """Write a larger copy of the picture; the package's own ``scale_rate`` needs whole radii."""
    cv2.imwrite(str(to), cv2.resize(cv2.imread(str(image)), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    return to


def rank_of(section: Any) -> int:
    """Its default of 20, or as many as there are genes or spots."""
    return min(20, *section.adata.shape)


def fit(section: Any, schedule: Schedule, rank: int, results: str) -> Any:
    """Train; ``args`` holds the schedule and is changed before the tiles are cut."""
    mapper = hdmap.Mapper(section, results_path=results, rank=rank)
    mapper.args.num_workers = 0
    mapper.args.split_size = schedule.tile
    mapper.args.batch_size = mapper.args.batch_size_train = schedule.batch
    mapper.args.total_iter_pretrain = schedule.pretrain
    mapper.args.total_iter_gcn = schedule.graph
    mapper.args.fix_iter_train = schedule.frozen
    mapper.args.total_iter_train = schedule.frozen + schedule.joint
    mapper._process_data()
    keep_single_precision(mapper.model)
    mapper.get_NMF_score()
    mapper.pretrain(save_model=False, load_model=False)
    mapper.args.split_size = schedule.patch
    mapper.get_GCN_score()
    mapper.args.split_size = schedule.tile
    mapper.get_VD_score(use_score="GCN")
    mapper.train(save_model=False, load_model=False)
    mapper.get_SpaHDmap_score()
    return mapper


def keep_single_precision(model: torch.nn.Module) -> None:
    """Extract the map in float32: in float16 a tile of 128 px took 12 s on a core instead of 0.1 s."""

    def widened(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        half = {name: x for name, x in kwargs.items() if isinstance(x, torch.Tensor) and x.dtype == torch.float16}
        return args, kwargs | {name: x.float() for name, x in half.items()}

    model.half = lambda: model  # type: ignore[method-assign]
    model.register_forward_pre_hook(widened, with_kwargs=True)


def fitted_map(section: Any, mask: NDArray[np.bool_], scale: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(p, 2) places (x, y) in px of the picture, and (p, rank) values of the map there, where it is not masked."""
    score = np.asarray(section.scores["SpaHDmap"], dtype=np.float32)
    rows, columns = np.nonzero(mask)
    x, y = columns + section.col_range[0] + 0.5, rows + section.row_range[0] + 0.5
    return np.stack([x, y], axis=1) * scale, score[:, rows, columns].T


if __name__ == "__main__":
    main()
