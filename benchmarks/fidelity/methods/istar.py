"""A head like iStar's on features that need no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction, picture
from benchmarks.fidelity.methods.looks import textures

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray
    from scipy import sparse
    from torch import Tensor, nn

    from sphisto.core.spot import Spot

HIDDEN = 256
STEPS, BATCH, RATE = 1_000, 16, 1e-3  # iStar: 400 epochs at 1e-4, some 45,000 steps of a Visium section
GENES = 1_000  # the most variable ones, as iStar does by default
ACROSS = 7  # blocks across a spot: of 8 um in one of 55 um


def istar_head(case: Case) -> Prediction:
    """Four layers of 256 LeakyReLU units and ELU+ on each block's features, after iStar (Zhang et al. 2024).

    Squared error between the mean over a spot's disc and its counts, each gene stretched to 0 to 1. Features are
    colour and :func:`sphisto.features.texture.texture` instead of a pretrained vision transformer's, and the schedule is
    short (1,000 steps of 16 spots): the head, not iStar. Genes other than the 1,000 most variable are NaN.
    """
    import torch

    torch.manual_seed(case.seed)
    stride = max(1, round(2 * case.radius / ACROSS))
    looks = textures(case, stride)
    features = np.concatenate([blocks(picture(case), stride), looks]).reshape(3 + len(looks), -1).T
    shape = looks.shape[1:]
    spots = pooling(case, case.slide.spot, case.centers, shape, stride)
    regions = pooling(case, case.regions.spot, case.regions.centers, shape, stride)
    known = np.unique(spots.indices)
    features = (features - features[known].mean(axis=0)) / (features[known].std(axis=0) + 1e-9)
    inputs = torch.from_numpy(features.astype(np.float32))
    genes = case.variable()[:GENES]
    counts = case.counts[:, case.scored[genes]]
    low, high = counts.min(axis=0), counts.max(axis=0)
    targets = torch.from_numpy(((counts - low) / np.maximum(high - low, 1e-9)).astype(np.float32))
    head = network(inputs.shape[1], targets.shape[1])
    optimiser = torch.optim.Adam(head.parameters(), lr=RATE)
    rng = np.random.default_rng(case.seed)
    for _ in range(STEPS):
        some = rng.choice(len(counts), min(BATCH, len(counts)), replace=False)
        blocks_of, weights = compact(spots[some])
        loss = (weights @ head(inputs[blocks_of]) - targets[some]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rates = np.full((len(case.regions), len(case.scored)), np.nan)
    rates[:, genes] = predicted(head, inputs, regions) * (high - low) + low
    return Prediction(case.in_counts(rates), note=f"{STEPS} steps, blocks of {stride} px")


def network(n_features: int, n_genes: int) -> nn.Module:
    """The head."""
    from torch import nn

    class ELUPlus(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.elu(x, alpha=0.01) + 0.01

    sizes = [n_features, *[HIDDEN] * 4]
    layers = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b), nn.LeakyReLU(0.1))]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, n_genes), ELUPlus())


def predicted(head: nn.Module, inputs: Tensor, regions: sparse.csr_array, chunk: int = 2_000) -> Floats:
    """Mean of the head's map over each region."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, regions.shape[0], chunk):
            blocks_of, weights = compact(regions[start : start + chunk], sparse_out=True)
            parts.append(weights @ head(inputs[blocks_of]).numpy())
    return np.concatenate(parts).astype(np.float64)


def compact(rows: sparse.csr_array, *, sparse_out: bool = False) -> tuple[Any, Any]:
    """The blocks that some regions touch, and weights on these alone."""
    import torch
    from scipy import sparse

    touched, column = np.unique(rows.indices, return_inverse=True)
    weights = sparse.csr_array((rows.data, column, rows.indptr), (rows.shape[0], len(touched)))
    return touched, weights if sparse_out else torch.from_numpy(weights.toarray().astype(np.float32))


def pooling(case: Case, spot: Spot, centers: Floats, shape: tuple[int, ...], stride: int) -> sparse.csr_array:
    """(regions, blocks) weights of an average over each region."""
    from scipy import sparse

    seen = spot.footprint((shape[0], shape[1]), centers / stride, case.slide.grid.um_per_px * stride)
    entries = (seen.weight, seen.y.astype(np.int64) * shape[1] + seen.x, seen.indptr)
    weights = sparse.csr_array(entries, (len(centers), shape[0] * shape[1]))
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(seen.covered, 1e-9)) @ weights)


def blocks(rgb: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Average blocks of side x side px; those at the far border hold only what there is."""
    padded = np.pad(rgb.astype(np.float32), [(0, 0), *[(0, -n % side) for n in rgb.shape[1:]]], mode="edge")
    c, height, width = padded.shape
    return np.asarray(padded.reshape(c, height // side, side, width // side, side).mean(axis=(2, 4)))
