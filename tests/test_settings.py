from __future__ import annotations

import enum
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sphisto as sp
from sphisto._settings import SETTINGS, Settings
from sphisto.datasets import _visium
from sphisto.predict.tiles import device_of


@pytest.fixture(autouse=True)
def _as_before():
    with sp.settings.override(verbosity=sp.settings.verbosity, progress="auto", cachedir=None, device="auto"):
        yield


class Scanpy(enum.IntEnum):
    hint = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [("error", "error"), ("Warning", "warning"), ("info", "info"), ("debug", "debug"), ("hint", "info"),
     (0, "error"), (1, "warning"), (2, "info"), (3, "info"), (4, "debug"), ("4", "debug"), (np.int64(1), "warning"),
     (Scanpy.hint, "info")],
    ids=repr,
)  # fmt: skip
def test_verbosity_is_the_level_of_the_logger(value, expected):
    sp.settings.verbosity = value
    assert sp.settings.verbosity == expected
    assert logging.getLogger("sphisto").level == getattr(logging, expected.upper())


def test_a_level_set_by_hand_is_the_verbosity():
    logging.getLogger("sphisto").setLevel(25)
    assert sp.settings.verbosity == "warning"
    logging.getLogger("sphisto").setLevel(logging.CRITICAL)
    assert sp.settings.verbosity == "error"


@pytest.mark.parametrize("value", [5, -1, 1.5, True, None, "loud", "7", [], "", "²"], ids=repr)
def test_what_is_no_verbosity_is_refused(value):
    sp.settings.verbosity = "warning"
    with pytest.raises(
        ValueError, match=r'verbosity = .*; expected "error", "warning", "info", "debug", or a number from 0 to 4'
    ):
        sp.settings.verbosity = value
    assert sp.settings.verbosity == "warning"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (0, False), ("auto", "auto"), ("AUTO", "auto"), ("yes", True), ("0", False)],
    ids=repr,
)
def test_progress_is_one_of_three(value, expected):
    sp.settings.progress = value
    assert sp.settings.progress is expected or sp.settings.progress == expected == "auto"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("progress", "maybe", "progress = 'maybe'; expected True, False or \"auto\""),
        ("progress", None, "progress = None"),
        ("progress", [], r"progress = \[\]"),
        ("cachedir", "", "cachedir = ''; expected the path of a folder, or None"),
        ("cachedir", 3, "cachedir = 3; expected the path of a folder"),
        ("cachedir", __file__, "and this is a file"),
        ("device", "gpu", 'device = \'gpu\'; expected "auto", "cpu", "cuda", "cuda:N" or "mps"'),
        ("device", "cuda:", "device = 'cuda:'"),
        ("device", None, "device = None"),
    ],
)
def test_an_impossible_value_is_refused(name, value, message):
    before = getattr(sp.settings, name)
    with pytest.raises(ValueError, match=message):
        setattr(sp.settings, name, value)
    assert getattr(sp.settings, name) == before


def test_a_setting_that_does_not_exist_is_refused_with_the_one_that_is_meant():
    message = "no setting 'verbostiy'. There are: verbosity, progress, cachedir, device. Did you mean 'verbosity'?"
    with pytest.raises(AttributeError, match=re.escape(message)):
        sp.settings.verbostiy = 1
    with pytest.raises(AttributeError, match=re.escape(message)):
        _ = sp.settings.verbostiy
    with pytest.raises(AttributeError, match="no setting 'n_jobs'. There are: verbosity, progress, cachedir, device.$"):
        sp.settings.n_jobs = 2
    with pytest.raises(AttributeError, match="no setting 'colour'"), sp.settings.override(colour="red"):
        pass


def test_override_holds_for_a_while_and_after_an_error_too(tmp_path):
    def change():
        with sp.settings.override(verbosity=0, progress=False, cachedir=tmp_path, device="cpu"):
            found = tuple(getattr(sp.settings, name) for name in SETTINGS)
            assert found == ("error", False, tmp_path, "cpu")
            raise RuntimeError

    sp.settings.verbosity = "warning"
    before = repr(sp.settings)
    with pytest.raises(RuntimeError):
        change()
    assert repr(sp.settings) == before


def test_override_changes_nothing_if_one_value_is_wrong():
    before = repr(sp.settings)
    with pytest.raises(ValueError, match="device = 'gpu'"), sp.settings.override(progress=True, device="gpu"):
        pass
    assert repr(sp.settings) == before


def test_settings_show_themselves():
    with sp.settings.override(verbosity="warning", progress=True, device="cuda:1", cachedir=Path("/kept")):
        assert repr(sp.settings).splitlines() == [
            "Settings", '  verbosity  "warning"', "  progress   True", f"  cachedir   {Path('/kept').absolute()}",
            '  device     "cuda:1"',
        ]  # fmt: skip
    assert dir(sp.settings) == sorted([*SETTINGS, "override"])


def test_every_setting_is_documented():
    assert all(len(vars(Settings)[name].__doc__) > 60 for name in SETTINGS)


def test_downloads_are_kept_where_the_settings_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    sp.settings.cachedir = "kept"
    assert _visium._folder(None) == tmp_path / "kept" / "visium"
    sp.settings.cachedir = "~/kept"
    assert _visium._folder(None) == tmp_path / "home" / "kept" / "visium"
    assert _visium._folder("here") == Path("here")


def test_the_device_is_the_settings_unless_it_is_given():
    sp.settings.device = "cpu"
    assert device_of(None).type == "cpu"
    sp.settings.device = "cuda:99"
    with pytest.raises(ValueError, match="Found device='cuda:99', which cannot be used here"):
        device_of(None)
    assert device_of("cpu").type == "cpu"


# ---- in a process of its own


def said(code: str, **variables: str) -> str:
    """What a new Python writes to standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPHISTO_")}
    code = "import logging\nlogger = logging.getLogger('sphisto')\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | variables, capture_output=True, text=True, check=True
    )
    return done.stderr


TELL = "\nlogger.debug('one'); logger.info('two %d', 2); logger.warning('three')"


def test_a_plain_script_sees_what_it_is_told():
    assert said("import sphisto" + TELL) == "two 2\nthree\n"
    assert said("import sphisto; sphisto.settings.verbosity = 'warning'" + TELL) == "three\n"
    assert said("import sphisto; sphisto.settings.verbosity = 4" + TELL) == "one\ntwo 2\nthree\n"


def test_a_program_with_handlers_of_its_own_sees_each_message_once():
    assert said("logging.basicConfig(); import sphisto" + TELL) == "INFO:sphisto:two 2\nWARNING:sphisto:three\n"
    assert said("import sphisto; logging.basicConfig()" + TELL) == "INFO:sphisto:two 2\nWARNING:sphisto:three\n"
    assert said("import sphisto; logger.addHandler(logging.StreamHandler())" + TELL) == "two 2\nthree\n"


def test_a_level_that_a_program_set_before_holds():
    assert said("logger.setLevel(logging.ERROR); import sphisto" + TELL) == ""


def test_variables_are_where_settings_begin(tmp_path):
    code = "import sphisto, sys; print(sphisto.settings, file=sys.stderr)"
    shown = said(
        code, SPHISTO_VERBOSITY="1", SPHISTO_PROGRESS="false", SPHISTO_CACHEDIR=str(tmp_path), SPHISTO_DEVICE="cpu"
    )
    assert shown.split() == [
        "Settings", "verbosity", '"warning"', "progress", "False", "cachedir", str(tmp_path), "device", '"cpu"',
    ]  # fmt: skip


def test_a_wrong_variable_is_told_and_passed_over():
    assert said("import sphisto; assert sphisto.settings.device == 'auto'", SPHISTO_DEVICE="gpu") == (
        'The variable SPHISTO_DEVICE is passed over. Found settings.device = \'gpu\'; expected "auto", "cpu", '
        '"cuda", "cuda:N" or "mps".\n'
    )
