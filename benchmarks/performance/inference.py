"""Speed of the network against that of one large convolution, and what writing adds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.performance.apart import MB, Row, apart, in_turn, middle, seconds
from benchmarks.performance.slides import TILE, drawn_model, quiet, section, slide_of

if TYPE_CHECKING:
    from benchmarks.performance.apart import Setting
    from torch import nn

    from sphisto.core.tiles import Tile

TILES = 5  # on tissue, along each side of it
WIDTH, SIDE = 64, 1024  # of the one convolution: the network's own middle width
N_FACTORS, N_GENES = 32, 20


def measure(setting: Setting) -> list[Row]:
    """Share of a convolution's speed that the network reaches, and what writing adds to its time."""
    found = apart(speed, setting.device, TILES)
    peak, alone, written = (middle(found[name]) for name in ("convolution", "predict", "write"))
    rate, n = found["peak_work"] / peak / 1e9, found["tiles"]

    def row(what: str, work: str, time: str, more: str, least: float | None = None) -> Row:
        shares = [
            found[work] / t / (found["peak_work"] / p) for t, p in zip(found[time], found["convolution"], strict=True)
        ]
        done = found[work] / middle(found[time]) / 1e9
        return Row(what, middle(shares), "", f"{done:.1f} of {rate:.1f} GFLOP/s{more}", least=least)

    adds = middle([w / p - 1 for w, p in zip(found["write"], found["predict"], strict=True)])
    rows = [
        row(
            "predict, useful work: share of a convolution's speed",
            "useful",
            "predict",
            f", {found['precision']}; {n} tiles",
            least=0.5,
        ),
        row("predict, with the halo", "work", "predict", ""),
        row("predict and write, useful work", "useful", "write", ""),
        Row(
            "writing adds to the time", adds, "", f"{written / n:.3f} s instead of {alone / n:.3f} s a tile", most=0.25
        ),
        Row("pixels predicted in a second", found["pixels"] / alone / 1e6, "Mpx/s", f"{alone / n:.3f} s a tile"),
    ]
    if "gpu_mb" in found:
        rows.append(Row("memory of the GPU", found["gpu_mb"], "MB", f"tiles of {TILE} px"))
    return rows


def speed(device: str, tiles: int, *, rounds: int = 3, side: int = SIDE) -> dict[str, Any]:
    """Seconds of one large convolution, of predicting, and of predicting and writing, in turn; and their work."""
    import torch

    from sphisto._cores import one_blas_thread
    from sphisto.core.tiles import nested, on_tissue
    from sphisto.io.store import write as building
    from sphisto.io.store.transaction import replacing
    from sphisto.networks.precision import fastest
    from sphisto.predict.conditioning import posterior_for
    from sphisto.predict.tiles import predict_tiles, tiles_of
    from sphisto.tl._project import stream

    where, adata = torch.device(device), section(tiles)
    slide = slide_of(adata, (tiles + 2) * TILE, tiles)
    fitted = drawn_model(adata, n_factors=N_FACTORS, n_genes=N_GENES)
    posterior = quiet(lambda: posterior_for(fitted, slide))
    todo = nested(on_tissue(tiles_of(fitted, slide), slide.tissue))

    def predict() -> None:
        with one_blas_thread():
            for _ in predict_tiles(fitted, slide, posterior, device=where, tiles=todo):
                pass

    with tempfile.TemporaryDirectory() as name, replacing(Path(name) / "out.zarr") as work:
        quiet(lambda: building.write_slide(work.staging, slide, "projection"))

        def write() -> None:
            for name in [name for name in work.journal.done if name.startswith("region ")]:
                del work.journal.done[name]  # of the round before; that the rasters are created stays
            quiet(lambda: stream(fitted, slide, posterior, work, "projection", where))

        times = in_turn(convolution(where, side), predict, write, rounds=rounds)
    useful, work_done = work_of(fitted.module(), todo)
    by_task = dict(zip(("convolution", "predict", "write"), map(list, zip(*times, strict=True)), strict=True))
    memory = {"gpu_mb": torch.cuda.max_memory_allocated(where) / MB} if where.type == "cuda" else {}
    return by_task | memory | {
        "precision": fastest(where),
        "peak_work": 2 * 9 * WIDTH**2 * side**2, "useful": useful, "work": work_done, "tiles": len(todo),
        "pixels": sum(tile.core.shape[0] * tile.core.shape[1] for tile in todo),
    }  # fmt: skip


def convolution(device: Any, side: int) -> Any:
    """One convolution on a large image, in the network's precision and the layout of memory that is faster here."""
    import torch

    from sphisto.networks.precision import fastest

    kind = getattr(torch, fastest(device))

    def made(layout: Any) -> Any:
        layer = torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1).to(device, kind, memory_format=layout)
        image = torch.rand(1, WIDTH, side, side).to(device, kind, memory_format=layout)

        def run() -> None:
            with torch.inference_mode():
                layer(image)

        return run

    both = [made(layout) for layout in (torch.contiguous_format, torch.channels_last)]
    for run in both:
        run()
    return min(both, key=seconds)


def work_of(module: nn.Module, tiles: list[Tile]) -> tuple[float, float]:
    """Operations of the convolutions for the cores of tiles, and for all that is seen of them."""
    side = TILE // 4  # of a picture to count in: all layers grow with it
    per_px = operations(module, side) / side**2

    def pixels(windows: list[Any]) -> int:
        return sum(window.shape[0] * window.shape[1] for window in windows)

    return per_px * pixels([tile.core for tile in tiles]), per_px * pixels([tile.view for tile in tiles])


def operations(module: nn.Module, side: int) -> int:
    """Operations (a multiplication and an addition count two) of a network's convolutions for one square picture.

    A weight of a convolution acts on each pixel that it makes, one of a transposed convolution on each that it is given.
    """
    import torch
    from torch import nn

    from sphisto.networks import unet

    found: list[int] = []

    def count(layer: Any, given: tuple[Any, ...], made: Any) -> None:
        at = made if isinstance(layer, nn.Conv2d) else given[0]
        found.append(2 * layer.weight.numel() * at.shape[-2] * at.shape[-1])

    n_factors = len(next(buffer for name, buffer in module.named_buffers() if name in ("typical", "largest")))
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        module(torch.zeros(1, 3, side, side), torch.ones(1, n_factors, side // unet.STRIDE, side // unet.STRIDE))
    for hook in hooks:
        hook.remove()
    return sum(found)
