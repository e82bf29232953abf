"""All that is needed to predict, as one noun that is saved and loaded without executing anything."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sphisto import __version__
from sphisto._facts import as_html, as_text, gate_words, some
from sphisto.config import FitConfig, as_plain, from_plain
from sphisto.core.atomic import whole_file
from sphisto.core.spot import Spot
from sphisto.features import sources
from sphisto.features.shared import Scaling
from sphisto.features.texture import Texture
from sphisto.field.regression import Regression
from sphisto.genes.levels import at_levels
from sphisto.genes.model import GeneModel
from sphisto.networks.precision import channels_last
from sphisto.networks.registry import network
from sphisto.predict.regression_content import arrays, as_content, from_content, plain
from sphisto.scoring.skill import Skill

_FORMAT = 4  # which versions must refuse that know no other layout of the network than the first
_OLDER = (2, 3)  # without a layout; of one section, of several


@dataclass(frozen=True, eq=False)
class SectionFit:
    """What a projection that several sections share knows of one of them."""

    # (G,) logarithm of each gene's level in the section over its usual one, the section's depth included
    levels: NDArray[np.float64]
    gate: float  # share of what the network adds that is used
    mean: NDArray[np.float64]  # (K,) mean density of each factor
    spot: Spot  # of the section
    skill: Skill  # of each gene at the section's left-out spots
    # counts, image: digests that distinguish the section from another one of its name; empty in models of before they
    # were kept
    counts: str = ""
    image: str = ""
    # whether sections that it is registered to are used place by place; None if there are none, or that was not kept
    registered_used: bool | None = None
    # share of what the others lead to expect that is used; None of a section alone, or where that was not kept
    followed: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """A fitted projection.

    Parameters
    ----------
    network
        Name of the network.
    weights
        Its state.
    model
        Genes and loadings.
    level
        Level of each factor the network was built with, counts per spot area; contrasts have none.
    mean
        (K,) mean density of each factor, counts per spot area of tissue: which holds where no spot is known.
    um_per_px
        Resolution it was fitted at, um per px; it predicts at the same.
    spot
        Spot whose area is the unit of all rasters.
    is_counts
        Whether it was fitted to raw counts.
    genes
        Genes whose rasters are written by default.
    params
        Settings of the fit, plain values.
    history
        One array per quantity, one entry per epoch.
    skill
        Of each gene.
    config
        Settings of the fit.
    features
        Names and hashes of the sources of features it was fitted with.
    version
        Of sphisto, which fitted it.
    sections
        What it knows of each of several sections, by name; empty of a projection of one. Then ``model`` has the usual
        levels, and :meth:`of_section` those of one section.
    regressions
        What the sections teach others, by how features are standardised; empty of a projection of one.
    layout
        What decides the shapes of the weights where it is not as in a new network.
    """

    network: str
    weights: dict[str, Tensor]
    model: GeneModel
    level: NDArray[np.float32]
    mean: NDArray[np.float64]
    um_per_px: float
    spot: Spot
    is_counts: bool
    genes: tuple[str, ...]
    params: dict[str, Any]
    history: dict[str, NDArray[Any]]
    skill: Skill
    config: FitConfig = field(default_factory=FitConfig)
    features: dict[str, str] = field(default_factory=lambda: sources.record_of([Texture()]))
    version: str = __version__
    sections: dict[str, SectionFit] = field(default_factory=dict)
    regressions: dict[Scaling, Regression] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return as_text(self._title(), self.about())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self.about())

    def _title(self) -> str:
        return f"Fitted projection, network {self.network!r}"

    def about(self) -> dict[str, str]:
        """Describe it in words, by fact: what it models, how it was fitted, how good it is."""
        modelled = ~np.isnan(self.model.loadings[:, 0])
        known = self.skill.pearson[np.isfinite(self.skill.pearson)]
        n_plain, done = self.model.n_factors - self.model.n_contrasts, len(self.history.get("epoch", ()))
        named = self.model.factor_names
        factors = f"{n_plain} factors, by given loadings ({some(named)})" if named else f"{n_plain} factors"
        return {
            "genes": f"{int(modelled.sum())}, written as rasters: {some(self.genes)}",
            "maps": f"{factors}, {self.model.n_contrasts} contrasts",
            "values": "counts" if self.is_counts else "no counts: a Gaussian likelihood",
            "spots": f"{self.spot.shape}s of {self.spot.um:.4g} um, whose area is the unit",
            "scale": f"{self.um_per_px:.4g} um per px",
            "training": f"{done} of {self.params.get('max_epochs', done)} epochs, seed {self.params.get('rng', 'unknown')}",
            "gate": gate_words(self.params.get("gate")),
            "skill": f"median Pearson {np.median(known):.2f} of {len(known)} genes at left-out spots"
            if len(known)
            else "unknown",
            "features": some(list(self.features)) or "none",
            **({"sections": some(tuple(self.sections))} if self.sections else {}),
            "version": f"fitted by sphisto {self.version}, model format {_FORMAT}",
        }

    @property
    def full_layout(self) -> dict[str, Any]:
        """All that decides the shapes of the weights."""
        return {**network(self.network).layout, **self.layout}

    def of_section(self, name: str) -> Fitted:
        """Return the projection as it is in one of the sections that it was fitted to.

        Raises
        ------
        KeyError
            If it was not fitted to a section of that name; the message lists those it was.
        """
        if name not in self.sections:
            known = ", ".join(map(repr, self.sections)) or "one section alone"
            msg = f"Found no section {name!r} in this projection; it was fitted to {known}."
            raise KeyError(msg)
        own = self.sections[name]
        noted = {"registered_used": own.registered_used, "followed": own.followed}
        noted = {name: value for name, value in noted.items() if value is not None}
        return replace(
            self,
            model=at_levels(self.model, own.levels),
            weights={**self.weights, "gate": torch.tensor(float(own.gate))},
            mean=own.mean,
            spot=own.spot,
            skill=own.skill,
            params={**self.params, "gate": own.gate, **noted},
        )

    def module(self) -> nn.Module:
        """Build the network with its weights, ready to predict."""
        module = network(self.network).build(torch.from_numpy(self.level), self.full_layout)
        try:
            module.load_state_dict(self.weights)
        except RuntimeError as error:
            msg = f"The weights are not those of the network {self.network!r} ({error}). Load the model again, or fit again."
            raise ValueError(msg) from error
        return channels_last(module.eval())

    def dispersion(self, genes: list[str]) -> NDArray[np.float64]:
        """(len(genes),) scatter of some genes that nothing foresees."""
        return self.skill.dispersion[self.model.places(genes)]


def save_fitted(fitted: Fitted, path: Path) -> None:
    """Write a fitted projection to one file, as a whole or not at all."""
    content = {
        "format": _FORMAT,
        "version": fitted.version,
        "network": fitted.network,
        "layout": fitted.full_layout,
        "weights": fitted.weights,
        "gene_names": list(fitted.model.genes),
        "loadings": torch.from_numpy(fitted.model.loadings),
        "n_contrasts": fitted.model.n_contrasts,
        "factor_names": list(fitted.model.factor_names),
        "level": torch.from_numpy(fitted.level),
        "mean": torch.from_numpy(fitted.mean),
        "um_per_px": float(fitted.um_per_px),
        "spot": asdict(fitted.spot),
        "is_counts": bool(fitted.is_counts),
        "genes": list(fitted.genes),
        "params": fitted.params,
        "history": {name: values.tolist() for name, values in fitted.history.items()},
        "config": as_plain(fitted.config),
        "features": fitted.features,
        "skill": plain(fitted.skill),
    }
    if fitted.regressions:
        content["lessons"] = {scaling: as_content(regression) for scaling, regression in fitted.regressions.items()}
        content["sections"] = {
            name: {**plain(own), "gate": float(own.gate), "spot": asdict(own.spot), "skill": plain(own.skill)}
            for name, own in fitted.sections.items()
        }  # fmt: skip
    held = io.BytesIO()  # torch itself raises a RuntimeError without path or reason where a disk is full
    torch.save(content, held)
    with whole_file(path) as new:
        new.write_bytes(held.getvalue())  # no view, which a raised error would keep open


def read_safely(path: Path, what: str) -> Any:
    """Read tensors and plain values from a file; anything else in it is refused and not executed.

    Raises
    ------
    ValueError
        If the file is not of that kind.
    """
    import pickle

    try:
        _require_undamaged(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        msg = f"{path} is no {what}, is damaged, or holds more than tensors and plain values: {error}"
        raise ValueError(msg) from error


def _require_undamaged(path: Path) -> None:
    """Refuse a file whose parts are not what was written: PyTorch writes their checksums, and does not look at them."""
    if not zipfile.is_zipfile(path):  # what else it may be is for PyTorch to say
        return
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
    except Exception as error:  # noqa: BLE001 - a damaged header asks for another packing, each with errors of its own
        damaged = f"list ({error})"
    if damaged is not None:
        msg = f"its part {damaged} is not what was written. Copy the file again from where it came, or fit again."
        raise ValueError(msg)


def load_fitted(path: Path) -> Fitted:
    """Read what :func:`save_fitted` wrote; only tensors and plain values are read, so nothing can be executed."""
    if not path.is_file():
        raise FileNotFoundError(_not_there(path))
    content = read_safely(path, "fitted projection")
    if not isinstance(content, dict) or content.get("format") not in (*_OLDER, _FORMAT):
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        msg = f"{path} has format {found}; this version of sphisto reads formats {min(_OLDER)} to {_FORMAT}. Update sphisto or fit again."
        raise ValueError(msg)
    try:
        return _fitted(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{path} is damaged or was changed: {error!r}. Copy it again from where it came, or fit again."
        raise ValueError(msg) from error


def _not_there(path: Path) -> str:
    """Say that a model is not there, and what there is."""
    beside = sorted(path.parent.glob(f"{path.stem}.*.pt")) if path.is_dir() else []
    models = [each.name for each in beside if not each.name.endswith(".fit.pt")]  # which is of an unfinished fit
    what = f"Found {path}, a store" if models else f"Found no file {path}"
    found = f" The models of this store lie beside it: {', '.join(models)}." if models else ""
    return f"{what}; expected what `sphisto.tl.save` wrote.{found}"


def _fitted(content: dict[str, Any]) -> Fitted:
    loadings = content["loadings"].numpy()
    # older files lack it: there columns that hold a negative loading are the contrasts
    n_contrasts = content.get("n_contrasts", int((loadings < 0).any(axis=0).sum()))
    return Fitted(
        network=content["network"],
        weights=content["weights"],
        model=GeneModel(tuple(content["gene_names"]), loadings, n_contrasts, tuple(content.get("factor_names", ()))),
        level=content["level"].numpy(),
        mean=content["mean"].numpy(),
        um_per_px=content["um_per_px"],
        spot=Spot(**content["spot"]),
        is_counts=content["is_counts"],
        genes=tuple(content["genes"]),
        params=content["params"],
        history={name: np.asarray(values) for name, values in content["history"].items()},
        skill=Skill(**{name: values.numpy() for name, values in content["skill"].items()}),
        # older files hold neither: settings had no names, texture was the only source, and the stain was not used
        config=from_plain(_with_settings_of_then(content.get("config", {"field": {"use_stain": False}}))),
        features=content.get("features", sources.record_of([Texture()])),
        version=str(content.get("version", "unknown")),
        sections={
            name: SectionFit(**arrays(own) | {"spot": Spot(**own["spot"]), "skill": Skill(**arrays(own["skill"]))})
            for name, own in content.get("sections", {}).items()
        },
        regressions={scaling: from_content(regression) for scaling, regression in content.get("lessons", {}).items()},
        layout=dict(content.get("layout", network(content["network"]).first_layout)),
    )


def _with_settings_of_then(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of a stored model; one that it lacks has the value that was fixed when it was fitted."""
    return {**config, "field": {"stain_um_per_px": 1.5, **config.get("field", {})}}
