"""What a page holds of the parts of a store that were chosen: their pixels, spots, outlines and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import __version__, _keys
from sphisto._progress import stage
from sphisto.core.pieces import in_pieces
from sphisto.core.tiles import Window
from sphisto.io.counts import in_memory, matrix_of
from sphisto.io.export.report.encoding import block_means, jpeg, packed, packed_codes, packed_text, quantised
from sphisto.io.export.report.outlines import as_path, element_outlines, mask_outline
from sphisto.io.export.report.page import Blobs
from sphisto.io.paths import located
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store.stored_genes import stored_genes
from sphisto.io.store.summary import plain
from sphisto.pl import _report_panels as panels
from sphisto.pl._frame import limits
from sphisto.pl._report_plan import Part, Plan, finest_level
from sphisto.pl._sources import counts_of, skill_of, spots_of, stored_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.grid import Grid
    from sphisto.io.store.read import Store
    from sphisto.io.store.stored_raster import StoredRaster

SD_STRIDE = 8  # px; deviations are smooth
_MOST_SPOTS = 20_000  # more are no spots but bins, too many to be drawn one by one
_MAPS = {
    "viridis": "Viridis",
    "cividis": "Cividis",
    "magma": "Magma",
    "gray": "Grey",
}  # of matplotlib; all read in grey, too


def content_of(plan: Plan, title: str | None) -> tuple[dict[str, Any], list[dict[str, str]], Blobs]:
    """Read what a report shows: values for its JSON, panels of each section, and the pixels to which the values refer."""
    blobs = Blobs()
    name = _name_of(plan.store)
    with stage("report", sum(len(part.genes) for part in plan.parts), unit="gene") as steps:
        sections = [_section(plan, part, blobs, steps) for part in plan.parts]
    about = {
        "title": title or name,
        "store": name,
        "sdStride": SD_STRIDE,
        "maps": {label: _colours(cmap) for cmap, label in _MAPS.items()},
        "sections": sections,
    }
    return about, [section.pop("panels") for section in sections], blobs


def _name_of(store: Store) -> str:
    """Name of a store's folder; that of its first library where it lies nowhere."""
    place = located(store)
    folder = place if isinstance(place, Path) else place.path
    return stores.library_id(store) if folder is None else Path(folder).name


def _colours(cmap: str) -> list[str]:
    """256 colours of a map."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in mpl.colormaps[cmap](np.arange(256))]


def _section(plan: Plan, part: Part, blobs: Blobs, steps: Any) -> dict[str, Any]:
    store, key = plan.store, part.key
    table, record, about = stores.table(store, key), stores.record(store, key), stores.mark(store)
    library = stores.library_id(store, key)
    is_only = sum(claims.library_of(about, other) == library for other in about["keys"]) == 1
    notes: list[str] = []
    maps = stores.raster(store, _keys.factors(key))
    params = plain(record.get("params", {}))
    genes, known = _genes(store, part, blobs, steps)
    spots = _spots(table, part, genes, blobs, notes) if table.n_obs else None
    outlines, versions = _outlines(plan, part, known, blobs, notes), _versions(about, params)
    section, seconds = params.pop("section", {}), plain(record.get("seconds", {}))
    return {
        "key": key,
        "library": library,
        "name": library if is_only else f"{library}, {key}",
        "unit": stores.unit(store, key),
        "umPerPx": part.grid.fullres_um_per_px,
        "grid": {
            "height": part.grid.height, "width": part.grid.width, "pxY": part.grid.fullres_per_px[0],
            "pxX": part.grid.fullres_per_px[1], "umPerPx": part.grid.um_per_px, "level": part.level,
            "finestUmPerPx": maps.grid_at(0).um_per_px,
        },
        "image": _image(store, library, plan.max_side, blobs),
        "tissue": blobs.add(packed(np.packbits(known))),
        "extent": _extent(known, part.grid),
        "genes": genes,
        "spots": spots,
        "outlines": outlines,
        "skill": _skill(store, key, table),
        "panels": {
            "training": panels.training(_history(table, key), params.get("gate"), seconds),
            "spots": _quality(table, key) if table.n_obs else panels.nothing_measured(),
            "input": panels.understood(section),
            "settings": panels.settings(versions, _settings(params)),
            "file": panels.about_file([*_texts(store, part, maps, table), *notes], _call(plan, part)),
        },
    }  # fmt: skip


def _versions(about: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    written = about.get("version", "unknown")
    return {
        "store written by": f"sphisto {written}",
        "fitted by": f"sphisto {params.pop('version', written)}",
        "format of the store": stores.format_of(about),
        "report written by": f"sphisto {__version__}",
    }


def _texts(store: Store, part: Part, maps: StoredRaster, table: AnnData) -> list[str]:
    """What a file holds of a section, and how exactly."""
    grid, finest, spot = part.grid, maps.grid_at(0), stores.spot(store, part.key)
    level = "the finest that the store has"
    if part.level:
        level = (
            f"level {part.level} of the store's pyramid, whose finest one has {finest.width} \u00d7 {finest.height} px of "
            f"{finest.um_per_px:.3g} \u00b5m: each pixel is the mean of those it covers"
        )
    return [
        f"This file holds {len(part.genes)} of {table.n_vars:,} genes of {stores.library_id(store, part.key)} at "
        f"{grid.width} \u00d7 {grid.height} px of {grid.um_per_px:.3g} \u00b5m, {level}.",
        f"Values are {stores.unit(store, part.key)} (a {spot.shape} of {spot.um:g} \u00b5m) in 8 bits of the square "
        "root: each root is off by at most 1/510 of the root of the gene's highest value, so that low values are finer than "
        f"high ones. Deviations are means over blocks of {SD_STRIDE} \u00d7 {SD_STRIDE} px, in the same way; they are not "
        "known of genes that the store does not hold as rasters. Nothing is known outside tissue. The tissue image is a JPEG.",
    ]


def _call(plan: Plan, part: Part) -> str:
    name, gene = _name_of(plan.store), part.genes[0] if part.genes else _any_gene(plan.store, part.key)
    return f"sphisto.get.gene_raster({name!r}, {gene!r}, key={part.key!r}, scale={part.level})"


# ---- pixels


def _extent(known: NDArray[np.bool_], grid: Grid) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) of what is known, in full-resolution px; of the whole section if nothing is."""
    rows, columns = (
        np.flatnonzero(known.any(axis=axis)) if known.any() else np.arange(n)
        for axis, n in ((1, known.shape[0]), (0, known.shape[1]))
    )
    y, x = grid.fullres_per_px
    return float(columns[0] * x), float(rows[0] * y), float((columns[-1] + 1) * x), float((rows[-1] + 1) * y)


def _genes(store: Store, part: Part, blobs: Blobs, steps: Any) -> tuple[list[dict[str, Any]], NDArray[np.bool_]]:
    """Genes in 8 bits with their deviations, and where the projection holds values."""
    skill, known = skill_of(store, part.genes, part.key), None
    made: list[dict[str, Any]] = []
    for gene, values, r in zip(part.genes, _rasters(store, part), skill, strict=True):
        if known is None:
            known = np.isfinite(values)
        raster = quantised(values)
        made.append({
            "name": gene, "skill": r, "low": raster.low, "high": raster.high, "top": limits(values, 0, "p99.5")[1],
            "codes": _added(raster.codes, known, blobs), "sd": _deviation(store, part, gene, blobs),
        })  # fmt: skip
        steps.update()
    if known is None:  # no gene of these is measured here: the tissue is shown alone
        known = np.isfinite(next(_rasters(store, Part(part.key, (_any_gene(store, part.key),), part.level, part.grid))))
    return made, known


def _added(codes: NDArray[np.uint8], known: NDArray[np.bool_], blobs: Blobs) -> dict[str, Any]:
    """Pack codes into the page; what the page needs to unpack them."""
    made = packed_codes(codes, known)
    return {"blob": blobs.add(made.text), "weights": made.weights, "levels": made.levels, "ends": made.ends}


def _any_gene(store: Store, key: str) -> str:
    model = stores.factors(store, key)
    return next(gene for gene, row in zip(model.genes, model.loadings, strict=True) if np.isfinite(row).all())


def _rasters(store: Store, part: Part) -> Iterator[NDArray[np.float32]]:
    """(y, x) rasters of the genes at the level that is shown, in their order, NaN outside tissue."""
    size = part.grid.height * part.grid.width
    for some in in_pieces(len(part.genes), size, at_once=2**26):  # each reading unpacks all factor maps
        found = stored_genes(store, part.key, part.genes[some])
        yield from found.read(part.level, Window(0, 0, *part.grid.shape))


def _deviation(store: Store, part: Part, gene: str, blobs: Blobs) -> dict[str, Any] | None:
    """Deviations of a gene, means over blocks of the level that is shown; ``None`` for a gene of which none are stored."""
    name = _keys.sd(part.key)
    if name not in stores.mark(store)["grids"]:
        return None
    stored = stores.raster(store, name)
    if gene not in stored.channels:
        return None
    level, at = min(part.level, len(stored.shapes) - 1), stored.channels.index(gene)
    fine = stored.read(level, Window(0, 0, *stored.shapes[level]), slice(at, at + 1))[0]
    sd = quantised(block_means(fine, SD_STRIDE << (part.level - level)))
    height, width = sd.codes.shape
    return {
        "height": height, "width": width, "low": sd.low, "high": sd.high,
        "codes": _added(sd.codes, np.ones_like(sd.codes, dtype=bool), blobs),
    }  # fmt: skip


def _image(store: Store, library: str, max_side: int, blobs: Blobs) -> dict[str, Any] | None:
    name = _keys.image(library)
    if name not in stores.mark(store)["grids"]:
        return None
    stored = stores.raster(store, name)
    level = finest_level(stored, max_side)
    image, raster = stored_image(store, name, None, len(stored.shapes) - 1 if level is None else level)
    step = -(-max(image.pixels.shape[:2]) // max_side)
    left, right, bottom, top = image.extent
    pixels = image.pixels[::step, ::step, :3]
    about = {"x0": left, "x1": right, "y0": top, "y1": bottom, "umPerPx": float(raster.attrs["um_per_px"]) * step}
    return {**about, "blob": blobs.add(jpeg(pixels))}


# ---- spots and outlines


def _spots(
    table: AnnData, part: Part, genes: list[dict[str, Any]], blobs: Blobs, notes: list[str]
) -> dict[str, Any] | None:
    """Places of the spots; what was measured there is added to the genes. ``None`` where they are too many to be drawn."""
    found = spots_of(table, key=part.key, library_id=None)
    if len(found.rows) > _MOST_SPOTS:
        notes.append(f"The {len(found.rows):,} places that were measured are too many to be drawn, and are left out.")
        return None
    values, unit = counts_of(table, part.genes, None) if genes else (np.empty((table.n_obs, 0)), "")
    for gene, column in zip(genes, values[found.rows].T, strict=True):
        gene["measured"] = blobs.add(packed(column.astype(np.float32)))
    return {
        "size": found.size, "shape": found.shape, "unit": unit,
        "xy": blobs.add(packed(found.xy.astype(np.float32))),
        "names": [str(name) for name in table.obs_names[found.rows]],
    }  # fmt: skip


def _quality(table: AnnData, key: str) -> str:
    found, counts = spots_of(table, key=key, library_id=None), _counts(table)
    counts = counts[found.rows]
    totals, detected = (np.asarray(m.sum(axis=1)).ravel() for m in (counts, counts != 0))
    return panels.spots(totals, detected, table.n_vars, _removed(table), found.xy, found.size, found.shape == "disc")


def _counts(table: AnnData) -> Any:
    """(spots, genes) as they were measured."""
    return in_memory(*matrix_of(table, "counts" if "counts" in table.layers else None))


def _removed(table: AnnData) -> Any:
    """What quality control took out, as :func:`sphisto.pp.qc` counted it."""
    record = table.uns.get("qc", {})
    return plain(record["removed"]) if hasattr(record, "keys") and "removed" in record else None


def _outlines(plan: Plan, part: Part, known: NDArray[np.bool_], blobs: Blobs, notes: list[str]) -> list[dict[str, Any]]:
    """Outline of the tissue, and of the labels and shapes that lie in the section and are not sphisto's own."""
    system, px = stores.system(plan.store, part.key), max(part.grid.fullres_per_px)
    lines = {"tissue": mask_outline(known, part.grid)}
    for name in _others(plan.store):
        try:
            lines[name] = element_outlines(plan.store, name, system, px=px, most_side=plan.max_side)
        except ValueError as error:
            notes.append(f"The element {name!r} is not drawn: {error}")
    return [{"name": name, "path": blobs.add(packed_text(as_path(each)))} for name, each in lines.items()]


def _others(store: Store) -> list[str]:
    """Labels and shapes of a store that are none of its own tissue masks and spots."""
    place, about = located(store), stores.mark(store)
    own = {name for library in claims.libraries_of(about) for name in _keys.of_library(library)}
    own |= {_keys.tissue(key) for key in about["keys"]}
    if isinstance(place, Path):
        there = [
            path.name for kind in ("labels", "shapes") for path in sorted((place / kind).glob("*")) if path.is_dir()
        ]
    else:
        there = [*place.labels, *place.shapes]
    return [name for name in there if name not in own]


# ---- numbers


def _skill(store: Store, key: str, table: AnnData) -> dict[str, Any]:
    """All genes of the table, with what the fit found of each at left-out spots."""
    names = [str(name) for name in table.var_names]
    columns = {"r": _keys.skill(key), "deviance": _keys.deviance_explained(key), "dispersion": _keys.dispersion(key)}
    found: dict[str, Any] = {"gene": names}
    for label, name in columns.items():
        column = stores.gene_column(store, name, key)
        if column:
            found[label] = [_rounded(column.get(gene, np.nan)) for gene in names]
    if table.n_obs:
        found["mean"] = [_rounded(mean) for mean in np.asarray(_counts(table).mean(axis=0)).ravel()]
    return found


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _history(table: AnnData, key: str) -> dict[str, Any] | None:
    record = table.uns.get(key, {})
    past = record.get("history", {}) if hasattr(record, "get") else {}
    names = ("epoch", "phase", "image_loss", "spot_loss", "held_out_loss", "held_out_interpolated", "learning_rate")
    if not all(name in past for name in names) or not len(past["epoch"]):
        return None
    return {
        name: [str(value) if name == "phase" else _rounded(value) for value in np.asarray(past[name])] for name in names
    }


def _settings(params: dict[str, Any]) -> dict[str, Any]:
    """Settings of the fit, with the text of all that concern the parts of it spelled out."""
    config = params.get("config")
    return {**params, "config": json.loads(config)} if isinstance(config, str) else params
