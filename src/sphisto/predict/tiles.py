"""From a slide to maps, tile by tile."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sphisto._forks import is_forked
from sphisto._settings import logger, settings
from sphisto.core.tiles import TILE, Tile, Window, plan_tiles, read_window
from sphisto.networks.interpolation import drawn_out_at
from sphisto.networks.precision import computed, fastest
from sphisto.networks.registry import network

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from sphisto.field.posterior import Posterior
    from sphisto.networks.precision import Precision
    from sphisto.networks.registry import Network
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide

    Points = tuple[Tile, NDArray[np.integer], NDArray[np.integer]]  # a tile, and rows and columns in its core

_entering = Lock()
_inside: list[int] = []  # of each that has entered `a_core_left`: threads there were before the first
_LEAST_PIECE = 64  # px; with the halo around them, smaller pieces take hardly less memory
_BLOCK = 128  # px of a prior that are computed together: a view holds few that its neighbours do not need as well
_KEPT_BYTES, _LEAST_KEPT, _MOST_KEPT = 2**25, 36, 128  # of blocks; a view has 36 at most


@dataclass(frozen=True, eq=False)
class Maps:
    """What is known of a tile's core."""

    factors: NDArray[np.float32]  # (K, h, w) float32 density, counts per spot area; NaN outside tissue
    image: NDArray[np.float32]  # (3, h, w) float32 redrawn image, 0 to 1


class SharedPrior:
    """Maps of a posterior for views that overlap: each block of them is computed once while it is kept."""

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior
        n_bytes = 4 * len(posterior.mean) * (_BLOCK // posterior.stride) ** 2
        self._block = lru_cache(min(max(_KEPT_BYTES // n_bytes, _LEAST_KEPT), _MOST_KEPT))(posterior.maps)

    def maps(self, view: Window) -> NDArray[np.float32]:
        """(K, h / stride, w / stride) densities, as :meth:`sphisto.field.posterior.Posterior.maps` gives them."""
        stride = self.posterior.stride
        height, width = (side // stride for side in view.shape)
        out = np.empty((len(self.posterior.mean), height, width), dtype=np.float32)
        for y in range(view.y0 // _BLOCK * _BLOCK, view.y1, _BLOCK):
            for x in range(view.x0 // _BLOCK * _BLOCK, view.x1, _BLOCK):
                block = Window(y, x, y + _BLOCK, x + _BLOCK)
                shared = Window(max(y, view.y0), max(x, view.x0), min(block.y1, view.y1), min(block.x1, view.x1))
                to, of = (_coarse(shared.within(window), stride) for window in (view, block))
                out[:, *to] = self._block(block)[:, *of]
        return out


def _coarse(place: tuple[slice, slice], stride: int) -> tuple[slice, slice]:
    y, x = (slice(part.start // stride, part.stop // stride) for part in place)
    return y, x


def tiles_of(fitted: Fitted, slide: Slide, *, tile: int = TILE) -> list[Tile]:
    """Plan the tiles in which a slide is predicted."""
    spec = network(fitted.network)
    return plan_tiles(slide.grid.shape, size=tile, halo=spec.reach, multiple=spec.stride)


def predict_tiles(
    fitted: Fitted,
    slide: Slide,
    posterior: Posterior,
    *,
    device: torch.device,
    tile: int = TILE,
    tiles: Iterable[Tile] | None = None,
    precision: Precision | None = None,
) -> Iterator[tuple[Tile, Maps]]:
    """Yield the maps of each tile, or of some ``tiles`` of :func:`tiles_of`; one tile at a time is in memory.

    Convolutions are of a given precision, or of that of :func:`precision_of`. A tile for which the memory does not
    suffice is computed in smaller pieces, and so are those after it.
    """
    module, spec = fitted.module().to(device), network(fitted.network)
    precision = precision_of(fitted.params, device) if precision is None else precision
    prior = SharedPrior(posterior)
    side: int | None = None  # of the pieces, in px; None: tiles as a whole
    for part in tiles_of(fitted, slide, tile=tile) if tiles is None else tiles:
        while True:
            try:
                maps = _in_pieces(module, slide, prior, _pieces(part, side, spec), part, device, precision)
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                reason = str(error)
            # outside of the handler, whose traceback keeps alive what the failed attempt had made
            side = _smaller(side or max(part.core.shape), spec, device, reason)
        yield part, maps
        del maps  # not to be kept while the next tile is computed


def precision_of(params: dict[str, Any], device: torch.device) -> Precision:
    """Precision in which a network with these settings was trained, unless that is slower here, which is measured."""
    return fastest(device) if params.get("precision") == "bfloat16" else "float32"


def predict_points(
    fitted: Fitted, slide: Slide, posterior: Posterior, points: Iterable[Points], *, device: torch.device
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield densities (K, m) at some points of each tile, by the network and by its prior alone; 0 off tissue.

    The same as :func:`predict_tiles` gives at these pixels, without making the maps of all others.
    """
    module, prior = fitted.module().to(device), SharedPrior(posterior)
    precision = precision_of(fitted.params, device)
    for tile, y, x in points:
        view, core = tile.view, tile.core
        coarse = prior.maps(view)
        image, given = _inputs(slide, view, coarse, device)
        place = (y + core.y0 - view.y0) * (view.x1 - view.x0) + x + core.x0 - view.x0
        pixels = torch.from_numpy(place.astype(np.int64)).to(device)
        ratio = posterior.ratio(core, view, coarse)
        shares = np.ones(len(y), dtype=np.float32) if ratio is None else ratio[y, x]
        with torch.inference_mode():
            alone = drawn_out_at(given, pixels, posterior.stride).T.cpu().numpy() * shares
            try:
                _, full = computed(module, image, given, precision, pixels=pixels)
                found = full.T.cpu().numpy() * shares
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                found = None
        if found is None:  # then in pieces
            ((_, maps),) = predict_tiles(fitted, slide, posterior, device=device, tiles=[tile])
            found = maps.factors[:, y, x]
        inside = slide.tissue[core.slices][y, x]
        yield np.where(inside, found, np.float32(0)), np.where(inside, alone, np.float32(0))


def _inputs(slide: Slide, view: Window, coarse: NDArray[np.float32], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (1, 3, h, w) image and (1, K, h / s, w / s) prior of a view, as a network takes them."""
    image = torch.from_numpy(read_window(slide.image, view).astype(np.float32) / 255)
    return image[None].to(device), torch.from_numpy(coarse)[None].to(device)


def _in_pieces(
    module: torch.nn.Module,
    slide: Slide,
    prior: SharedPrior,
    pieces: list[Tile],
    whole: Tile,
    device: torch.device,
    precision: Precision,
) -> Maps:
    """Maps of a tile from those of its pieces."""
    found = [(piece.core.within(whole.core), _maps(module, slide, prior, piece, device, precision)) for piece in pieces]
    if len(found) == 1:
        return found[0][1]
    factors = np.empty((len(found[0][1].factors), *whole.core.shape), dtype=np.float32)
    image = np.empty((3, *whole.core.shape), dtype=np.float32)
    for where, maps in found:
        factors[:, *where], image[:, *where] = maps.factors, maps.image
    return Maps(factors, image)


def _maps(
    module: torch.nn.Module, slide: Slide, prior: SharedPrior, part: Tile, device: torch.device, precision: Precision
) -> Maps:
    coarse = prior.maps(part.view)
    image, given = _inputs(slide, part.view, coarse, device)
    with torch.inference_mode():
        drawn, factors = computed(module, image, given, precision, part.core.y0 - part.view.y0)
    core = np.s_[:, : part.core.shape[0], : part.core.shape[1]]  # cores at the border are smaller
    maps = factors[0][core].cpu().numpy()
    ratio = prior.posterior.ratio(part.core, part.view, coarse)
    if ratio is not None:
        maps *= ratio
    tissue = np.asarray(slide.tissue[part.core.slices], dtype=bool)  # a stored mask holds 0 and 1
    if not tissue.all():
        np.copyto(maps, np.float32(np.nan), where=~tissue)
    return Maps(maps, drawn[0][core].cpu().numpy())


def _pieces(whole: Tile, side: int | None, spec: Network) -> list[Tile]:
    if side is None:
        return [whole]
    at = whole.core.y0, whole.core.x0
    planned = plan_tiles(whole.core.shape, size=side, halo=spec.reach, multiple=spec.stride)
    return [Tile(piece.core.moved(*at), piece.view.moved(*at)) for piece in planned]


def _smaller(side: int, spec: Network, device: torch.device, reason: str) -> int:
    """Half the side of the pieces, if that is any use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if side // 2 < max(_LEAST_PIECE, spec.stride):
        msg = (
            f"The memory of {device} does not suffice for pieces of {side} px ({reason}). End other programs that use "
            'it, or choose another `device` (`"cpu"`).'
        )
        raise MemoryError(msg)
    logger.warning(
        "The memory of %s did not suffice for tiles of %d px; %d px are tried. That takes longer, the result is the same. "
        "Another `device`, or ending other programs that use it, spares that.",
        device, side, side // 2,
    )  # fmt: skip
    return side // 2


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether it is that; PyTorch has no class of its own for the memory of the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)


@contextlib.contextmanager
def a_core_left(device: torch.device) -> Iterator[None]:
    """Let the network take one thread less than usual: threads that wait for each other beside a writer lose much.

    The number holds for the whole process: the first that enters sets it and the last that leaves takes it back.
    """
    with _entering:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        if device.type == "cpu" and _inside[0] > 1:
            torch.set_num_threads(_inside[0] - 1)
    try:
        yield
    finally:
        with _entering:
            n_threads = _inside.pop()
            if not _inside:
                torch.set_num_threads(n_threads)


def device_of(name: str | None) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1", "mps" into a device that is there; ``None``: as ``sphisto.settings`` says."""
    if is_forked() and torch.get_num_threads() > 1:
        logger.info("This process was forked, and the network runs on one core; processes that are spawned use more.")
        torch.set_num_threads(1)  # OpenMP's threads stayed behind: more than one would wait for them for ever
    name = settings.device if name is None else name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        msg = f'Found device={name!r}, which cannot be used here ({error}); expected "auto", "cpu", "cuda" or "mps".'
        raise ValueError(msg) from error
    return device
