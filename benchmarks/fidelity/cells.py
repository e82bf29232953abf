"""One cell of the table: a data set, a split, a method and a seed. It is computed again only if what it depends on changed."""

from __future__ import annotations

import ast
import hashlib
import json
import resource
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fidelity.methods import EVERY
from benchmarks.fidelity.sets import SETS, make_case

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "src" / "sphisto"
RESULTS = HERE / "results"
_COMMON = ("cases.py", "scores.py")
_USED_BY_METHODS = {
    "colour": ("interpolations", "looks"),
    "kriging": ("looks",),
    "istar": ("looks",),
    "controls": ("networks",),
}


@dataclass(frozen=True, order=True)
class Cell:
    """Names of a data set, a split and a method, and a seed."""

    name: str
    split: str
    method: str
    seed: int

    @property
    def set(self) -> tuple[str, str]:
        """Data set and split."""
        return self.name, self.split

    def path(self, results: Path = RESULTS) -> Path:
        """Where the result is kept."""
        return results / f"{self.name}.{self.split}.{self.method}.{self.seed}.json"

    def read(self, results: Path = RESULTS) -> dict[str, Any] | None:
        """The result, if there is one."""
        path = self.path(results)
        return json.loads(path.read_text()) if path.exists() else None


def fingerprint(cell: Cell, epochs: int | None = None) -> str:
    """Hash of all code that the cell's result depends on, and of its options; comments and layout do not count."""
    method = EVERY[cell.method]
    modules = modules_of(method.module)
    drawn = cell.name.startswith("toy")
    files = [HERE / name for name in (*_COMMON, *(("sets/toy.py",) if drawn else ()))]
    files += [
        HERE / "sets" / f"{SETS[cell.set]}.py",
        *((HERE / "methods" / f"{name}.py").resolve() for name in modules),
    ]
    if method.kind == "peer":
        files += [HERE / "peers" / name for name in ("exchange.py", f"run_{method.function}.py")]
    patterns = ("scoring/metrics.py", "core/splits.py", *method.sources, *(("datasets/*.py",) if drawn else ()))
    files += sorted({path for pattern in patterns for path in PACKAGE.glob(pattern)})
    digest = hashlib.sha256(repr((sorted(method.options.items()), method.function, epochs)).encode())
    for path in files:
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(meaning(path.read_text()).encode())
    return digest.hexdigest()[:16]


def modules_of(module: str) -> list[str]:
    """A file of methods, and those that it uses, directly or by others."""
    found = [module]
    for name in found:  # which grows meanwhile
        found += [used for used in _USED_BY_METHODS.get(name, ()) if used not in found]
    return found


def meaning(source: str) -> str:
    """What a file says without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def is_fresh(cell: Cell, epochs: int | None = None, results: Path = RESULTS) -> bool:
    """Whether the kept result is that of the present code; errors are always tried again."""
    found = cell.read(results)
    return found is not None and "error" not in found and found["fingerprint"] == fingerprint(cell, epochs)


def compute(cell: Cell, data: Path | None, epochs: int | None = None, results: Path = RESULTS) -> dict[str, Any]:
    """Compute a cell in this process and keep its result; an error is a result, too."""
    from benchmarks.fidelity.scores import score

    head = {"set": cell.name, "split": cell.split, "method": cell.method, "seed": cell.seed}
    head["fingerprint"] = fingerprint(cell, epochs)
    try:
        case = make_case(*cell.set, cell.seed, data)
        method = EVERY[cell.method]
        started = time.perf_counter()
        predicted = method(case, **({} if epochs is None else {"max_epochs": epochs}))
        seconds = time.perf_counter() - started
        found = score(case, predicted, free=method.kind not in ("ours", "ablation"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result = head | {"seconds": round(seconds, 1), "peak_mb": round(peak)} | found
    except Exception as error:  # noqa: BLE001 - one failure must not end the table
        traceback.print_exc()
        result = head | {"error": f"{type(error).__name__}: {error}"}
    keep(cell, result, results)
    return result


def compute_apart(cell: Cell, data: Path | None, epochs: int | None = None, results: Path = RESULTS) -> dict[str, Any]:
    """Compute a cell in a process of its own, so that memory is its own and a crash stays there."""
    words = [sys.executable, "-m", "benchmarks.fidelity", "--cell", *map(str, (*cell.set, cell.method, cell.seed))]
    words += ["--results", str(results)]
    words += [] if data is None else ["--data", str(data)]
    words += [] if epochs is None else ["--epochs", str(epochs)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    found = cell.read(results)
    if done.returncode != 0 or found is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        found = {"fingerprint": "", "error": f"the process ended with {done.returncode}: {last}"}
        keep(cell, found, results)
    return found


def keep(cell: Cell, result: dict[str, Any], results: Path = RESULTS) -> None:
    """Write a result, whole or not at all."""
    path = cell.path(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    draft.replace(path)
