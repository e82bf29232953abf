"""From a slide to maps, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sphisto.core.tiles import Tile, plan_tiles, read_window
from sphisto.model.networks import network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sphisto.core.slide import Slide
    from sphisto.model.fitted import Fitted
    from sphisto.model.neighbours import Prior

TILE = 512  # px; also the store's chunk, so that a tile fills whole chunks


@dataclass(frozen=True, eq=False)
class Maps:
    """What is known of a tile's core.

    Parameters
    ----------
    factors
        (K, h, w) float32 density, counts per spot area; NaN outside tissue.
    picture
        (3, h, w) float32 redrawn picture, 0 to 1.
    """

    factors: NDArray[np.float32]
    picture: NDArray[np.float32]


def tiles_of(fitted: Fitted, slide: Slide, *, tile: int = TILE) -> list[Tile]:
    """Plan the tiles in which a slide is predicted."""
    spec = network(fitted.network)
    return plan_tiles(slide.grid.shape, size=tile, halo=spec.reach, multiple=spec.stride)


def predict_tiles(
    fitted: Fitted,
    slide: Slide,
    neighbours: Prior,
    *,
    device: torch.device,
    tile: int = TILE,
    tiles: Iterable[Tile] | None = None,
) -> Iterator[tuple[Tile, Maps]]:
    """Yield the maps of each tile, or of some ``tiles`` of :func:`tiles_of`; one tile at a time is in memory."""
    module = fitted.module().to(device)
    for part in tiles_of(fitted, slide, tile=tile) if tiles is None else tiles:
        picture = torch.from_numpy(read_window(slide.image, part.view).astype(np.float32) / 255)
        prior = torch.from_numpy(neighbours.prior(part.view))
        with torch.inference_mode():
            drawn, factors = module(picture[None].to(device), prior[None].to(device))
        core = part.core.within(part.view)
        tissue = slide.tissue[part.core.slices]
        maps = factors[0].cpu().numpy()[:, *core]
        yield part, Maps(np.where(tissue, maps, np.float32(np.nan)), drawn[0].cpu().numpy()[:, *core])


def device_of(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1", "mps" into a device that is there.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        msg = f'Found device={name!r}, which cannot be used here ({error}); expected "auto", "cpu", "cuda" or "mps".'
        raise ValueError(msg) from error
    return device
