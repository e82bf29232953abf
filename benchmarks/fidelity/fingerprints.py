"""What a result depends on, derived from imports: a change of any source behind it makes a result outdated."""

from __future__ import annotations

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
        digest.update(path.name.encode() + _content(path, path.stat().st_mtime_ns))
    return digest.hexdigest()[:16]


def closure(modules, packages=PACKAGES) -> dict[str, Path]:
    """Sources of some modules and of all modules of the packages that they import, directly or by others."""
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = _path(name, packages)
        if path is not None and name not in found:
            found[name] = path
            todo += [name.rpartition(".")[0], *imports(path, packages)]
    return found


def imports(path: Path, packages=PACKAGES) -> set[str]:
    """Names of the modules that a source imports anywhere, but not for type checkers alone."""
    found = set()
    for package, names in _read(path, path.stat().st_mtime_ns)[1]:
        found.add(package)
        here = _path(package, packages)
        lazy = {} if here is None else _read(here, here.stat().st_mtime_ns)[2]
        found |= {f"{package}.{lazy.get(name, name)}" for name in names}
    return found


def meaning(tree: ast.Module) -> str:
    """What a source says without comments, layout and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _path(module: str, packages) -> Path | None:
    """The file of a module of the packages; ``None`` for other names, for instance of functions."""
    top, *parts = module.split(".")
    if top not in packages:
        return None
    at = packages[top].joinpath(*parts)
    return next((p for p in (at / "__init__.py", at.with_name(f"{at.name}.py")) if p.is_file()), None)


@cache
def _read(path: Path, _changed: int):
    """Meaning, imports as (module, names), and the lazy public names of a source, by the module that holds each."""
    tree = ast.parse(path.read_text())
    found, lazy = [], {}
    for node in _run(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "attach":
            table = ast.literal_eval(node.args[1])
            lazy |= {name: module for module, public in table.items() for name in public}
    return meaning(tree), found, lazy


def _run(node: ast.AST):
    """All nodes below one, without those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)


@cache
def _content(path: Path, _changed: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
