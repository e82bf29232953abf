#!/usr/bin/env python3
"""Make an environment for this checkout and run something in it.

Usage::

    python3 bootstrap.py demo    # fit a small synthetic section, write its store and pictures to demo/
    python3 bootstrap.py test    # run the tests; with --quick only some that fit no network
    python3 bootstrap.py docs    # build the documentation into docs/_build/html

Further arguments go to the command that is run (``sphisto demo``, ``pytest`` or ``sphinx-build``). ``--stack`` chooses
the versions of all libraries, each stack in an environment of its own beside this file:

    --stack pinned    those in constraints.txt, in .venv; Python 3.11, where it is the default
    --stack newest    those in constraints-newest.txt, in .venv-newest; Python 3.12 or newer, where it is the default
    --stack lowest    those in constraints-lowest.txt, the oldest that pyproject.toml allows, in .venv-lowest; Python 3.11

An environment is made once: it is made anew only when ``pyproject.toml``, its constraints, this file or the Python that
runs it changes. Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
PIP = "pip==26.3"  # dependency groups need pip 25.1 or newer, which the standard library's venv may not bring


class Stack(NamedTuple):
    """Versions of all libraries that are tested together."""

    environment: str
    constraints: str
    pythons: tuple[tuple[int, int], tuple[int, int]]  # from the first one, before the second
    tested_with: tuple[str, ...] = ()  # further dependency groups of `test`


# A file of constraints holds for the Python it was made on: anndata 0.13, numpy 2.5 and others ask for 3.12 or newer, and
# numpy 2.0 and others of its age have no wheels for 3.13.
STACKS = {
    "pinned": Stack(".venv", "constraints.txt", ((3, 11), (3, 12)), tested_with=("standards",)),
    "newest": Stack(".venv-newest", "constraints-newest.txt", ((3, 12), (4, 0)), tested_with=("interop",)),
    "lowest": Stack(".venv-lowest", "constraints-lowest.txt", ((3, 11), (3, 12))),
}

# command -> dependency groups of pyproject.toml, what is run, where (None: where the user is)
COMMANDS: dict[str, tuple[list[str], list[str], Path | None]] = {
    "demo": ([], ["sphisto", "demo"], None),
    "test": (["test"], ["pytest", "-q", "-n", "auto", "--dist", "loadfile"], ROOT),
    "docs": (["docs"], ["sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"], ROOT),
}

# what `test --quick` hands to pytest: folders whose tests draw their own arrays or a small section, and fit no network
QUICK = [
    "-m",
    "not slow",
    *(f"tests/{name}" for name in ("core", "features", "field", "genes", "get", "networks", "slide")),
]


def python_of(environment: Path) -> Path:
    """Return the Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(stack: Stack) -> str:
    """Return a hash of everything that decides what the environment of a stack holds."""
    digest = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{ROOT / stack.environment}\n".encode())
    for name in ("pyproject.toml", stack.constraints, Path(__file__).name):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp_of(environment: Path, command: str) -> Path:
    """Return the file that says that the environment is complete for a command."""
    return environment / f".ready-{command}"


def is_ready(environment: Path, command: str, wanted: str) -> bool:
    """Say whether an earlier run finished this environment for this command."""
    stamp = stamp_of(environment, command)
    return stamp.is_file() and stamp.read_text() == wanted


def prepare(stack: Stack, command: str) -> str:
    """Make the environment of a stack, or complete it, if it does not yet hold what the command needs; its Python."""
    environment, wanted = ROOT / stack.environment, fingerprint(stack)
    python = str(python_of(environment))
    if is_ready(environment, command, wanted):
        return python
    if not any(is_ready(environment, other, wanted) for other in COMMANDS):
        # half-made or out of date: versions left over from before would not be those of the stack
        print(f"Making an environment in {environment} (once; a few minutes) ...", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(environment)])
        run([python, "-m", "pip", "install", "-qq", PIP])
    names = [*COMMANDS[command][0], *(stack.tested_with if command == "test" else ())]
    groups = [word for name in names for word in ("--group", f"{ROOT / 'pyproject.toml'}:{name}")]
    constraints = str(ROOT / stack.constraints)
    run([python, "-m", "pip", "install", "-qq", "--constraint", constraints, "--editable", str(ROOT), *groups])
    stamp_of(environment, command).write_text(wanted)
    return python


def parse(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--stack``, wherever it stands, out of the arguments: the stack that it names, and the others."""
    for at, word in enumerate(arguments):
        option, equals, name = word.partition("=")
        if option == "--stack":
            n = 1 if equals else 2
            return name or "".join(arguments[at + 1 : at + n]), arguments[:at] + arguments[at + n :]
    return None, arguments


def choose(name: str | None) -> str:
    """Return the name of the stack that is asked for, or of the one for this Python; leave if it cannot have it."""
    here = sys.version_info[:2]
    default = next(stack for stack, about in STACKS.items() if about.pythons[0] <= here < about.pythons[1])
    if name is None:
        return default
    if name not in STACKS:
        sys.exit(f"bootstrap.py: there is no stack {name!r}. Say one of: {', '.join(STACKS)}.")
    first, end = STACKS[name].pythons
    if not first <= here < end:
        needed = "Python 3.11" if end == (3, 12) else "Python 3.12 or newer"
        found = ".".join(map(str, here))
        sys.exit(
            f"bootstrap.py: the stack {name!r} is for {needed}, and this is {found}. Run it with such a Python, or choose "
            f"--stack {default}."
        )
    return name


def run(words: list[str], cwd: Path | None = None) -> None:
    """Run a command and leave with its exit status if it fails."""
    status = subprocess.run(words, cwd=cwd, check=False).returncode
    if status:
        sys.exit(status)


def main(arguments: list[str]) -> None:
    """Prepare the environment for the command named first, and run it with the arguments that follow."""
    asked, arguments = parse(arguments)
    if arguments and arguments[0] in {"-h", "--help"}:
        print(__doc__)
        return
    if not arguments or arguments[0] not in COMMANDS:
        found = f"there is no command {arguments[0]!r}" if arguments else "a command is missing"
        sys.exit(f"bootstrap.py: {found}. Say one of: {', '.join(COMMANDS)}.")
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"sphisto needs Python 3.11 or newer, and this is {found}. Run bootstrap.py with a newer python3.")
    command, *rest = arguments
    stack = STACKS[choose(asked)]
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Versions of {stack.constraints}, Python {version}, in {ROOT / stack.environment}", flush=True)
    python = prepare(stack, command)
    _, module, cwd = COMMANDS[command]
    if command == "test":
        rest = [part for word in rest for part in (QUICK if word == "--quick" else [word])]
    run([python, "-m", *module, *rest], cwd=cwd)


if __name__ == "__main__":
    main(sys.argv[1:])
