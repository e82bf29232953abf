from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import get_args

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

import sphisto as sp
from sphisto import __version__, _demo, cli
from sphisto.config import PresetName
from sphisto.core.spot import SpotShape
from sphisto.io.export.geojson import Objects
from sphisto.io.store.summary import summarise
from sphisto.train.settings import with_devices

FAULTS = {
    "missing": FileNotFoundError("Found no picture at missing.tif."),
    "unknown": KeyError("Found no library 'unknown'."),
    "broken": ZeroDivisionError(),
    "interrupted": KeyboardInterrupt(),
}


@pytest.fixture
def calls(monkeypatch):
    """How the functions that take minutes were called: stand-ins note it."""
    noted = {}

    def read_visium(path, **given):
        if given.get("library_id") in FAULTS:
            raise FAULTS[given["library_id"]]
        noted["read_visium"] = (path, given)
        return SimpleNamespace(n_obs=3, n_vars=2)

    def section(data, **given):
        noted["section"] = given
        return Section()

    class Section:
        def __repr__(self):
            return "Section 'µ'\n  3 spots"

    monkeypatch.setattr(sp.io, "read_visium", read_visium)
    monkeypatch.setattr(sp.io, "section", section, raising=False)
    monkeypatch.setattr(sp.pp, "qc", lambda _, **given: noted.update(qc=given))
    monkeypatch.setattr(sp.tl, "fit_projection", lambda data, **given: noted.update(fit_projection=(data, given)))
    return noted


def fit(*words):
    return cli.main(["fit", "folder", "--store", "out.zarr", *words])


def test_fit_passes_options_on_to_the_functions_that_take_them(calls, capsys):
    words = (
        "--image he.tif --genes A,B --min-genes 5 --max-counts 1e5 --um-per-px 0.5 --rng 3 --resume --device cpu "
        "--spot-shape square --spot-um 16 --image-scale 0.5 --no-check --preset fast --devices 2 --library-id lib"
    )
    assert fit(*words.split()) == 0
    assert calls["read_visium"] == ("folder", {"image": "he.tif", "library_id": "lib"})
    assert calls["qc"] == {"min_genes": 5, "max_counts": 1e5}
    assert calls["section"] == {
        "image": "he.tif", "image_scale": 0.5, "spot_um": 16, "spot_shape": "square", "check": False,
    }  # fmt: skip
    section, given = calls["fit_projection"]
    assert repr(section).startswith("Section")
    assert given == {
        "store": "out.zarr", "genes": ["A", "B"], "um_per_px": 0.5, "rng": 3, "resume": True, "device": "cpu",
        "config": with_devices("fast", 2),
    }  # fmt: skip
    shown = capsys.readouterr()
    assert "read 3 spots x 2 genes from folder" in shown.err


def test_options_not_given_leave_the_functions_own_defaults(calls):
    assert fit() == 0
    assert calls["read_visium"] == ("folder", {})
    assert calls["qc"] == calls["section"] == {}
    assert calls["fit_projection"][1] == {"store": "out.zarr"}


def test_check_says_how_a_folder_is_understood(calls, capsys):
    assert cli.main(["check", "folder", "--image", "he.tif", "--spot-um", "8", "--check"]) == 0
    assert calls["read_visium"] == ("folder", {"image": "he.tif"})
    assert calls["section"] == {"image": "he.tif", "spot_um": 8, "check": True}
    assert set(calls) == {"read_visium", "section"}
    assert capsys.readouterr().out == "Section 'µ'\n  3 spots\n"


def test_a_mask_of_the_tissue_is_read_from_its_file(calls, tmp_path):
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 2:5] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert cli.main(["check", "folder", "--tissue", str(tmp_path / "mask.png")]) == 0
    np.testing.assert_array_equal(calls["section"]["tissue"], mask > 0)


# ---- each keyword argument has its option

# what a word cannot say, or what another function has already been told
NOT_FOR_A_SHELL = {
    "read_visium": {"path": "the argument FOLDER"},
    "qc": {"adata": "what was read", "copy": "nobody holds the table"},
    "section": {
        "data": "what was read",
        "library_id": "what was read holds one",
        "layer": "what was read holds raw counts in X and no layers",
    },
    "fit_projection": {
        "data": "the section",
        "image": "told to the section",
        "library_id": "told to the section",
        "config": "an object; --preset and --devices stand for what is in it",
        "features": "objects",
        "client": "an object; docs/scaling.md says how a cluster is used",
        "copy": "nobody holds the table",
    },
    "export": {
        "store": "the argument STORE",
        "path": "the argument PATH",
        "radius": "of circles, which are an array",
        "table": "an object",
        "classification": "of the table",
    },
}
BEHIND = {
    "read_visium": cli.READ, "qc": cli.CLEAN, "section": cli.SECTION, "fit_projection": cli.FIT, "export": cli.EXPORT,
}  # fmt: skip
TAKEN_FROM = {"read_visium": "io", "qc": "pp", "section": "io", "fit_projection": "tl", "export": "tl"}
OPTIONS = {
    "check": {*cli.READ, *cli.SECTION},
    "fit": {*cli.READ, *cli.CLEAN, *cli.SECTION, *cli.FIT, *cli.CONFIG},
    "export": {*cli.EXPORT},
}


def signature(name):
    return inspect.signature(getattr(getattr(sp, TAKEN_FROM[name]), name)).parameters


def options_of(command) -> dict[str, argparse.Action]:
    (commands,) = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {action.dest: action for action in commands.choices[command]._actions if action.option_strings}


@pytest.mark.parametrize("name", BEHIND)
def test_every_keyword_has_an_option_or_a_reason_to_have_none(name):
    assert set(BEHIND[name]) | set(NOT_FOR_A_SHELL[name]) == set(signature(name))
    assert set(BEHIND[name]) & set(NOT_FOR_A_SHELL[name]) == set()


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_those_of_the_functions_under_their_names(command):
    options = options_of(command)
    assert set(options) - {"help"} == OPTIONS[command]
    for name, option in options.items():
        assert option.option_strings[-1 if name == "help" else 0] == f"--{name.replace('_', '-')}"
        assert name == "help" or option.default is argparse.SUPPRESS


@pytest.mark.parametrize("name", BEHIND)
def test_the_defaults_that_help_tells_are_the_functions_own(name):
    options = options_of("export" if name == "export" else "fit")
    for parameter in BEHIND[name]:
        default = signature(name)[parameter].default
        told = re.search(r"\(default: (.*)\)$", options[parameter].help)
        assert (told and told[1]) == (None if default in (None, inspect.Parameter.empty) else str(default)), parameter


def test_the_choices_that_help_tells_are_the_functions_own():
    options = options_of("fit")
    assert set(options["spot_shape"].choices) == set(get_args(SpotShape))
    assert set(options["preset"].choices) == set(get_args(PresetName))
    assert set(options_of("export")["objects"].choices) == set(get_args(Objects))


@pytest.mark.parametrize("command", ["demo", "check", "fit", "info", "export", "upgrade"])
def test_help_is_ascii_and_tells_each_option(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.isascii()
    assert all(option.help for option in options_of(command).values())


# ---- what comes out


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "sphisto fit: Found no picture at missing.tif.\n"),
        ("unknown", "sphisto fit: Found no library 'unknown'.\n"),
    ],
)
def test_an_error_of_ours_is_one_message_without_traceback(capsys, fault, message):
    assert fit("--library-id", fault) == 2
    assert capsys.readouterr().err == message


@pytest.mark.usefixtures("calls")
def test_traceback_is_shown_when_asked_for(capsys):
    assert cli.main(["--traceback", "fit", "folder", "--store", "s", "--library-id", "missing"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.usefixtures("calls")
def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        fit("--library-id", "broken")


@pytest.mark.usefixtures("calls")
def test_stopping_is_not_an_error_of_the_input(capsys):
    assert fit("--library-id", "interrupted") == 130
    assert capsys.readouterr().err.endswith("sphisto: stopped.\n")


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genes", ","], "expected names separated by commas, found ','"),
        (["--um-per-px", "half"], "invalid float value: 'half'"),
        (["--spot-shape", "hexagon"], "invalid choice: 'hexagon' (choose from"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_a_wrong_word_is_named(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        fit(*words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"sphisto {__version__}\n"


def test_no_command_is_answered_with_the_commands():
    done = subprocess.run([sys.executable, "-m", "sphisto.cli"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: COMMAND" in done.stderr


@pytest.fixture
def visium_folder(small_toy, tmp_path):
    """The small section as Space Ranger writes one."""
    folder = tmp_path / "section"
    (folder / "spatial").mkdir(parents=True)
    matrix = small_toy.X.tocsr()
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = small_toy.obs_names.to_numpy().astype("S")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype(int), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape[::-1])
        for name in ("id", "name"):
            group[f"features/{name}"] = small_toy.var_names.to_numpy().astype("S")
        group["features/feature_type"] = np.array(["Gene Expression"] * small_toy.n_vars, dtype="S")
        group["features/genome"] = np.array(["drawn"] * small_toy.n_vars, dtype="S")
    positions = small_toy.obs[["in_tissue", "array_row", "array_col"]].copy()
    positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = small_toy.obsm["spatial"].T[::-1]
    positions.to_csv(folder / "spatial" / "tissue_positions.csv", index_label="barcode")
    section = small_toy.uns["spatial"]["toy"]
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(section["scalefactors"]))
    Image.fromarray(section["images"]["hires"]).save(folder / "spatial" / "tissue_hires_image.png")
    return folder


def test_fit_and_info_from_folder_to_words(visium_folder, small_toy, tmp_path, capsys):
    store = tmp_path / "out" / "section.zarr"
    words = "--genes class1_a,nuclei_a --min-genes 1 --max-epochs 1 --device cpu --key-added first"
    assert cli.main(["fit", str(visium_folder), "--store", str(store), *words.split()]) == 0
    shown = capsys.readouterr()
    assert str(store) in shown.out
    assert f"read {small_toy.n_obs} spots x {small_toy.n_vars} genes from {visium_folder}" in shown.err

    assert cli.main(["info", str(store)]) == 0
    shown = capsys.readouterr().out
    assert f"library section, {small_toy.n_obs} spots x {small_toy.n_vars} genes" in shown
    assert "  first: 96 x 112 px (y, x)" in shown
    assert "    channels class1_a, nuclei_a\n" in shown
    assert "projection first, in counts per spot area" in shown
    assert "  max_epochs: 1\n" in shown


def test_a_wrong_folder_is_one_message(tmp_path, capsys):
    assert cli.main(["fit", str(tmp_path / "absent"), "--store", str(tmp_path / "s.zarr")]) == 2
    shown = capsys.readouterr().err
    assert "Expected the folder of a Space Ranger run" in shown
    assert "Traceback" not in shown


def test_a_wrong_gene_is_one_message_and_no_store(visium_folder, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    assert cli.main(["fit", str(visium_folder), "--store", str(store), "--min-genes", "1", "--genes", "Nrgn"]) == 2
    shown = capsys.readouterr().err
    assert "'Nrgn'" in shown.splitlines()[-1]
    assert "Traceback" not in shown
    assert not store.exists()


@pytest.mark.slow
def test_demo_writes_its_store_and_pictures_and_says_where(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_demo, "run", partial(_demo.run, size=96, pitch_um=24.0, epochs=1))
    out = tmp_path / "new" / "demo"
    for _ in range(2):  # the second time it replaces what the first wrote
        assert cli.main(["demo", "--out", str(out)]) == 0
        shown = capsys.readouterr().out
        pictures = sorted(path.name for path in out.glob("*.png"))
        assert pictures == [f"{name}.png" for name in
                            ("comparison", "history", "measured", "projection", "reconstruction", "umap")]  # fmt: skip
        assert all(str(out / name) in shown for name in [*pictures, "toy.zarr"])
        assert all(Image.open(out / name).size[0] > 500 for name in pictures)
    assert summarise(out / "toy.zarr").projections["projection"]["params"]["genes"] == _demo.GENES


def test_info_of_a_path_that_is_no_store_says_so(tmp_path, capsys):
    assert cli.main(["info", str(tmp_path / "absent.zarr")]) == 2
    assert "Found no store at" in capsys.readouterr().err
    assert cli.main(["info", str(tmp_path)]) == 2
    assert "holds no projection of sphisto" in capsys.readouterr().err


def test_info_of_a_store_with_names_that_the_terminal_lacks(store, tmp_path):
    """Neither its path nor what it holds ends the command."""
    link = tmp_path / "组织.zarr"
    link.symlink_to(store, target_is_directory=True)
    code = "import sys; from sphisto import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(link)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\\u7ec4\\u7ec7.zarr: library toy, " in done.stdout.decode("ascii")
    assert b"projection projection, in counts per spot area" in done.stdout


def test_export_writes_a_file_and_says_so_or_says_why_not(store, tmp_path, capsys):
    path = tmp_path / "x.ome.tif"
    assert cli.main(["export", str(store), str(path), "--genes", "class1_a,nuclei_a"]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(
            tif.series[0].asarray()[1], np.nan_to_num(sp.get.gene_raster(store, "nuclei_a").values[0])
        )
    assert cli.main(["export", str(store), str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"sphisto export: {path} exists and is left alone.")
    assert cli.main(["export", str(store), str(path), "--overwrite", "--element", "toy_image"]) == 0
    assert (
        cli.main(
            ["export", str(store), str(tmp_path / "x.geojson"), "--regions", "toy_spots", "--objects", "detection"]
        )
        == 0
    )
    assert len(json.loads((tmp_path / "x.geojson").read_text())["features"]) == summarise(store).libraries[0].n_spots
