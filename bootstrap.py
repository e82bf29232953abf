#!/usr/bin/env python3
"""Make an environment for this checkout and run something in it.

Usage::

    python3 bootstrap.py demo    # fit a small synthetic section, write its store and pictures to demo/
    python3 bootstrap.py test    # run the tests
    python3 bootstrap.py docs    # build the documentation into docs/_build/html

Further arguments go to the command that is run (``sphisto demo``, ``pytest`` or ``sphinx-build``). The environment is
``.venv`` beside this file. It holds the versions in ``constraints.txt`` and is made once: it is made anew only when
``pyproject.toml``, ``constraints.txt``, this file or the Python that runs it changes. Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
PIP = "pip==26.3"  # dependency groups need pip 25.1 or newer, which the standard library's venv may not bring

# command -> dependency groups of pyproject.toml, what is run, where (None: where the user is)
COMMANDS: dict[str, tuple[list[str], list[str], Path | None]] = {
    "demo": ([], ["sphisto.cli", "demo"], None),
    "test": (["test"], ["pytest", "-q", "-n", "auto", "--dist", "loadfile"], ROOT),
    "docs": (["docs"], ["sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"], ROOT),
}


def python_of(environment: Path) -> Path:
    """Return the Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint() -> str:
    """Return a hash of everything that decides what the environment holds."""
    digest = hashlib.sha256(f"{sys.version}\n{sys.base_prefix}\n{ENVIRONMENT}\n".encode())
    for name in ("pyproject.toml", "constraints.txt", Path(__file__).name):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp_of(environment: Path, command: str) -> Path:
    """Return the file that says that the environment is complete for a command."""
    return environment / f".ready-{command}"


def is_ready(environment: Path, command: str, wanted: str) -> bool:
    """Say whether an earlier run finished this environment for this command."""
    stamp = stamp_of(environment, command)
    return stamp.is_file() and stamp.read_text() == wanted


def prepare(environment: Path, command: str) -> None:
    """Make the environment, or complete it, if it does not yet hold what the command needs."""
    wanted = fingerprint()
    if is_ready(environment, command, wanted):
        return
    python = str(python_of(environment))
    if not any(is_ready(environment, other, wanted) for other in COMMANDS):
        # half-made or out of date: versions left over from before would not be those in constraints.txt
        print(f"Making an environment in {environment} (once; a few minutes) ...", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(environment)])
        run([python, "-m", "pip", "install", "-qq", PIP])
    groups = [word for group in COMMANDS[command][0] for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]
    constraints = str(ROOT / "constraints.txt")
    run([python, "-m", "pip", "install", "-qq", "--constraint", constraints, "--editable", str(ROOT), *groups])
    stamp_of(environment, command).write_text(wanted)


def run(words: list[str], cwd: Path | None = None) -> None:
    """Run a command and leave with its exit status if it fails."""
    status = subprocess.run(words, cwd=cwd, check=False).returncode
    if status:
        sys.exit(status)


def main(arguments: list[str]) -> None:
    """Prepare the environment for the command named first, and run it with the arguments that follow."""
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
    prepare(ENVIRONMENT, command)
    _, module, cwd = COMMANDS[command]
    run([str(python_of(ENVIRONMENT)), "-m", *module, *rest], cwd=cwd)


if __name__ == "__main__":
    main(sys.argv[1:])
