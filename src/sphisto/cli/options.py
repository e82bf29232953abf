"""Options that commands share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# keyword arguments, by the function that takes them; `image` and `bbox` go to two
READ = ("image", "library_id", "bin_um", "bbox")
CLEAN = ("min_genes", "min_cells", "max_counts")
SECTION = ("image", "image_scale", "image_um_per_px", "spot_um", "spot_shape", "bbox", "tissue", "check")
FIT = (
    "store", "genes", "network", "um_per_px", "max_epochs", "scaling", "loadings", "device", "rng", "key_added", "resume",
)  # fmt: skip
EVALUATE = (
    "share", "split", "genes", "network", "um_per_px", "max_epochs", "scaling", "loadings", "device", "rng", "key_added",
)  # fmt: skip
PREDICT = ("store", "scaling", "device", "key_added", "resume")
AGGREGATE = ("square_um", "radius", "genes", "target_sum", "key", "library_id")
EXPORT = ("genes", "element", "regions", "objects", "over", "url", "key", "library_id", "overwrite")
REPORT = ("genes", "key", "library_id", "max_side", "title", "overwrite")

CONFIG = ("preset", "devices", "loadings_strength")  # which stand for settings in `config`
MESSAGES = ("verbosity", "quiet", "progress")  # of all commands: settings of the session


class Command(NamedTuple):
    """A command: its name, what it does, what adds its options and says what runs, and examples for its help."""

    name: str
    text: str
    fill: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]


def add_section_options(
    command: argparse.ArgumentParser,
    name: str = "FOLDER",
    text: str = "Space Ranger folder of a Visium section",
    *,
    several: bool = False,
) -> None:
    """Add what a section is, and what of it cannot be found out; of several sections, options are those of each."""
    if several:
        text += "; several of them are fitted together"
        command.add_argument("folders", metavar=name, nargs="+", help=text)
    else:
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
        "--bin-um", type=float, metavar="NUMBER",
        help="of Visium HD: side of the bins in um; bins that are not there are summed up of smaller ones (by default 8)",
    )  # fmt: skip
    group.add_argument(
        "--bbox", type=box, metavar="X0,Y0,X1,Y1",
        help="work at a window only, in full-resolution px: --bbox=4000,3000,9000,8000 (by default at all of the section)",
    )  # fmt: skip
    group.add_argument(
        "--tissue", metavar="PATH",
        help="mask of the tissue: an image or npy file of the whole section, 0 where there is none (by default it is "
        "found in the image)",
    )  # fmt: skip
    group.add_argument(
        "--check", action=argparse.BooleanOptionalAction,
        help="refuse spots that do not fit the image: outside it, off tissue, flipped (default: True)",
    )  # fmt: skip


def add_cleaning_options(command: argparse.ArgumentParser) -> None:
    """Add which spots and genes are kept."""
    spots = command.add_argument_group("spots and genes that are kept")
    spots.add_argument(
        "--min-genes", type=int, metavar="N",
        help="spots with fewer genes go; lower it for panels of a few hundred genes (by default 200, of Visium HD's bins 0)",
    )  # fmt: skip
    spots.add_argument("--min-cells", type=int, metavar="N", help="genes found in fewer spots go (default: 3)")
    spots.add_argument(
        "--max-counts", type=float, metavar="NUMBER",
        help="spots with more counts in all go; inf: no limit (default: 30000)",
    )  # fmt: skip


def add_training_options(group: Any) -> None:
    """Add how a network is trained."""
    group.add_argument("--network", metavar="NAME", help="unet or prototype (default: unet)")
    group.add_argument(
        "--um-per-px", type=float, metavar="NUMBER",
        help="resolution of the rasters; time and disk grow with its inverse square (by default the image's own)",
    )  # fmt: skip
    group.add_argument("--preset", choices=("default", "fast"), help="fast: a first look (default: default)")
    group.add_argument("--max-epochs", type=int, metavar="N", help="epochs in all (by default those of the preset)")
    add_device(group)
    group.add_argument("--devices", type=int, metavar="N", help="devices that train together (default: 1)")
    group.add_argument("--rng", type=int, metavar="N", help="seed of everything random (default: 0)")


def add_scaling(group: Any, default: str) -> None:
    """Add how features of several sections are standardised."""
    group.add_argument(
        "--scaling", choices=("section", "pooled"),
        help="of several sections, how features of their images are standardised: section, in each by itself (one tissue); "
        f"pooled, over all (their make-up differs) {default}",
    )  # fmt: skip


def add_loadings(group: Any) -> None:
    """Add gene programmes of the user's, and how firmly they hold."""
    group.add_argument(
        "--loadings", metavar="FILE",
        help="gene programmes in place of factors: csv or tsv, genes in the first column, a column for each programme; other "
        "genes are learned from the spots (by default factors are found in the spots)",
    )  # fmt: skip
    group.add_argument(
        "--loadings-strength", type=float, metavar="NUMBER",
        help="counts for which each given loading stands, against those of the spots (by default loadings stay as given)",
    )  # fmt: skip


def add_register(group: Any) -> None:
    """Add whether sections are laid upon each other."""
    group.add_argument(
        "--register", action="store_true",
        help="lay each of several sections, given in the order in which they were cut, upon the one before, and use what "
        "was measured there at the same places; where that cannot be trusted it is not used",
    )  # fmt: skip


def add_device(group: Any) -> None:
    """Add where to compute."""
    group.add_argument(
        "--device", metavar="NAME",
        help="auto, cpu, cuda or mps (by default that of the variable SPHISTO_DEVICE, else auto)",
    )  # fmt: skip


def add_projection_options(group: Any) -> None:
    """Add the store that is written, how its projection is called, and what may be there."""
    group.add_argument(
        "--store", metavar="PATH", required=True,
        help="where the SpatialData zarr store is written; one that is there keeps its other projections",
    )  # fmt: skip
    group.add_argument("--key-added", metavar="NAME", help="name of the projection (default: projection)")
    group.add_argument(
        "--resume", action=argparse.BooleanOptionalAction,
        help="go on where an interrupted run of the same command stopped (default: False)",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace a projection of that name in the store")


def add_store(command: argparse.ArgumentParser) -> None:
    """Add the store to be read."""
    command.add_argument("store", metavar="STORE", help="a store that sphisto wrote")


def add_stored_projection(group: Any) -> None:
    """Add which projection of a store is meant."""
    group.add_argument("--key", metavar="NAME", help="which projection of the store (default: projection)")
    group.add_argument("--library-id", metavar="NAME", help="which section, where several were fitted together")


def add_output(command: argparse.ArgumentParser, what: str, kinds: str, *, required: bool = False) -> None:
    """Add the file for results."""
    group = command.add_argument_group("output")
    group.add_argument("--out", metavar="FILE", required=required, help=f"file for the {what}; {kinds}")
    group.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def output_of(options: argparse.Namespace, *suffixes: str) -> Path:
    """Path of a file to write, refused before any work if it cannot be written."""
    from sphisto.core.atomic import require_free
    from sphisto.io.paths import user_path

    path = user_path(options.out)
    if path.suffix.lower() not in suffixes:
        msg = f"Found --out {path}; expected a name that ends in {' or '.join(suffixes)}."
        raise ValueError(msg)
    mend = "Choose another --out, or replace it by --overwrite"
    require_free(path, overwrite=hasattr(options, "overwrite"), mend=mend)
    return path


def add_messages(command: argparse.ArgumentParser) -> None:
    """Add which messages and bars are shown."""
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


def messages_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the session that were given."""
    quiet = {"verbosity": "warning", "progress": False} if hasattr(options, "quiet") else {}
    return quiet | given(options, ("verbosity", "progress"))


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that a preset and a number of devices stand for, if any is given."""
    config: Any = getattr(options, "preset", "default")
    if hasattr(options, "devices"):
        from sphisto.train.settings import with_devices

        config = with_devices(config, options.devices)
    if hasattr(options, "loadings_strength"):
        from sphisto.train.settings import with_strength

        config = with_strength(config, options.loadings_strength)
    return {"config": config} if any(hasattr(options, name) for name in CONFIG) else {}


def given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the named options that were given."""
    return {name: value for name, value in vars(options).items() if name in names}


def box(text: str) -> tuple[float, ...]:
    """Split ``x_min,y_min,x_max,y_max``."""
    try:
        numbers = tuple(float(each) for each in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        msg = (
            f"expected four numbers separated by commas, x_min,y_min,x_max,y_max in full-resolution px, found {text!r}"
        )
        raise argparse.ArgumentTypeError(msg)
    return numbers


def words(text: str) -> list[str]:
    """Split ``A,B,C``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        msg = f"expected names separated by commas, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return words
