"""What a result depends on, derived from imports: a change of any source behind it makes a result outdated."""

import ast
import hashlib
from functools import cache
from pathlib import Path

import sphisto

PACKAGES = {"sphisto": Path(sphisto.__file__).parent, "benchmarks": Path(__file__).resolve().parents[1]}


def fingerprint(modules, parameters, files=(), packages=PACKAGES) -> str:
    """Hash of the sources of some modules and of all that they import, of parameters and of data files."""
    digest = hashlib.sha256(repr(parameters).encode())
    for name, path in sorted(closure(modules, packages).items()):
        digest.update(name.encode() + _read(path, path.stat().st_mtime_ns)[0].encode())
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def closure(modules, packages=PACKAGES) -> dict[str, Path]:
    """Sources of some modules and of all that they import anywhere, directly or by others, but not for type checkers alone."""
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = _path(name, packages)
        if path is None or name in found:
            continue
        found[name] = path
        todo.append(name.rpartition(".")[0])
        for package, names in _read(path, path.stat().st_mtime_ns)[1]:
            here = _path(package, packages)
            lazy = {} if here is None else _read(here, here.stat().st_mtime_ns)[2]
            todo += [package, *(f"{package}.{lazy.get(n, n)}" for n in names)]
    return found


def _path(module: str, packages) -> Path | None:
    """The file of a module of the packages; ``None`` for other names, for instance of functions."""
    top, *parts = module.split(".")
    at = packages.get(top, Path("nowhere")).joinpath(*parts)
    return next((p for p in (at / "__init__.py", at.with_name(f"{at.name}.py")) if p.is_file()), None)


@cache
def _read(path: Path, _changed: int):
    """Meaning (without comments, layout and docstrings), imports as (module, names), and lazy public names of a source."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    found, lazy = [], {}
    for node in _run(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "attach":
            table = ast.literal_eval(node.args[1])
            lazy |= {name: module for module, public in table.items() for name in public}
    return ast.unparse(tree), found, lazy


def _run(node: ast.AST):
    """All nodes below one, without those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)
