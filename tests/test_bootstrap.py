from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "constraints.txt", "constraints-newest.txt", "constraints-lowest.txt", "bootstrap.py")


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The script as a module of Python 3.11, in a folder of its own, with commands noted instead of run."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.done = []
    module.fails_at = None

    def note(words, cwd=None):
        text = " ".join(words)
        module.done.append(text)
        if module.fails_at and module.fails_at in text:
            sys.exit(7)
        if "venv" in words:
            for stamp in Path(words[-1]).glob(".ready-*"):
                stamp.unlink()
            Path(words[-1]).mkdir(exist_ok=True)

    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "run", note)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    return module


def kinds(done):
    """What each command was, in one word."""
    words = {"-m venv": "venv", "install -qq pip==": "pip", "--constraint": "install"}
    return [next((kind for text, kind in words.items() if text in line), "run") for line in done]


def test_quick_is_a_choice_of_tests(bootstrap):
    bootstrap.main(["test", "--quick", "-x"])
    assert bootstrap.done[-1].endswith(
        "-m pytest -q -n auto --dist loadfile -m not slow tests/core tests/features tests/field tests/genes tests/get tests/networks tests/slide -x"
    )


def test_first_run_makes_the_environment_and_later_ones_use_it(bootstrap, tmp_path):
    bootstrap.main(["test", "-x"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run"]
    assert bootstrap.done[0].endswith(f"-m venv --clear {tmp_path / '.venv'}")
    groups = tmp_path / "pyproject.toml"
    assert bootstrap.done[2].endswith(
        f"--constraint {tmp_path / 'constraints.txt'} --editable {tmp_path} --group {groups}:test --group {groups}:standards"
    )
    assert "-m pytest -q -n auto --dist loadfile" in bootstrap.done[3]
    assert bootstrap.done[3].endswith(" -x")
    bootstrap.done.clear()
    bootstrap.main(["test"])
    assert kinds(bootstrap.done) == ["run"]


def test_another_command_completes_the_same_environment(bootstrap):
    bootstrap.main(["demo"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run"]
    assert "--group" not in bootstrap.done[2]
    bootstrap.done.clear()
    bootstrap.main(["test"])
    bootstrap.main(["demo"])
    assert kinds(bootstrap.done) == ["install", "run", "run"]


def test_changed_requirements_make_the_environment_anew(bootstrap, monkeypatch):
    bootstrap.main(["demo"])
    bootstrap.done.clear()
    monkeypatch.setattr(bootstrap, "fingerprint", lambda stack: "another")
    bootstrap.main(["demo"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run"]


def test_failed_install_is_not_taken_for_an_environment(bootstrap):
    bootstrap.fails_at = "--constraint"
    with pytest.raises(SystemExit, match="7"):
        bootstrap.main(["demo"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install"]
    bootstrap.fails_at = None
    bootstrap.done.clear()
    bootstrap.main(["demo"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run"]


@pytest.mark.parametrize("stack", ["pinned", "newest", "lowest"])
@pytest.mark.parametrize("name", FILES)
def test_fingerprint_depends_on_the_files_of_the_stack(bootstrap, tmp_path, stack, name):
    about = bootstrap.STACKS[stack]
    before = bootstrap.fingerprint(about)
    assert bootstrap.fingerprint(about) == before
    with (tmp_path / name).open("a") as file:
        file.write("\n")
    assert (bootstrap.fingerprint(about) != before) == (name in {"pyproject.toml", "bootstrap.py", about.constraints})


def test_groups_exist(bootstrap):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {group for wanted, *_ in bootstrap.COMMANDS.values() for group in wanted} <= set(groups)
    assert {group for stack in bootstrap.STACKS.values() for group in stack.tested_with} <= set(groups)


@pytest.mark.parametrize(
    ("python", "options", "environment", "constraints"),
    [
        ((3, 11, 7), [], ".venv", "constraints.txt"),
        ((3, 11, 7), ["--stack", "pinned"], ".venv", "constraints.txt"),
        ((3, 11, 7), ["--stack", "lowest"], ".venv-lowest", "constraints-lowest.txt"),
        ((3, 12, 1), [], ".venv-newest", "constraints-newest.txt"),
        ((3, 13, 0), [], ".venv-newest", "constraints-newest.txt"),
        ((3, 14, 0), ["--stack=newest"], ".venv-newest", "constraints-newest.txt"),
    ],
)
def test_each_stack_has_an_environment_and_the_default_follows_python(
    bootstrap, tmp_path, monkeypatch, capsys, python, options, environment, constraints
):
    monkeypatch.setattr(sys, "version_info", python)
    bootstrap.main([*options, "demo", "--out", "here"])
    bootstrap.main(["demo", *options, "--out", "here"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run", "run"]
    assert f"--constraint {tmp_path / constraints} " in bootstrap.done[2]
    assert "--group" not in bootstrap.done[2]
    assert bootstrap.done[3] == f"{bootstrap.python_of(tmp_path / environment)} -m sphisto demo --out here"
    assert bootstrap.done[4] == bootstrap.done[3]
    told = f"Versions of {constraints}, Python {'.'.join(map(str, python))}, in {tmp_path / environment}"
    assert capsys.readouterr().out.splitlines()[-1] == told


@pytest.mark.parametrize(("python", "group"), [((3, 11, 7), "standards"), ((3, 13, 0), "interop")])
def test_each_stack_is_tested_with_the_other_packages_that_go_with_it(bootstrap, monkeypatch, python, group):
    monkeypatch.setattr(sys, "version_info", python)
    bootstrap.main(["demo"])
    assert "--group" not in bootstrap.done[2]
    bootstrap.main(["test"])
    assert bootstrap.done[4].count("--group") == 2
    assert f":{group}" in bootstrap.done[4]


@pytest.mark.parametrize(
    ("python", "stack", "message"),
    [
        ((3, 13, 0), "pinned", r"'pinned' is for Python 3\.11, and this is 3\.13.*choose --stack newest"),
        ((3, 12, 1), "lowest", r"'lowest' is for Python 3\.11, and this is 3\.12.*choose --stack newest"),
        ((3, 11, 7), "newest", r"'newest' is for Python 3\.12 or newer, and this is 3\.11.*choose --stack pinned"),
        ((3, 11, 7), "latest", r"no stack 'latest'\. Say one of: pinned, newest, lowest"),
        ((3, 11, 7), "", "no stack ''. Say one of: pinned, newest, lowest"),
    ],
)
def test_a_stack_that_this_python_cannot_have_is_refused(bootstrap, monkeypatch, python, stack, message):
    monkeypatch.setattr(sys, "version_info", python)
    with pytest.raises(SystemExit, match=message):
        bootstrap.main(["test", "--stack", *([stack] if stack else [])])
    assert bootstrap.done == []


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("constraints")])
def test_constraints_are_exact_and_take_any_build_of_torch(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    assert all(len(line.split("==")) == 2 for line in lines)
    assert len({line.split("==")[0].lower() for line in lines}) == len(lines)
    (torch,) = (line for line in lines if line.startswith("torch=="))
    assert "+" not in torch


def test_unknown_command_is_answered_with_the_known_ones(bootstrap):
    with pytest.raises(SystemExit, match="no command 'tests'. Say one of: demo, test, docs"):
        bootstrap.main(["tests"])
    with pytest.raises(SystemExit, match="a command is missing"):
        bootstrap.main([])
    assert bootstrap.done == []


def test_old_python_is_refused(bootstrap, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is 3\.9"):
        bootstrap.main(["demo"])
    assert bootstrap.done == []


def test_exit_status_is_that_of_the_command(tmp_path):
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.run([sys.executable, "-c", "open('here', 'w')"], cwd=tmp_path)
    assert (tmp_path / "here").exists()
    with pytest.raises(SystemExit) as stopped:
        module.run([sys.executable, "-c", "raise SystemExit(5)"])
    assert stopped.value.code == 5


FAKE = """#!/bin/sh
case "$1" in
-c) case "$2" in *version_info\\[:3\\]*) echo {version};; *) exit {too_old};; esac;;
*) echo "{name} in $PWD:" "$@"; exit {status};;
esac
"""


@pytest.fixture
def ci(tmp_path):
    """Runs .ci/run where there are no Pythons but those that are named, which say how they were called."""

    def run(pythons, pyenv=None, free_gb=100):
        for folder, given in ((tmp_path / "bin", pythons), (tmp_path / "pyenv" / "versions", pyenv or {})):
            for name, (version, status) in given.items():
                fake = folder / name
                fake.parent.mkdir(parents=True, exist_ok=True)
                too_old = int(tuple(map(int, version.split("."))) < (3, 12))
                fake.write_text(FAKE.format(name=name, version=version, status=status, too_old=too_old))
                fake.chmod(0o755)
        for tool in ("bash", "sh", "dirname", "sort", "timeout"):
            found = shutil.which(tool)
            if not (tmp_path / "bin" / tool).exists():
                (tmp_path / "bin" / tool).symlink_to(found)
        disk = tmp_path / "bin" / "df"
        disk.write_text(f"#!/bin/sh\necho Filesystem ...\necho /dev/disk 9 9 {free_gb}000000 9% /\n")
        disk.chmod(0o755)
        environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path / "pyenv")}
        script = str(ROOT / ".ci" / "run")
        words = [shutil.which("bash"), script]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


NEWEST = f"in {ROOT}: bootstrap.py test --stack newest -m not slow"


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("pythons", "pyenv", "chosen"),
    [
        (["python3.13", "python3.12"], [], "python3.13"),
        (["python3.12"], ["3.13.0/bin/python3"], "3.13.0/bin/python3"),
        (["python3.14"], ["3.12.1/bin/python3"], "3.12.1/bin/python3"),
        (["python3.14"], [], "python3.14"),
    ],
)
def test_continuous_integration_runs_two_stacks_and_names_them(ci, pythons, pyenv, chosen):
    def version(name):
        return ".".join((re.search(r"3\.1\d(\.\d)?", name)[0] + ".0").split(".")[:3])

    done = ci(
        {"python3": ("3.11.7", 0)} | {name: (version(name), 0) for name in pythons},
        {name: (version(name), 0) for name in pyenv},
    )
    assert done.returncode == 0, done.stderr
    first, second, *end = done.stdout.splitlines()
    assert first == f"python3 in {ROOT}: bootstrap.py test"
    assert second == f"{chosen} {NEWEST}"
    assert end == [
        "pinned (Python 3.11.7, all tests): passed",
        f"newest (Python {version(chosen)}, without slow tests): passed",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_continuous_integration_says_that_the_second_stack_was_cut_off(ci):
    done = ci({"python3": ("3.11.7", 0), "python3.13": ("3.13.0", 124)})
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(
        "newest (Python 3.13.0, without slow tests): not finished, cut off after"
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(("first", "second"), [(3, 0), (0, 4), (3, 4)])
def test_continuous_integration_fails_if_any_stack_does(ci, first, second):
    done = ci({"python3": ("3.11.7", first), "python3.13": ("3.13.0", second)})
    assert done.returncode == 1
    said = ["passed" if status == 0 else f"failed (exit status {status})" for status in (first, second)]
    assert [line.split(": ")[1] for line in done.stdout.splitlines()[-2:]] == said


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_continuous_integration_says_what_it_skips(ci):
    done = ci({"python3": ("3.11.7", 0), "python3.13": ("3.11.7", 0)}, {"3.10.1/bin/python3": ("3.10.1", 0)})
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "pinned (Python 3.11.7, all tests): passed",
        "newest: skipped, for there is no Python 3.12 or newer that can make an environment, on PATH or in pyenv",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.skipif((ROOT / ".venv-newest").exists(), reason="the environment is there: nothing is installed")
def test_continuous_integration_skips_the_second_stack_where_the_disk_has_no_room_for_it(ci):
    done = ci({"python3": ("3.11.7", 0), "python3.13": ("3.13.0", 0)}, free_gb=8)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "pinned (Python 3.11.7, all tests): passed",
        "newest: skipped, for its environment may take 12 GB and the disk has 8 GB free",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_continuous_integration_on_a_newer_python_has_one_stack(ci):
    done = ci({"python3": ("3.13.0", 0), "python3.13": ("3.13.0", 0)})
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "newest (Python 3.13.0, all tests): passed",
        "pinned: skipped, for python3 is Python 3.13.0 and constraints.txt is for 3.11",
    ]
