"""Compute what is missing or outdated of the fidelity table, then print it. Run from the repository's root:

    python -m benchmarks.fidelity --data FOLDER                 # everything: hours
    python -m benchmarks.fidelity --only toy,cokriging,0        # of each kind of name those given
    python -m benchmarks.fidelity --ablations                   # sphisto with one thing changed, and controls; one seed
    python -m benchmarks.fidelity --table                       # only print what is there, and check the targets
    python -m benchmarks.fidelity --docs                        # also write tables and figures of the documentation

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each data set; those that are missing are left
out. Results are kept as JSON in benchmarks/fidelity/results, one file for each cell.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.fidelity.cells import RESULTS, Cell, compute, compute_apart, is_fresh
from benchmarks.fidelity.methods import ABLATED, ABLATIONS, CONTROLS, EVERY, METHODS
from benchmarks.fidelity.peers.environment import python_of
from benchmarks.fidelity.sets import SETS, SPLITS, missing


def main() -> None:
    options = parser().parse_args()
    data = options.data
    if options.cell:
        name, split, method, seed = options.cell
        compute(Cell(name, split, method, int(seed)), data, options.epochs, options.results)
        return
    if not (options.table or options.docs):
        cells = ablations(options.only) if options.ablations else chosen(options.only, options.seeds)
        run(cells, data, options.epochs, options.results)
    from benchmarks.fidelity import table

    print(table.report(options.results))
    if options.docs:
        from benchmarks.fidelity import page

        page.write(options.results)


def parser() -> argparse.ArgumentParser:
    found = os.environ.get("SPHISTO_DATA")
    out = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of data sets")
    out.add_argument("--only", default="", help="names of sets, splits, methods and seeds, with commas between")
    out.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    out.add_argument(
        "--ablations", action="store_true", help="sphisto with one thing changed, and controls, instead of methods"
    )
    out.add_argument("--table", action="store_true", help="compute nothing")
    out.add_argument("--docs", action="store_true", help="compute nothing; write the documentation's part")
    out.add_argument("--epochs", type=int, default=None, help="epochs of networks, to try things quickly")
    out.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    out.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    return out


def chosen(only: str, seeds: int) -> list[Cell]:
    """Cells whose set, split, method and seed are each among those named, or of a kind of which none is named."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    kinds: list[set[str]] = [{name for name, _ in SETS}, set(SPLITS), set(METHODS), {w for w in words if w.isdigit()}]
    known = {word for kind in kinds for word in kind}
    if words - known:
        msg = f"Unknown: {', '.join(sorted(words - known))}. Known: {', '.join(sorted(known))}, and seeds."
        raise SystemExit(msg)
    asked = [words & kind for kind in kinds]
    numbers = sorted(map(int, asked[3])) or list(range(seeds))
    return [
        Cell(name, split, method, seed)
        for seed in numbers
        for name, split in SETS
        for method in METHODS
        if all(not some or word in some for some, word in zip(asked, (name, split, method), strict=False))
    ]


def ablations(only: str) -> list[Cell]:
    """Cells of the ablations and controls, of one seed; of each kind of name those given."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    kinds: list[set[str]] = [{name for name, _ in ABLATED}, {split for _, split in ABLATED}, {*ABLATIONS, *CONTROLS}]
    asked = [words & kind for kind in kinds]
    return [
        Cell(name, split, method, 0)
        for name, split in ABLATED
        for method in (*ABLATIONS, *CONTROLS)
        if all(not some or word in some for some, word in zip(asked, (name, split, method), strict=True))
    ]


def run(cells: list[Cell], data: Path | None, epochs: int | None, results: Path) -> None:
    """Compute the cells that need it, one process each, and say of each what came out."""
    for name in dict.fromkeys(cell.name for cell in cells):
        reason = missing(name, data)
        if reason:
            print(f"{name} is left out: {reason}")
            cells = [cell for cell in cells if cell.name != name]
    for method in dict.fromkeys(cell.method for cell in cells if EVERY[cell.method].kind == "peer"):
        try:
            python_of(method)
        except FileNotFoundError as error:
            print(f"{method} is left out: {error}")
            cells = [cell for cell in cells if cell.method != method]
    todo = [cell for cell in cells if not is_fresh(cell, epochs, results)]
    print(f"{len(cells)} cells, {len(cells) - len(todo)} of them up to date.")
    for i, cell in enumerate(todo):
        found = compute_apart(cell, data, epochs, results)
        main_score = "median_pearson" if cell.split == "finer" else "mean_pearson"
        said = (
            found.get("error") or f"{found[main_score]} in {found['seconds']} s, {found['peak_mb']} MB; {found['note']}"
        )
        print(f"[{i + 1}/{len(todo)}] {cell.name} {cell.split} {cell.method} {cell.seed}: {said}", flush=True)


if __name__ == "__main__":
    main()
