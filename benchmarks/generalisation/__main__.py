"""Compute what is missing or outdated, then print the tables. Run from the repository's root:

    python -m benchmarks.generalisation --data FOLDER             # everything: an hour and a half on one core
    python -m benchmarks.generalisation --only mob_st_2,20%,0     # of each sort of name (target, share, method, seed) those given
    python -m benchmarks.generalisation --table                   # only print what is there
    python -m benchmarks.generalisation --docs                    # also write the tables of docs/benchmarks.md

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each section; targets of which one is missing are left
out. Results are benchmarks/generalisation/results/TARGET.csv.
"""

import argparse
import os
import traceback
from functools import cache
from itertools import groupby
from pathlib import Path

from benchmarks.fidelity import results
from benchmarks.fidelity.fingerprints import fingerprint
from benchmarks.generalisation import table
from benchmarks.generalisation.cases import SHARES, TARGETS, make_case, score
from benchmarks.generalisation.methods import METHODS

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    found = os.environ.get("SPHISTO_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of sections")
    parser.add_argument("--only", default="", help="names of targets, shares, methods and seeds, with commas between")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    parser.add_argument("--docs", action="store_true", help="compute nothing; write the documentation's part")
    options = parser.parse_args()
    if not (options.table or options.docs):
        run(available(chosen(options.only), options.data), options.data)
    there = table.wide(results.read(RESULTS))
    print(table.report(there))
    if options.docs:
        table.write(there)


def chosen(only: str) -> list[tuple[str, str, int, str]]:
    """(target, share, seed, method) whose names are each among those given, or of a sort of which none is given."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    sorts = [set(TARGETS), set(SHARES), {w for w in words if w.isdigit()}, set(METHODS)]
    unknown = words - set().union(*sorts)
    if unknown:
        msg = f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join([*TARGETS, *SHARES, *METHODS])}, and seeds."
        raise SystemExit(msg)
    asked = [words & sort for sort in sorts]
    numbers = sorted(map(int, asked[2])) or range(3)
    rows = [(t, share, seed, m) for seed in numbers for t in TARGETS for share in SHARES for m in METHODS]
    rows = [row for row in rows if METHODS[row[3]].runs_on(SHARES[row[1]])]
    return [row for row in rows if all(not some or str(at) in some for some, at in zip(asked, row, strict=True))]


def available(rows, data):
    """Leave out targets of whose sections one is missing, and say so."""
    missing = {n for n in {row[0] for row in rows} if data is None or not all((data / s).is_dir() for s in TARGETS[n])}
    for name in sorted(missing):
        print(f"{name} is left out: a section of {', '.join(TARGETS[name])} is not in {data} (--data, or SPHISTO_DATA)")
    return [row for row in rows if row[0] not in missing]


def run(rows, data) -> None:
    """Compute those rows that are outdated, and keep each at once."""
    known = results.read(RESULTS).groupby(results.KEY).fingerprint.first()
    todo = [row for row in rows if known.get(row) != _print(METHODS[row[3]].module, TARGETS[row[0]], data)]
    print(f"{len(rows)} rows, {len(rows) - len(todo)} of them up to date.", flush=True)
    for at, some in groupby(todo, key=lambda row: row[:3]):
        case = make_case(*at, data)
        for row in some:
            method = METHODS[row[3]]
            try:
                predicted = method(case)
                found = score(case, predicted)
            except Exception:  # noqa: BLE001 - one failure must not end the table; it is tried again next time
                traceback.print_exc()
                continue
            results.keep(row, found, predicted.seconds, _print(method.module, TARGETS[row[0]], data), RESULTS)
            said = ", ".join(f"{name} {found[name]:.4f}" for name in ("pearson", "deviance"))
            print(f"[{todo.index(row) + 1}/{len(todo)}] {' '.join(map(str, row))}: {said}", flush=True)


@cache
def _print(module, group, data) -> str:
    """Fingerprint of the sources of a method and of the sections of a group."""
    files = [p for name in group for p in (data / name).rglob("*") if p.is_file() and p.suffix != ".md"]
    return fingerprint([f"benchmarks.generalisation.{m}" for m in (module, "cases")], group, files)


if __name__ == "__main__":
    main()
