"""Write regions as GeoJSON, as QuPath exchanges its objects: outlines in pixels, one feature for each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Objects = Literal["annotation", "detection"]


@dataclass(frozen=True, eq=False)
class Feature:
    """A region: its outline, its name, and what is known of it."""

    outline: Any  # polygon or polygons, in full-resolution px
    name: str
    classification: str | None = None  # its class, if it has one
    color: tuple[int, int, int] | None = None  # red, green and blue (0 to 255) of that class, if they are known
    # numbers by name; those that are NaN are left out, as JSON has none
    measurements: Mapping[str, float] = field(default_factory=dict)


def write_geojson(path: Path, features: Sequence[Feature], *, per_px: tuple[float, float], objects: Objects) -> None:
    """Write regions as a collection of features, one on a line.

    ``per_px`` is full-resolution px per pixel of the image over which they are to lie, along (y, x).
    """
    import shapely

    digits = 4  # after the point: 1/10,000 px
    scale = np.array(per_px[::-1])
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for i, feature in enumerate(features):
            outline = shapely.transform(feature.outline, lambda xy: np.round(xy / scale, digits))
            written = {
                "type": "Feature",
                "geometry": shapely.geometry.mapping(outline),
                "properties": _properties(feature, objects),
            }
            file.write(",\n" if i else "\n")
            json.dump(written, file, ensure_ascii=False, allow_nan=False)
        file.write("\n]}\n")


def _properties(feature: Feature, objects: Objects) -> dict[str, Any]:
    """Properties under the names that QuPath 0.4 and newer give them (qupath.lib.io.PathObjectTypeAdapters)."""
    properties: dict[str, Any] = {"objectType": objects, "name": feature.name}
    if feature.classification is not None:
        properties["classification"] = {"name": feature.classification}
        if feature.color is not None:
            properties["classification"]["color"] = list(feature.color)
    measured = {name: float(value) for name, value in feature.measurements.items() if math.isfinite(value)}
    if measured:
        properties["measurements"] = measured
    return properties
