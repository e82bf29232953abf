"""The files that other registries take say what pyproject.toml says: conda-forge's recipe, the entry for scverse."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ABOUT = PYPROJECT["project"]
# what conda-forge calls otherwise than PyPI
CONDA = {
    "dask": "dask-core",
    "igraph": "python-igraph",
    "matplotlib": "matplotlib-base",
    "openslide-bin": "openslide",
    "torch": "pytorch",
}


def read(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recipe() -> dict:
    """The recipe with the values of its context filled in."""
    text = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    for name, value in yaml.safe_load(text)["context"].items():
        text = text.replace(f"${{{{ {name} }}}}", str(value))
    return yaml.safe_load(text)


def on_conda(lines: list[str]) -> list[str]:
    wanted = map(Requirement, lines)
    return sorted(f"{CONDA.get(one.name, one.name)} {one.specifier}" for one in wanted)


def test_recipe_is_of_this_version(recipe):
    assert recipe["schema_version"] == 1
    assert recipe["package"] == {"name": ABOUT["name"], "version": ABOUT["version"]}
    assert recipe["source"] == {"path": f"../dist/{ABOUT['name']}-{ABOUT['version']}.tar.gz"}


def test_recipe_asks_for_what_pyproject_asks_for(recipe):
    python, *others = recipe["requirements"]["run"]
    assert python == f"python {ABOUT['requires-python']}"
    assert others == on_conda(ABOUT["dependencies"])
    extras = [line for lines in ABOUT["optional-dependencies"].values() for line in lines]
    assert recipe["requirements"]["run_constraints"] == on_conda(extras)


def test_recipe_builds_with_what_pyproject_builds_with(recipe):
    oldest = ABOUT["requires-python"].removeprefix(">=")
    tools = on_conda(PYPROJECT["build-system"]["requires"])
    assert recipe["requirements"]["host"] == [f"python {oldest}.*", *tools, "pip"]
    assert recipe["build"]["noarch"] == "python"
    commands = [f"{name} = {function}" for name, function in ABOUT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands


def test_recipe_describes_the_package_as_pyproject_does(recipe):
    assert recipe["about"]["summary"] == ABOUT["description"]
    assert recipe["about"]["license"] == ABOUT["license"]
    assert [recipe["about"]["license_file"]] == ABOUT["license-files"]


def test_recipe_tests_every_module_and_the_command(recipe):
    import sphisto

    modules, commands = recipe["tests"]
    public = [f"sphisto.{name}" for name in sphisto.__all__ if find_spec(f"sphisto.{name}") is not None]
    assert modules["python"]["imports"] == ["sphisto", *public]
    assert modules["python"]["pip_check"] is True
    oldest = f"{ABOUT['requires-python'].removeprefix('>=')}.*"
    assert modules["python"]["python_version"] == oldest
    assert commands["requirements"]["run"] == [f"python {oldest}"]
    assert commands["script"] == ["sphisto --help", "sphisto --version"]


# The fields of an entry of scverse/ecosystem-packages as they were in August 2026: whether each must be there, and its kind
FIELDS = {
    "name": (True, str),
    "description": (True, str),
    "project_home": (True, str),
    "documentation_home": (True, str),
    "tutorials_home": (False, str),
    "publications": (False, list),
    "install": (True, dict),
    "primary_category": (True, str),
    "tags": (True, list),
    "license": (True, str),
    "language": (True, str),
    "contact": (True, list),
    "test_command": (False, str),
    "logo": (False, str),
    "category": (True, str),
}
TO_FILL_IN = {"project_home", "documentation_home", "contact"}


@pytest.fixture
def entry() -> dict:
    return read(".scverse/meta.yaml")


def test_entry_has_the_fields_of_the_registry(entry):
    assert entry.keys() <= FIELDS.keys()
    assert {name: type(value) for name, value in entry.items()} == {name: FIELDS[name][1] for name in entry}
    assert {name for name, (needed, _) in FIELDS.items() if needed} - entry.keys() == TO_FILL_IN
    assert all(isinstance(tag, str) for tag in entry["tags"])
    assert len(set(entry["tags"])) == len(entry["tags"]) > 0
    assert entry["category"] == "ecosystem"


def test_entry_names_what_is_to_be_filled_in():
    comments = re.findall(r"^# +(\w+): ", (ROOT / ".scverse" / "meta.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(comments) == TO_FILL_IN


def test_entry_describes_the_package_as_pyproject_does(entry):
    assert entry["name"] == ABOUT["name"]
    assert entry["description"].startswith(ABOUT["description"])
    assert entry["install"]["pypi"] == ABOUT["name"]
    assert entry["license"] == ABOUT["license"]
    assert entry["language"] == "Python"
    (command,) = re.findall(r"bootstrap\.py (\w+)", entry["test_command"])
    assert f"bootstrap.py {command} " in (ROOT / "bootstrap.py").read_text(encoding="utf-8")
