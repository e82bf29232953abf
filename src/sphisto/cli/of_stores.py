"""Commands that take a store: ``info``, ``aggregate``, ``export``, ``report``, ``upgrade``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from sphisto import _keys
from sphisto._facts import as_text, gate_words, some
from sphisto._terminal import print_line
from sphisto.cli.options import (
    AGGREGATE,
    EXPORT,
    REPORT,
    Command,
    add_output,
    add_store,
    add_stored_projection,
    given,
    output_of,
    words,
)

if TYPE_CHECKING:
    from sphisto.io.store.summary import StoreSummary


def _add_info(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.add_argument("--settings", action="store_true", help="print the settings of each fit, too")
    command.add_argument("--json", action="store_true", help="print all that is known, for programs to read")
    command.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    from sphisto.io.store.summary import summarise

    summary = summarise(options.store)
    if hasattr(options, "json"):
        print_line(json.dumps(asdict(summary), indent=2))
        return
    print_line(f"{options.store}: store of format {summary.format}, written by sphisto {summary.version}")
    for library in summary.libraries:
        table = "no table" if library.n_spots is None else f"{library.n_spots} spots x {library.n_genes} genes"
        print_line(f"  section {library.library_id}: {table}")
    for key, left in summary.unfinished.items():
        print_line(f"  {key!r} is of {left}; the same call with --resume (resume=True) brings it to its end")
    for key in summary.projections:
        print_line("\n" + as_text(f"Projection {key!r}", _facts_of(summary, key)))
        if hasattr(options, "settings"):
            print_line("\n  settings")
            for name, value in sorted(summary.projections[key].get("params", {}).items()):
                _print_value(name, value)
    print_line("\nRasters")
    for raster in summary.rasters:
        sizes = ", ".join(f"{h} x {w}" for h, w in raster.levels)
        channels = f"; {some(raster.channels)}" if raster.channels else ""
        print_line(f"  {raster.name}: {sizes} px (y, x), {raster.um_per_px[0]:.4g} um per px{channels}")


def _facts_of(summary: StoreSummary, key: str) -> dict[str, str]:
    """What a person wants to know of a projection, by fact; what its store does not say is left out."""
    about, skill = summary.projections[key], summary.skill[key]
    params = about.get("params", {})
    section, genes = params.get("section", {}), params.get("genes", [])
    facts = {name: section[name] for name in ("spots", "values", "image", "scale") if name in section}
    size = {raster.name: raster for raster in summary.rasters}.get(_keys.factors(key))
    if size is not None:
        (height, width), um = size.levels[0], size.um_per_px[0]
        facts["rasters"] = (
            f"{height} x {width} px (y, x) of {um:.4g} um: {height * um:.0f} x {width * um:.0f} um; in {about.get('unit', 'counts')}"
        )
    if genes:
        facts["genes"] = f"{some(genes)}; any other gene of the table is made from the factor maps when it is read"
    if "network" in params:
        facts["network"] = f"{params['network']}; {params.get('max_epochs', 'unknown')} epochs at most"
        facts["gate"] = gate_words(params.get("gate"))
    if skill:
        own = [f"{gene} {skill[gene]:.2f}" for gene in genes if gene in skill]
        facts["skill"] = f"median correlation {median(skill.values()):.2f} of {len(skill)} genes at left-out spots" + (
            f"; {some(own)}" if own else ""
        )
    if "version" in params:
        facts["fitted by"] = f"sphisto {params['version']}"
    if summary.written[key]:
        facts["written"] = summary.written[key]
    if about.get("model"):
        facts["model"] = about["model"]
    return facts


def _add_aggregate(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.add_argument(
        "regions", metavar="REGIONS", nargs="?",
        help="outlines in full-resolution px: GeoJSON, parquet or another file that geopandas reads; circles: csv with "
        "columns x, y and radius; or the name of shapes or labels in the store",
    )  # fmt: skip
    sums = command.add_argument_group("sums")
    sums.add_argument(
        "--square-um",
        type=float,
        metavar="NUMBER",
        help="side in um of square bins that tile the section, instead of REGIONS",
    )
    sums.add_argument("--radius", type=float, metavar="NUMBER", help="radius of points, in full-resolution px")
    sums.add_argument("--genes", type=words, metavar="A,B,...", help="genes to sum (by default all)")
    sums.add_argument(
        "--target-sum", type=float, metavar="NUMBER",
        help="counts to which regions are scaled before logarithms are taken (by default those of the median spot)",
    )  # fmt: skip
    add_stored_projection(sums)
    add_output(command, "sums", "an h5ad file of regions x genes", required=True)
    command.set_defaults(run=_aggregate)


def _aggregate(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.core.atomic import whole_file
    from sphisto.io.regions.files import regions_of

    out = output_of(options, ".h5ad")
    regions = regions_of(options.regions) if hasattr(options, "regions") else None
    table = tl.aggregate(options.store, regions, **given(options, AGGREGATE))
    with whole_file(out) as new:
        table.write_h5ad(new)
    print_line(f"{table.n_obs} regions x {table.n_vars} genes written to {out}")


def _add_export(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.add_argument(
        "path", metavar="PATH",
        help="file to write, by its ending: .ome.tif (an image with its pyramid), .geojson (regions) or .json (a view config "
        "of Vitessce)",
    )  # fmt: skip
    command.add_argument(
        "--genes", type=words, metavar="A,B,...",
        help=".ome.tif, .json: genes to write or draw; by default those that are stored as rasters. .geojson: genes that "
        "are summed over each region",
    )  # fmt: skip
    command.add_argument(
        "--element",
        metavar="NAME",
        help=".ome.tif: raster of the store to write instead of genes, such as LIBRARY_image",
    )
    command.add_argument(
        "--regions",
        metavar="REGIONS",
        help=".geojson: shapes or labels of the store, such as projection_tissue, or a file, as sphisto aggregate takes it",
    )
    command.add_argument(
        "--objects",
        choices=("annotation", "detection"),
        help=".geojson: what QuPath makes of them (default: annotation)",
    )
    command.add_argument(
        "--over", metavar="NAME",
        help=".geojson: raster of the store in whose pixels the coordinates are (by default full-resolution pixels)",
    )  # fmt: skip
    command.add_argument(
        "--url", metavar="URL",
        help=".json: where a browser finds the store (by default http://localhost:8000/ and the store's name)",
    )  # fmt: skip
    add_stored_projection(command)
    command.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, help="replace a file that is there (default: False)"
    )
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.io.regions.files import regions_of

    about = given(options, EXPORT)
    if "regions" in about:
        about["regions"] = regions_of(about["regions"])
    tl.export(options.store, options.path, **about)
    print_line(f"wrote {options.path}")


def _add_report(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.add_argument("--out", metavar="FILE", help="file to write (by default report.html)")
    command.add_argument(
        "--genes", type=words, metavar="A,B,...",
        help="genes to put in, any of the table (by default the first 20 of those that are stored as rasters)",
    )  # fmt: skip
    command.add_argument("--key", metavar="NAME", help="which projection of the store (by default all, in a menu)")
    command.add_argument("--library-id", metavar="NAME", help="which section of the store (by default all, in a menu)")
    command.add_argument(
        "--max-side", type=int, metavar="N",
        help="pixels on the longer side; larger sections are shown at the finest level of the pyramid that is no larger "
        "(default: 2048)",
    )  # fmt: skip
    command.add_argument("--title", metavar="TEXT", help="heading of the page (by default the name of the store)")
    command.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, help="replace a file that is there (default: False)"
    )
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    from sphisto import pl

    where = {"path": options.out} if hasattr(options, "out") else {}
    print_line(f"wrote {pl.report(options.store, **where, **given(options, REPORT))}")


def _add_upgrade(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.set_defaults(run=_upgrade)


def _upgrade(options: argparse.Namespace) -> None:
    from sphisto import tl

    tl.upgrade(options.store)


def _print_value(name: str, value: Any) -> None:
    """Print a setting on a line, or those that belong together below their name."""
    if name == "config" and isinstance(value, str):  # a text of all settings by part
        value = json.loads(value)
    if not isinstance(value, dict):
        print_line(f"  {name}: {some(value, 12) if isinstance(value, list) else value}")
        return
    print_line(f"  {name}:")
    for part, text in value.items():
        print_line(f"    {part}: {text}")


COMMANDS = (
    Command(
        "aggregate",
        "sum the rasters of a store over cells, square bins or other regions",
        _add_aggregate,
        (
            "sphisto aggregate my_section.zarr cells.geojson --out cells.h5ad",
            "sphisto aggregate my_section.zarr centres.csv --radius 12 --genes Prox1,Mbp --out centres.h5ad",
            "sphisto aggregate my_section.zarr --square-um 16 --genes Prox1,Mbp --out bins.h5ad",
            "sphisto aggregate my_section.zarr my_section_spots --out spots.h5ad --overwrite",
        ),
    ),
    Command(
        "info",
        "print what a store holds, from its metadata: what was fitted to what, and how good it is",
        _add_info,
        (
            "sphisto info my_section.zarr",
            "sphisto info my_section.zarr --settings",
            "sphisto info my_section.zarr --json",
        ),
    ),
    Command(
        "export",
        "write genes, images or regions of a store to a file of QuPath, Fiji or Vitessce",
        _add_export,
        (
            "sphisto export my_section.zarr genes.ome.tif --genes Prox1,Mbp",
            "sphisto export my_section.zarr image.ome.tif --element my_section_image",
            "sphisto export my_section.zarr cells.geojson --regions cells --objects detection",
            "sphisto export my_section.zarr view.json",
        ),
    ),
    Command(
        "report",
        "write one HTML file that shows a store in a browser, without a network",
        _add_report,
        (
            "sphisto report my_section.zarr",
            "sphisto report my_section.zarr --out my_section.html --genes Prox1,Mbp --overwrite",
            "sphisto report my_section.zarr --max-side 1000 --title 'Section 3, left hemisphere'",
        ),
    ),
    Command(
        "upgrade",
        "convert a store of an earlier format to the one that this version writes",
        _add_upgrade,
        ("sphisto upgrade my_section.zarr",),
    ),
)
