"""View configs hang together: every scope that is named has a value. They are not opened in Vitessce here."""

from __future__ import annotations

import json

import pytest

from sphisto.io.export.vitessce import SCHEMA, Channel, View, view_config, write_view_config

VIEW = View(
    url="https://example.org/a.zarr",
    name="a",
    description="what it is",
    system="global",
    image="a_image",
    genes="projection",
    channels=(Channel("Mbp", 3, 7.5), Channel("Prox1", 0, 0.25)),
    spots="a_spots",
    table="table",
)


def scopes_by(level, found):
    """Pairs of (coordination type, scope) in nested mappings of them."""
    for kind, entry in level.items():
        if isinstance(entry, dict):
            yield from scopes_by({kind: list(entry.values())}, found)
        else:
            yield from (
                (kind, scope) for scope in ([entry] if isinstance(entry, str) else sum(map(as_list, entry), []))
            )


def as_list(entry):
    return entry if isinstance(entry, list) else [entry]


@pytest.mark.parametrize("spots", [True, False])
def test_every_scope_has_a_value(spots):
    from dataclasses import replace

    config = view_config(VIEW if spots else replace(VIEW, spots=None, table=None))
    space = config["coordinationSpace"]
    by = space["metaCoordinationScopesBy"]["A"]
    named = list(scopes_by(space["metaCoordinationScopes"]["A"], config))
    for layer in by.values():
        named += scopes_by(layer, config)
    for view in config["layout"]:
        named += [(kind, scope) for kind, scope in view["coordinationScopes"].items() if isinstance(scope, str)]
    assert len(named) > 20
    assert [(kind, scope) for kind, scope in named if scope not in space[kind]] == []
    uids = {file["coordinationValues"]["fileUid"] for file in config["datasets"][0]["files"]}
    assert set(space["fileUid"].values()) == uids == {"image", "genes", *(["spots"] if spots else [])}


def test_elements_are_named_by_their_paths_in_the_store():
    image, genes, spots = view_config(VIEW)["datasets"][0]["files"]
    assert {file["fileType"] for file in (image, genes, spots)} == {"spatialdata.zarr"}
    assert {file["url"] for file in (image, genes, spots)} == {"https://example.org/a.zarr"}
    assert image["options"] == {"coordinateSystem": "global", "image": {"path": "images/a_image"}}
    assert genes["options"] == {"coordinateSystem": "global", "image": {"path": "images/projection"}}
    assert spots["options"] == {
        "coordinateSystem": "global",
        "obsSpots": {"path": "shapes/a_spots", "tablePath": "tables/table"},
        "obsFeatureMatrix": {"path": "tables/table/X"},
    }


def test_genes_are_drawn_from_0_and_the_first_one_at_first():
    space = view_config(VIEW)["coordinationSpace"]
    assert space["spatialTargetC"] == {"image_r": 0, "image_g": 1, "image_b": 2, "genes_0": 3, "genes_1": 0}
    assert space["spatialChannelWindow"]["genes_0"] == [0, 7.5]
    assert space["spatialChannelVisible"] == {
        "image_r": True, "image_g": True, "image_b": True, "genes_0": True, "genes_1": False,
    }  # fmt: skip
    assert space["featureSelection"] == {"A": ["Mbp"]}


def test_the_file_is_the_config(tmp_path):
    write_view_config(tmp_path / "x.json", VIEW)
    found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(view_config(VIEW)))
    assert found["version"] == SCHEMA
