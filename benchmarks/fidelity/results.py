"""Results as tidy tables, one csv for each set, and what of them must be computed again."""

from __future__ import annotations

import subprocess
import time
import traceback
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
SHOWN, MOST_GENES = (("random", "finer"), ("gaussian", "prior", "sphisto")), 300  # whose genes are kept one by one


def read(folder=RESULTS) -> pd.DataFrame:
    """All results that are there."""
    tables = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def read_genes(folder=RESULTS) -> pd.DataFrame:
    """Scores gene by gene, of the first seed and few methods: what figures show."""
    path = folder / "genes.csv.gz"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[*KEY, "gene", "pearson", "counts"])


def run(rows, data, folder=RESULTS, options=None):
    """Compute those of the (set, kind, seed, method) rows that are outdated, case by case, and keep each at once."""
    known = read(folder).groupby(KEY).fingerprint.first().to_dict()
    prints = {row: print_of(row, data, options) for row in rows}
    todo = [row for row in rows if known.get(row) != prints[row]]
    print(f"{len(rows)} rows, {len(rows) - len(todo)} of them up to date.", flush=True)
    for (name, kind, seed), some in groupby(todo, key=lambda row: row[:3]):
        case = make_case(name, kind, seed, data)
        width = gaussian(case)  # genes of all methods are compared with it
        for row in some:
            method, started = METHODS[row[3]], time.perf_counter()
            try:
                predicted = method(case, **(options or {}))
                seconds = time.perf_counter() - started
                found, genes = score(case, predicted, width, free=method.kind in ("interpolation", "image", "peer"))
            except Exception:  # noqa: BLE001 - one failure must not end the table; it is tried again next time
                traceback.print_exc()
                continue
            keep(row, found, seconds, prints[row], folder)
            if seed == 0 and kind in SHOWN[0] and row[3] in SHOWN[1]:
                keep_genes(row, genes, folder)
            said = f"pearson {found['pearson']:.4f} in {seconds:.1f} s; {predicted.note}"
            print(f"[{todo.index(row) + 1}/{len(todo)}] {' '.join(map(str, row))}: {said}", flush=True)


def print_of(row, data, options=None) -> str:
    """Fingerprint of a result: sources of its method, its case and its scores; options; and the set's files."""
    name, kind, seed, method = row
    found = METHODS[method]
    modules = [f"benchmarks.fidelity.{m}" for m in (found.module, SETS[name, kind], "scores", "baselines")]
    files = [] if name.startswith("toy") else [p for p in (data / name).rglob("*") if p.is_file() and p.suffix != ".md"]
    if found.kind == "peer":
        files += [HERE / "peers" / f"run_{found.function}.py", HERE / "peers" / f"{found.function}.txt"]
    return fingerprint(modules, (*row, found.function, sorted(found.options.items()), options), files)


def keep(row, scores, seconds, print_, folder=RESULTS):
    """Write the scores of a row in place of earlier ones."""
    found = pd.DataFrame({"metric": list(scores), "value": [float(f"{value:.5g}") for value in scores.values()]})
    found = found.assign(**dict(zip(KEY, row, strict=True)), seconds=round(seconds, 1), version=version())
    _replace(folder / f"{row[0]}.csv", row, found.assign(fingerprint=print_)[COLUMNS])


def keep_genes(row, genes, folder=RESULTS):
    """Write some genes of a row, evenly spread over abundance, in place of earlier ones."""
    genes = genes.sort_values("counts", kind="stable")
    genes = genes.iloc[:: max(1, -(-len(genes) // MOST_GENES))].rename_axis("gene").reset_index()
    found = genes.assign(**dict(zip(KEY, row, strict=True))).round(3)
    columns = [*KEY, *(c for c in ("gene", "pearson", "counts", "skill") if c in found)]
    _replace(folder / "genes.csv.gz", row, found[columns])


def version() -> str:
    """The commit that is checked out, with a + if files were changed since."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--exclude=*", "--dirty=+"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _replace(path, row, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        old = pd.read_csv(path)
        old = old[(old[KEY] != list(row)).any(axis=1)]
        found = found if old.empty else pd.concat([old, found])
    found = found.sort_values(KEY, kind="stable")
    draft = path.with_name(f".{path.name}")
    compression = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    found.to_csv(draft, index=False, compression=compression)
    draft.replace(path)
