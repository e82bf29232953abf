"""What runs on GitHub: nothing that somebody else can change, no more rights than needed; tests see what zizmor sees."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

WORKFLOWS = sorted((Path(__file__).resolve().parents[1] / ".github" / "workflows").glob("*.yaml"))


def jobs() -> dict[str, dict]:
    read = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    return {f"{workflow}.{job}": about for workflow, whole in read.items() for job, about in whole["jobs"].items()}


def test_actions_are_pinned_to_one_commit_each_and_say_its_release():
    lines = [line for path in WORKFLOWS for line in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))]
    others = {line for line in lines if not line.startswith("$/")}
    assert others
    assert [line for line in others if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert len({line.partition("@")[0] for line in others}) == len(others), "one action, two commits"


def test_rights_are_given_to_the_jobs_that_need_them_only():
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    more = {name: about["permissions"] for name, about in jobs().items() if "permissions" in about}
    assert more == {"release.publish": {"id-token": "write"}, "release.github": {"contents": "write"}}


def test_what_is_published_was_built_and_tried_before():
    found = jobs()
    assert found["release.build"] == {"needs": "version", "uses": "$/.github/workflows/build.yaml"}
    assert found["release.publish"]["needs"] == "build"
    assert found["release.publish"]["environment"]["name"] == "pypi"
    assert not any("checkout" in step.get("uses", "") or "run" in step for step in found["release.publish"]["steps"])
    assert found["build.install"]["needs"] == "package"
    assert any("tests/installed.py dist/*.whl" in step.get("run", "") for step in found["build.install"]["steps"])
