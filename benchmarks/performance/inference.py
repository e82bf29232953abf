"""Speed of the network against that of one large convolution, and what writing adds."""

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from benchmarks.performance import drawn
from benchmarks.performance.measuring import MB, apart, middle_ratio, row, seconds
from torch.utils.flop_counter import FlopCounterMode

import sphisto as sp
from sphisto._cores import one_blas_thread
from sphisto.core.tiles import nested, on_tissue
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.io.store import write as building
from sphisto.io.store.chunk_codec import chunk_files
from sphisto.io.store.transaction import replacing
from sphisto.networks.precision import computed, fastest
from sphisto.networks.registry import network
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.tiles import predict_tiles, tiles_of
from sphisto.tl._project import stream

TILES = 5  # on tissue, along each side of it
WIDTH, SIDE = 64, 1024  # of the one convolution: the network's own middle width
N_FACTORS, N_GENES = 32, 20
PASSES = 10  # of the network alone: the first of several finds nothing at hand


def measure(_data, device, _whole):
    """Share of a convolution's speed that the network reaches, and what writing adds to its time."""
    found = apart(speed, device, TILES)
    n, alone, written = found["tiles"], median(found["predict"]), median(found["write"])
    rate = found["peak_work"] / median(found["convolution"]) / 1e9

    def share(what, work, times, more="", least=None):
        value = found[work] / found["peak_work"] * middle_ratio(found["convolution"], found[times])
        behind = f"{found[work] / median(found[times]) / 1e9:.1f} of {rate:.1f} GFLOP/s{more}"
        return row(what, value, "", behind, least=least)

    adds, behind = middle_ratio(found["write"], found["predict"]) - 1, f"{written / n:.3f} instead of {alone / n:.3f} s"
    over = middle_ratio(found["write"], found["compress"])
    packing = f"{written / n:.3f} over {median(found['compress']) / n:.3f} s a tile"
    passing = PASSES * found["useful"] / n / found["peak_work"] * middle_ratio(found["convolution"], found["network"])
    maps = f"{1e3 * median(found['network']) / PASSES:.0f} ms a tile, its maps drawn out and combined"
    rows = [
        row("the network alone, useful work: share of a convolution's speed", passing, "", maps, least=0.5),
        row("predict and write, over compressing the same bytes on one thread", over, "", packing, most=2),
        share("predict, useful work: share of a convolution's speed", "useful", "predict",
              f", {found['precision']}; {n} tiles"),
        share("predict, with the halo", "work", "predict"),
        share("predict and write, useful work", "useful", "write"),
        row("writing adds to the time", adds, "", f"{behind} a tile", most=0.25),
        row("pixels predicted in a second", found["pixels"] / alone / 1e6, "Mpx/s", f"{alone / n:.3f} s a tile"),
    ]  # fmt: skip
    gpu = [row("memory of the GPU", found["gpu_mb"], "MB", f"tiles of {drawn.TILE} px")] if "gpu_mb" in found else []
    return rows + gpu


def speed(device, tiles, *, rounds=3, side=SIDE):
    """Seconds of one large convolution, the network on one tile, predicting, writing too, and compressing what was written.

    In turn, after one round that does not count; and their work.
    """
    where, adata = torch.device(device), drawn.spots(tiles)
    whole = slice(0, (tiles + 2) * drawn.TILE)
    slide = make_slide(sp.io.section(adata, image=drawn.image(whole, whole, tiles), image_scale=1.0))
    fitted = drawn.model(adata, n_factors=N_FACTORS, n_genes=N_GENES)
    _, posterior = posterior_for(fitted, slide, [Texture()])
    todo = nested(on_tissue(tiles_of(fitted, slide), slide.tissue))

    def predict():
        with one_blas_thread():
            for _ in predict_tiles(fitted, slide, posterior, device=where, tiles=todo):
                pass

    with tempfile.TemporaryDirectory() as name, replacing(Path(name) / "out.zarr") as work:
        building.write_slide(work.staging, slide, "projection")
        found = (fitted.model, fitted.genes, "projection")
        building.create_rasters(work.staging, slide, *found, unit="counts", background=1.0)
        work.journal.note("rasters")
        rasters = partial(building.open_rasters, work.staging, "projection")

        def write():
            for done in [done for done in work.journal.done if done.startswith("region ")]:
                del work.journal.done[done]  # of the round before; that the rasters are created stays
            stream(fitted, slide, posterior, work, "projection", where)

        one_tile = partial(forward, fitted.module().to(where), todo[0])
        tasks = {"convolution": convolution(where, side), "network": one_tile, "predict": predict, "write": write}
        times = {name: [] for name in (*tasks, "compress")}
        for _ in range(1 + rounds):
            for raster in rasters():  # chunks of the round before, whose files are not there in a new store either
                for level in raster.levels:
                    shutil.rmtree(chunk_files(level).folder / "c", ignore_errors=True)
            for name, task in tasks.items():
                times[name].append(seconds(task))
            times["compress"].append(sum(compressing(level) for raster in rasters() for level in raster.levels))
    useful, work_done = work_of(fitted.module(), todo)
    memory = {"gpu_mb": torch.cuda.max_memory_allocated(where) / MB} if where.type == "cuda" else {}
    return {name: some[1:] for name, some in times.items()} | memory | {
        "precision": fastest(where), "peak_work": 2 * 9 * WIDTH**2 * side**2, "useful": useful, "work": work_done,
        "tiles": len(todo), "pixels": sum(tile.core.shape[0] * tile.core.shape[1] for tile in todo),
    }  # fmt: skip


def convolution(device, side):
    """One convolution on a large image, in the network's precision and the layout of memory that is faster here."""
    both = []
    for layout in (torch.contiguous_format, torch.channels_last):
        to = {"device": device, "dtype": getattr(torch, fastest(device)), "memory_format": layout}
        layer, given = torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1).to(**to), torch.rand(1, WIDTH, side, side).to(**to)
        both.append(torch.inference_mode()(partial(layer, given)))
        both[-1]()
    return min(both, key=seconds)


@torch.inference_mode()
def forward(module, tile):
    """Run the network some times on what one tile sees, which lies on the device already."""
    device, stride = module.typical.device, network("unet").stride
    height, width = tile.view.shape
    prior = torch.ones(1, len(module.typical), height // stride, width // stride, device=device)
    image, margin = torch.ones(1, 3, height, width, device=device), tile.core.y0 - tile.view.y0
    for _ in range(PASSES):
        computed(module, image, prior, fastest(device), margin)


def compressing(level):
    """Seconds of one thread that does nothing but compress the chunks of an array again."""
    total, files = 0.0, chunk_files(level)
    for path in sorted((files.folder / "c").rglob("*")):
        if path.is_file():
            values = np.frombuffer(files.codec.decode(path.read_bytes()), dtype=level.dtype)
            started = time.perf_counter()
            files.codec.encode(values)
            total += time.perf_counter() - started
    return total


def work_of(module, tiles):
    """Operations of the network's convolutions for the cores of tiles, and all that it does for them."""
    n_factors = len(next(buffer for name, buffer in module.named_buffers() if name in ("typical", "largest")))

    def operations(height, width, margin=0):
        stride = network("unet").stride
        prior = torch.ones(1, n_factors, height // stride, width // stride)
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, 3, height, width), prior, margin)
        return counter.get_total_flops()

    side = drawn.TILE // 4  # of an image to count in: all layers grow with it
    per_px = operations(side, side) / side**2
    useful = per_px * sum(tile.core.shape[0] * tile.core.shape[1] for tile in tiles)
    return useful, len(tiles) * operations(*tiles[0].view.shape, tiles[0].core.y0 - tiles[0].view.y0)
