"""Run tutorials again, in place: each notebook keeps the pictures and numbers of this run.

    python tutorials/run.py                 # all of them
    python tutorials/run.py mouse_brain     # some, by name

Real sections are looked for in the folder that the environment variable SPHISTO_DATA names; a tutorial says which it needs.
What tutorials write (stores, exported files) goes to a temporary folder. Of paths in their outputs only what lies below these
two folders is kept, so that a notebook does not tell of the machine it ran on.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbclient
import nbformat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
# bars would be kept as hundreds of lines, and tqdm warns where there is no widget for them
QUIET = {"SPHISTO_PROGRESS": "false", "PYTHONWARNINGS": "ignore:IProgress not found"}
PICTURES = "--InlineBackend.figure_formats=jpeg", "--InlineBackend.print_figure_kwargs={'pil_kwargs': {'quality': 88}}"


def execute(notebook: NotebookNode, folder: Path, *, instead: Mapping[str, Any] | None = None) -> None:
    """Run all cells of a notebook in a folder, and keep their outputs.

    ``instead`` holds other values for names that the cell with the tag ``parameters`` sets, for a shorter run.
    """
    if instead:
        (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in instead.items())
    nbclient.NotebookClient(
        notebook,
        timeout=3600,
        extra_arguments=list(PICTURES),
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute(env={**os.environ, **QUIET})


def forget(notebook: NotebookNode, *folders: Path) -> None:
    """Make paths below these folders relative, in all text that a notebook's cells put out."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts = [(output, "text"), *((output.get("data", {}), kind) for kind in ("text/plain", "text/html"))]
            for holder, name in texts:
                for folder in folders:
                    if name in holder:
                        holder[name] = holder[name].replace(f"{folder}/", "")


def main() -> None:
    """Run the tutorials that are named, or all."""
    parser = argparse.ArgumentParser(description="Run tutorials again, in place.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="tutorial to run, without .ipynb; default: all")
    names = parser.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
            forget(notebook, Path(folder).resolve(), Path(os.environ.get("SPHISTO_DATA", folder)).resolve())
        notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
        nbformat.write(notebook, path)
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
