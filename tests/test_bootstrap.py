from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """The script as a module, with an environment in a folder of its own and commands noted instead of run."""
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
            for stamp in module.ENVIRONMENT.glob(".ready-*"):
                stamp.unlink()
            module.ENVIRONMENT.mkdir(exist_ok=True)

    monkeypatch.setattr(module, "run", note)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / "environment")
    return module


def kinds(done):
    """What each command was, in one word."""
    words = {"-m venv": "venv", "install -qq pip==": "pip", "--constraint": "install"}
    return [next((kind for text, kind in words.items() if text in line), "run") for line in done]


def test_first_run_makes_the_environment_and_later_ones_use_it(bootstrap):
    bootstrap.main(["test", "-x"])
    assert kinds(bootstrap.done) == ["venv", "pip", "install", "run"]
    assert bootstrap.done[2].endswith(f"--editable {ROOT} --group {ROOT / 'pyproject.toml'}:test")
    assert "-m pytest " in bootstrap.done[3]
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
    monkeypatch.setattr(bootstrap, "fingerprint", lambda: "another")
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


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "bootstrap.py"])
def test_fingerprint_depends_on_each_file(bootstrap, tmp_path, monkeypatch, name):
    before = bootstrap.fingerprint()
    for other in ("pyproject.toml", "constraints.txt", "bootstrap.py"):
        (tmp_path / other).write_bytes((ROOT / other).read_bytes())
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    assert bootstrap.fingerprint() == before
    with (tmp_path / name).open("a") as file:
        file.write("\n")
    assert bootstrap.fingerprint() != before


def test_groups_exist(bootstrap):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {group for wanted, *_ in bootstrap.COMMANDS.values() for group in wanted} <= set(groups)


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


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_continuous_integration_runs_the_script_from_the_root(tmp_path):
    # a python3 that says how it was called stands in for the real one
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho "$PWD" "$@"\nexit 3\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = str(ROOT / ".ci" / "run")
    done = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(ROOT), "bootstrap.py", "test"]
    assert done.returncode == 3
