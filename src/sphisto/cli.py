"""Command line: ``sphisto fit`` and the other commands.

Every option is the keyword argument of a function, under its name; one that is not given is not passed on, so that the
function's own default holds. Help and version load no library: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import traceback
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sphisto import __version__
from sphisto._settings import settings
from sphisto._terminal import print_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger("sphisto")


class Exit(IntEnum):
    """Exit status of the command, as shells expect it."""

    DONE = 0
    WRONG_INPUT = 2
    STOPPED = 130  # as after an interrupt (128 + SIGINT)


# keyword arguments, by the function that takes them; `image` goes to two
READ = ("image", "library_id")
CLEAN = ("min_genes", "min_cells", "max_counts")
SECTION = ("image", "image_scale", "image_um_per_px", "spot_um", "spot_shape", "tissue", "check")
FIT = (
    "store", "genes", "network", "um_per_px", "max_epochs", "device", "rng", "key_added", "resume",
)  # fmt: skip
EVALUATE = ("share", "split", "genes", "network", "um_per_px", "max_epochs", "device", "rng", "key_added")
PREDICT = ("store", "device", "key_added", "resume")
AGGREGATE = ("radius", "genes", "target_sum", "key", "library_id")
EXPORT = ("genes", "element", "regions", "objects", "over", "url", "key", "library_id", "overwrite")

CONFIG = ("preset", "devices")  # which stand for settings in `config`
MESSAGES = ("verbosity", "quiet", "progress")  # of all commands: settings of the session

EXAMPLES = {
    "demo": ("sphisto demo", "sphisto demo --out /tmp/sphisto-demo"),
    "check": (
        "sphisto check my_section",
        "sphisto check my_section --image my_section/full_resolution.tif --tissue mask.png",
    ),
    "fit": (
        "sphisto fit my_section --store my_section.zarr --preset fast",
        "sphisto fit my_section --image my_section/full_resolution.tif --store my_section.zarr "
        "--genes Prox1,Mbp --um-per-px 2",
        "sphisto fit my_section --store my_section.zarr --resume",
    ),
    "evaluate": (
        "sphisto evaluate my_section",
        "sphisto evaluate my_section --split blocks --out scores.csv",
        "sphisto evaluate my_section --share 0.3 --genes Prox1,Mbp --out scores.h5ad",
    ),
    "predict": (
        "sphisto predict my_section.projection.pt next_section --store next_section.zarr",
        "sphisto predict my_section.projection.pt slide.tif --image-um-per-px 0.5 --store slide.zarr",
    ),
    "aggregate": (
        "sphisto aggregate my_section.zarr cells.geojson --out cells.h5ad",
        "sphisto aggregate my_section.zarr centres.csv --radius 12 --genes Prox1,Mbp --out centres.h5ad",
        "sphisto aggregate my_section.zarr my_section_spots --out spots.h5ad --overwrite",
    ),
    "info": ("sphisto info my_section.zarr",),
    "export": (
        "sphisto export my_section.zarr genes.ome.tif --genes Prox1,Mbp",
        "sphisto export my_section.zarr image.ome.tif --element my_section_image",
        "sphisto export my_section.zarr cells.geojson --regions cells --objects detection",
        "sphisto export my_section.zarr view.json",
    ),
    "upgrade": ("sphisto upgrade my_section.zarr",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        return _run(_parser().parse_args(argv))
    finally:
        _forget_closed_pipe()


def _run(options: argparse.Namespace) -> int:
    try:
        with settings.override(**_messages(options)):
            options.run(options)
    except KeyboardInterrupt:
        print_line("sphisto: stopped.", error=True)
        return Exit.STOPPED
    except (ValueError, OSError, LookupError, ImportError, FloatingPointError, MemoryError, RuntimeError) as error:
        message = f"sphisto {options.command}: {_message(error)}"
        print_line("".join(traceback.format_exception(error)) if options.traceback else message, error=True)
        return Exit.WRONG_INPUT
    return Exit.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sphisto", description="Gene expression at every pixel of a section.")
    parser.add_argument("--version", action="version", version=f"sphisto {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, fill in (
        ("demo", "fit a small section drawn by rule, and write its store and figures", _add_demo),
        ("check", "print how a Space Ranger folder is understood; nothing is written", _add_check),
        ("fit", "read a Space Ranger folder, fit a projection and write its store", _add_fit),
        ("evaluate", "hold spots out, and print how well they are predicted, beside simpler methods", _add_evaluate),
        ("predict", "write the rasters of another section, or of an image alone, by a fitted model", _add_predict),
        ("aggregate", "sum the rasters of a store over cells or other regions", _add_aggregate),
        ("info", "print what a store holds, from its metadata", _add_info),
        ("export", "write genes, images or regions of a store to a file of QuPath, Fiji or Vitessce", _add_export),
        ("upgrade", "convert a store of an earlier format to the one that this version writes", _add_upgrade),
    ):
        # an option that is not given leaves no trace, so that the function's own default holds
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", argument_default=argparse.SUPPRESS,
            epilog="\n  ".join(("examples:", *EXAMPLES[name])), formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        fill(command)
        _add_messages(command)
    return parser


def _add_messages(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("messages")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--verbosity", choices=("error", "warning", "info", "debug"),
        help="which messages are shown (by default that of the variable SPHISTO_VERBOSITY, else info)",
    )  # fmt: skip
    which.add_argument("--quiet", action="store_true", help="warnings and errors only, and no bars")
    group.add_argument(
        "--progress", action=argparse.BooleanOptionalAction,
        help="show bars, or show none (by default where standard error is a terminal)",
    )  # fmt: skip


def _messages(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the session that were given."""
    quiet = {"verbosity": "warning", "progress": False} if hasattr(options, "quiet") else {}
    return quiet | _given(options, ("verbosity", "progress"))


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="PATH", default="demo", help="folder for store and figures (default: demo)")
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from sphisto import _demo
    from sphisto.io.paths import user_path

    for path in _demo.run(user_path(options.out)):
        print_line(str(path))


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_section_options(command)
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    print_line(repr(_section(_read(options), options)))


def _add_fit(command: argparse.ArgumentParser) -> None:
    _add_section_options(command)
    _add_cleaning_options(command)
    fit = command.add_argument_group("projection")
    fit.add_argument(
        "--store", metavar="PATH", required=True,
        help="where the SpatialData zarr store is written; one that is there keeps its other projections",
    )  # fmt: skip
    fit.add_argument(
        "--genes", type=_words, metavar="A,B,...",
        help="genes to write as rasters of their own; by default the 16 most variable ones, and any other is made from "
        "the factor maps when it is read",
    )  # fmt: skip
    _add_training_options(fit)
    _add_projection_options(fit)
    command.set_defaults(run=_fit)


def _add_cleaning_options(command: argparse.ArgumentParser) -> None:
    spots = command.add_argument_group("spots and genes that are kept")
    spots.add_argument(
        "--min-genes", type=int, metavar="N",
        help="spots with fewer genes go; lower it for panels of a few hundred genes (default: 200)",
    )  # fmt: skip
    spots.add_argument("--min-cells", type=int, metavar="N", help="genes found in fewer spots go (default: 3)")
    spots.add_argument(
        "--max-counts", type=float, metavar="NUMBER",
        help="spots with more counts in all go; inf: no limit (default: 30000)",
    )  # fmt: skip


def _add_training_options(group: Any) -> None:
    group.add_argument("--network", metavar="NAME", help="unet or prototype (default: unet)")
    group.add_argument(
        "--um-per-px", type=float, metavar="NUMBER",
        help="resolution of the rasters; time and disk grow with its inverse square (by default the image's own)",
    )  # fmt: skip
    group.add_argument("--preset", choices=("default", "fast"), help="fast: a first look (default: default)")
    group.add_argument("--max-epochs", type=int, metavar="N", help="epochs in all (by default those of the preset)")
    _add_device(group)
    group.add_argument("--devices", type=int, metavar="N", help="devices that train together (default: 1)")
    group.add_argument("--rng", type=int, metavar="N", help="seed of everything random (default: 0)")


def _add_device(group: Any) -> None:
    group.add_argument(
        "--device", metavar="NAME",
        help="auto, cpu, cuda or mps (by default that of the variable SPHISTO_DEVICE, else auto)",
    )  # fmt: skip


def _add_projection_options(group: Any) -> None:
    group.add_argument("--key-added", metavar="NAME", help="name of the projection (default: projection)")
    group.add_argument(
        "--resume", action=argparse.BooleanOptionalAction,
        help="go on where an interrupted run of the same command stopped (default: False)",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace a projection of that name in the store")


def _fit(options: argparse.Namespace) -> None:
    from sphisto import tl

    _require_free_projection(options)
    tl.fit_projection(_kept_section(options), **_given(options, FIT), **_config(options))  # prints where the store is


def _kept_section(options: argparse.Namespace) -> Any:
    """Section in a folder, without poor spots and genes."""
    from sphisto import pp

    adata = _read(options)
    pp.qc(adata, **_given(options, CLEAN))
    logger.info("kept %d spots x %d genes", adata.n_obs, adata.n_vars)
    return _section(adata, options)


def _require_free_projection(options: argparse.Namespace) -> None:
    """Refuse to replace a projection of a store unless that was asked for: it took hours."""
    from sphisto.io.paths import store_path
    from sphisto.io.store.read import read_mark

    path, key = store_path(options.store), getattr(options, "key_added", "projection")
    there = read_mark(path) if path.is_dir() else None
    if there and key in there["keys"] and not (hasattr(options, "overwrite") or getattr(options, "resume", False)):
        msg = f"{path} holds a projection {key!r} already; choose another --key-added, or replace it by --overwrite."
        raise FileExistsError(msg)


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that a preset and a number of devices stand for, if any is given."""
    preset: Any = getattr(options, "preset", "default")
    if hasattr(options, "devices"):
        from sphisto.train.settings import with_devices

        return {"config": with_devices(preset, options.devices)}
    return {"config": preset} if hasattr(options, "preset") else {}


def _add_section_options(
    command: argparse.ArgumentParser, name: str = "FOLDER", text: str = "Space Ranger folder of a Visium section"
) -> None:
    command.add_argument("folder", metavar=name, help=text)
    group = command.add_argument_group("section")
    group.add_argument(
        "--image", metavar="PATH",
        help="the full-resolution image: tif, png, jpg, OME-Zarr, or a scanner's format with the extra "
        "sphisto[slides] (by default the hires image in the folder)",
    )  # fmt: skip
    group.add_argument(
        "--image-scale", type=float, metavar="NUMBER",
        help="pixels of the image per full-resolution pixel, where it is of neither full, hires nor lowres size",
    )  # fmt: skip
    group.add_argument(
        "--image-um-per-px",
        type=float,
        metavar="NUMBER",
        help="um per pixel of the image, where nothing else states it",
    )
    group.add_argument(
        "--library-id", metavar="NAME", help="name of the section (by default that in the counts file, or the folder's)"
    )
    group.add_argument(
        "--spot-um", type=float, metavar="NUMBER",
        help="diameter or side of a spot's capture area in um (by default that of the array found)",
    )  # fmt: skip
    group.add_argument(
        "--spot-shape",
        choices=("disc", "square"),
        help="shape of the capture area (by default that of the array found)",
    )
    group.add_argument(
        "--tissue", metavar="PATH",
        help="mask of the tissue: an image or npy file of the whole section, 0 where there is none (by default it is "
        "found in the image)",
    )  # fmt: skip
    group.add_argument(
        "--check", action=argparse.BooleanOptionalAction,
        help="refuse spots that do not fit the image: outside it, off tissue, flipped (default: True)",
    )  # fmt: skip


def _read(options: argparse.Namespace) -> Any:
    from sphisto import io

    adata = io.read_visium(options.folder, **_given(options, READ))
    logger.info("read %d spots x %d genes from %s", adata.n_obs, adata.n_vars, options.folder)
    return adata


def _section(data: Any, options: argparse.Namespace, names: Sequence[str] = SECTION) -> Any:
    from sphisto import io

    given = _given(options, names)
    if "tissue" in given:
        from sphisto.io.masks import read_mask

        given["tissue"] = read_mask(given["tissue"])
    return io.section(data, **given)


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    _add_section_options(command)
    _add_cleaning_options(command)
    score = command.add_argument_group("evaluation")
    score.add_argument(
        "--share", type=float, metavar="NUMBER", help="share of the spots to hold out, between 0 and 1 (default: 0.2)"
    )
    score.add_argument(
        "--split", choices=("random", "blocks"),
        help="random: single spots; blocks: pieces of some 5 x 5 spots (default: random)",
    )  # fmt: skip
    score.add_argument("--genes", type=_words, metavar="A,B,...", help="genes to score (by default all)")
    _add_training_options(score)
    score.add_argument("--key-added", metavar="NAME", help="name of the evaluation (default: evaluation)")
    _add_output(
        command, "scores", "csv: the table that is printed; h5ad: the section's table, with the scores of each gene"
    )
    command.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.core.atomic import whole_file

    out = _output(options, ".csv", ".h5ad") if hasattr(options, "out") else None
    section = _kept_section(options)
    scores = tl.evaluate(section, **_given(options, EVALUATE), **_config(options))
    print_line(scores.round(3).to_string())
    if out is not None:
        with whole_file(out) as new:
            scores.to_csv(new) if out.suffix.lower() == ".csv" else section.adata.write_h5ad(new)


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a fitted model: the .pt file beside its store")
    _add_section_options(
        command, "FOLDER_OR_IMAGE", "Space Ranger folder of a section, or an image alone, with --image-um-per-px"
    )
    _add_cleaning_options(command)
    predict = command.add_argument_group("prediction")
    predict.add_argument(
        "--store", metavar="PATH", required=True,
        help="where the SpatialData zarr store is written; one that is there keeps its other projections",
    )  # fmt: skip
    _add_device(predict)
    _add_projection_options(predict)
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.io.spaceranger_folder import is_spaceranger_folder

    _require_free_projection(options)
    model = tl.load(options.model)
    section = _kept_section(options) if is_spaceranger_folder(options.folder) else _image(options)
    tl.predict(model, section, **_given(options, PREDICT))  # prints where the store is


def _image(options: argparse.Namespace) -> Any:
    """Section that is an image alone."""
    of_spots = [name for name in ("image", "image_scale", *CLEAN) if hasattr(options, name)]
    if of_spots:
        msg = (
            f"{options.folder} is taken for an image, as it is no Space Ranger folder; found --{of_spots[0].replace('_', '-')}, "
            "which is about spots. Leave it out, or give the folder."
        )
        raise ValueError(msg)
    return _section(options.folder, options, (*SECTION, "library_id"))


def _add_aggregate(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="STORE", help="a store that sphisto wrote")
    command.add_argument(
        "regions", metavar="REGIONS",
        help="outlines in full-resolution px: GeoJSON, parquet or another file that geopandas reads; circles: csv with "
        "columns x, y and radius; or the name of shapes or labels in the store",
    )  # fmt: skip
    sums = command.add_argument_group("sums")
    sums.add_argument("--radius", type=float, metavar="NUMBER", help="radius of points, in full-resolution px")
    sums.add_argument("--genes", type=_words, metavar="A,B,...", help="genes to sum (by default all)")
    sums.add_argument(
        "--target-sum", type=float, metavar="NUMBER",
        help="counts to which regions are scaled before logarithms are taken (by default those of the median spot)",
    )  # fmt: skip
    sums.add_argument("--key", metavar="NAME", help="name of the projection (default: projection)")
    sums.add_argument("--library-id", metavar="NAME", help="name of the section, where several were fitted together")
    _add_output(command, "sums", "an h5ad file of regions x genes", required=True)
    command.set_defaults(run=_aggregate)


def _aggregate(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.core.atomic import whole_file
    from sphisto.io.region_files import regions_of

    out = _output(options, ".h5ad")
    table = tl.aggregate(options.store, regions_of(options.regions), **_given(options, AGGREGATE))
    with whole_file(out) as new:
        table.write_h5ad(new)
    print_line(f"{table.n_obs} regions x {table.n_vars} genes written to {out}")


def _add_output(command: argparse.ArgumentParser, what: str, kinds: str, *, required: bool = False) -> None:
    group = command.add_argument_group("output")
    group.add_argument("--out", metavar="FILE", required=required, help=f"file for the {what}; {kinds}")
    group.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def _output(options: argparse.Namespace, *suffixes: str) -> Path:
    """Path of a file to write, refused before any work if it cannot be written."""
    from sphisto.core.atomic import require_writable
    from sphisto.io.paths import user_path

    path = user_path(options.out)
    if path.suffix.lower() not in suffixes:
        msg = f"Found --out {path}; expected a name that ends in {' or '.join(suffixes)}."
        raise ValueError(msg)
    if path.is_dir() or (path.exists() and not hasattr(options, "overwrite")):
        kind, remedy = ("folder", "") if path.is_dir() else ("file", ", or replace it by --overwrite")
        msg = f"{path} is a {kind} that exists; choose another --out{remedy}."
        raise FileExistsError(msg)
    require_writable(path)
    return path


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="STORE", help="a store that sphisto wrote")
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


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="STORE", help="a store that sphisto wrote")
    command.add_argument(
        "path", metavar="PATH",
        help="file to write, by its ending: .ome.tif (an image with its pyramid), .geojson (regions) or .json (a view config "
        "of Vitessce)",
    )  # fmt: skip
    command.add_argument(
        "--genes", type=_words, metavar="A,B,...",
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
    command.add_argument("--key", metavar="NAME", help="which projection of the store (default: projection)")
    command.add_argument("--library-id", metavar="NAME", help="which section, where several were fitted together")
    command.add_argument(
        "--overwrite", action=argparse.BooleanOptionalAction, help="replace a file that is there (default: False)"
    )
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.io.region_files import regions_of

    given = _given(options, EXPORT)
    if "regions" in given:
        given["regions"] = regions_of(given["regions"])
    tl.export(options.store, options.path, **given)
    print_line(f"wrote {options.path}")


def _add_upgrade(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="STORE", help="a store that sphisto wrote")
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


def _given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the named options that were given."""
    return {name: value for name, value in vars(options).items() if name in names}


def _words(text: str) -> list[str]:
    """Split ``A,B,C``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        msg = f"expected names separated by commas, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return words


def _shortened(values: Sequence[Any], most: int = 12) -> str:
    """Return the first values as words, and how many there are if they are more."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f", ... ({len(values)} in all)" if len(values) > most else "")


def _message(error: Exception) -> str:
    """Return the text of an error; that of a KeyError would else come in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _forget_closed_pipe() -> None:
    """Drop what a reader that has ended (``| head``) did not take: Python would report it, and fail, at its end."""
    for output in (sys.stdout, sys.stderr):
        try:
            if output is not None:
                output.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        except (OSError, ValueError):
            pass


if __name__ == "__main__":
    sys.exit(main())
