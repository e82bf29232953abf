"""View configs of Vitessce: plain JSON that tells it which parts of a store to show, and how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The schema of the view configs that Vitessce's own example of a SpatialData store has; newer releases convert older
# schemas themselves. https://github.com/vitessce/vitessce/tree/main/examples/configs (spatialdataBlobsConfig),
# https://vitessce.io/docs/view-config-json/
SCHEMA = "1.0.18"
_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
MOST_CHANNELS = len(_COLOURS)
"""Channels that Vitessce draws at once."""


@dataclass(frozen=True)
class Channel:
    """A channel of the gene rasters: its name, its number, and the value that is drawn brightest."""

    name: str
    index: int
    brightest: float


@dataclass(frozen=True)
class View:
    """What is to be seen of a store."""

    url: str  # where a browser finds the store
    name: str
    description: str  # a sentence about it
    system: str  # coordinate system of the section
    image: str  # name of the section's image
    genes: str  # name of the rasters of genes
    channels: tuple[Channel, ...]  # genes to draw
    spots: str | None = None  # name of the circles of the spots, if there are any
    table: str | None = None  # name of the table of these spots


def write_view_config(path: Path, view: View) -> None:
    """Write the view config of a store."""
    path.write_text(
        json.dumps(view_config(view), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def view_config(view: View) -> dict[str, Any]:
    """Return the view config of a store: its image, genes over it, and spots that are coloured by the gene one chooses."""
    files = [
        _file(view, "image", {"image": {"path": f"images/{view.image}"}}),
        _file(view, "genes", {"image": {"path": f"images/{view.genes}"}}),
    ]
    space = _layers(view)
    scopes = {"dataset": "A", "metaCoordinationScopes": ["A"], "metaCoordinationScopesBy": ["A"]}
    layout = [
        {"component": "spatialBeta", "coordinationScopes": scopes, "x": 0, "y": 0, "w": 8, "h": 12},
        {"component": "layerControllerBeta", "coordinationScopes": scopes, "x": 8, "y": 0, "w": 4, "h": 6},
    ]
    if view.spots is not None:
        files.append(
            _file(
                view,
                "spots",
                {
                    "obsSpots": {"path": f"shapes/{view.spots}", "tablePath": f"tables/{view.table}"},
                    "obsFeatureMatrix": {"path": f"tables/{view.table}/X"},
                },
            )
        )
        chosen = {"dataset": "A", "obsType": "A", "featureType": "A", "featureSelection": "A"}
        layout.append({"component": "featureList", "coordinationScopes": chosen, "x": 8, "y": 6, "w": 4, "h": 6})
    return {
        "version": SCHEMA,
        "name": view.name,
        "description": view.description,
        "datasets": [{"uid": "A", "name": view.name, "files": files}],
        "coordinationSpace": space,
        "layout": layout,
        "initStrategy": "auto",
    }


def _file(view: View, uid: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "fileType": "spatialdata.zarr",
        "url": view.url,
        "options": {"coordinateSystem": view.system, **options},
        "coordinationValues": {"fileUid": uid, "obsType": "spot", "featureType": "gene"},
    }


def _layers(view: View) -> dict[str, Any]:
    """Coordination space of the layers: values by scope, and which scope each layer and each of its channels has."""
    channels = [f"genes_{i}" for i in range(len(view.channels))]
    colours = ["image_r", "image_g", "image_b"]
    layers = {"image": colours, "genes": channels}
    space: dict[str, Any] = {
        "dataset": {"A": "A"},
        "obsType": {"A": "spot"},
        "featureType": {"A": "gene"},
        "featureSelection": {"A": [view.channels[0].name]},
        "imageLayer": dict.fromkeys(layers, "__dummy__"),
        "imageChannel": dict.fromkeys([*colours, *channels], "__dummy__"),
        "fileUid": {layer: layer for layer in layers},
        "photometricInterpretation": {"image": "RGB", "genes": "BlackIsZero"},
        "spatialLayerVisible": dict.fromkeys(layers, True),
        "spatialLayerOpacity": {"image": 1.0, "genes": 0.6},
        "spatialTargetC": {
            **{name: i for i, name in enumerate(colours)},
            **{name: channel.index for name, channel in zip(channels, view.channels, strict=True)},
        },
        "spatialChannelColor": {
            **dict(zip(colours, _rgb(3), strict=True)),
            **dict(zip(channels, _rgb(len(channels)), strict=True)),
        },
        "spatialChannelWindow": {
            **{name: [0, 255] for name in colours},
            **{name: [0, channel.brightest] for name, channel in zip(channels, view.channels, strict=True)},
        },
        # one gene at first: the others are switched on in the list of layers
        "spatialChannelVisible": {**dict.fromkeys(colours, True), **{name: not i for i, name in enumerate(channels)}},
        "spatialChannelOpacity": dict.fromkeys([*colours, *channels], 1.0),
        "metaCoordinationScopes": {"A": {"imageLayer": list(layers)}},
        "metaCoordinationScopesBy": {
            "A": {
                "imageLayer": {
                    "imageChannel": layers,
                    **{
                        of: {layer: layer for layer in layers}
                        for of in ("fileUid", "photometricInterpretation", "spatialLayerVisible", "spatialLayerOpacity")
                    },
                },
                "imageChannel": {
                    of: {name: name for name in (*colours, *channels)}
                    for of in (
                        "spatialTargetC",
                        "spatialChannelColor",
                        "spatialChannelWindow",
                        "spatialChannelVisible",
                        "spatialChannelOpacity",
                    )  # fmt: skip
                },
            }
        },
    }
    if view.spots is not None:
        space |= {"spotLayer": {"spots": "__dummy__"}, "obsColorEncoding": {"spots": "geneSelection"}}
        space["fileUid"]["spots"] = "spots"
        space["spatialLayerVisible"]["spots"] = False  # they would hide the genes
        space["spatialLayerOpacity"]["spots"] = 1.0
        space["metaCoordinationScopes"]["A"]["spotLayer"] = ["spots"]
        space["metaCoordinationScopesBy"]["A"]["spotLayer"] = {
            **{
                of: {"spots": "spots"}
                for of in ("fileUid", "spatialLayerVisible", "spatialLayerOpacity", "obsColorEncoding")
            },
            **{of: {"spots": "A"} for of in ("obsType", "featureType", "featureSelection")},
        }
    return space


def _rgb(n: int) -> Sequence[list[int]]:
    return [list(colour) for colour in _COLOURS[:n]]
