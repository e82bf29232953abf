"""A step of the network against the prototype's, which pools maps by a loop over the spots."""

from functools import partial
from statistics import median

import numpy as np
import torch
from benchmarks.performance.measuring import MB, apart, in_turn, row, seconds
from scipy import sparse

from sphisto.core.footprint import Footprint
from sphisto.genes.model import rates
from sphisto.networks.precision import channels_last, computed, fastest
from sphisto.networks.registry import network
from sphisto.train.crops import Batch, pool

SIDE, N_SPOTS, N_FACTORS, N_GENES = 1008, 700, 32, 1_597  # px: the next multiple of both networks' strides
RADIUS = 6.4  # px


def measure(_data, device, _whole):
    """Ratios of times, each within one run."""
    found = apart(steps, device, SIDE, N_SPOTS)
    ours, loop, alone = (median(found[name]) for name in ("ours", "prototype", "pooled our way"))
    behind = f"{loop:.2f} s over {ours:.2f} s; {SIDE}² px, {N_SPOTS} spots"
    rows = [
        row("a step: prototype's network and loop over spots, over ours", loop / ours, "", behind, least=50),
        row("a step: prototype's network, pooled our way, over ours", alone / ours, "", f"{alone:.2f} s"),
    ]
    if "gpu_mb" in found:
        rows.append(row("memory of the GPU in a step of ours", found["gpu_mb"], "MB"))
    return rows


def steps(device, side, n_spots, *, rounds=3):
    """Seconds of a step of our network as it trains, and of the prototype's with its loop over spots and without."""
    torch.manual_seed(0)
    batch, windows = spots(side, n_spots, device)
    loadings = torch.rand(N_GENES, N_FACTORS, device=device) / N_GENES

    def step(name, look, pixels=None):
        spec = network(name)
        module = spec.build(torch.ones(N_FACTORS)).to(device).train()
        low_rank, forward = not spec.one_map_per_gene, module
        if low_rank:
            forward = partial(computed, channels_last(module), precision=fastest(torch.device(device)))
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
        values = batch.values if low_rank else batch.values[:, :N_FACTORS]
        aim = spec.spot_loss(sparse.csr_array(values.cpu().numpy()), is_counts=True)

        def run():
            drawn, maps = forward(batch.image, batch.prior, pixels=pixels)
            means = look(maps)
            expected = rates(means, loadings, 0) if low_rank else means
            loss = 0.1 * spec.image_loss(drawn, batch.image)
            loss = loss + aim(expected, values, torch.ones(n_spots, device=device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    pooled = partial(pool, batch=batch)
    ours, alone = in_turn(step("unet", pooled, batch.pixel), step("prototype", pooled, batch.pixel), rounds=rounds)
    memory = {"gpu_mb": torch.cuda.max_memory_allocated() / MB} if device.startswith("cuda") else {}
    loop = step("prototype", lambda maps: torch.stack([maps[0][:, *w].mean(dim=(1, 2)) for w in windows]))
    return memory | {"ours": ours, "pooled our way": alone, "prototype": [seconds(loop)]}


def spots(side, n, device):
    """Random spots in one image with random values, and the square windows of the prototype."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(2 * RADIUS, side - 2 * RADIUS, size=(n, 2))
    discs = Footprint.from_discs((side, side), centers, RADIUS)
    lengths = np.diff(discs.indptr)
    put = lambda values: torch.as_tensor(values).to(device)
    batch = Batch(
        image=torch.rand(1, 3, side, side, device=device),
        prior=torch.rand(1, N_FACTORS, *[side // network("unet").stride] * 2, device=device),
        pixel=put(discs.y.astype(np.int64) * side + discs.x),
        region=put(np.repeat(np.arange(n), lengths)),
        weight=put((discs.weight / np.repeat(discs.covered, lengths)).astype(np.float32)),
        values=put(rng.poisson(1.0, size=(n, N_GENES)).astype(np.float32)),
        hidden=torch.ones(n, dtype=torch.bool, device=device),
        held_out=torch.zeros(n, dtype=torch.bool, device=device),
        section=torch.tensor(0, device=device),
    )
    low, width = np.round(centers - RADIUS).astype(int), round(2 * RADIUS)
    return batch, [(slice(y, y + width), slice(x, x + width)) for y, x in low]
