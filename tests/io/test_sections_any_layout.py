"""Sections drawn at random, in every layout: what is understood is held against the numbers that they were drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import sphisto as sp
from sphisto.io.slides import make_slide

UM = {
    "visium": (86.6025, 50.0),
    "visium 11 mm": (86.6025, 50.0),
    "hd 8": (8.0, 8.0),
    "hd 16": (16.0, 16.0),
}  # row, column
SPOTS = {"visium": (55.0, "disc"), "visium 11 mm": (55.0, "disc"), "hd 8": (8.0, "square"), "hd 16": (16.0, "square")}
FIRST = {
    "visium": (20, 30),
    "visium 11 mm": (70, 202),
    "hd 8": (500, 700),
    "hd 16": (210, 340),
}  # a corner of the array


@dataclass(frozen=True)
class Drawn:
    """How a section is handed over, in words, and the numbers behind it."""

    array: str
    container: str
    picture: str
    matrix: str
    reduced: float  # px of the picture per full-resolution px
    um_per_px: float  # of the full resolution
    kept: float  # share of the spots
    beside: bool  # whether some spots lie beside the tissue
    joined: bool
    seed: int


CONTAINERS = ("anndata", "anndata without places on the array", "global", "spatialdata-io", "side by side")
DRAWN = st.builds(
    Drawn,
    array=st.sampled_from(list(UM)),
    container=st.sampled_from(CONTAINERS),
    picture=st.sampled_from(["rgb", "rgba", "floats", "16 bits", "channels first", "grey"]),
    matrix=st.sampled_from(["csr_matrix", "csc_matrix", "csr_array", "dense", "float64", "int64"]),
    reduced=st.sampled_from([1.0, 0.5, 0.25]),
    um_per_px=st.sampled_from([0.5, 2.0]),
    kept=st.sampled_from([1.0, 0.7]),
    beside=st.booleans(),
    joined=st.booleans(),
    seed=st.integers(0, 5),
)


@dataclass(frozen=True)
class Truth:
    """What a section was drawn with: places (x, y) in full-resolution px, counts and picture (y, x, 3)."""

    xy: np.ndarray
    counts: np.ndarray
    picture: np.ndarray
    rows: np.ndarray


def section_of(drawn: Drawn) -> tuple[Any, Truth]:
    """Draw a section, and hand it over as asked."""
    rng = np.random.default_rng(drawn.seed)
    row_um, col_um = UM[drawn.array]
    hexagonal = drawn.array.startswith("visium")
    n = 9 if hexagonal else 14
    row, col = (v.ravel() for v in np.mgrid[:n, :n])
    col = 2 * col + row % 2 if hexagonal else col
    # rounded as scanners' pixels are, one pitch of glass around
    step = 100.0 if hexagonal else row_um
    xy = np.column_stack([col * col_um, row * row_um]) / drawn.um_per_px + step / drawn.um_per_px
    size = np.ceil((xy.max(axis=0) + step / drawn.um_per_px) * drawn.reduced).astype(int)
    picture = np.full((size[1], size[0], 3), 244, np.uint8)
    margin = int(0.45 * step / drawn.um_per_px * drawn.reduced)
    inner = (slice(margin, size[1] - margin), slice(margin, size[0] - margin))
    picture[inner] = rng.integers(90, 190, picture[inner].shape, dtype=np.uint8)
    if drawn.picture == "grey":
        picture = np.repeat(picture[..., :1], 3, axis=2)
    order = rng.permutation(len(row))[: max(30, int(drawn.kept * len(row)))]
    counts = 1 + rng.poisson(4.0, (len(order), 5))
    first_row, first_col = FIRST[drawn.array]
    obs = pd.DataFrame(
        {"in_tissue": 1, "array_row": row[order] + first_row, "array_col": col[order] + first_col},
        index=[f"spot{i}-1" for i in order],
    )
    if drawn.beside:
        obs.iloc[::7, 0] = 0
    adata = ad.AnnData(in_form(counts, drawn.matrix), obs=obs, var=pd.DataFrame(index=list("ABCDE")))
    adata.obsm["spatial"] = xy[order]
    own = np.flatnonzero(obs["in_tissue"].to_numpy() == 1)
    truth = Truth(xy[order][own], counts[own], picture, own)
    if drawn.container.startswith("anndata"):
        return in_anndata(adata, in_mode(picture, drawn.picture), drawn), truth
    return in_spatialdata(adata, picture, drawn), truth


def in_form(counts: np.ndarray, matrix: str) -> Any:
    if matrix == "dense":
        return counts.astype(np.float32)
    if matrix in ("float64", "int64"):
        return sparse.csr_matrix(counts.astype(matrix))
    return getattr(sparse, matrix)(counts.astype(np.float32))


def in_mode(picture: np.ndarray, mode: str) -> np.ndarray:
    return {
        "rgb": picture,
        "grey": picture[..., 0],
        "rgba": np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
        "floats": picture.astype(np.float32) / 255,
        "16 bits": picture.astype(np.uint16) * 257,
        "channels first": np.moveaxis(picture, -1, 0),
    }[mode]


def in_anndata(adata: ad.AnnData, picture: np.ndarray, drawn: Drawn) -> ad.AnnData:
    side = SPOTS[drawn.array][0] if drawn.array.startswith("hd") else 65.0
    factors = {"tissue_hires_scalef": drawn.reduced, "spot_diameter_fullres": side / drawn.um_per_px}
    if drawn.array.startswith("hd"):
        factors |= {"bin_size_um": side, "microns_per_pixel": drawn.um_per_px}
    if drawn.container == "anndata without places on the array":
        del adata.obs["array_row"], adata.obs["array_col"]
    if drawn.joined:
        other = adata[:10].copy()
        other.obsm["spatial"] = other.obsm["spatial"] + 1.5
        adata = ad.concat({"A": adata, "B": other}, label="library_id", index_unique="-")
    libraries = ["A", "B"] if drawn.joined else ["A"]
    library = {"images": {"hires": picture}, "scalefactors": factors, "metadata": {}}
    adata.uns["spatial"] = dict.fromkeys(libraries, library)
    return adata


def in_spatialdata(adata: ad.AnnData, picture: np.ndarray, drawn: Drawn) -> Any:
    import geopandas as gpd
    import shapely
    import spatialdata as sd
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale, Sequence, Translation

    def lies(times: float) -> dict[str, Any]:
        scale = Scale([times, times], axes=("x", "y"))
        if drawn.container == "global":
            return {"global": scale}
        if drawn.container == "side by side":
            return {"global": Sequence([scale, Translation([5000.0, 300.0], axes=("x", "y"))])}
        reduced = Scale([times * drawn.reduced] * 2, axes=("x", "y"))
        return {"A": scale if times != 1 else Identity(), "A_downscaled_hires": reduced}

    um, shape = SPOTS[drawn.array]
    xy = adata.obsm["spatial"]
    size = (um if shape == "square" else 65.0) / drawn.um_per_px
    region = f"A_square_{um:03.0f}um" if shape == "square" else "A_spots"
    if shape == "square" and drawn.seed % 2:
        boxes = gpd.GeoDataFrame(geometry=shapely.box(*(xy - size / 2).T, *(xy + size / 2).T))
        shapes = ShapesModel.parse(boxes, transformations=lies(1.0))
    else:
        shapes = ShapesModel.parse(xy, geometry=0, radius=size / 2, transformations=lies(1.0))
    adata.obs["region"] = pd.Categorical([region] * adata.n_obs)
    adata.obs["spot_id"] = np.arange(adata.n_obs)
    table = TableModel.parse(adata, region=region, region_key="region", instance_key="spot_id")
    image = Image2DModel.parse(
        np.moveaxis(picture, -1, 0), dims=("c", "y", "x"), transformations=lies(1 / drawn.reduced)
    )
    images = {"A_hires_image": image}
    if drawn.joined:
        images["B_hires_image"] = Image2DModel.parse(
            np.moveaxis(picture // 2, -1, 0), dims=("c", "y", "x"), transformations=lies(1 / drawn.reduced)
        )
    return sd.SpatialData(images=images, shapes={region: shapes}, tables={"table": table})


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(DRAWN)
def test_any_layout_is_understood_as_it_was_drawn(drawn):
    data, truth = section_of(drawn)
    hd = drawn.array.startswith("hd")
    library = {"library_id": "A"} if drawn.joined and hasattr(data, "obsm") else {}
    found = sp.io.section(data, **library)
    np.testing.assert_allclose(found.measured.centers[:, ::-1], truth.xy, atol=1e-6)
    np.testing.assert_array_equal(found.rows, truth.rows)
    np.testing.assert_array_equal(found.measured.values.toarray(), truth.counts)
    assert (found.spot.um, found.spot.shape) == SPOTS[drawn.array]
    assert found.grid.fullres_um_per_px == pytest.approx(drawn.um_per_px, rel=0.01)
    assert found.grid.um_per_px == pytest.approx(drawn.um_per_px / drawn.reduced, rel=0.01)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found.image.rgb()), 0, -1), truth.picture)
    assert repr(found).splitlines()[0] == f"Section {found.library_id!r}"
    for said in ("layout", "rows", "values", "array", "spots", "scale", "frame", "image", "tissue"):
        assert found.about[said]
    assert ("HD" in found.about["array"]) == hd
    slide = make_slide(found)
    np.testing.assert_allclose(slide.grid.to_fullres(slide.spots.centers)[:, ::-1], truth.xy, atol=1e-6)


def test_a_joined_table_is_refused_until_one_library_is_named():
    drawn = Drawn("visium", "anndata", "rgb", "csr_matrix", 1.0, 2.0, 1.0, beside=False, joined=True, seed=0)
    data, _ = section_of(drawn)
    with pytest.raises(ValueError, match="several libraries in uns.*A, B.*library_id"):
        sp.io.section(data)
