"""Predict a case with SpaHDmap. Run by the Python of its environment: ``python run_spahdmap.py FOLDER``.

The steps are its tutorial's, in its order. It is given log(1 + counts per 10,000), as the package makes it, or, where
counts are scored, log(1 + counts), which it takes as normalised already and which keeps how much RNA a spot holds. The
schedule is reduced unless SPAHDMAP_SCHEDULE=full, which is made for a graphics card.
"""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from pathlib import Path

import anndata
import cv2
import exchange
import numpy as np
import pandas as pd
import SpaHDmap as hdmap
import torch

LEAST_RADIUS = 6.0  # px of a spot: its clean-up of the tissue mask needs some
TARGET = 1e4
FULL = {"pretrain": 5000, "frozen": 1000, "joint": 1000, "graph": 5000, "batch": 32, "tile": 256, "patch": 256}
REDUCED = {"pretrain": 100, "frozen": 200, "joint": 100, "graph": 5000, "batch": 4, "tile": 128, "patch": 64}


def main(folder):
    warnings.filterwarnings("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    np.random.seed(0)  # noqa: NPY002 - the package draws from the global generators
    torch.manual_seed(0)
    case = exchange.read(folder)
    schedule = FULL if os.environ.get("SPAHDMAP_SCHEDULE") == "full" else REDUCED
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        section, scale = prepare(case, scratch)
        mask = section.mask.copy()  # extraction takes pixels of little signal out of it
        mapper = fit(section, schedule, scratch)
    rows, columns = np.nonzero(mask)
    x, y = columns + section.col_range[0] + 0.5, rows + section.row_range[0] + 0.5
    score = np.asarray(section.scores["SpaHDmap"], dtype=np.float32)[:, rows, columns].T
    factors = exchange.over_regions(case, np.stack([x, y], axis=1) * scale, score)
    kept = [gene for gene in case.wanted if gene in mapper.metagene.index]
    # the network multiplies by the positive part of its metagenes, and so must whoever predicts with them
    logs = np.maximum(factors @ np.maximum(mapper.metagene.loc[kept].to_numpy(), 0).T, 0)
    usual = float(np.median(case.counts.sum(axis=1))) if case.log else TARGET
    exchange.write(folder, np.expm1(logs) * usual / TARGET, kept, logs if case.log else None)


def prepare(case, scratch):
    """The section, with the package's tissue mask unless it misses spots or tissue fills the image; px of one of its px."""
    scale = min(1.0, case.radius / LEAST_RADIUS)  # the package's own ``scale_rate`` needs whole radii
    image, path = case.image[..., ::-1], str(Path(scratch) / "image.png")
    cv2.imwrite(path, cv2.resize(image, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_CUBIC))
    for masked in (not case.tissue.all(), False):
        section = hdmap.prepare_stdata(
            section_name="case", image_path=path, adata=spots(case, scale), select_hvgs=False,
            radius=round(case.radius / scale), create_mask=masked,
        )  # fmt: skip
        y, x = (np.round(section.spot_coord) - (section.row_range[0], section.col_range[0])).astype(int).T
        rows, columns = section.mask.shape
        within = (y >= 0) & (x >= 0) & (y < rows) & (x < columns)
        within[within] = section.mask[y[within], x[within]]
        if within.mean() >= 0.98 and min(rows, columns) >= 128:
            break
    return section, scale


def spots(case, scale):
    """Spots as it takes them; half a pixel is added because it counts pixels from 1, and their centres are whole."""
    counts = case.counts
    if case.log:  # here, since it leaves counts below 20 as they are and drops genes and spots of others
        counts = counts * (TARGET / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    obs = pd.DataFrame(index=[f"spot{i}" for i in range(len(counts))])
    adata = anndata.AnnData(np.log1p(counts), obs=obs, var=pd.DataFrame(index=case.genes))
    adata.obsm["spatial"] = case.centers / scale + 0.5
    return adata


def fit(section, schedule, results):
    """Train; ``args`` holds the schedule and is changed before the tiles are cut."""
    mapper = hdmap.Mapper(section, results_path=results, rank=min(20, *section.adata.shape))
    mapper.args.num_workers, mapper.args.split_size = 0, schedule["tile"]
    mapper.args.batch_size = mapper.args.batch_size_train = schedule["batch"]
    mapper.args.total_iter_pretrain, mapper.args.total_iter_gcn = schedule["pretrain"], schedule["graph"]
    mapper.args.fix_iter_train = schedule["frozen"]
    mapper.args.total_iter_train = schedule["frozen"] + schedule["joint"]
    mapper._process_data()
    mapper.model.half = lambda: mapper.model  # float16 takes 100 times as long on a CPU without support for it
    mapper.model.register_forward_pre_hook(widened, with_kwargs=True)
    mapper.get_NMF_score()
    mapper.pretrain(save_model=False, load_model=False)
    mapper.args.split_size = schedule["patch"]
    mapper.get_GCN_score()
    mapper.args.split_size = schedule["tile"]
    mapper.get_VD_score(use_score="GCN")
    mapper.train(save_model=False, load_model=False)
    mapper.get_SpaHDmap_score()
    return mapper


def widened(_, args, kwargs):
    half = {name: x for name, x in kwargs.items() if isinstance(x, torch.Tensor) and x.dtype == torch.float16}
    return args, kwargs | {name: x.float() for name, x in half.items()}


if __name__ == "__main__":
    main(sys.argv[1])
