"""Compute what is missing or outdated of the fidelity results, then print the tables. Run from the repository's root:

    python -m benchmarks.fidelity --data FOLDER                 # everything: two hours on two cores
    python -m benchmarks.fidelity --only toy,prior,0            # of each sort of name (set, kind, method, seed) those given
    python -m benchmarks.fidelity --table                       # only print what is there, and check the targets
    python -m benchmarks.fidelity --maps --only toy             # only draw maps of finer truth beside it
    python -m benchmarks.fidelity --docs                        # also write tables and figure of docs/benchmarks.md

FOLDER (or the environment variable SPHISTO_DATA) holds one folder for each data set; those that are missing are left
out, as are peers without an environment (see peers/README.md). Results are benchmarks/fidelity/results/SET.csv.
"""

from pathlib import Path

from benchmarks.fidelity import maps, page, published, results, table
from benchmarks.fidelity.cases import SETS, make_case
from benchmarks.fidelity.methods import METHODS


def main() -> None:
    parser = results.options_of(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--maps", action="store_true", help="only draw maps of the first seed, for the documentation")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="folder of the results")
    options = parser.parse_args()
    rows = [] if options.table or options.docs else available(chosen(options.only, options.seeds), options.data)
    if options.maps:
        for key in {row[:2]: None for row in rows if row[:2] in table.FINER}:
            maps.draw(make_case(*key, 0, options.data), page.FIGURES / f"maps-{'-'.join(key)}.png")
        return
    if rows:
        results.run(rows, options.data, options.results)
    print(table.report(results.read(options.results)))
    if options.docs:
        page.write(options.results)


def chosen(only: str, seeds: int) -> list[tuple[str, str, int, str]]:
    """Rows whose set, kind, seed and method are each among those named, or of a sort of which none is named."""
    return results.chosen(only, list(SETS), METHODS, lambda row: METHODS[row[3]].runs_on(*row[:3]), seeds)


def available(rows, data):
    """Leave out rows whose data or peer is not there, and say so."""
    reasons = {row[0]: "" for row in rows}
    for name in [name for name in reasons if not name.startswith("toy")]:
        if data is None or not (data / name).is_dir():
            reasons[name] = f"there is no folder {name} in {data} (--data, or the environment variable SPHISTO_DATA)"
    reasons |= {m: published.missing(m) for m in {row[3]: None for row in rows} if METHODS[m].kind == "peer"}
    for name, reason in reasons.items():
        if reason:
            print(f"{name} is left out: {reason}")
    return [row for row in rows if not (reasons[row[0]] or reasons.get(row[3]))]


if __name__ == "__main__":
    main()
