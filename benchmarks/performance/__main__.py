"""Measure memory and speed, then print what was found. Run from the repository's root, on a machine with little else to do:

    python -m benchmarks.performance --data FOLDER              # everything: half an hour on two cores
    python -m benchmarks.performance --only memory,reading      # those named
    python -m benchmarks.performance --device cuda              # networks on a GPU
    python -m benchmarks.performance --whole --only memory      # large slides full of tissue: half an hour more
    python -m benchmarks.performance --trees OLD NEW            # a whole fit by two source trees in turn, given by path
    python -m benchmarks.performance --trees OLD NEW --only tile    # a tile that is predicted and written, by both
    python -m benchmarks.performance --table                    # only print what is there
    python -m benchmarks.performance --docs                     # also write the tables of the documentation

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each real section; what needs those that are
missing is left out. Results are kept in benchmarks/performance/results/performance.csv.
"""

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
from benchmarks.fidelity.page import between
from benchmarks.fidelity.table import markdown
from benchmarks.performance.fits import compare, compare_tiles
from benchmarks.performance.measuring import machine

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results", HERE.parents[1] / "docs" / "performance.md"
MEASUREMENTS = ("memory", "inference", "training", "reading", "scale", "bins", "window")


def main(words=None) -> None:
    found = os.environ.get("SPHISTO_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of real sections")
    parser.add_argument("--only", default="", help=f"names, with commas between: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    parser.add_argument("--whole", action="store_true", help="tissue fills the large slides")
    parser.add_argument("--trees", type=Path, nargs=2, help="two source trees whose fits are compared, instead")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--docs", action="store_true", help="measure nothing; write the documentation's tables")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(words)
    command = " ".join(["python -m benchmarks.performance", *(sys.argv[1:] if words is None else words)])
    for name in () if options.table or options.docs or options.trees else chosen(options.only, options.device):
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        measure = import_module(f"benchmarks.performance.{name}").measure
        keep(name, options.device, measure(options.data, options.device, options.whole), command, options.results)
    if options.trees:
        tile = options.only == "tile"
        rows = compare_tiles(options.trees) if tile else compare(options.data, options.trees)
        keep("tile" if tile else "fit", "cpu", rows, command, options.results)
    print(tables(options.results))
    if options.docs:
        PAGE.write_text(between(PAGE.read_text(), "performance tables", tables(options.results)))


def chosen(only, device):
    """Measurements named, or all; on a GPU those that run networks."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    if unknown := [word for word in words if word not in MEASUREMENTS]:
        msg = f"Unknown: {', '.join(unknown)}. Known: {', '.join(MEASUREMENTS)}."
        raise SystemExit(msg)
    return words or [name for name in MEASUREMENTS if device == "cpu" or name in ("inference", "training")]


def keep(name, device, rows, command, folder=RESULTS) -> None:
    """Write the rows of a measurement, with the command and the machine that made them; in place of earlier ones."""
    path = folder / "performance.csv"
    found = pd.DataFrame(rows).assign(measurement=name, device=device, command=command, machine=machine(device))
    if path.exists():
        old = pd.read_csv(path)
        found = pd.concat([old[(old.measurement != name) | (old.device != device)], found])
    folder.mkdir(parents=True, exist_ok=True)
    found.sort_values(["measurement", "device"], kind="stable").to_csv(path, index=False)


def tables(folder=RESULTS) -> str:
    """A table for each measurement that is there."""
    parts, path = [], folder / "performance.csv"
    found = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["measurement", "device"])
    for (name, device), rows in found.groupby(["measurement", "device"]):
        title = f"### {name.capitalize()}" + ("" if device == "cpu" else f" on {device}")
        table = markdown(["", "found", "target", "", "behind it"], [cells(row) for row in rows.itertuples()])
        parts += [title, table, f"`{rows.command.iloc[0]}` on {rows.machine.iloc[0]}"]
    return "\n\n".join(parts) or "Nothing was measured yet."


def cells(row):
    """Texts of a row, and whether its target is reached."""
    text, missing = (lambda value: "" if pd.isna(value) else str(value)), pd.isna(row.least) and pd.isna(row.most)
    found = f"{row.value:,.3g} {text(row.unit)}" if row.value < 1000 else f"{row.value:,.0f} {text(row.unit)}"
    met = not (row.value < row.least or row.value > row.most)
    goal = f"at least {row.least:g}" if pd.isna(row.most) else f"at most {row.most:g}"
    goals = ["", ""] if missing else [f"{goal} {text(row.unit)}".strip(), "pass" if met else "short"]
    return [row.what, found.strip(), *goals, text(row.behind)]


if __name__ == "__main__":
    main()
