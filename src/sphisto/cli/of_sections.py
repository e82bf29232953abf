"""Commands that take a section: ``demo``, ``check``, ``fit``, ``evaluate``, ``predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sphisto._settings import logger
from sphisto._terminal import print_line
from sphisto.cli.options import (
    CLEAN,
    EVALUATE,
    FIT,
    PREDICT,
    READ,
    SECTION,
    Command,
    add_cleaning_options,
    add_device,
    add_loadings,
    add_output,
    add_projection_options,
    add_register,
    add_scaling,
    add_section_options,
    add_training_options,
    config_of,
    given,
    output_of,
    words,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from anndata import AnnData


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", metavar="PATH", default="demo", help="folder for store, figures and report (default: demo)"
    )
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from sphisto import _demo
    from sphisto.io.paths import user_path

    for line in _demo.run(user_path(options.out)):
        print_line(str(line))


def _add_check(command: argparse.ArgumentParser) -> None:
    add_section_options(command)
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> None:
    from sphisto import pp

    section = _section(_read(options), options)
    print_line(repr(section))
    if getattr(options, "check", True):
        print_line(f"  placed  {_placed(pp.check_alignment(section))}")


def _placed(found: Any) -> str:
    """Say where the spots lie on their image, and what its outline cannot tell."""
    inside, on_tissue = (round(share * found.n_spots) for share in (found.inside, found.on_tissue))
    words = (
        f"{inside} of {found.n_spots} spots on the image, {on_tissue} on tissue; overlap with it {found.fit:.2f} of 1"
    )
    unseen = [name for name in (found.best, *found.ties) if name != "as given"]
    return f"{words}. Its outline would fit as well {', or '.join(unseen)}" if unseen else words


def _add_fit(command: argparse.ArgumentParser) -> None:
    add_section_options(command, several=True)
    add_cleaning_options(command)
    fit = command.add_argument_group("projection")
    fit.add_argument(
        "--genes", type=words, metavar="A,B,...",
        help="genes to write as rasters of their own; by default the 16 most variable ones, and any other is made from "
        "the factor maps when it is read",
    )  # fmt: skip
    add_training_options(fit)
    add_scaling(fit, "(default: section)")
    add_loadings(fit)
    add_register(fit)
    add_projection_options(fit)
    command.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> None:
    from sphisto import tl

    _require_free_projection(options)
    sections = _kept_sections(options)
    # prints where the store is
    tl.fit_projection(sections, **given(options, FIT) | _loadings(options, sections), **config_of(options))


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    add_section_options(command, several=True)
    add_cleaning_options(command)
    score = command.add_argument_group("evaluation")
    score.add_argument(
        "--share", type=float, metavar="NUMBER", help="share of the spots to hold out, between 0 and 1 (default: 0.2)"
    )
    score.add_argument(
        "--split", choices=("random", "blocks", "section"),
        help="random: single spots; blocks: pieces of some 5 x 5 spots; section: of several sections each as a whole (default: "
        "random)",
    )  # fmt: skip
    score.add_argument("--genes", type=words, metavar="A,B,...", help="genes to score (by default all)")
    add_training_options(score)
    add_scaling(score, "(default: section)")
    add_loadings(score)
    add_register(score)
    score.add_argument("--key-added", metavar="NAME", help="name of the evaluation (default: evaluation)")
    add_output(
        command, "scores", "csv: the table that is printed; h5ad: the section's table, with the scores of each gene"
    )
    command.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.core.atomic import whole_file

    out = output_of(options, ".csv", ".h5ad") if hasattr(options, "out") else None
    if len(options.folders) > 1 and out is not None and out.suffix.lower() != ".csv":
        msg = f"Found --out {out} and several sections, each of which has a table; expected a name that ends in .csv."
        raise ValueError(msg)
    sections = _kept_sections(options)
    scores = tl.evaluate(sections, **given(options, EVALUATE) | _loadings(options, sections), **config_of(options))
    print_line(scores.round(3).to_string())
    if out is not None:
        with whole_file(out) as new:
            scores.to_csv(new) if out.suffix.lower() == ".csv" else sections.adata.write_h5ad(new)


def _add_predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a fitted model: the .pt file beside its store")
    add_section_options(
        command, "FOLDER_OR_IMAGE", "Space Ranger folder of a section, or an image alone, with --image-um-per-px"
    )
    add_cleaning_options(command)
    predict = command.add_argument_group("prediction")
    add_device(predict)
    add_scaling(predict, "(by default as in the fit; to be given for an image without spots)")
    add_projection_options(predict)
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from sphisto import tl
    from sphisto.io.spaceranger_folder import is_spaceranger_folder

    _require_free_projection(options)
    model = tl.load(options.model)
    section = _kept_section(options) if is_spaceranger_folder(options.folder) else _image(options)
    tl.predict(model, section, **given(options, PREDICT))  # prints where the store is


def _kept_sections(options: argparse.Namespace) -> Any:
    """Section in the one folder, or a list of those in several."""
    import argparse

    own = [name for name in ("image", "image_scale", "library_id", "bbox", "tissue") if hasattr(options, name)]
    if len(options.folders) > 1 and own:
        msg = (
            f"Found --{own[0].replace('_', '-')} and {len(options.folders)} sections, to which it cannot belong all; expected "
            "it for one section. In Python, give it to `sphisto.io.section` of each."
        )
        raise ValueError(msg)
    of_each = [argparse.Namespace(**{**vars(options), "folder": folder}) for folder in options.folders]
    tables = [_kept_table(own) for own in of_each]
    if len(tables) > 1:
        _name_apart(tables, options.folders)
    every = [_section(table, own) for table, own in zip(tables, of_each, strict=True)]
    if hasattr(options, "register"):
        every = _registered(every)
    return every[0] if len(every) == 1 else every


def _loadings(options: argparse.Namespace, sections: Any) -> dict[str, Any]:
    """Loadings in a file, of the genes that all sections have: nobody holds their tables to choose them."""
    if not hasattr(options, "loadings"):
        if hasattr(options, "loadings_strength"):
            msg = "Found --loadings-strength without --loadings; expected the table whose strength it is."
            raise ValueError(msg)
        return {}
    from sphisto.io.loadings import read_loadings

    every = read_loadings(options.loadings)
    genes = [section.measured.genes for section in (sections if isinstance(sections, list) else [sections])]
    there = every[every.index.isin(set(genes[0]).intersection(*genes[1:]))]
    if there.empty:
        return {"loadings": every}  # is refused, with what its names look like
    if len(there) < len(every):
        logger.info(
            "%d of %d genes of %s are used: the others are not in every section, or were taken out as rare.",
            len(there), len(every), options.loadings,
        )  # fmt: skip
    return {"loadings": there}


def _registered(sections: list[Any]) -> list[Any]:
    """Lay each section upon the one before it, where that can be trusted."""
    from sphisto import pp

    if len(sections) == 1:
        msg = "Found --register and one section; expected several, in the order in which they were cut. Leave it out."
        raise ValueError(msg)
    out = sections[:1]
    for section in sections[1:]:
        out.append(section.registered(pp.register(section, out[-1])))
    return out


def _name_apart(tables: Sequence[AnnData], folders: Sequence[str]) -> None:
    """Call sections of one name by their folders, and say so: nobody can rename them from a shell."""
    from sphisto.io.spaceranger_folder import names_apart

    names = [str(next(iter(table.uns["spatial"]))) for table in tables]
    for table, name, other, folder in zip(tables, names, names_apart(names, folders), folders, strict=True):
        if other != name:
            table.uns["spatial"] = {other: table.uns["spatial"][name]}
            logger.info("The section in %s is called %r: several of the sections are called %r.", folder, other, name)


def _kept_section(options: argparse.Namespace) -> Any:
    """Section in a folder, without poor spots and genes."""
    return _section(_kept_table(options), options)


def _kept_table(options: argparse.Namespace) -> AnnData:
    """Table of the section in a folder, without poor spots and genes."""
    from sphisto import pp

    adata = _read(options)
    pp.qc(adata, **given(options, CLEAN))
    logger.info("kept %d spots x %d genes", adata.n_obs, adata.n_vars)
    return adata


def _read(options: argparse.Namespace) -> AnnData:
    from sphisto import io

    adata = io.read_visium(options.folder, **given(options, READ))
    logger.info("read %d spots x %d genes from %s", adata.n_obs, adata.n_vars, options.folder)
    return adata


def _section(data: Any, options: argparse.Namespace, names: Sequence[str] = SECTION) -> Any:
    from sphisto import io

    about = given(options, names)
    if "tissue" in about:
        from sphisto.io.masks import read_mask

        about["tissue"] = read_mask(about["tissue"])
    return io.section(data, **about)


def _image(options: argparse.Namespace) -> Any:
    """Section that is an image alone."""
    of_spots = [name for name in ("image", "image_scale", "bin_um", "bbox", *CLEAN) if hasattr(options, name)]
    if of_spots:
        msg = (
            f"{options.folder} is taken for an image, as it is no Space Ranger folder; found --{of_spots[0].replace('_', '-')}, "
            "which is about spots. Leave it out, or give the folder."
        )
        raise ValueError(msg)
    return _section(options.folder, options, (*SECTION, "library_id"))


def _require_free_projection(options: argparse.Namespace) -> None:
    """Refuse to replace a projection of a store unless that was asked for: it took hours."""
    from sphisto.io.paths import beside, store_path
    from sphisto.io.store.read import read_mark
    from sphisto.io.store.unfinished import read_unfinished

    path, key = store_path(options.store), getattr(options, "key_added", "projection")
    there = read_mark(path) if path.is_dir() else None
    taken = there and any(key in (name, entry.get("joint")) for name, entry in there["keys"].items())
    if taken and not (hasattr(options, "overwrite") or getattr(options, "resume", False)):
        left = read_unfinished(beside(path, key, "sections"))
        end = "" if left is None else f", of {left}; bring it to its end by the same command with --resume"
        msg = (
            f"{path} holds a projection {key!r} already{end}; choose another --key-added, or replace it by --overwrite."
        )
        raise FileExistsError(msg)


COMMANDS = (
    Command(
        "demo",
        "fit a small section drawn by rule, and write its store, figures and a report",
        _add_demo,
        ("sphisto demo", "sphisto demo --out first_look"),
    ),
    Command(
        "check",
        "print how a Space Ranger folder is understood, and whether spots and image fit; nothing is written",
        _add_check,
        (
            "sphisto check my_section",
            "sphisto check my_section --image my_section/full_resolution.tif --tissue mask.png",
        ),
    ),
    Command(
        "fit",
        "read a Space Ranger folder, or several, fit a projection and write its store",
        _add_fit,
        (
            "sphisto fit my_section --store my_section.zarr --preset fast",
            "sphisto fit my_section --image my_section/full_resolution.tif --store my_section.zarr --genes Prox1,Mbp --um-per-px 2",
            "sphisto fit my_section --store my_section.zarr --resume",
            "sphisto fit section_1 section_2 section_3 --register --store sections.zarr",
            "sphisto fit my_section --store my_section.zarr --loadings cell_types.csv --loadings-strength 10",
        ),
    ),
    Command(
        "evaluate",
        "hold spots out, and print how well they are predicted, beside simpler methods",
        _add_evaluate,
        (
            "sphisto evaluate my_section",
            "sphisto evaluate my_section --split blocks --out scores.csv",
            "sphisto evaluate my_section --share 0.3 --genes Prox1,Mbp --out scores.h5ad",
            "sphisto evaluate section_1 section_2 section_3 --split section --register",
        ),
    ),
    Command(
        "predict",
        "write the rasters of another section, or of an image alone, by a fitted model",
        _add_predict,
        (
            "sphisto predict my_section.projection.pt next_section --store next_section.zarr",
            "sphisto predict sections.projection.pt slide.tif --image-um-per-px 0.5 --scaling section --store slide.zarr",
        ),
    ),
)
