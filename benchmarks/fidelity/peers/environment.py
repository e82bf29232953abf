"""Make an environment of its own for each peer, from the package registry that pip is set up with.

    python environment.py --folder CACHE              # all peers, one after the other: minutes
    python environment.py --folder CACHE --only tesla
    python environment.py --folder CACHE --check      # install nothing, only say what is there

CACHE may also be given as the environment variable SPHISTO_PEERS. Each peer gets CACHE/NAME, a virtual environment with
the versions of NAME.txt beside this file. What came of it is in CACHE/environments.json: for each peer ``python`` (the
command to run it with), ``version`` and ``pins``, or ``error``, the words with which pip or the import ended. An error is
a result: it stands in the benchmark's table, and the exit status is 0. Needs the standard library only, and CPython 3.11.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"  # by itself and first: a plain "torch" of either peer would be the newest
PYTHON = "python3.11"  # the versions are those of this Python


@dataclass(frozen=True)
class Peer:
    """Package and module of a peer."""

    package: str
    module: str


PEERS = {"tesla": Peer("TESLAforST", "TESLA"), "spahdmap": Peer("spahdmap", "SpaHDmap")}
ABSENT = {
    "istar": "iStar is no package: no distribution of it is in the registry, and its HIPT weights lie elsewhere",
    "xfuse": "XFuse is no package: no distribution of it is in the registry; its own lock file is for Python 3.8",
}
"""Peers that were looked for and cannot be installed from the registry."""


class Failed(Exception):
    """A command ended badly; the message is the end of what it said."""


def main() -> None:
    """Install what is asked for and keep what came of it."""
    options = parser().parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "environments.json"
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    found |= {name: {"error": error} for name, error in ABSENT.items()}
    for name in options.only or PEERS:
        found[name] = state(name, folder, install=not options.check)
        report.write_text(json.dumps(found, indent=2) + "\n")
        print(name, found[name].get("error") or f"{found[name]['version']}: {found[name]['python']}", flush=True)


def parser() -> argparse.ArgumentParser:
    """Arguments of the command line."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--folder", type=Path, default=default_folder(), help="where the environments are")
    out.add_argument("--only", nargs="+", choices=PEERS, help="these peers (all, if left out)")
    out.add_argument("--check", action="store_true", help="install nothing")
    return out


def default_folder() -> Path:
    """Where the environments are if nobody says."""
    return Path(os.environ.get("SPHISTO_PEERS") or Path.home() / ".cache" / "sphisto-peers")


def python_of(name: str, folder: Path | None = None) -> Path:
    """Python of a peer's environment; what kept it from being made, if it is not there."""
    folder = folder or default_folder()
    report = folder / "environments.json"
    found = json.loads(report.read_text()).get(name, {}) if report.exists() else {}
    if "python" in found:
        return Path(found["python"])
    msg = found.get("error") or f"no environment in {folder}: run {Path(__file__).name} --folder {folder}"
    raise FileNotFoundError(msg)


def state(name: str, folder: Path, *, install: bool = True) -> dict[str, Any]:
    """Make an environment, unless it is there with the versions asked for, and say what is in it or what went wrong."""
    environment, pins = folder / name, digest(name)
    python, stamp = environment / "bin" / "python", environment / ".pins"
    try:
        if install and not (stamp.exists() and stamp.read_text() == pins):
            make(environment, python, HERE / f"{name}.txt")
            stamp.write_text(pins)
        peer = PEERS[name]
        code = f"import {peer.module}; from importlib.metadata import version; print(version({peer.package!r}))"
        version = run([str(python), "-W", "ignore", "-c", code]).split()[-1]
    except (Failed, OSError) as error:
        return {"error": str(error), "pins": pins}
    return {"python": str(python), "version": version, "pins": pins}


def make(environment: Path, python: Path, pins: Path) -> None:
    """Install torch with what it needs, and then exactly the versions listed."""
    if not shutil.which(PYTHON):
        msg = f"there is no {PYTHON}, which the versions in {pins.name} are for; this is {sys.version.split()[0]}"
        raise Failed(msg)
    run([PYTHON, "-m", "venv", "--clear", str(environment)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, TORCH])
    run([*pip, "--no-deps", "--requirement", str(pins)])


def run(words: list[str]) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise Failed("\n".join(said[-12:]) or f"{words[0]} ended with {done.returncode} and no message")
    return done.stdout


def digest(name: str) -> str:
    """Hash of the versions asked for, and of the Python."""
    asked = (HERE / f"{name}.txt").read_text() + TORCH + PYTHON
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
