"""Results as tidy tables, one csv for each set, and what of them must be computed again."""

import argparse
import os
import subprocess
import time
import traceback
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import pandas as pd
from benchmarks.fidelity.baselines import gaussian
from benchmarks.fidelity.cases import SETS, make_case
from benchmarks.fidelity.fingerprints import fingerprint
from benchmarks.fidelity.methods import METHODS
from benchmarks.fidelity.scores import score

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
KEY = ["set", "kind", "seed", "method"]
COLUMNS = [*KEY, "metric", "value", "seconds", "version", "fingerprint"]
TEXT = {"version": str, "fingerprint": str}  # some hashes look like numbers


def read(folder=RESULTS) -> pd.DataFrame:
    """All results that are there."""
    tables = [pd.read_csv(path, dtype=TEXT) for path in sorted(folder.glob("*.csv"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def options_of(doc) -> argparse.ArgumentParser:
    """Options of every benchmark that keeps its results in rows."""
    found = os.environ.get("SPHISTO_DATA")
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(found) if found else None, help="folder of data sets")
    parser.add_argument("--only", default="", help="names of sets, kinds, methods and seeds, with commas between")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    parser.add_argument("--docs", action="store_true", help="compute nothing; write the documentation's part")
    return parser


def chosen(only, cases, methods, runs_on, seeds=3) -> list[tuple[str, str, int, str]]:
    """Rows (set, kind, seed, method) of which each name is among those given, or of a sort of which none is given."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    sorts = [{name for name, _ in cases}, {kind for _, kind in cases}, {w for w in words if w.isdigit()}, set(methods)]
    known = set().union(*sorts)
    if words - known:
        msg = f"Unknown: {', '.join(sorted(words - known))}. Known: {', '.join(sorted(known))}, and seeds."
        raise SystemExit(msg)
    asked = [words & sort for sort in sorts]
    numbers = sorted(map(int, asked[2])) or range(seeds)
    rows = [(*key, seed, method) for key in cases for seed in numbers for method in methods]
    rows = [row for row in rows if all(not some or str(at) in some for some, at in zip(asked, row, strict=True))]
    rows = [row for row in rows if runs_on(row)]
    if not rows:
        msg = f"Nothing is all of {only}: no method runs on such a set, kind and seed."
        raise SystemExit(msg)
    return rows


def run(rows, data, folder=RESULTS) -> None:
    """Compute those of the rows that are outdated."""
    prints = {row: print_of(row, data) for row in rows}
    compute(rows, prints, lambda *at: make_case(*at, data), _scored, folder)


def compute(rows, prints, case_of, scored, folder) -> None:
    """Compute rows whose fingerprint is not that of their results, case by case, and keep each at once.

    ``scored(case, method)`` returns scores, seconds and a note.
    """
    known = read(folder).groupby(KEY).fingerprint.first()
    todo = [row for row in rows if known.get(row) != prints[row]]
    print(f"{len(rows)} rows, {len(rows) - len(todo)} of them up to date.", flush=True)
    for at, some in groupby(todo, key=lambda row: row[:3]):
        case = case_of(*at)
        for row in some:
            try:
                found, seconds, note = scored(case, row[3])
            except Exception:  # noqa: BLE001 - one failure must not end the table; it is tried again next time
                traceback.print_exc()
                continue
            keep(row, found, seconds, prints[row], folder)
            said = f"pearson {found['pearson']:.4f} in {seconds:.1f} s; {note}"
            print(f"[{todo.index(row) + 1}/{len(todo)}] {' '.join(map(str, row))}: {said}", flush=True)


def _scored(case, name):
    (width, width_seconds), method, started = _width(case), METHODS[name], time.perf_counter()
    predicted = width if name == "gaussian" else method(case)
    seconds = width_seconds if name == "gaussian" else time.perf_counter() - started
    free = method.kind in ("interpolation", "image", "peer")
    return score(case, predicted, width, free=free), seconds, predicted.note


@lru_cache(maxsize=1)
def _width(case):
    """What Gaussian weights of the best width predict, with which genes of all methods are compared; and its seconds."""
    started = time.perf_counter()
    return gaussian(case), time.perf_counter() - started


def print_of(row, data) -> str:
    """Fingerprint of a result: sources of its method, its case and its scores; options; and the set's files."""
    name, kind, _, method = row
    found = METHODS[method]
    modules = [
        f"benchmarks.fidelity.{m}" for m in (found.module, SETS[name, kind].split(".")[0], "scores", "baselines")
    ]
    files = [] if name.startswith("toy") else [p for p in (data / name).rglob("*") if p.is_file() and p.suffix != ".md"]
    if found.kind == "peer":
        files += [path for path in (HERE / "peers").iterdir() if path.stem in ("exchange", method, f"run_{method}")]
    return fingerprint(modules, (*row, found.function, sorted(found.options.items())), files)


def keep(row, scores, seconds, print_, folder=RESULTS) -> None:
    """Write the scores of a row, whole or not at all, in place of earlier ones."""
    path = folder / f"{row[0]}.csv"
    git = ["git", "-C", str(HERE), "describe", "--always", "--exclude=*", "--dirty=+"]  # + if files were changed since
    version = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    found = pd.DataFrame({"metric": list(scores), "value": [float(f"{value:.5g}") for value in scores.values()]})
    found = found.assign(**dict(zip(KEY, row, strict=True)), seconds=round(seconds, 1), version=version or "unknown")
    found = found.assign(fingerprint=print_)[COLUMNS]
    if path.exists():
        old = pd.read_csv(path, dtype=TEXT)
        found = pd.concat([old[(old[KEY] != list(row)).any(axis=1)], found])
    folder.mkdir(parents=True, exist_ok=True)
    found.sort_values(KEY, kind="stable").to_csv(path.with_suffix(".draft"), index=False)
    path.with_suffix(".draft").replace(path)
