from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from sphisto.io.export.report.page import Blobs, as_json, write_page

ODD = [
    "</script><script>alert(1)</script>",
    "<!--",
    'it\'s "quoted"',
    "\u2028 \u2029",
    "\U0001f9e0",
    "a/b\\c",
    "{{data}}",
    "\ud800",
]


def test_json_may_stand_in_a_script():
    text = as_json({name: [name] for name in ODD})
    assert not set("<>&\u2028\u2029") & set(text)
    said = [name.encode("utf-8", "replace").decode() for name in ODD]
    assert json.loads(text) == {name: [name] for name in said}


def test_numbers_become_plain_and_short():
    about = {"a": np.float32(0.1), "b": np.array([1.5, np.nan]), "c": np.int64(3), 4: (np.inf, True, None)}
    about["d"] = np.array([[0.1]], dtype=np.float32)
    assert as_json(about) == '{"a":0.1,"b":[1.5,null],"c":3,"4":[null,true,null],"d":[[0.1]]}'


def written(path, title="T"):
    blobs = Blobs()
    assert [blobs.add("AAAA"), blobs.add("BBBB")] == [0, 1]
    write_page(path, {"title": title}, [{"input": "<p>one</p>"}, {"input": "<p>two</p>"}], blobs)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("title", ODD[:-1])
def test_a_page_holds_its_parts_whatever_they_say(tmp_path, title):
    page = written(tmp_path / "a.html", title)
    assert (
        json.loads(re.search(r'<script type="application/json" id="report">(.*?)</script>', page)[1])["title"] == title
    )
    assert re.findall(r'<script type="text/plain" id="blob-(\d)">(\w+)</script>', page) == [
        ("0", "AAAA"),
        ("1", "BBBB"),
    ]
    assert re.findall(r'<div data-section="(\d)"><p>(\w+)', page) == [("0", "one"), ("1", "two")]
    assert "alert(1)</script></title>" not in page


def test_the_policy_lets_the_page_run_its_own_script_and_ask_for_nothing(tmp_path):
    page = written(tmp_path / "a.html")
    policy = dict(rule.strip().split(" ", 1) for rule in re.search(r'Policy" content="([^"]*)"', page)[1].split(";"))
    assert policy["default-src"] == policy["form-action"] == "'none'"
    assert set(policy) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    for kind, tag in {"script": "script", "style": "style"}.items():
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"\son\w+=|https?://(?!www\.w3\.org)|\sstyle=", page)


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_page(path, {"title": "T"}, [{"input": "\ud800"}], Blobs())
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]
