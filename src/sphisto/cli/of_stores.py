"""Commands that take a store: ``info``, ``aggregate``, ``export``, ``report``, ``upgrade``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Sequence


def _add_info(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    from sphisto.io.store.summary import summarise

    summary = summarise(options.store)
    for library in summary.libraries:
        table = "no table" if library.n_spots is None else f"{library.n_spots} spots x {library.n_genes} genes"
        print_line(
            f"{options.store}: library {library.library_id}, {table}, written by sphisto {summary.version}, format {summary.format}"
        )
    print_line("\nrasters")
    for raster in summary.rasters:
        sizes = ", ".join(f"{h} x {w}" for h, w in raster.levels)
        print_line(f"  {raster.name}: {sizes} px (y, x), {raster.um_per_px[0]:.4g} um per px")
        if raster.channels:
            print_line(f"    channels {_shortened(raster.channels)}")
    for key, about in summary.projections.items():
        print_line(f"\nprojection {key}" + (f", in {about['unit']}" if "unit" in about else ""))
        for name, value in sorted(about.get("params", {}).items()):
            _print_value(name, value)


def _add_aggregate(command: argparse.ArgumentParser) -> None:
    add_store(command)
    command.add_argument(
        "regions", metavar="REGIONS",
        help="outlines in full-resolution px: GeoJSON, parquet or another file that geopandas reads; circles: csv with "
        "columns x, y and radius; or the name of shapes or labels in the store",
    )  # fmt: skip
    sums = command.add_argument_group("sums")
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
    table = tl.aggregate(options.store, regions_of(options.regions), **given(options, AGGREGATE))
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
    """Say a setting on a line, or what several belong together under one."""
    if name == "config" and isinstance(value, str):  # a text of all settings by part
        value = json.loads(value)
    if not isinstance(value, dict):
        print_line(f"  {name}: {_shortened(value) if isinstance(value, list) else value}")
        return
    print_line(f"  {name}:")
    for part, text in value.items():
        print_line(f"    {part}: {text}")


def _shortened(values: Sequence[Any], most: int = 12) -> str:
    """Return the first values as words, and how many there are if they are more."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f", ... ({len(values)} in all)" if len(values) > most else "")


COMMANDS = (
    Command(
        "aggregate",
        "sum the rasters of a store over cells or other regions",
        _add_aggregate,
        (
            "sphisto aggregate my_section.zarr cells.geojson --out cells.h5ad",
            "sphisto aggregate my_section.zarr centres.csv --radius 12 --genes Prox1,Mbp --out centres.h5ad",
            "sphisto aggregate my_section.zarr my_section_spots --out spots.h5ad --overwrite",
        ),
    ),
    Command(
        "info",
        "print what a store holds, from its metadata",
        _add_info,
        ("sphisto info my_section.zarr",),
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
