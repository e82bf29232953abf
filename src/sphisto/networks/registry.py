"""The networks one can choose by name, and what a fit asks of each."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

from sphisto.networks.prototype import Prototype
from sphisto.networks.unet import ResidualUNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse
    from torch import Tensor, nn

    from sphisto.core.spot import Spot
    from sphisto.networks.losses import SpotLoss


class Network(Protocol):
    """A network with its losses and its defaults; another one is a second class with an entry in :data:`NETWORKS`."""

    @property
    def stride(self) -> int:
        """Px: tiles begin at multiples of it."""

    @property
    def reach(self) -> int:
        """Px beyond a tile that decide what is in it."""

    @property
    def one_map_per_gene(self) -> bool:
        """Whether each map is one of the genes that are asked for; otherwise maps are factors, which carry all genes."""

    @property
    def max_epochs(self) -> int:
        """Epochs by default."""

    @property
    def longest_side(self) -> int | None:
        """Px: the image is worked on at most this large by default; ``None``: at its own resolution."""

    @property
    def layout(self) -> Mapping[str, Any]:
        """What decides the shapes of a new module's weights, plain values: it is kept with them."""

    @property
    def first_layout(self) -> Mapping[str, Any]:
        """The layout of models that do not say theirs: those of format 3 and before."""

    def level(self, density: NDArray[np.floating]) -> NDArray[np.floating]:
        """(K,) level of each map, from (n, K) densities at the spots: what :meth:`build` scales its output by."""

    def build(self, level: Tensor, layout: Mapping[str, Any] | None = None) -> nn.Module:
        """Make the module from (K,) levels; in another layout than that of new ones, if one is given.

        It turns images (b, 3, h, w; 0 to 1) and priors (b, K, h / s, w / s; counts per spot area) into redrawn images
        and maps (b, K, h, w; counts per spot area); called with a margin in px, without these at each side; called with
        some pixels, flat indices into (b, h, w), it gives the maps at these alone (n, K).
        """

    def image_loss(self, drawn: Tensor, image: Tensor) -> Tensor:
        """Compare (b, 3, h, w) redrawn images with the images."""

    def spot_loss(self, values: sparse.csr_array, *, is_counts: bool) -> SpotLoss:
        """Return the loss of spots, given the (n, G) values that are learned from."""

    def loss_spot(self, spot: Spot) -> Spot:
        """Return the spot over which the loss averages maps."""


NETWORKS: dict[str, Network] = {"unet": ResidualUNet(), "prototype": Prototype()}
_ALIASES = {"seed": "prototype"}  # former names, which models and scripts may hold


def network(name: str) -> Network:
    """Look a network up by name."""
    known = NETWORKS.get(_ALIASES.get(name, name))
    if known is None:
        msg = f"Found network={name!r}; expected one of {', '.join(map(repr, NETWORKS))}."
        raise ValueError(msg)
    return known


def current_name(name: str) -> str:
    """Return the name that a network has now, and warn if it was called by a former one."""
    if name in _ALIASES:
        msg = (
            f"network={name!r} is called {_ALIASES[name]!r} now; the former name will not be read in the next release."
        )
        warnings.warn(msg, FutureWarning, stacklevel=4)  # of who calls what takes it
    return _ALIASES.get(name, name)
