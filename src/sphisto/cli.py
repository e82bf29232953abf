"""Command line: ``sphisto check``, ``sphisto fit``, ``sphisto info``, ``sphisto export`` and others.

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
from sphisto._terminal import print_line

if TYPE_CHECKING:
    from collections.abc import Sequence


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
EXPORT = ("genes", "element", "regions", "objects", "over", "url", "key", "library_id", "overwrite")

CONFIG = ("preset", "devices")  # which stand for settings in `config`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        return _run(_parser().parse_args(argv))
    finally:
        _forget_closed_pipe()


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("sphisto").setLevel(logging.INFO)
    try:
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
        ("info", "print what a store holds, from its metadata", _add_info),
        ("export", "write genes, images or regions of a store to a file of QuPath, Fiji or Vitessce", _add_export),
        ("upgrade", "convert a store of an earlier format to the one that this version writes", _add_upgrade),
    ):
        # an option that is not given leaves no trace, so that the function's own default holds
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", argument_default=argparse.SUPPRESS
        )
        fill(command)
    return parser


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
    fit.add_argument("--network", metavar="NAME", help="unet or prototype (default: unet)")
    fit.add_argument(
        "--um-per-px", type=float, metavar="NUMBER",
        help="resolution of the rasters; time and disk grow with its inverse square (by default the image's own)",
    )  # fmt: skip
    fit.add_argument("--preset", choices=("default", "fast"), help="fast: a first look (default: default)")
    fit.add_argument("--max-epochs", type=int, metavar="N", help="epochs in all (by default those of the preset)")
    fit.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps (default: auto)")
    fit.add_argument("--devices", type=int, metavar="N", help="devices that train together (default: 1)")
    fit.add_argument("--rng", type=int, metavar="N", help="seed of everything random (default: 0)")
    fit.add_argument("--key-added", metavar="NAME", help="name of the projection (default: projection)")
    fit.add_argument(
        "--resume", action=argparse.BooleanOptionalAction,
        help="go on where an interrupted run of the same command stopped (default: False)",
    )  # fmt: skip
    command.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> None:
    from sphisto import pp, tl

    adata = _read(options)
    pp.qc(adata, **_given(options, CLEAN))
    print_line(f"kept {adata.n_obs} spots x {adata.n_vars} genes", error=True)
    given = _given(options, FIT) | _config(options)
    tl.fit_projection(_section(adata, options), **given)  # prints where the store is


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that a preset and a number of devices stand for, if any is given."""
    preset: Any = getattr(options, "preset", "default")
    if hasattr(options, "devices"):
        from sphisto.train.settings import with_devices

        return {"config": with_devices(preset, options.devices)}
    return {"config": preset} if hasattr(options, "preset") else {}


def _add_section_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", metavar="FOLDER", help="Space Ranger folder of a Visium section")
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
    print_line(f"read {adata.n_obs} spots x {adata.n_vars} genes from {options.folder}", error=True)
    return adata


def _section(adata: Any, options: argparse.Namespace) -> Any:
    from sphisto import io

    given = _given(options, SECTION)
    if "tissue" in given:
        from sphisto.io.masks import read_mask

        given["tissue"] = read_mask(given["tissue"])
    return io.section(adata, **given)


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
        "--regions", metavar="NAME", help=".geojson: shapes or labels of the store, such as projection_tissue"
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

    tl.export(options.store, options.path, **_given(options, EXPORT))
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
