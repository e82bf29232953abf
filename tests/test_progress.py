from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest

import sphisto as sp
from sphisto import _progress
from sphisto._progress import shows_progress, stage

pty = pytest.importorskip("pty", reason="no terminals of that kind")
termios = pytest.importorskip("termios", reason="no terminals of that kind")

STAGES = """
import logging, time
from sphisto import _progress
from sphisto._progress import stage
_progress._BRIEF = 0.05
with stage("write rasters", 4, initial=1, unit="tile") as bar:
    for _ in range(3):
        time.sleep(0.2)
        bar.update()
    logging.getLogger("sphisto").warning("a tile was odd")
with stage("factors"):
    time.sleep(0.1)
with stage("scores"):
    pass
"""

FIT = """
import sphisto as sp
adata = sp.datasets.toy(96, 96, pitch_um=24, spot_um=13)
sp.tl.fit_projection(adata, store="toy.zarr", max_epochs=1, device="cpu")
"""


def environment(**variables: str) -> dict[str, str]:
    hidden = ("CI", "TQDM_DISABLE", "TERM")
    return {name: value for name, value in os.environ.items() if name not in hidden} | variables


def on_terminal(code: str, columns: int = 100, **variables: str) -> str:
    """What a new Python writes to a terminal."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(ours, (30, columns))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=its, stdout=its, stderr=its, env=environment(TERM="xterm", **variables),
        cwd=variables.get("PWD"), close_fds=True,
    ) as process:  # fmt: skip
        os.close(its)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # how Linux says that the other end was closed
            pass
        os.close(ours)
    shown = b"".join(parts).decode()
    assert process.returncode == 0, shown
    return shown


def into_pipe(code: str, **variables: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**variables), cwd=variables.get("PWD"), capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def lines_of(shown: str) -> list[str]:
    """Lines as they stand in the end: what comes after a carriage return is written over what was there."""
    lines = [re.sub(r"\x1b\[\w", "", line).rstrip("\r").split("\r")[-1].rstrip() for line in shown.split("\n")]
    return [line for line in lines if line]


@pytest.mark.parametrize("columns", [100, 0])  # 0: not known, as in containers
def test_a_terminal_shows_a_bar_for_each_stage(columns):
    shown = on_terminal(STAGES, columns)
    assert re.search(r"\rwrite rasters:  ?\d+%.* \d/4 \[00:0\d<00:0\d", shown)  # the time left
    lines = lines_of(shown)
    assert lines[0] == "a tile was odd"
    assert re.match(r"write rasters: 100%.* 4/4 \[", lines[1])
    assert re.fullmatch(r"factors: 00:0\d", lines[2])
    assert len(lines) == 3  # the scores took no time worth a line
    assert ": 0." not in shown  # what is shown is not logged, too


@pytest.mark.parametrize("where", ["pipe", "ci", "dumb", "switched off"])
def test_elsewhere_stages_are_lines_of_the_log(where):
    _, shown = {
        "pipe": lambda: into_pipe(STAGES),
        "ci": lambda: ("", on_terminal(STAGES, CI="true")),
        "dumb": lambda: (
            "",
            on_terminal(STAGES.replace("\nimport", "\nimport os; os.environ['TERM'] = 'dumb'\nimport")),
        ),
        "switched off": lambda: ("", on_terminal(STAGES, SPHISTO_PROGRESS="false")),
    }[where]()
    shown = shown.replace("\r\n", "\n")  # a terminal's ends of lines
    assert "\r" not in shown
    assert re.fullmatch(r"a tile was odd\nwrite rasters: 0\.\d s\nfactors: 0\.\d s\n", shown)


def test_bars_can_be_asked_for_in_a_pipe():
    _, shown = into_pipe(STAGES, SPHISTO_PROGRESS="true")
    assert "\rwrite rasters: 100%" in shown


@pytest.mark.slow
def test_a_fit_shows_its_stages_on_a_terminal_and_none_in_a_pipe(tmp_path):
    code = "from sphisto import _progress; _progress._BRIEF = 0\n" + FIT
    shown = lines_of(on_terminal(code, PWD=str(tmp_path)))
    stages = ["read", "image and tissue", "write image", "features of the image", "factors", "field", "train, image",
              "factors, of all spots", "field, of all spots", "skill of genes", "write rasters", "coarser levels",
              "write table"]  # fmt: skip
    found = [line.split(":")[0] for line in shown]
    assert [name for name in found if name in stages or name.startswith("train")] == [
        name if name != "train, image" else next(each for each in found if each.startswith("train")) for name in stages
    ]
    assert shown[-1].endswith("written to toy.zarr")
    out, error = into_pipe(code, PWD=str(tmp_path))
    assert out == "Projection 'projection' of 'toy' written to toy.zarr\n"
    assert "\r" not in error
    assert "%|" not in error
    logged = [line.split(": ")[0] for line in error.splitlines() if re.search(r": [\d.]+ s$", line)]
    assert logged == [name if name != "train, image" else "train, 1 epochs" for name in stages]


def test_a_brief_stage_is_told_at_debug_only(caplog, monkeypatch):
    with sp.settings.override(progress=False, verbosity="debug"):
        with stage("factors"):
            pass
        monkeypatch.setattr(_progress, "_BRIEF", 0)
        with stage("field", 3) as bar:
            bar.update(2)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.DEBUG, "factors: 0.0 s"), (logging.INFO, "field: 0.0 s"),
    ]  # fmt: skip


def test_a_stage_that_fails_is_not_told_as_done(caplog):
    quiet = sp.settings.override(progress=False, verbosity="debug")
    with pytest.raises(ValueError, match="odd"), quiet, stage("factors"):
        raise ValueError("odd")  # noqa: EM101
    assert not caplog.records


class Clock:
    """Stands for the clock of the stages; it moves when it is told."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            3,
            "the 295 tiles that are left take about 14 min 45 s, if each takes as long as the first tiles did; fewer `genes` take less",
        ),
        (0.1, ""),
    ],
)
def test_a_long_stage_is_foretold_once_by_its_first_steps(caplog, clock, step, said):
    with sp.settings.override(progress=False, verbosity="info"):
        with stage("write rasters", 308, initial=10, unit="tile", less="fewer `genes` take less") as steps:
            clock.now += 60  # what the first step prepares says nothing of the others
            for _ in range(298):
                steps.update()
                clock.now += step
        with stage("factors", 300) as steps:  # nothing takes less
            for _ in range(300):
                clock.now += 3
                steps.update()
    foretold = [record.message for record in caplog.records if "that are left" in record.message]
    assert foretold == ([f"write rasters: {said}"] if said else [])


def test_a_fit_foretells_both_phases_of_its_training(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(_progress, "_LOOK", 0.0)
    monkeypatch.setattr(_progress, "_LONG", 0.0)
    adata = sp.datasets.toy(160, 160, pitch_um=24, spot_um=13)
    sp.tl.fit_projection(adata, store=tmp_path / "toy.zarr", max_epochs=4, device="cpu")
    foretold = dict(record.message.split(": the ") for record in caplog.records if "that are left" in record.message)
    assert list(foretold) == ["train, image", "train, image and spots"]  # of one tile there is no second one
    assert all("`max_epochs`" in text for text in foretold.values())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (3.21, "3.2 s"), (59, "59 s"), (200.4, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_times_are_written_in_the_unit_that_says_most(seconds, text):
    assert _progress._duration(seconds) == text


def test_a_notebook_shows_bars(monkeypatch):
    class Kernel:
        kernel = None

    class IPython:
        @staticmethod
        def get_ipython():
            return Kernel()

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.delenv("CI", raising=False)
    assert not shows_progress()
    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert shows_progress()
    monkeypatch.setenv("CI", "true")
    assert not shows_progress()


def test_without_an_output_no_bar_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with sp.settings.override(progress=True), stage("factors", 3) as bar:
        bar.update()


BARS = """
import io, sys
import sphisto
from sphisto._progress import progress_bar
class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")
def count():
    with progress_bar("fit", 4, initial=1) as progress:
        progress.update(3)
        progress.set_postfix({"loss": "1"})
ascii, closed = io.TextIOWrapper(io.BytesIO(), encoding="ascii"), io.StringIO()
closed.close()
for sphisto.settings.progress in (True, "auto"):
    for sys.stderr in (None, closed, Gone(), ascii):
        count()
print(ascii.buffer.getvalue().decode("ascii"))
"""


def test_a_bar_on_an_output_that_cannot_show_it_ends_nothing():
    shown, _ = into_pipe(BARS)
    assert "fit: 100%" in shown
    assert "4/4" in shown
