"""Compute what is missing or outdated of the fidelity results, then print the tables. Run from the repository's root:

    python -m benchmarks.fidelity --data FOLDER                 # everything: two hours on two cores
    python -m benchmarks.fidelity --only toy,prior,0            # of each kind of name (set, kind, method, seed) those given
    python -m benchmarks.fidelity --table                       # only print what is there, and check the targets
    python -m benchmarks.fidelity --docs                        # also write tables and figures of docs/benchmarks.md

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each data set; those that are missing are left
out, as are peers without an environment (see peers/README.md). Results are benchmarks/fidelity/results/SET.csv.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.fidelity import published, results, table
from benchmarks.fidelity.cases import SETS, missing
from benchmarks.fidelity.methods import METHODS


def main() -> None:
    options = parser().parse_args()
    if not (options.table or options.docs):
        rows = available(chosen(options.only, options.seeds), options.data)
        results.run(rows, options.data, options.results)
    print(table.report(results.read(options.results)))
    if options.docs:
        from benchmarks.fidelity import page

        page.write(options.results)


def parser() -> argparse.ArgumentParser:
    found = os.environ.get("SPHISTO_DATA")
    out = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of data sets")
    out.add_argument("--only", default="", help="names of sets, kinds, methods and seeds, with commas between")
    out.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    out.add_argument("--table", action="store_true", help="compute nothing")
    out.add_argument("--docs", action="store_true", help="compute nothing; write the documentation's part")
    out.add_argument("--results", type=Path, default=results.RESULTS, help="folder of the results")
    return out


def chosen(only: str, seeds: int) -> list[tuple[str, str, int, str]]:
    """Rows whose set, kind, seed and method are each among those named, or of a sort of which none is named."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    sorts = [{name for name, _ in SETS}, {kind for _, kind in SETS}, {w for w in words if w.isdigit()}, set(METHODS)]
    unknown = words - set().union(*sorts)
    if unknown:
        msg = f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(sorted(set().union(*sorts)))}, and seeds."
        raise SystemExit(msg)
    asked = [words & sort for sort in sorts]
    rows = [
        (name, kind, seed, method)
        for name, kind in SETS
        for seed in (sorted(map(int, asked[2])) or range(seeds))
        for method in METHODS
        if METHODS[method].runs_on(name, kind, seed)
    ]
    return [row for row in rows if all(not some or str(at) in some for some, at in zip(asked, row, strict=True))]


def available(rows, data):
    """Leave out rows whose data or peer is not there, and say so."""
    reasons = {name: missing(name, data) for name in dict.fromkeys(row[0] for row in rows)}
    for method in dict.fromkeys(row[3] for row in rows if METHODS[row[3]].kind == "peer"):
        reasons[method] = published.missing(method)
    for name, reason in reasons.items():
        if reason:
            print(f"{name} is left out: {reason}")
    return [row for row in rows if not (reasons[row[0]] or reasons.get(row[3]))]


if __name__ == "__main__":
    main()
