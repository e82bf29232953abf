"""Any input ends in a right result or in an error that says what was found; nothing else may happen.

Sections are drawn at random from pictures, arrangements of spots, tables and names that are usual, odd or impossible.
"""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import sparse
from spatialdata.models import get_channel_names

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.genes.model import rates
from sphisto.io.slides import make_slide
from sphisto.io.store.read import n_contrasts

ONE_BATCH = FitConfig(train=TrainConfig(least_batches=1))
SOURCES = Path(sp.__file__).parent
PHASES = (Phase.explicit, Phase.generate)  # a case that fails is named in full; making it smaller takes many fits
PICTURES = {
    "uint8": lambda rgb: rgb,
    "grey": lambda rgb: rgb[..., 1],
    "one channel": lambda rgb: rgb[..., :1],
    "rgba": lambda rgb: np.dstack([rgb, np.where(rgb[..., :1] > 240, 0, 255).astype(np.uint8)]),
    "channels first": lambda rgb: np.moveaxis(rgb, -1, 0),
    "uint16": lambda rgb: rgb.astype(np.uint16) * 257,
    "int64": lambda rgb: rgb.astype(np.int64),
    "float32 to 1": lambda rgb: rgb / np.float32(255),
    "float64 to 255": lambda rgb: rgb.astype(np.float64),
    "bool": lambda rgb: rgb[..., 1] > 200,
    "white": lambda rgb: np.full_like(rgb, 255),
    "black": lambda rgb: np.zeros_like(rgb),
    "noise": lambda rgb: np.random.default_rng(0).integers(0, 256, rgb.shape, dtype=np.uint8),
    "NaN": lambda rgb: np.where(rgb == rgb.min(), np.nan, rgb / 255),
    "negative": lambda rgb: rgb.astype(float) - 100,
    "two channels": lambda rgb: rgb[..., :2],
    "complex": lambda rgb: rgb.astype(complex),
    "words": lambda rgb: rgb.astype(str),
    "stack": lambda rgb: np.stack([rgb] * 5),
    "nothing": lambda rgb: rgb[:0],
    "none": lambda rgb: None,
}
TABLES = {
    "int64": lambda counts: counts,
    "uint8": lambda counts: counts.astype(np.uint8),
    "float32": lambda counts: counts.astype(np.float32),
    "float64": lambda counts: counts.astype(np.float64),
    "csr": lambda counts: sparse.csr_matrix(counts),
    "csc": lambda counts: sparse.csc_matrix(counts.astype(np.float32)),
    "csr array": lambda counts: sparse.csr_array(counts.astype(np.float32)),
    "stored zeros": lambda counts: _with_stored_zeros(counts),
    "halves": lambda counts: counts / 2,
    "few": lambda counts: (counts > counts.mean()).astype(np.float32),
    "empty spots": lambda counts: counts * (np.arange(len(counts)) % 3 > 0)[:, None],
    "empty genes": lambda counts: counts * (np.arange(counts.shape[1]) % 2 == 0),
    "one spot with counts": lambda counts: counts * (np.arange(len(counts)) == 0)[:, None],
    "huge": lambda counts: counts.astype(np.float64) * 1e6,
    "beyond float32": lambda counts: counts.astype(np.float64) * 1e38,
    "tiny": lambda counts: counts.astype(np.float64) * 1e-30,
    "zeros": lambda counts: np.zeros_like(counts),
    "negative": lambda counts: counts - 5,
    "NaN": lambda counts: np.where(counts == 1, np.nan, counts),
    "bool": lambda counts: counts > 3,
    "complex": lambda counts: counts.astype(complex),
    "words": lambda counts: counts.astype(str).astype(object),
    "none": lambda counts: None,
}
LAYOUTS = ("hexagonal", "square", "line", "random", "off the edge", "two joined", "duplicates", "all at one place", "NaN", "infinite",
           "far away", "negative", "words")  # fmt: skip
GENE_NAMES = ("Prox1", "µ gène", "a/b", "../../etc/passwd", "..", ".", "", " ", "x" * 300, "a\nb", "Prox1 ", "prox1", "0", "\x00",
              "\ud800", "_index", "基因", "a'b\"c", "__", "nan")  # fmt: skip
NAMES = ("section", "V1 Mouse/Brain", "..", "", " ", "a" * 300, "\x00", "\ud800", "脑", "_a", "Toy", "table", "con")
KEYS = (
    "projection",
    "toy_image",
    "a/b",
    "..",
    "",
    "a" * 100,
    "a" * 101,
    "Table",
    "section_image",
    "µ",
    "\ud800",
    "params",
    "spatial",
)


@dataclass(frozen=True)
class Case:
    """A section in words, as short as hypothesis can make it, and the call that is made with it."""

    shape: tuple[int, int]
    picture: str
    layout: str
    n_spots: int
    pitch: float
    on_array: bool | str
    diameter: float | str | None
    scale: float | str | None
    table: str
    gene_names: tuple[str, ...]
    library: str
    key: str = "projection"
    options: tuple[tuple[str, Any], ...] = ()


USUAL_AND_ODD: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "height": ((40, 64, 97), (1, 2, 3, 5, 17, 200)),
    "width": ((40, 64, 97, 130), (1, 2, 3, 5, 17, 200)),
    "picture": (tuple(PICTURES)[:10], tuple(PICTURES)[10:]),
    "layout": (LAYOUTS[:6], LAYOUTS[6:]),
    "n_spots": ((20, 36, 60), (0, 1, 2, 3, 5, 8)),
    "pitch": ((12.0, 16.5), (0.5, 3.0, 24.0, 80.0)),
    "on_array": ((True, False), ("words", "NaN")),
    "diameter": ((10.0,), (None, 0.1, 500.0, 0.0, -1.0, float("nan"), "10", "wide")),
    "scale": ((1.0,), (0.3, None, 0.0, 2.0, float("nan"), "half")),
    "table": (tuple(TABLES)[:12], tuple(TABLES)[12:]),
    "library": (NAMES[:2], NAMES[2:]),
    "key": (KEYS[:1], KEYS[1:]),
    "um_per_px": ((None, None, 20.0), (1e9, 1e-9, 0.0, -1.0, float("nan"), "2", "fine")),
    "spot_um": ((None, None, 30.0), (1000.0, 1e-6, 0.0, -5.0, float("nan"))),
    "spot_shape": ((None, "square", "disc"), ("star",)),
    "layer": ((None,), ("raw", 3)),
    "check": ((False,), (True,)),
    "tissue": ((None, "all"), ("nothing", "one pixel", "other size", "floats with NaN", "words", "3-d")),
}
OPTIONS = ("um_per_px", "spot_um", "spot_shape", "layer", "check", "tissue")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """At most two things are odd: a section with everything odd is refused at the first look."""
    odd = draw(st.sets(st.sampled_from([*USUAL_AND_ODD, "gene_names", "repeated names"]), max_size=2))
    chosen = {name: draw(st.sampled_from(values[name in odd])) for name, values in USUAL_AND_ODD.items()}
    names = draw(st.lists(st.sampled_from(GENE_NAMES[8 * ("gene_names" in odd) :]), min_size=1, max_size=5))
    return Case(
        shape=(chosen.pop("height"), chosen.pop("width")),
        options=tuple((name, chosen.pop(name)) for name in OPTIONS),
        gene_names=tuple(names if "repeated names" in odd else dict.fromkeys(names)),
        **chosen,
    )


def section_of(case: Case) -> AnnData:
    """Draw the section of a case."""
    rng = np.random.default_rng(len(repr(case)))
    xy = _places(case, rng)
    counts = 1 + rng.poisson(rng.gamma(2, 2, len(case.gene_names)), (len(xy), len(case.gene_names)))
    adata = AnnData(TABLES[case.table](counts), shape=counts.shape if case.table == "none" else None)
    adata.obs_names = [f"spot{i}" for i in range(len(xy))]
    adata.var_names = pd.Index(case.gene_names, dtype=object)
    adata.obsm["spatial"] = xy
    if case.on_array:
        side = max(1, int(np.sqrt(len(xy))))
        row = {"words": "first", "NaN": np.nan}.get(case.on_array, np.arange(len(xy)) // side)
        adata.obs["array_row"], adata.obs["array_col"] = row, np.arange(len(xy)) % side
    factors = {"tissue_hires_scalef": case.scale, "spot_diameter_fullres": case.diameter}
    adata.uns["spatial"] = {
        case.library: {
            "images": {"hires": PICTURES[case.picture](_picture(case.shape, rng))},
            "scalefactors": {name: value for name, value in factors.items() if value is not None},
        }
    }
    return adata


def _picture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Pink tissue with dark nuclei on white glass."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot(y / shape[0] - 0.5, x / shape[1] - 0.5) < 0.45
    rgb = np.where(inside[..., None], (220, 150, 190), (246, 246, 246)) + rng.normal(0, 4, (*shape, 3))
    rgb[inside & (rng.random(shape) < 0.1)] = (90, 60, 130)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def _places(case: Case, rng: np.random.Generator) -> Any:
    """(n, 2) x, y of the spots in full-resolution px."""
    height, width = case.shape
    columns = max(1, int(width // case.pitch))
    i = np.arange(case.n_spots)
    x, y = (i % columns + 0.5) * case.pitch, (i // columns + 0.5) * case.pitch
    if case.layout == "hexagonal":
        x, y = x + (i // columns % 2) * case.pitch / 2, y * np.sqrt(3) / 2
    if case.layout == "line":
        x, y = (i + 0.5) * width / max(1, len(i)), np.full(len(i), height / 2)
    if case.layout == "random":
        x, y = rng.random((2, len(i))) * [[width], [height]]
    xy = np.column_stack([x, y])
    if case.layout == "off the edge":
        xy += case.pitch
    if case.layout == "two joined":  # a third of the spots lie where others do
        xy[: len(i) // 6] = xy[len(i) - len(i) // 6 :]
    if case.layout == "duplicates":
        xy = xy[i // 2]
    if case.layout == "all at one place":
        xy[:] = (width / 2, height / 2)
    if case.layout in ("NaN", "infinite"):
        xy[: len(i) // 3] = float(case.layout.replace("infinite", "inf"))
    if case.layout == "far away":
        xy[:1] = 1e12
    if case.layout == "negative":
        xy = -xy
    return np.where(xy > 0, "left", "right") if case.layout == "words" else xy


def _with_stored_zeros(counts: np.ndarray) -> sparse.csr_matrix:
    stored = sparse.csr_matrix(counts.astype(np.float32))
    stored.data[::3] = 0
    return stored


def options_of(case: Case) -> dict[str, Any]:
    options = dict(case.options)
    masks = {
        "all": np.ones(case.shape, bool),
        "nothing": np.zeros(case.shape, bool),
        "one pixel": np.arange(np.prod(case.shape)).reshape(case.shape) == 0,
        "other size": np.ones((7, 7), bool),
        "floats with NaN": np.full(case.shape, np.nan),
        "words": np.full(case.shape, "tissue"),
        "3-d": np.ones((*case.shape, 3), bool),
    }
    return options | {"tissue": masks.get(options["tissue"])}


def outcome(case: Case, adata: AnnData, call: Any) -> Any:
    """Return what a call gives, or ``None`` if it ends in an error that it raises itself, and in words."""
    before, refusal = adata.copy(), None
    try:
        result = call()
    except (ValueError, TypeError, KeyError, FileExistsError) as error:
        refusal = error
    if refusal is None:
        return result
    raised_at = traceback.extract_tb(refusal.__traceback__)[-1]
    assert Path(raised_at.filename).is_relative_to(SOURCES), f"{case} ends in an error of a library: {refusal!r}"
    assert raised_at.line.startswith("raise "), f"{case} ends in an error that nobody foresaw: {refusal!r}"
    assert len(str(refusal).split()) > 5
    assert same(adata, before), f"{case} was refused, and the table is changed"
    return None


def same(a: AnnData, b: AnnData) -> bool:
    """Whether nothing was added to a table or taken away."""
    rooms = ("obs", "var", "uns", "obsm", "varm", "layers")
    return a.shape == b.shape and all(set(getattr(a, room)) == set(getattr(b, room)) for room in rooms)


def slide_of(adata: AnnData, case: Case) -> Any:
    options = options_of(case)
    um_per_px = options.pop("um_per_px")
    return make_slide(sp.io.section(adata, **options), um_per_px=um_per_px)


@settings(max_examples=200, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases())
def test_any_section_becomes_a_slide_or_is_refused(case):
    adata = section_of(case)
    slide = outcome(case, adata, lambda: slide_of(adata, case))
    if slide is None:
        return
    assert slide.image.shape == (3, *slide.grid.shape)
    assert slide.image.dtype == np.uint8
    assert slide.tissue.shape == slide.grid.shape
    assert slide.tissue.sum() > 0
    assert slide.spots.genes == case.gene_names
    np.testing.assert_array_equal(
        slide.grid.to_fullres(slide.spots.centers)[:, ::-1].round(6), adata.obsm["spatial"].round(6)
    )
    values = sparse.csr_array(adata.X).toarray().astype(np.float32)
    np.testing.assert_array_equal(slide.spots.values.toarray(), values)
    assert slide.spots.is_counts == bool((values == values.round()).all())


@pytest.mark.slow
@settings(max_examples=45, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(cases())
def test_any_section_is_fitted_or_is_refused(case):
    import spatialdata as sd

    adata = section_of(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "section.zarr"

        def fit() -> Path:
            options = options_of(case)
            um_per_px = options.pop("um_per_px")
            section = sp.io.section(adata, **options)
            sp.tl.fit_projection(
                section,
                store=path,
                key_added=case.key,
                um_per_px=um_per_px,
                max_epochs=1,
                device="cpu",
                config=ONE_BATCH,
            )
            return path

        if outcome(case, adata, fit) is None:
            assert not [found for found in Path(folder).rglob("*") if found.is_file()], "something was left behind"
            return
        sdata = sd.read_zarr(path)
        assert sorted(found.name for found in path.parent.iterdir()) == [f"section.{case.key}.pt", "section.zarr"]
        check_store(path, sdata, adata, case.key)


def check_store(path: Path, sdata: Any, adata: AnnData, key: str) -> None:
    """Are the rasters whole, named as the genes are, and their means over spots what was fitted?"""
    genes, params = list(adata.var_names), adata.uns[key]["params"]
    tissue = sp.get.raster(path, f"{params['library_id']}_tissue").values.astype(bool)
    for name in (key, f"{key}_sd", f"{key}_factors"):
        np.testing.assert_array_equal(*np.broadcast_arrays(np.isfinite(sp.get.raster(path, name).values), tissue))
    assert list(get_channel_names(sdata[key])) == params["genes"]
    assert list(sdata.tables["table"].var_names) == genes
    rasters = sp.get.gene_raster(path, genes, key=key)
    assert list(rasters.gene.values) == genes
    assert np.nanmin(rasters.values) >= 0
    fitted, loadings = adata.obsm[f"{key}_fitted"], adata.varm[f"{key}_loadings"]
    expected = rates(fitted, loadings, n_contrasts(path, key))
    spots = sdata.shapes[f"{params['library_id']}_spots"]
    low, high = (
        (spots.buffer(spots["radius"].to_numpy()) if "radius" in spots else spots)
        .bounds.to_numpy()
        .reshape(-1, 2, 2)
        .swapaxes(0, 1)
    )
    whole = (
        (low >= 0) & (high <= np.array(tissue.shape[::-1]) * params["um_per_px"] / params["fullres_um_per_px"])
    ).all(1)
    if whole.any():
        over_spots = sp.tl.aggregate(path, spots[whole], key=key)
        np.testing.assert_allclose(over_spots.X, expected[whole], rtol=2e-3, atol=1e-4 * expected.max())


def test_a_model_of_names_and_numbers_of_numpy_can_be_loaded(small_toy, tmp_path):
    genes = np.intersect1d(["class1_a", "noise_a"], list(small_toy.var_names))
    train = TrainConfig(least_batches=1, learning_rate=np.linspace(1e-3, 2e-3, 3)[1])
    sp.tl.fit_projection(
        small_toy, store=tmp_path / "toy.zarr", genes=genes, max_epochs=1, config=FitConfig(train=train), device="cpu"
    )
    assert sp.tl.load(tmp_path / "toy.projection.pt").genes == ("class1_a", "noise_a")
