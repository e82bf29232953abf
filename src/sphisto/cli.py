"""Command line: ``sphisto demo``, ``sphisto fit`` and ``sphisto info``.

The options of a command are the keyword arguments of the functions behind it, with their names, defaults and help
texts, so that there is one place where each is described. Only the command that is run is loaded.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import logging
import re
import sys
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphisto import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WRONG_INPUT = 2
STOPPED = 130
_NOT_FOR_A_SHELL = frozenset({"copy", "layer"})  # they speak of an AnnData in memory, and here nobody holds one
_GENES_SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser(words).parse_args(words)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("sphisto").setLevel(logging.INFO)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("sphisto: stopped.", file=sys.stderr)
        return STOPPED
    except (ValueError, OSError, LookupError, ImportError, FloatingPointError, MemoryError, RuntimeError) as error:
        if options.traceback:
            traceback.print_exc()
        else:
            print(f"sphisto {options.command}: {_message(error)}", file=sys.stderr)
        return WRONG_INPUT
    return 0


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sphisto", description="Gene expression at every pixel of a section.")
    parser.add_argument("--version", action="version", version=f"sphisto {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, fill) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in words:  # to list a function's options its module is imported: only that of the command asked for
            fill(command)
    return parser


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("demo"), help="folder for store and pictures (default: demo)")
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from sphisto import _demo

    for path in _demo.run(options.out):
        print(path, flush=True)


def _add_fit(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="Space Ranger folder of a Visium section")
    command.add_argument("--store", type=Path, required=True, help="where the SpatialData zarr store is written")
    for function in _fit_functions():
        group = command.add_argument_group(f"options of {_address(function)}")
        for name, reader in _readers(function, taken={"store", *_earlier(function)}).items():
            _add_option(group, function, name, reader)
    command.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> None:
    read, clean, fit = _fit_functions()
    given = vars(options)
    adata = read(options.folder, **_given(read, given))
    print(f"read {adata.n_obs} spots x {adata.n_vars} genes from {options.folder}", file=sys.stderr)
    clean(adata, **_given(clean, given))
    print(f"kept {adata.n_obs} spots x {adata.n_vars} genes", file=sys.stderr)
    fit(adata, **_given(fit, given))  # says itself where the store is


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", type=Path, metavar="STORE", help="a store that sphisto wrote")
    command.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    from sphisto.io.summary import summarise

    summary = summarise(options.store)
    for library in summary.libraries:
        table = "no table" if library.n_spots is None else f"{library.n_spots} spots x {library.n_genes} genes"
        print(f"{options.store}: library {library.library_id}, {table}, written by sphisto {summary.version}")
    print("\nrasters")
    for raster in summary.rasters:
        sizes = ", ".join(f"{h} x {w}" for h, w in raster.levels)
        print(f"  {raster.name}: {sizes} px (y, x), {raster.um_per_px[0]:.4g} um per px")
        if raster.channels:
            print(f"    channels {_shortened(raster.channels)}")
    for key, about in summary.projections.items():
        print(f"\nprojection {key}" + (f", in {about['unit']}" if "unit" in about else ""))
        for name, value in sorted(about.get("params", {}).items()):
            print(f"  {name}: {_shortened(value) if isinstance(value, list) else value}")


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("fit a small section drawn by rule, and write its store and pictures", _add_demo),
    "fit": ("read a Space Ranger folder, fit a projection and write its store", _add_fit),
    "info": ("say what a store holds, from its metadata", _add_info),
}


def _fit_functions() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    from sphisto import io, pp, tl

    return io.read_visium, pp.qc, tl.fit_projection


def _earlier(function: Callable[..., Any]) -> set[str]:
    """Names that a function run before takes too: one option serves both."""
    functions = list(_fit_functions())
    return {name for before in functions[: functions.index(function)] for name in _readers(before)}


def _address(function: Callable[..., Any]) -> str:
    return f"{'.'.join(function.__module__.split('.')[:2])}.{function.__name__}"


def _readers(function: Callable[..., Any], taken: Iterable[str] = ()) -> dict[str, Callable[[str], Any]]:
    """Return the keyword arguments that a word on a command line can express, each with what reads it."""
    skipped = _NOT_FOR_A_SHELL | set(taken)
    parameters = inspect.signature(function).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in skipped]
    found = {p.name: _reader(_spelled_out(function, str(p.annotation))) for p in keywords}
    return {name: reader for name, reader in found.items() if reader is not None}


def _given(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a function that were given: for all others its own defaults hold."""
    return {name: values[name] for name in _readers(function) if name in values}


def _add_option(
    group: argparse._ArgumentGroup, function: Callable[..., Any], name: str, reader: Callable[[str], Any]
) -> None:
    parameter = inspect.signature(function).parameters[name]
    text = _described(function).get(name, "").replace("%", "%%")
    if parameter.default is not None and parameter.default is not inspect.Parameter.empty:
        text += f" (default: {parameter.default})"
    words: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text.strip() or None}
    flag = f"--{name.replace('_', '-')}"
    if reader is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **words)
    else:
        group.add_argument(flag, type=reader, metavar=_METAVARS.get(reader, "TEXT"), **words)


def _spelled_out(function: Callable[..., Any], annotation: str) -> str:
    """Return the types that a name of the function's module, such as ``RNG``, stands for."""
    meaning = vars(sys.modules[function.__module__]).get(annotation)
    return str(meaning) if isinstance(meaning, types.UnionType) else annotation


def _reader(annotation: str) -> Callable[[str], Any] | None:
    """Return what turns a word into a value of an annotation; ``None`` if nothing does.

    Annotations are strings here (``from __future__ import annotations``), and are not evaluated: that would import
    the heavy libraries whose types they name.
    """
    parts = re.sub(r"\[[^][]*\]", lambda inner: inner.group().replace("|", "/"), annotation).split("|")
    kinds = {part.strip() for part in parts}
    for reader, accepted in _READERS:
        if any(re.fullmatch(accepted, kind) for kind in kinds):
            return reader
    return None


def _words(text: str) -> list[str]:
    """Split ``A,B,C``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        msg = f"expected names separated by commas, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return words


# The first that fits is taken: a parameter of type "str | int" is read as text, "Sequence[str] | str" as a list.
_READERS: tuple[tuple[Callable[[str], Any], str], ...] = (
    (bool, r"bool"),
    (_words, r"(Sequence|Iterable|Collection|list|tuple)\[str.*\]"),
    (str, r"str|Literal\[.*\]"),
    (Path, r"(\w+\.)?(Path|PathLike.*)"),
    (float, r"float"),
    (int, r"int"),
)
_METAVARS: dict[Any, str] = {_words: "A,B,...", float: "NUMBER", int: "N", Path: "PATH"}


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each parameter in a numpy docstring, on one line."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in _section(inspect.getdoc(function) or "", "Parameters"):
        if line and not line[0].isspace():
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            found.update({name: [] for name in names})
        else:
            for name in names:
                found[name].append(line.strip())
    plain = {name: " ".join(part for part in lines if part).replace("``", "") for name, lines in found.items()}
    return {name: re.sub(r":\w+:`~?([^`]*)`", r"\1", text) for name, text in plain.items()}


def _section(text: str, title: str) -> list[str]:
    """Return the lines of one section of a numpy docstring."""
    lines = text.splitlines()
    starts = [i for i, below in enumerate(lines[1:]) if re.fullmatch("-{3,}", below)]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        if lines[start].strip() == title:
            return lines[start + 2 : end]
    return []


def _shortened(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_GENES_SHOWN])
    return shown + (f", ... ({len(values)} in all)" if len(values) > _GENES_SHOWN else "")


def _message(error: Exception) -> str:
    """Return the text of an error; that of a KeyError would else come in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


if __name__ == "__main__":
    sys.exit(main())
