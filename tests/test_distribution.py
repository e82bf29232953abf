"""What is published: the sdist and the wheel hold what they should, and say of themselves what pyproject.toml says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"{ABOUT['name']}-{ABOUT['version']}"
# hatchling's hooks of PEP 517, those that pip and build call; a process of its own, as they work in the current folder
HOOKS = "import sys; from hatchling.build import build_{what}; build_{what}(sys.argv[1])"


class Built(NamedTuple):
    """The files of a release."""

    sdist: Path
    wheel: Path


def build(what: str, source: Path, to: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", HOOKS.format(what=what), str(to)], cwd=source, check=True)
    (made,) = to.iterdir()
    return made


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    return Built(build("sdist", ROOT, folder / "sdist"), build("wheel", ROOT, folder / "wheel"))


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def metadata_of(wheel: Path) -> dict[str, list[str]]:
    text = files_of(wheel)[f"{NAME}.dist-info/METADATA"].decode()
    headers = HeaderParser().parsestr(text)
    return {name: headers.get_all(name, []) for name in headers}


def test_names_say_the_version_and_that_any_python_will_do(built):
    assert built.sdist.name == f"{NAME}.tar.gz"
    assert built.wheel.name == f"{NAME}-py3-none-any.whl"


def test_the_wheel_holds_the_package_and_nothing_else(built):
    source = ROOT / "src"
    package = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in source.joinpath("sphisto").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = files_of(built.wheel)
    about = {name.removeprefix(f"{NAME}.dist-info/") for name in found if name.startswith(f"{NAME}.dist-info/")}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert {name: data for name, data in found.items() if ".dist-info/" not in name} == package
    assert found["sphisto/py.typed"] == b""
    assert found[f"{NAME}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_says_what_pyproject_says(built):
    said = metadata_of(built.wheel)
    assert said["Name"] == [ABOUT["name"]]
    assert said["Version"] == [ABOUT["version"]]
    assert said["Summary"] == [ABOUT["description"]]
    assert said["Requires-Python"] == [ABOUT["requires-python"]]
    assert said["License-Expression"] == [ABOUT["license"]]
    assert said["License-File"] == ABOUT["license-files"]
    assert said["Classifier"] == ABOUT["classifiers"]
    assert said["Provides-Extra"] == sorted(ABOUT["optional-dependencies"])
    assert said["Description-Content-Type"] == ["text/markdown"]

    extras = ABOUT["optional-dependencies"].items()
    wanted = {Requirement(line) for line in ABOUT["dependencies"]}
    wanted |= {Requirement(f"{line}; extra == '{extra}'") for extra, lines in extras for line in lines}
    assert set(map(Requirement, said["Requires-Dist"])) == wanted
    commands = files_of(built.wheel)[f"{NAME}.dist-info/entry_points.txt"].decode().split("\n")
    assert [line for line in commands if line] == ["[console_scripts]", "sphisto = sphisto.cli:main"]
    assert ABOUT["scripts"] == {"sphisto": "sphisto.cli:main"}


def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pypi_is_told_the_readme(built):
    text = files_of(built.wheel)[f"{NAME}.dist-info/METADATA"].decode().replace("\r\n", "\n").partition("\n\n")[2]
    source = ABOUT.get("urls", {}).get("Source")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        text.strip()
        == (readme if source is None else hook().with_addresses(readme, source, f"v{ABOUT['version']}")).strip()
    )


def test_links_of_the_readme_lead_to_files_of_the_release_once_there_is_a_repository():
    readme, source = (ROOT / "README.md").read_text(encoding="utf-8"), "https://example.org/us/sphisto/"
    found = hook().with_addresses(readme, source, "v1.2.3")
    links = [re.findall(r"\]\(([^)\s]+)\)", text) for text in (readme, found)]
    assert len(links[0]) == len(links[1])
    assert not [link for link in links[1] if not re.match("https?:|#", link)]
    pictures = 0
    for before, after in zip(*links, strict=True):
        if before == after:
            continue
        assert (ROOT / before.partition("#")[0]).is_file()
        kind = "raw" if before.endswith(".jpg") else "blob"
        assert after == f"https://example.org/us/sphisto/{kind}/v1.2.3/{before}"
        pictures += kind == "raw"
    assert pictures == 2


def test_what_the_package_says_of_itself_is_what_the_wheel_says(built):
    import sphisto

    assert metadata_of(built.wheel)["Version"] == [sphisto.__version__]


def test_python_versions_that_are_named_are_those_that_are_allowed_and_tested():
    named = {line.rsplit(" ", 1)[1] for line in ABOUT["classifiers"] if re.search(r":: Python :: 3\.\d+$", line)}
    tested = set(re.findall(r'"(3\.\d+)"', (ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8")))
    assert named == tested
    assert ABOUT["requires-python"] == f">={min(named)}"


def test_the_sdist_is_the_checkout(built):
    try:
        words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a checkout of git")
    linked = [path for path in ROOT.joinpath("docs", "tutorials").iterdir() if path.is_file()]
    wanted = {name for name in listed if ROOT.joinpath(name).is_file()}
    wanted |= {f"docs/tutorials/{path.name}" for path in linked} | {"PKG-INFO"}
    with tarfile.open(built.sdist) as file:
        found = {name.removeprefix(f"{NAME}/") for name in file.getnames()}
    assert found == wanted


def test_the_sdist_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built.sdist) as file:
        file.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / NAME, tmp_path / "wheel")
    assert files_of(again) == files_of(built.wheel)


@pytest.mark.slow
def test_the_example_of_the_readme_runs_and_asks_for_nothing_that_a_folder_lacks(tmp_path, capfd):
    """With the sphisto at hand; ``python tests/installed.py WHEEL`` does the same in an empty environment."""
    spec = importlib.util.spec_from_file_location("installed", ROOT / "tests" / "installed.py")
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert "{'gene': 2, 'y': 96, 'x': 112}" in installed.run_example(sys.executable, tmp_path)
    said = capfd.readouterr().err
    assert "um per full-resolution px" in said  # what the fit understood is logged there
    assert "um_per_px" not in said
    assert "`image`" not in said
