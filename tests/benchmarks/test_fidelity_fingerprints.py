"""What is computed again: what imports, directly or by others, a module that was changed."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A copy of the package and the benchmarks, to be changed."""
    from benchmarks.fidelity.fingerprints import PACKAGES

    folder, ignored = tmp_path_factory.mktemp("copy"), shutil.ignore_patterns("__pycache__", "*.csv")
    for name, source in PACKAGES.items():
        shutil.copytree(source, folder / name, ignore=ignored)
    return {name: folder / name for name in PACKAGES}


def prints(packages):
    from benchmarks.fidelity.fingerprints import fingerprint

    names = ("baselines", "kriging", "sphisto_methods")
    return {name: fingerprint([f"benchmarks.fidelity.{name}"], (), packages=packages) for name in names}


@pytest.mark.parametrize(
    ("changed", "outdated"),
    [
        ("sphisto/genes/factorize.py", {"sphisto_methods"}),
        ("sphisto/pl/__init__.py", set()),
        ("sphisto/cli/__init__.py", set()),
        ("sphisto/networks/unet.py", {"sphisto_methods"}),
        ("sphisto/features/texture.py", {"kriging", "sphisto_methods"}),
        ("sphisto/field/gaussian.py", {"baselines", "kriging", "sphisto_methods"}),
        ("benchmarks/fidelity/kriging.py", {"kriging"}),
        ("benchmarks/performance/memory.py", set()),
    ],
)
def test_a_change_outdates_what_imports_it(packages, changed, outdated):
    name, _, rest = changed.partition("/")
    path, before = packages[name] / rest, prints(packages)
    text = path.read_text()
    path.write_text(f"{text}\nCHANGED = 1\n")
    after = prints(packages)
    path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == outdated


def test_functions_of_lazy_packages_and_imports_inside_functions_count(packages):
    from benchmarks.fidelity.fingerprints import closure

    found = closure(["benchmarks.fidelity.sphisto_methods"], packages)
    assert {"sphisto.tl._fit_projection", "sphisto.train.loop", "sphisto.io.sections"} <= set(found)
    assert not [name for name in found if name.startswith(("sphisto.pl", "sphisto.cli", "benchmarks.performance"))]


def test_imports_for_type_checkers_comments_and_docstrings_do_not_count(tmp_path):
    from benchmarks.fidelity.fingerprints import closure, fingerprint

    packages = {"a": tmp_path}
    (tmp_path / "used.py").write_text("x = 1\n")
    (tmp_path / "typed.py").write_text("x = 1\n")
    (tmp_path / "main.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import typed\n"
        'def f():\n    """Say."""\n    from a.used import x  # why\n'
    )
    assert set(closure(["a.main"], packages)) == {"a.main", "a.used"}
    before = fingerprint(["a.main"], (), packages=packages)
    (tmp_path / "used.py").write_text('"""New words."""\n\nx    = 1  # why\n')
    assert fingerprint(["a.main"], (), packages=packages) == before
    (tmp_path / "used.py").write_text("x = 2\n")
    assert fingerprint(["a.main"], (), packages=packages) != before


def test_data_and_parameters_count(tmp_path):
    from benchmarks.fidelity.fingerprints import fingerprint

    file = tmp_path / "counts.csv"
    file.write_text("1,2")
    found = [fingerprint([], (1,), [file]), fingerprint([], (2,), [file])]
    file.write_text("1,3")
    assert len({*found, fingerprint([], (1,), [file])}) == 3
