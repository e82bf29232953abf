"""Command line: ``sphisto fit`` and the other commands.

Every option is the keyword argument of a function, under its name; one that is not given is not passed on, so that the
function's own default holds. Help and version load no library: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum

from sphisto import __version__
from sphisto._settings import settings
from sphisto._terminal import print_line
from sphisto.cli import of_sections, of_stores
from sphisto.cli.options import add_messages, messages_of

COMMANDS = (*of_sections.COMMANDS, *of_stores.COMMANDS)


class Exit(IntEnum):
    """Exit status of the command, as shells expect it."""

    DONE = 0
    WRONG_INPUT = 2
    STOPPED = 130  # as after an interrupt (128 + SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        return _run(parser().parse_args(argv))
    finally:
        _forget_closed_pipe()


def _run(options: argparse.Namespace) -> int:
    try:
        with settings.override(**messages_of(options)):
            options.run(options)
    except KeyboardInterrupt:
        print_line("sphisto: stopped.", error=True)
        return Exit.STOPPED
    except (ValueError, OSError, LookupError, ImportError, FloatingPointError, MemoryError, RuntimeError) as error:
        message = f"sphisto {options.command}: {_message(error)}"
        print_line("".join(traceback.format_exception(error)) if options.traceback else message, error=True)
        return Exit.WRONG_INPUT
    return Exit.DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what their options do is in what it parses, as ``run``."""
    made = argparse.ArgumentParser(prog="sphisto", description="Gene expression at every pixel of a section.")
    made.add_argument("--version", action="version", version=f"sphisto {__version__}")
    made.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, fill, examples in COMMANDS:
        # an option that is not given leaves no trace, so that the function's own default holds
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", argument_default=argparse.SUPPRESS,
            epilog="\n  ".join(("examples:", *examples)), formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        fill(command)
        add_messages(command)
    return made


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
