"""The sources of features that a fit uses: what was asked for, and what a model records of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sphisto.features.source import FeatureSource
from sphisto.features.texture import Texture


def sources_of(features: str | FeatureSource | Sequence[FeatureSource]) -> tuple[FeatureSource, ...]:
    """Return the sources that ``features=`` asks for."""
    asked: Any = [features] if isinstance(features, str | FeatureSource) else features
    if not isinstance(asked, Iterable):
        msg = (
            f'Found features={features!r}; expected "texture", or a list of sources with `name`, `hash` and `of(slide)`. Give '
            "`features=[]` for none."
        )
        raise TypeError(msg)
    found: list[FeatureSource] = []
    for one in asked:
        if isinstance(one, str) and one == "texture":
            found.append(Texture())
        elif isinstance(one, FeatureSource) and not isinstance(one, type):
            found.append(one)
        else:
            msg = (
                f'Found features={features!r}; expected "texture", or sources with `name`, `hash` and `of(slide)`, '
                "such as `sphisto.io.RasterFeatures`."
            )
            raise (ValueError if isinstance(one, str) else TypeError)(msg)
    names = [source.name for source in found]
    if len(set(names)) < len(names):
        msg = f"Found feature sources of the names {names}; expected a name for each."
        raise ValueError(msg)
    return tuple(found)


def require_sections(sources: Sequence[FeatureSource], names: Sequence[str]) -> None:
    """Refuse sources that hold values of other sections than these."""
    for source in sources:
        check = getattr(source, "require_sections", None)
        if check is not None:
            check(names)


def record_of(sources: Sequence[FeatureSource]) -> dict[str, str]:
    """Return names and hashes of sources."""
    return {source.name: source.hash for source in sources}


def require_same(sources: Sequence[FeatureSource], recorded: dict[str, str]) -> None:
    """Refuse sources that are not those that a model records."""
    found = record_of(sources)
    if found != recorded:

        def described(record: dict[str, str]) -> str:
            return ", ".join(f"{name!r} ({digest})" for name, digest in record.items()) or "none"

        msg = (
            f"Found features {described(found)}; the model was fitted with {described(recorded)}. Give the same sources "
            "in `features=`."
        )
        raise ValueError(msg)
