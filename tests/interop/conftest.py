"""Small sections drawn by rule and written as Space Ranger and Xenium write them, with the numbers they were drawn with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

GENES = [f"Gene{i}" for i in range(6)]
HIRES, LOWRES = 0.5, 0.2  # px per full-resolution px
ST = "Spatial Transcriptomics 1k"


@dataclass(frozen=True, eq=False)
class Drawn:
    """A section: all places of its array, those under tissue, and the picture in full resolution."""

    name: str
    array: str  # as the summary should call it
    um_per_px: float
    spot_um: float
    shape: str
    xy: np.ndarray  # (n, 2) full-resolution px
    places: np.ndarray  # (n, 2) array_row, array_col
    under: np.ndarray  # (n,) bool
    counts: np.ndarray  # (n, G)
    picture: np.ndarray  # (y, x, 3)
    barcodes: np.ndarray

    @property
    def hires(self) -> np.ndarray:
        return reduced(self.picture, HIRES)

    @property
    def lowres(self) -> np.ndarray:
        return reduced(self.picture, LOWRES)

    @property
    def factors(self) -> dict[str, float]:
        """What Space Ranger writes into scalefactors_json.json."""
        stated = {"tissue_hires_scalef": HIRES, "tissue_lowres_scalef": LOWRES}
        if self.shape == "square":
            bins = {"bin_size_um": self.spot_um, "microns_per_pixel": self.um_per_px}
            return {"spot_diameter_fullres": self.spot_um / self.um_per_px, **bins, **stated}
        size = 65.0 if self.spot_um == 55 else self.spot_um
        return {"spot_diameter_fullres": size / self.um_per_px, "fiducial_diameter_fullres": 120.0, **stated}


def reduced(picture: np.ndarray, scale: float) -> np.ndarray:
    """Every so many-th pixel: enough to tell pictures apart."""
    step = round(1 / scale)
    return np.ascontiguousarray(picture[::step, ::step])


# name: first row and column, rows, columns, um per row and column, size and shape, um per px, name in the summary
ARRAYS: dict[str, tuple[Any, ...]] = {
    "visium": (69, 110, 9, 9, 100 * np.sqrt(3) / 2, 50.0, 55.0, "disc", 2.0, "Visium, 6.5 mm"),
    "visium 11 mm": (119, 206, 9, 9, 100 * np.sqrt(3) / 2, 50.0, 55.0, "disc", 2.0, "Visium, 11 mm"),
    "spatial transcriptomics": (10, 10, 9, 9, 200.0, 200.0, 100.0, "disc", 4.0, ST),
    "hd 2": (1200, 1600, 48, 48, 2.0, 2.0, 2.0, "square", 0.25, "Visium HD, 2 um bins"),
    "hd 8": (300, 400, 12, 12, 8.0, 8.0, 8.0, "square", 0.25, "Visium HD, 8 um bins"),
    "hd 16": (150, 200, 6, 6, 16.0, 16.0, 16.0, "square", 0.25, "Visium HD, 16 um bins"),
}


def draw(kind: str, name: str = "A", seed: int = 0) -> Drawn:
    """Draw a section; of CytAssist the array lies on the picture turned by 90 degrees and mirrored."""
    first_row, first_col, n_row, n_col, row_um, col_um, size, shape, um, array = ARRAYS[
        kind.replace("cytassist", "visium")
    ]
    rng = np.random.default_rng(seed)
    row, col = (v.ravel() for v in np.mgrid[:n_row, :n_col])
    if "Visium," in array:
        col = 2 * col + (row + first_row + first_col) % 2
    under = row > 1
    # HD: bins of all sizes cover the same square, their centres are half a bin in
    half = size / 2 if shape == "square" else 0.0
    y_um, x_um = row * row_um + half, col * col_um + half
    if kind == "cytassist":
        y_um, x_um = x_um.max() - x_um, y_um.max() - y_um
    margin_um = 40.0 if shape == "square" else 100.0 if um < 4 else 200.0
    xy = (np.column_stack([x_um, y_um]) + margin_um) / um
    width, height = (10 * np.ceil((xy.max(axis=0) + margin_um / um) / 10)).astype(int)
    picture = np.full((height, width, 3), 243, np.uint8)
    pad = int((0.6 * size if shape == "square" else 60.0 if um < 4 else 120.0) / um)
    (left, top), (right, bottom) = np.floor(xy[under].min(axis=0)) - pad, np.ceil(xy[under].max(axis=0)) + pad
    tissue = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    picture[tissue] = rng.integers(90, 190, picture[tissue].shape, dtype=np.uint8)
    if shape == "square":
        barcodes = [
            f"s_{size:03.0f}um_{r + first_row:05d}_{c + first_col:05d}-1" for r, c in zip(row, col, strict=True)
        ]
    else:
        barcodes = ["".join(rng.choice(list("ACGT"), 16)) + "-1" for _ in row]
    return Drawn(
        name, array, um, size, shape, xy, np.column_stack([row + first_row, col + first_col]), under,
        (1 + rng.poisson(3.0, (len(row), len(GENES)))) * np.where(under, 1, 0)[:, None] + (~under)[:, None],
        picture, np.array(barcodes),
    )  # fmt: skip


def write_h5(path: Any, counts: np.ndarray, barcodes: Any, **attributes: Any) -> None:
    """Write a matrix as Space Ranger and Xenium do."""
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        group = file.create_group("matrix")
        group["barcodes"] = np.asarray(barcodes).astype("S")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array(counts.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(counts.shape[1])], dtype="S")
        features["name"] = np.array(GENES, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * counts.shape[1], dtype="S")
        features["genome"] = np.array(["GRCh38"] * counts.shape[1], dtype="S")


def write_counts(folder: Any, drawn: Drawn, *, filtered: bool = True, raw: bool = True) -> None:
    chemistry = {"chemistry_description": "Visium V4 Slide - FFPE v2", "software_version": "spaceranger-3.1.2"}
    about = {"library_ids": np.array([drawn.name], dtype="S"), **chemistry}
    if filtered:
        path = folder / "filtered_feature_bc_matrix.h5"
        write_h5(path, drawn.counts[drawn.under], drawn.barcodes[drawn.under], **about)
    if raw:
        write_h5(folder / "raw_feature_bc_matrix.h5", drawn.counts, drawn.barcodes, **about)


def write_spatial(spatial: Any, drawn: Drawn, positions: str) -> None:
    spatial.mkdir(parents=True)
    table = pd.DataFrame(
        {
            "barcode": drawn.barcodes,
            "in_tissue": drawn.under.astype(int),
            "array_row": drawn.places[:, 0],
            "array_col": drawn.places[:, 1],
            "pxl_row_in_fullres": drawn.xy[:, 1],
            "pxl_col_in_fullres": drawn.xy[:, 0],
        }
    ).sample(frac=1, random_state=0)  # in another order than the counts
    if positions.endswith("parquet"):
        table.to_parquet(spatial / positions, index=False)
    else:
        table.to_csv(spatial / positions, index=False, header="list" not in positions)
    (spatial / "scalefactors_json.json").write_text(json.dumps(drawn.factors))
    Image.fromarray(drawn.hires).save(spatial / "tissue_hires_image.png")
    Image.fromarray(drawn.lowres).save(spatial / "tissue_lowres_image.png")


def write_run(folder: Any, drawn: Drawn, *, positions: str = "tissue_positions.csv", **counts: bool) -> Any:
    """Write the outs of a Visium run, and the picture that was given to Space Ranger beside them."""
    write_spatial(folder / "spatial", drawn, positions)
    write_counts(folder, drawn, **counts)
    import tifffile

    tifffile.imwrite(folder.parent / f"{drawn.name}_fullres.tif", drawn.picture, photometric="rgb")
    return folder


def write_hd_run(folder: Any, bins: list[Drawn]) -> Any:
    """Write the outs of a Visium HD run: bins of several sizes, segmented cells, and the microscope's picture."""
    import tifffile

    for drawn in bins:
        own = folder / "binned_outputs" / f"square_{drawn.spot_um:03.0f}um"
        write_spatial(own / "spatial", drawn, "tissue_positions.parquet")
        write_counts(own, drawn)
    write_spatial(folder / "spatial", bins[-1], "tissue_positions.parquet")
    (folder / "microscope_image").mkdir()
    tifffile.imwrite(folder / "microscope_image" / "slide.tif", bins[-1].picture, photometric="rgb")
    unit = np.eye(3).ravel().tolist()
    turns = ("cytassist_colrow_to_spot_colrow", "spot_colrow_to_cytassist_colrow",
             "microscope_colrow_to_spot_colrow", "spot_colrow_to_microscope_colrow")  # fmt: skip
    metadata = {
        "hd_layout_json": json.dumps({"file_format": "1.0", "transform": unit}),
        "transform_matrices": dict.fromkeys(turns, unit),
    }
    with h5py.File(folder / f"{bins[-1].name}_feature_slice.h5", "w") as file:
        file.attrs["metadata_json"] = json.dumps(metadata)
    return folder


def write_cells(folder: Any, drawn: Drawn) -> None:
    """Write the cells that Space Ranger segmented in the picture of a Visium HD section."""
    own = folder / "segmented_outputs"
    write_spatial(own / "spatial", drawn, "unused.csv")
    (own / "spatial" / "unused.csv").unlink()
    rng = np.random.default_rng(5)
    centers, radii = drawn.xy[drawn.under][::3], rng.uniform(3.0, 9.0, drawn.under.sum())[::3]
    angles = np.linspace(0, 2 * np.pi, 9)
    features = [
        {
            "type": "Feature",
            "properties": {"cell_id": i + 1},
            "geometry": {
                "type": "Polygon",
                "coordinates": [(c + r * np.column_stack([np.cos(angles), np.sin(angles)])).tolist()],
            },
        }
        for i, (c, r) in enumerate(zip(centers, radii, strict=True))
    ]
    (own / "cell_segmentations.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    names = [f"cellid_{i + 1:09d}-1" for i in range(len(centers))]
    write_h5(own / "filtered_feature_cell_matrix.h5", drawn.counts[drawn.under][::3], names)


def write_xenium(folder: Any) -> Any:
    """Write the outs of a Xenium run, as much as spatialdata-io needs: cells, their outlines, masks and counts."""
    import zarr

    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    n, pixel = 40, 0.2125
    prefix = np.arange(n, dtype=np.uint32)
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    names = [f"{number:08x}".translate(letters) + "-1" for number in prefix]
    xy, radii = rng.uniform(10, 90, (n, 2)), rng.uniform(2.0, 6.0, n)  # um
    about = {"pixel_size": pixel, "analysis_sw_version": "xenium-3.0.0.0", "region_name": "A"}
    (folder / "experiment.xenium").write_text(json.dumps(about))
    write_h5(folder / "cell_feature_matrix.h5", rng.poisson(3.0, (n, len(GENES))), names)
    area = np.pi * radii**2
    cells = {
        "cell_id": names,
        "x_centroid": xy[:, 0],
        "y_centroid": xy[:, 1],
        "cell_area": area,
        "nucleus_area": area / 3,
    }
    pd.DataFrame(cells).to_parquet(folder / "cells.parquet", index=False)
    angles = np.linspace(0, 2 * np.pi, 9)
    for kind, share in (("cell", 1.0), ("nucleus", 0.5)):
        x = (xy[:, :1] + share * radii[:, None] * np.cos(angles)).ravel()
        y = (xy[:, 1:] + share * radii[:, None] * np.sin(angles)).ravel()
        ids = {"cell_id": np.repeat(names, 9), "label_id": np.repeat(np.arange(1, n + 1), 9)}
        pd.DataFrame({**ids, "vertex_x": x, "vertex_y": y}).to_parquet(
            folder / f"{kind}_boundaries.parquet", index=False
        )
    mask = np.zeros((480, 480), np.uint32)
    for i, (x, y) in enumerate(np.rint(xy / pixel).astype(int)):
        mask[y - 5 : y + 5, x - 5 : x + 5] = i + 1
    with zarr.storage.ZipStore(folder / "cells.zarr.zip", mode="w") as store:
        group = zarr.create_group(store, zarr_format=2)
        group["cell_id"] = np.column_stack([prefix, np.ones(n, np.uint32)])
        group["masks/0"], group["masks/1"] = mask, mask
        group["polygon_sets/0/cell_index"] = np.arange(n)
        group["polygon_sets/1/cell_index"] = np.arange(n)
        summary = group.create_array("cell_summary", data=np.zeros((n, 2)))
        summary.attrs["column_names"] = ["z_level", "nucleus_count"]
    return folder


def check(section: Any, drawn: Drawn, picture: np.ndarray, scale: float, rows: Any = None) -> None:
    """Hold a section that was understood against the numbers it was drawn with."""
    own = np.flatnonzero(drawn.under)
    np.testing.assert_allclose(section.measured.centers[:, ::-1], drawn.xy[own], atol=1e-6)
    np.testing.assert_array_equal(section.measured.values.toarray(), drawn.counts[own])
    np.testing.assert_array_equal(section.rows, np.arange(len(own)) if rows is None else rows)
    assert section.measured.is_counts
    assert section.measured.genes == tuple(GENES)
    assert section.grid.fullres_um_per_px == pytest.approx(drawn.um_per_px, rel=2e-3)
    assert (section.spot.um, section.spot.shape) == (pytest.approx(drawn.spot_um, rel=2e-3), drawn.shape)
    np.testing.assert_allclose(section.grid.fullres_per_px, (1 / scale, 1 / scale), rtol=1e-6)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(section.image.rgb()), 0, -1), picture)
    assert section.about["array"] == drawn.array
    n, form = len(own), "discs" if drawn.shape == "disc" else "squares"
    assert section.about["spots"].startswith(f"{n} {form} of {drawn.spot_um:.4g} um, ")
    assert section.about["scale"].startswith(f"{drawn.um_per_px:.4g} um per full-resolution px, from ")
    assert section.about["values"].endswith(f", of {len(GENES)} genes")
    assert f"{picture.shape[0]} x {picture.shape[1]} px (y, x)" in section.about["image"]


def refused(data: Any, out: Any, match: str, **options: Any) -> None:
    """Hold that a section is refused, by the same words wherever it is given, and that nothing is written."""
    import sphisto as sp

    with pytest.raises((ValueError, FileNotFoundError), match=match):
        sp.io.section(data, **options)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        sp.tl.fit_projection(data, store=out / "store.zarr", max_epochs=1, device="cpu", **options)
    assert not out.exists() or not list(out.iterdir())


@pytest.fixture(scope="session")
def drawing() -> SimpleNamespace:
    """What all these tests draw, write and check with."""
    return SimpleNamespace(
        draw=draw, run=write_run, hd_run=write_hd_run, cells=write_cells, xenium=write_xenium, check=check,
        refused=refused, replace=replace, hires=HIRES, lowres=LOWRES, genes=GENES,
    )  # fmt: skip
