"""Time to beat kriging; a step of the network, and pooling, against the prototype's way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.performance.apart import MB, Row, apart, in_turn, middle, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.performance.apart import Setting
    from torch import Tensor

    from sphisto.train.crops import Batch

SET, SPLIT = "mouse_brain_coronal", "random"
SIDE, N_SPOTS, N_FACTORS, N_GENES = 1008, 700, 32, 1_597  # px: the next multiple of both networks' strides
RADIUS = 6.4  # px
SOME = 20  # spots that the prototype's loops are timed on


def measure(setting: Setting) -> list[Row]:
    """Ratios of times, each within one run."""
    rows = []
    if setting.data is not None and (setting.data / SET).is_dir():
        rows += accuracy_rows(apart(against_kriging, setting.data))
    found = apart(steps, setting.device, SIDE, N_SPOTS)
    ours, theirs = middle(found["ours"]), middle(found["prototype"])
    behind = f"{theirs:.2f} s over {ours:.2f} s; {SIDE}² px, {N_SPOTS} spots"
    rows.append(Row("a step: prototype's network and loop over spots, over ours", theirs / ours, "", behind, least=50))
    alone = middle(found["prototype's network alone"])
    rows.append(Row("a step: prototype's network, pooled our way, over ours", alone / ours, "", f"{alone:.2f} s"))
    if "gpu_mb" in found:
        rows.append(Row("memory of the GPU in a step of ours", found["gpu_mb"], "MB", ""))
    found = apart(pooling, setting.device, SIDE, N_SPOTS)
    ours = middle(found["ours"])
    for name, how in (("windows", "cut out one by one"), ("masks", "by a mask of the whole picture")):
        theirs = middle(found[name])
        behind = f"{theirs:.1f} s over {ours:.3f} s; the loop timed on {SOME} of {N_SPOTS} spots"
        least = 500 if name == "masks" else None
        rows.append(Row(f"pooling: spots {how}, over ours", theirs / ours, "", behind, least=least))
    return rows


def accuracy_rows(found: dict[str, dict[str, float]]) -> list[Row]:
    """How long it takes to be better than kriging at spots held out, and by how much."""
    theirs, rows = found["kriging"], []
    for name, what in (("prior", "factors and prior, no network"), ("fast", "preset fast, with rasters")):
        ours = found[name]
        behind = f"held-out Pearson {ours['pearson']:.3f} of {theirs['pearson']:.3f}, deviance explained"
        behind += f" {ours['deviance']:.3f} of {theirs['deviance']:.3f}"
        rows.append(Row(f"{what}: seconds", ours["seconds"], "s", behind, most=90))
        rows.append(
            Row(
                f"{what}: over the time of kriging",
                ours["seconds"] / theirs["seconds"],
                "",
                f"kriging takes {theirs['seconds']:.1f} s",
            )
        )
    return rows


def against_kriging(data: Path) -> dict[str, dict[str, float]]:
    """Seconds and scores at held-out spots of kriging, of the prior, and of the fast preset."""
    from benchmarks.fidelity.methods import METHODS, networks
    from benchmarks.fidelity.scores import score
    from benchmarks.fidelity.sets import make_case

    case = make_case(SET, SPLIT, 0, data)

    def prior(case: Any) -> Any:  # without intervals and skill, which it does not need
        from benchmarks.fidelity.cases import Prediction

        return Prediction(networks.expected(case, *networks.kriged(case)))

    found = {}
    for name, method in {"kriging": METHODS["kriging"], "prior": prior, "fast": METHODS["fast"]}.items():
        answers: list[Any] = []
        taken = seconds(lambda: answers.append(method(case)))  # noqa: B023 - called at once
        scores = score(case, answers[0], free=name == "kriging")
        found[name] = {"seconds": taken, "pearson": scores["mean_pearson"], "deviance": scores["mean_deviance"]}
    return found


def steps(device: str, side: int, n_spots: int, *, rounds: int = 3) -> dict[str, Any]:
    """Seconds of a step of our network as it trains, and of the prototype's with its loop over spots and without."""
    import torch

    from sphisto.genes.model import rates
    from sphisto.networks.losses import dissimilarity, poisson_deviance, scaled_squares
    from sphisto.networks.precision import channels_last, computed, fastest
    from sphisto.networks.registry import network
    from sphisto.train.crops import pool

    torch.manual_seed(0)
    batch, windows = spots(side, n_spots, device)
    loadings = torch.rand(N_GENES, N_FACTORS, device=device) / N_GENES

    def step(name: str, look: Any) -> Any:
        spec = network(name)
        module = spec.build(torch.ones(N_FACTORS)).to(device).train()
        if name == "unet":
            forward = partial(computed, channels_last(module), precision=fastest(torch.device(device)))
        else:
            forward = module
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
        low_rank = spec.factors == "low_rank"
        aim = poisson_deviance if low_rank else scaled_squares(torch.ones(N_FACTORS, device=device))
        values = batch.values if low_rank else batch.values[:, :N_FACTORS]

        def run() -> None:
            drawn, maps = forward(batch.picture, batch.prior)
            means = look(maps)
            expected = rates(means, loadings, 0) if low_rank else means
            loss = dissimilarity(drawn, batch.picture, spec.colour_weight)
            loss = 0.1 * loss + aim(expected, values, torch.ones(n_spots, device=device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    ours = step("unet", lambda maps: pool(maps, batch))
    times = in_turn(ours, step("seed", lambda maps: pool(maps, batch)), rounds=rounds)
    memory = {"gpu_mb": torch.cuda.max_memory_allocated() / MB} if device.startswith("cuda") else {}
    loop = step("seed", lambda maps: torch.stack([window_mean(maps, window) for window in windows]))
    mine, alone = zip(*times, strict=True)
    return memory | {"ours": mine, "prototype's network alone": alone, "prototype": [seconds(loop)]}


def pooling(device: str, side: int, n_spots: int, *, some: int = SOME, rounds: int = 3) -> dict[str, list[float]]:
    """Seconds of pooling maps over all spots, forward and backward; of loops, as many times those of some spots."""
    import torch

    from sphisto.train.crops import pool

    torch.manual_seed(0)
    batch, windows = spots(side, n_spots, device)
    # channels next to each other in memory, as networks make them
    maps = torch.rand(1, N_FACTORS, side, side, device=device).contiguous(memory_format=torch.channels_last)
    maps.requires_grad_()

    def task(look: Any) -> Any:
        def run() -> None:
            maps.grad = None
            look().sum().backward()

        return run

    times = in_turn(
        task(lambda: pool(maps, batch)),
        task(lambda: torch.stack([window_mean(maps, window) for window in windows[:some]])),
        task(lambda: torch.stack([mask_mean(maps, window) for window in windows[:some]])),
        rounds=rounds,
    )
    ours, cut, masked = zip(*times, strict=True)
    scale = n_spots / some
    return {"ours": list(ours), "windows": [scale * t for t in cut], "masks": [scale * t for t in masked]}


def window_mean(maps: Tensor, window: tuple[slice, slice]) -> Tensor:
    """Mean of the maps in one spot's square window: the loop of the prototype."""
    return maps[0][:, *window].mean(dim=(1, 2))


def mask_mean(maps: Tensor, window: tuple[slice, slice]) -> Tensor:
    """The same through a mask of the whole picture."""
    import torch

    mask = torch.zeros(maps.shape[2:], dtype=torch.bool, device=maps.device)
    mask[window] = True
    return maps[0][:, mask].mean(dim=1)


def spots(side: int, n: int, device: str) -> tuple[Batch, list[tuple[slice, slice]]]:
    """Random spots in one picture with random values, and the square windows of the prototype."""
    import torch

    from sphisto.core.footprint import Footprint
    from sphisto.networks.unet import STRIDE
    from sphisto.train.crops import Batch

    rng = np.random.default_rng(0)
    centers = rng.uniform(2 * RADIUS, side - 2 * RADIUS, size=(n, 2))
    discs = Footprint.from_discs((side, side), centers, RADIUS)
    lengths = np.diff(discs.indptr)

    def put(values: Any) -> Tensor:
        return torch.as_tensor(values).to(device)

    batch = Batch(
        picture=torch.rand(1, 3, side, side, device=device),
        prior=torch.rand(1, N_FACTORS, side // STRIDE, side // STRIDE, device=device),
        pixel=put(discs.y.astype(np.int64) * side + discs.x),
        region=put(np.repeat(np.arange(n), lengths)),
        weight=put((discs.weight / np.repeat(discs.covered, lengths)).astype(np.float32)),
        values=put(rng.poisson(1.0, size=(n, N_GENES)).astype(np.float32)),
        hidden=torch.ones(n, dtype=torch.bool, device=device),
        held_out=torch.zeros(n, dtype=torch.bool, device=device),
    )
    low = np.round(centers - RADIUS).astype(int)
    width = round(2 * RADIUS)
    return batch, [(slice(y, y + width), slice(x, x + width)) for y, x in low]
