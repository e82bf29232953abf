"""Compute what is missing or outdated, then print the tables. Run from the repository's root:

    python -m benchmarks.generalisation --data FOLDER             # everything: an hour on one core
    python -m benchmarks.generalisation --only mob_st_2,20%,0     # of each sort of name (target, share, method, seed) those given
    python -m benchmarks.generalisation --table                   # only print what is there
    python -m benchmarks.generalisation --docs                    # also write the tables of docs/benchmarks.md

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each section; targets of which one is missing are left
out. Results are benchmarks/generalisation/results/TARGET.csv.
"""

import time
from functools import cache
from itertools import product
from pathlib import Path

from benchmarks.fidelity import results
from benchmarks.fidelity.fingerprints import fingerprint
from benchmarks.generalisation import table
from benchmarks.generalisation.cases import GROUPS, SHARES, TARGETS, make_case, score
from benchmarks.generalisation.methods import METHODS, runs_on

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    options = results.options_of(__doc__).parse_args()
    if not (options.table or options.docs):
        rows = results.chosen(
            options.only, list(product(TARGETS, SHARES)), METHODS, lambda row: runs_on(row[3], row[1])
        )
        lacking = [s for s in dict.fromkeys(sum(GROUPS, ())) if not (options.data and (options.data / s).is_dir())]
        if lacking:
            print(f"Groups of {', '.join(lacking)} are left out: not in {options.data} (--data, or SPHISTO_DATA)")
        rows = [row for row in rows if not set(TARGETS[row[0]]) & set(lacking)]
        prints = {row: _print(METHODS[row[3]].__module__, TARGETS[row[0]], options.data) for row in rows}
        results.compute(rows, prints, lambda *at: make_case(*at, options.data), scored, RESULTS)
    there = table.wide(results.read(RESULTS))
    print(table.report(there))
    if options.docs:
        table.write(there)


def scored(case, name):
    """Scores, seconds of one core, and nothing to remark."""
    started = time.process_time()
    predicted = METHODS[name](case)
    return score(case, *predicted), time.process_time() - started, ""


@cache
def _print(module, group, data) -> str:
    """Fingerprint of the sources of a method and of the sections of a group."""
    files = [p for name in group for p in (data / name).rglob("*") if p.is_file() and p.suffix != ".md"]
    return fingerprint([module, "benchmarks.generalisation.cases"], group, files)


if __name__ == "__main__":
    main()
