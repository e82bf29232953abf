from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import get_args

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

import sphisto as sp
from sphisto import __version__, _demo, _keys, cli
from sphisto._facts import gate_words
from sphisto._settings import Verbosity
from sphisto.cli import options as named
from sphisto.config import PresetName
from sphisto.core.spot import SpotShape
from sphisto.features.shared import SCALINGS
from sphisto.io.export.geojson import Objects
from sphisto.io.store.summary import summarise
from sphisto.scoring.held_out import SPLITS, check_split
from sphisto.slide.placement import Alignment
from sphisto.tl._evaluate_sections import SECTION
from sphisto.train.settings import with_devices

FAULTS = {
    "missing": FileNotFoundError("Found no picture at missing.tif."),
    "unknown": KeyError("Found no library 'unknown'."),
    "broken": ZeroDivisionError(),
    "interrupted": KeyboardInterrupt(),
}


SCORES = pd.DataFrame({"mean_pearson": [0.51234]}, index=pd.Index(["sphisto"], name="method"))


def table_of(path):
    """What stands in for a table of the section in a folder."""
    return SimpleNamespace(n_obs=3, n_vars=2, uns={"spatial": {str(path): {}}})


@pytest.fixture
def calls(monkeypatch):
    """How the functions that take minutes were called: stand-ins note it."""
    noted = {}

    def read_visium(path, **given):
        if given.get("library_id") in FAULTS:
            raise FAULTS[given["library_id"]]
        noted["read_visium"] = (path, given)
        return table_of(path)

    def section(data, **given):
        noted["section"] = given
        return Section()

    class Section:
        def __repr__(self):
            return "Section 'µ'\n  3 spots"

    monkeypatch.setattr(sp.io, "read_visium", read_visium)
    monkeypatch.setattr(sp.io, "section", section, raising=False)
    monkeypatch.setattr(sp.pp, "qc", lambda _, **given: noted.update(qc=given))
    placed = Alignment(100, 1.0, 0.98, 0.9, "as given", 0.9, ("flipped left-right",))
    monkeypatch.setattr(sp.pp, "check_alignment", lambda _: noted.update(check_alignment=True) or placed)
    monkeypatch.setattr(sp.tl, "fit_projection", lambda data, **given: noted.update(fit_projection=(data, given)))
    monkeypatch.setattr(sp.tl, "predict", lambda model, data, **given: noted.update(predict=(model, data, given)))
    monkeypatch.setattr(sp.tl, "load", lambda path: f"model of {path}")
    monkeypatch.setattr(sp.tl, "evaluate", lambda _, **given: noted.update(evaluate=given) or SCORES)
    return noted


def fit(*words):
    return cli.main(["fit", "folder", "--store", "out.zarr", *words])


def test_fit_passes_options_on_to_the_functions_that_take_them(calls, caplog):
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
    assert "read 3 spots x 2 genes from folder" in caplog.messages


def test_bins_and_a_window_are_chosen_at_reading(calls, capsys):
    assert fit("--bin-um", "16", "--bbox=-1,3000,9000.5,8000") == 0
    box = (-1.0, 3000.0, 9000.5, 8000.0)
    assert calls["read_visium"] == ("folder", {"bin_um": 16, "bbox": box})
    assert calls["section"] == {"bbox": box}
    with pytest.raises(SystemExit):
        fit("--bbox", "1,2,3")
    assert "expected four numbers separated by commas, x_min,y_min,x_max,y_max" in capsys.readouterr().err


def test_options_not_given_leave_the_functions_own_defaults(calls):
    assert fit() == 0
    assert calls["read_visium"] == ("folder", {})
    assert calls["qc"] == calls["section"] == {}
    assert calls["fit_projection"][1] == {"store": "out.zarr"}


def test_check_says_how_a_folder_is_understood(calls, capsys):
    assert cli.main(["check", "folder", "--image", "he.tif", "--spot-um", "8", "--check"]) == 0
    assert calls["read_visium"] == ("folder", {"image": "he.tif"})
    assert calls["section"] == {"image": "he.tif", "spot_um": 8, "check": True}
    assert set(calls) == {"read_visium", "section", "check_alignment"}
    assert capsys.readouterr().out == (
        "Section 'µ'\n  3 spots\n  placed  100 of 100 spots on the image, 98 on tissue; overlap with it 0.90 of 1. Its outline "
        "would fit as well flipped left-right\n"
    )


def test_check_leaves_out_the_place_of_the_spots_if_told_to(calls, capsys):
    assert cli.main(["check", "folder", "--no-check"]) == 0
    assert "check_alignment" not in calls
    assert capsys.readouterr().out == "Section 'µ'\n  3 spots\n"


def test_check_refuses_what_a_fit_would_refuse(calls, capsys, monkeypatch):
    def misplaced(_):
        msg = "spots lie off the tissue"
        raise ValueError(msg)

    monkeypatch.setattr(sp.pp, "check_alignment", misplaced)
    assert cli.main(["check", "folder"]) == 2
    assert capsys.readouterr().err == "sphisto check: spots lie off the tissue\n"


def test_a_mask_of_the_tissue_is_read_from_its_file(calls, tmp_path):
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 2:5] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert cli.main(["check", "folder", "--tissue", str(tmp_path / "mask.png")]) == 0
    np.testing.assert_array_equal(calls["section"]["tissue"], mask > 0)


def test_loadings_are_read_and_brought_to_the_genes_of_all_sections(calls, monkeypatch, tmp_path, caplog):
    genes = iter([("A", "B", "C"), ("B", "C", "D")])
    monkeypatch.setattr(sp.io, "section", lambda *_, **__: SimpleNamespace(measured=SimpleNamespace(genes=next(genes))))
    frame = pd.DataFrame({"T": [1.0, 2, 3], "B": [0.0, 1, 1]}, index=["A", "C", "B"])
    frame.to_csv(tmp_path / "given.csv")
    words = ["--loadings", str(tmp_path / "given.csv"), "--loadings-strength", "10"]
    assert cli.main(["fit", "one", "two", "--store", "out.zarr", *words]) == 0
    _, given = calls["fit_projection"]
    pd.testing.assert_frame_equal(given["loadings"], frame.loc[["C", "B"]], check_names=False)
    assert given["config"].genes.loadings_strength == 10
    assert "2 of 3 genes of" in caplog.text
    genes = iter([("A", "B", "C")])
    assert cli.main(["evaluate", "one", *words[:2]]) == 0
    pd.testing.assert_frame_equal(calls["evaluate"]["loadings"], frame, check_names=False)
    genes = iter([("ENSG1",)])  # which is for the function to refuse
    assert cli.main(["evaluate", "one", *words[:2]]) == 0
    assert len(calls["evaluate"]["loadings"]) == 3


def test_loadings_that_cannot_be_read_stop_a_fit(calls, capsys, tmp_path):
    assert fit("--loadings", str(tmp_path / "missing.csv")) == 2
    assert "Found no file" in capsys.readouterr().err
    assert fit("--loadings-strength", "3") == 2
    assert "--loadings-strength without --loadings" in capsys.readouterr().err
    assert "fit_projection" not in calls


# ---- each keyword argument has its option

# what a word cannot say, or what another function has already been told
NOT_FOR_A_SHELL = {
    "read_visium": {"path": "the argument FOLDER"},
    "qc": {"adata": "what was read", "copy": "nobody holds the table"},
    "section": {
        "data": "what was read",
        "library_id": "what was read holds one",
        "library_key": "folders hold one section each",
        "layer": "what was read holds raw counts in X and no layers",
        "bin_um": "what was read has bins of that size",
    },
    "fit_projection": {
        "library_key": "folders hold one section each",
        "data": "the section",
        "image": "told to the section",
        "library_id": "told to the section",
        "config": "an object; --preset and --devices stand for what is in it",
        "features": "objects",
        "client": "an object; docs/scaling.md says how a cluster is used",
        "copy": "nobody holds the table",
    },
    "evaluate": {
        "library_key": "folders hold one section each",
        "data": "the section",
        "image": "told to the section",
        "library_id": "told to the section",
        "config": "an object; --preset and --devices stand for what is in it",
        "features": "objects",
        "copy": "nobody holds the table",
    },
    "predict": {
        "fitted": "the argument MODEL",
        "data": "the section",
        "image": "told to the section",
        "library_id": "told to the section",
        "features": "objects",
        "client": "an object; docs/scaling.md says how a cluster is used",
    },
    "aggregate": {"store": "the argument STORE", "regions": "the argument REGIONS"},
    "export": {
        "store": "the argument STORE",
        "path": "the argument PATH",
        "radius": "of circles, which are an array",
        "table": "an object",
        "classification": "of the table",
    },
    "report": {"data": "the argument STORE", "path": "--out"},
}
BEHIND = {
    "read_visium": named.READ, "qc": named.CLEAN, "section": named.SECTION, "fit_projection": named.FIT,
    "evaluate": named.EVALUATE, "predict": named.PREDICT, "aggregate": named.AGGREGATE,
    "export": named.EXPORT, "report": named.REPORT,
}  # fmt: skip
TAKEN_FROM = {"read_visium": "io", "qc": "pp", "section": "io", "report": "pl"}  # others from tl
EXAMPLES = {command.name: command.examples for command in cli.COMMANDS}
OF_SECTIONS = {*named.READ, *named.CLEAN, *named.SECTION}
OPTIONS = {
    "check": {*named.READ, *named.SECTION},
    "fit": {*OF_SECTIONS, *named.FIT, *named.CONFIG, "register", "overwrite"},
    "evaluate": {*OF_SECTIONS, *named.EVALUATE, *named.CONFIG, "register", "out", "overwrite"},
    "predict": {*OF_SECTIONS, *named.PREDICT, "overwrite"},
    "aggregate": {*named.AGGREGATE, "out", "overwrite"},
    "export": {*named.EXPORT},
    "report": {*named.REPORT, "out"},
}
SEEN_IN = {
    "evaluate": "evaluate",
    "predict": "predict",
    "aggregate": "aggregate",
    "export": "export",
    "report": "report",
}  # the options of others in fit's


def signature(name):
    return inspect.signature(getattr(getattr(sp, TAKEN_FROM.get(name, "tl")), name)).parameters


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = [action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return found.choices


def options_of(command) -> dict[str, argparse.Action]:
    return {action.dest: action for action in commands()[command]._actions if action.option_strings}


@pytest.mark.parametrize("name", BEHIND)
def test_every_keyword_has_an_option_or_a_reason_to_have_none(name):
    assert set(BEHIND[name]) | set(NOT_FOR_A_SHELL[name]) == set(signature(name))
    assert set(BEHIND[name]) & set(NOT_FOR_A_SHELL[name]) == set()


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_those_of_the_functions_under_their_names(command):
    options = options_of(command)
    assert set(options) - {"help", *named.MESSAGES} == OPTIONS[command]
    for name, option in options.items():
        assert option.option_strings[-1 if name == "help" else 0] == f"--{name.replace('_', '-')}"
        assert name == "help" or option.default is argparse.SUPPRESS


@pytest.mark.parametrize("name", BEHIND)
def test_the_defaults_that_help_tells_are_the_functions_own(name):
    options = options_of(SEEN_IN.get(name, "fit"))
    for parameter in BEHIND[name]:
        default = signature(name)[parameter].default
        told = re.search(r"\(default: (.*)\)$", options[parameter].help)
        assert (told and told[1]) == (None if default in (None, inspect.Parameter.empty) else str(default)), parameter


def test_the_choices_that_help_tells_are_the_functions_own():
    options = options_of("fit")
    assert set(options["spot_shape"].choices) == set(get_args(SpotShape))
    assert set(options["preset"].choices) == set(get_args(PresetName))
    assert set(options["verbosity"].choices) == set(get_args(Verbosity))
    assert set(options_of("export")["objects"].choices) == set(get_args(Objects))
    for split in options_of("evaluate")["split"].choices:
        check_split(split, 0.2, known=(*SPLITS, SECTION))
    assert set(options["scaling"].choices) == set(SCALINGS)


@pytest.mark.parametrize("command", commands())
def test_help_is_ascii_and_tells_each_option(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert all(f"\n  {example}\n" in shown for example in EXAMPLES[command])
    assert all(option.help for option in options_of(command).values())


@pytest.mark.parametrize("command", commands())
def test_each_example_is_understood(command):
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        first, *words = shlex.split(example)
        assert first == "sphisto"
        assert cli.parser().parse_args(words).command == command


# ---- messages


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ("warning", "auto")),
        ("--quiet", ("warning", False)),
        ("--quiet --progress", ("warning", True)),
        ("--verbosity debug", ("debug", "auto")),
        ("--verbosity error --no-progress", ("error", False)),
    ],
)
def test_messages_are_settings_of_the_session_while_a_command_runs(calls, monkeypatch, words, expected):
    found = []
    monkeypatch.setattr(sp.pp, "qc", lambda *_, **__: found.append((sp.settings.verbosity, sp.settings.progress)))
    with sp.settings.override(verbosity="warning"):
        assert fit(*words.split()) == 0
        assert found == [expected]
        assert (sp.settings.verbosity, sp.settings.progress) == ("warning", "auto")


def test_quiet_and_verbosity_contradict_each_other(capsys):
    with pytest.raises(SystemExit):
        fit("--quiet", "--verbosity", "debug")
    assert "not allowed with argument" in capsys.readouterr().err


# ---- evaluate, predict, aggregate: what they hand on, and what they refuse before any work


def test_evaluate_prints_the_scores_and_writes_them(calls, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    words = f"--share 0.3 --split blocks --genes A,B --rng 2 --min-genes 5 --preset fast --out {out}"
    assert cli.main(["evaluate", "folder", *words.split()]) == 0
    assert calls["qc"] == {"min_genes": 5}
    assert calls["evaluate"] == {"share": 0.3, "split": "blocks", "genes": ["A", "B"], "rng": 2, "config": "fast"}
    assert capsys.readouterr().out == "         mean_pearson\nmethod               \nsphisto         0.512\n"
    assert out.read_text() == "method,mean_pearson\nsphisto,0.51234\n"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_predict_takes_a_folder_or_an_image(calls, tmp_path):
    (tmp_path / "spatial").mkdir()
    (tmp_path / "spatial" / "scalefactors_json.json").touch()
    words = [
        "--store",
        "s.zarr",
        "--key-added",
        "next",
        "--resume",
        "--device",
        "cpu",
        "--min-genes",
        "5",
        "--spot-um",
        "55",
    ]
    assert cli.main(["predict", "m.pt", str(tmp_path), *words]) == 0
    assert calls["qc"] == {"min_genes": 5}
    assert calls["section"] == {"spot_um": 55}
    model, _, given = calls["predict"]
    assert model == "model of m.pt"
    assert given == {"store": "s.zarr", "key_added": "next", "resume": True, "device": "cpu"}

    calls.clear()
    words = ["--store", "s.zarr", "--image-um-per-px", "0.5", "--library-id", "other"]
    assert cli.main(["predict", "m.pt", "slide.tif", *words]) == 0
    assert set(calls) == {"section", "predict"}
    assert calls["section"] == {"image_um_per_px": 0.5, "library_id": "other"}
    assert calls["predict"][2] == {"store": "s.zarr"}


def test_an_image_alone_has_no_spots_to_choose(calls, capsys):
    words = ["predict", "m.pt", "slide.tif", "--store", "s.zarr", "--min-genes", "5"]
    assert cli.main(words) == 2
    assert (
        "slide.tif is taken for an image, as it is no Space Ranger folder; found --min-genes" in capsys.readouterr().err
    )
    assert not calls


@pytest.mark.parametrize("words", [["fit", "folder"], ["predict", "m.pt", "folder"]], ids=["fit", "predict"])
def test_a_projection_is_replaced_only_if_that_is_asked_for(calls, tmp_path, capsys, words):
    store = tmp_path / "s.zarr"
    store.mkdir()
    (store / "zarr.json").write_text(json.dumps({"attributes": {_keys.MARK: {"keys": {"projection": {}}}}}))
    words = [*words, "--store", str(store)]
    assert cli.main(words) == 2
    assert (
        "s.zarr holds a projection 'projection' already; choose another --key-added, or replace it by --overwrite."
        in (capsys.readouterr().err)
    )
    assert not calls
    for more in (["--overwrite"], ["--resume"], ["--key-added", "other"]):
        assert cli.main([*words, *more]) == 0


@pytest.mark.parametrize("command", [["evaluate", "folder"], ["aggregate", "s.zarr", "cells"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(calls, tmp_path, capsys, command):
    there = tmp_path / "there.h5ad"
    there.write_text("mine")
    (tmp_path / "folder.h5ad").mkdir()
    for name, message in {
        "there.h5ad": "there.h5ad exists and is left alone. Choose another --out, or replace it by --overwrite.",
        "folder.h5ad": "folder.h5ad is a folder; expected the name of a file.",
        "scores.xlsx": "expected a name that ends in ",
        "absent/a.h5ad": "There is no folder ",
        "a" * 250 + ".h5ad": "Cannot write ",
    }.items():
        assert cli.main([*command, "--out", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert not calls
    assert there.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.h5ad", "there.h5ad"]


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
    done = subprocess.run([sys.executable, "-m", "sphisto"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: COMMAND" in done.stderr


def write_visium(section, folder):
    """Write a section drawn by rule as Space Ranger writes one."""
    (folder / "spatial").mkdir(parents=True)
    matrix = section.X.tocsr()
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = section.obs_names.to_numpy().astype("S")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype(int), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape[::-1])
        for name in ("id", "name"):
            group[f"features/{name}"] = section.var_names.to_numpy().astype("S")
        group["features/feature_type"] = np.array(["Gene Expression"] * section.n_vars, dtype="S")
        group["features/genome"] = np.array(["drawn"] * section.n_vars, dtype="S")
    positions = section.obs[["in_tissue", "array_row", "array_col"]].copy()
    positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = section.obsm["spatial"].T[::-1]
    positions.to_csv(folder / "spatial" / "tissue_positions.csv", index_label="barcode")
    toy = section.uns["spatial"]["toy"]
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(toy["scalefactors"]))
    Image.fromarray(toy["images"]["hires"]).save(folder / "spatial" / "tissue_hires_image.png")
    return folder


@pytest.fixture
def visium_folder(small_toy, tmp_path):
    """The small section as Space Ranger writes one."""
    return write_visium(small_toy, tmp_path / "section")


@pytest.fixture
def visium_folders(small_toy, tmp_path):
    """Two small sections as Space Ranger writes them: the run of each in a folder called as the section is."""
    other = sp.datasets.toy(96, 112, pitch_um=24, rng=2)
    return [str(write_visium(each, tmp_path / name / "outs")) for name, each in (("one", small_toy), ("two", other))]


def test_fit_predict_and_info_from_folder_to_words(visium_folder, small_toy, tmp_path, capsys, caplog):
    store = tmp_path / "out" / "section.zarr"
    words = "--genes class1_a,nuclei_a --min-genes 1 --max-epochs 1 --device cpu --key-added first"
    assert cli.main(["fit", str(visium_folder), "--store", str(store), *words.split()]) == 0
    assert str(store) in capsys.readouterr().out
    assert f"read {small_toy.n_obs} spots x {small_toy.n_vars} genes from {visium_folder}" in caplog.messages
    assert cli.main(["fit", str(visium_folder), "--store", str(store), *words.split()]) == 2
    assert "holds a projection 'first' already" in capsys.readouterr().err

    model = store.with_name("section.first.pt")
    words = ["--key-added", "again", "--min-genes", "1", "--device", "cpu"]
    assert cli.main(["predict", str(model), str(visium_folder), "--store", str(store), *words]) == 0
    first, again = (sp.get.gene_raster(store, "nuclei_a", key=key).values for key in ("first", "again"))
    np.testing.assert_allclose(again, first, rtol=1e-3)  # the same spots, by the same model

    assert cli.main(["info", str(store)]) == 0
    shown = capsys.readouterr().out
    assert f"section section: {small_toy.n_obs} spots x {small_toy.n_vars} genes" in shown
    assert "  first: 96 x 112 px (y, x), " in shown
    assert " um per px; class1_a, nuclei_a\n" in shown
    um = summarise(store).projections["first"]["params"]["um_per_px"]
    facts = dict(line.strip().split("  ", 1) for line in shown.split("\n\n")[1].splitlines()[1:])
    facts = {name: text.strip() for name, text in facts.items()}
    assert facts["rasters"] == (
        f"96 x 112 px (y, x) of {um:.4g} um: {96 * um:.0f} x {112 * um:.0f} um; in counts per spot area"
    )
    assert facts["spots"].startswith(f"{small_toy.n_obs} discs of 55 um")
    assert facts["gate"] in (gate_words(0), gate_words(0.25), gate_words(0.5), gate_words(1))
    known = summarise(store).skill["first"]
    assert f"median correlation {np.median(list(known.values())):.2f} of {len(known)} genes" in facts["skill"]
    assert facts["written"][:4].isdigit()
    assert "  n_factors:" not in shown

    assert cli.main(["info", str(store), "--settings"]) == 0
    assert "  max_epochs: 1\n" in capsys.readouterr().out
    assert cli.main(["info", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["projections"]["first"]["params"]["max_epochs"] == 1
    assert found["skill"]["first"] == known


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


def test_evaluate_from_folder_to_scores(visium_folder, tmp_path, capsys, caplog):
    out = tmp_path / "scores.h5ad"
    words = f"--genes class1_a,nuclei_a --min-genes 1 --max-epochs 1 --device cpu --share 0.3 --out {out}"
    assert cli.main(["evaluate", str(visium_folder), *words.split()]) == 0
    shown = capsys.readouterr().out.splitlines()
    written = ad.read_h5ad(out)
    table = written.uns["evaluation"]["table"]
    assert shown[0].split() == list(table.columns)
    assert [line.split()[0] for line in shown[2:]] == list(table.index) == ["sphisto", "prior", "gaussian", "nearest"]
    assert float(shown[2].split()[1]) == pytest.approx(table.loc["sphisto", "mean_pearson"], abs=1e-3)
    (told,) = [message for message in caplog.messages if "held-out spots;" in message]
    assert f"mean Pearson of 2 genes: sphisto {table.loc['sphisto', 'mean_pearson']:.2f}, prior " in told
    found = written.var["evaluation_pearson"]
    assert list(found.index[found.notna()]) == ["class1_a", "nuclei_a"]
    assert found.mean() == pytest.approx(table.loc["sphisto", "mean_pearson"], abs=1e-6)


def test_folders_of_one_name_are_called_by_those_above(small_toy, tmp_path, capsys, caplog):
    folders = [str(write_visium(small_toy, tmp_path / name / "run" / "outs")) for name in ("one", "two")]
    words = ["--store", str(tmp_path / "s.zarr"), "--min-genes", "1", "--genes", "Nrgn"]
    assert cli.main(["fit", *folders, *words]) == 2  # of a gene that is not there
    assert "'Nrgn'" in capsys.readouterr().err
    told = [f"The section in {folder} is called '{name}_run': several of the sections are called 'run'."
            for folder, name in zip(folders, ("one", "two"), strict=True)]  # fmt: skip
    assert [message for message in caplog.messages if "is called" in message] == told
    assert all(any(f"Section '{name}_run'" in message for message in caplog.messages) for name in ("one", "two"))
    assert cli.main(["fit", folders[0], folders[0], *words]) == 2
    assert "more than once" in capsys.readouterr().err


def test_several_folders_are_fitted_together(visium_folders, tmp_path, capsys):
    store = tmp_path / "out" / "sections.zarr"
    words = "--genes class1_a,nuclei_a --min-genes 1 --max-epochs 1 --device cpu --scaling pooled"
    assert cli.main(["fit", *visium_folders, "--store", str(store), *words.split()]) == 0
    told = capsys.readouterr().out
    assert all(f"Projection 'projection_{name}' of '{name}' written to {store}" in told for name in ("one", "two"))
    model = sp.tl.load(store.with_name("sections.projection.pt"))
    assert list(model.sections) == ["one", "two"]
    assert model.params["scaling"] == "pooled"
    assert sp.get.gene_raster(store, "noise_a", library_id="two").shape == (1, 96, 112)
    assert cli.main(["fit", *visium_folders, "--store", str(store), *words.split()]) == 2
    assert "holds a projection 'projection' already" in capsys.readouterr().err
    assert cli.main(["fit", *visium_folders, "--store", str(store), *words.split(), "--overwrite"]) == 0
    assert cli.main(["info", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "section one: 44 spots x 18 genes" in shown
    assert "projection_two" in shown

    image = str(tmp_path / "two" / "outs" / "spatial" / "tissue_hires_image.png")
    words = ["--store", str(tmp_path / "image.zarr"), "--image-um-per-px", f"{model.um_per_px}", "--device", "cpu"]
    named = ["--library-id", "other"]
    assert cli.main(["predict", str(store.with_name("sections.projection.pt")), image, *words, *named]) == 2
    assert "Found scaling=None for an image without spots" in capsys.readouterr().err
    more = [*named, "--scaling", "section"]
    assert cli.main(["predict", str(store.with_name("sections.projection.pt")), image, *words, *more]) == 0
    assert sp.get.gene_raster(tmp_path / "image.zarr", "class1_a").shape == (1, 96, 112)


def test_sections_are_laid_upon_the_one_before(visium_folders, tmp_path, capsys, monkeypatch, registration):
    """What registers is tested by itself: sections drawn by chance do not lie upon each other."""
    asked = []

    def register(moving, fixed):
        asked.append((moving.library_id, fixed.library_id))
        um = (moving.grid.fullres_um_per_px, fixed.grid.fullres_um_per_px)
        return registration(*asked[-1], um_per_px=um)

    monkeypatch.setattr(sp.pp, "register", register)
    words = "--min-genes 1 --max-epochs 1 --device cpu --register --store"
    assert cli.main(["fit", *visium_folders, *words.split(), str(tmp_path / "laid.zarr")]) == 0
    assert asked == [("two", "one")]
    regression = sp.tl.load(tmp_path / "laid.projection.pt").regressions["section"]
    assert [each.frame.group for each in regression.neighbours] == ["one", "one"]
    assert cli.main(["fit", visium_folders[0], *words.split(), str(tmp_path / "alone.zarr")]) == 2
    assert "Found --register and one section" in capsys.readouterr().err


def test_several_folders_are_evaluated_together(visium_folders, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    words = f"--split section --genes class1_a,nuclei_a --min-genes 1 --max-epochs 1 --device cpu --out {out}"
    assert cli.main(["evaluate", *visium_folders, *words.split()]) == 0
    shown = capsys.readouterr().out
    table = pd.read_csv(out, index_col=["section", "method"])
    assert list(table.index) == [(name, method) for name in ("one", "two") for method in ("sphisto", "prior", "mean")]
    assert f"{table.loc[('two', 'sphisto'), 'mean_pearson']:.3f}" in shown


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--image he.tif", "--image"),
        ("--image-scale 0.5", "--image-scale"),
        ("--library-id lib", "--library-id"),
        ("--bbox 1,2,3,4", "--bbox"),
        ("--tissue mask.png", "--tissue"),
    ],
)
def test_options_of_one_section_are_refused_with_several(capsys, command, words, named):
    store = ["--store", "out.zarr"] if command == "fit" else []
    assert cli.main([command, "one", "two", *store, *words.split()]) == 2
    error = capsys.readouterr().err
    assert f"Found {named} and 2 sections, to which it cannot belong all" in error
    assert "`sphisto.io.section`" in error


def test_options_of_all_sections_are_given_to_each(calls, monkeypatch):
    read, cleaned, understood = [], [], []
    monkeypatch.setattr(sp.io, "read_visium", lambda path, **_: read.append(path) or table_of(path))
    monkeypatch.setattr(sp.pp, "qc", lambda _, **given: cleaned.append(given))
    monkeypatch.setattr(sp.io, "section", lambda _, **given: understood.append(given) or f"section {len(understood)}")
    assert cli.main(["fit", "one", "two", "--store", "o.zarr", "--min-genes", "5", "--spot-um", "50"]) == 0
    assert read == ["one", "two"]
    assert cleaned == [{"min_genes": 5}] * 2
    assert understood == [{"spot_um": 50}] * 2
    assert calls["fit_projection"] == (["section 1", "section 2"], {"store": "o.zarr"})


@pytest.mark.usefixtures("calls")
def test_scores_of_several_sections_are_no_h5ad(tmp_path, capsys):
    assert cli.main(["evaluate", "one", "two", "--out", str(tmp_path / "scores.h5ad")]) == 2
    assert "several sections, each of which has a table; expected a name that ends in .csv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_aggregate_sums_regions_from_files_and_of_the_store(store, tmp_path, capsys):
    import geopandas as gpd
    import shapely

    square = gpd.GeoDataFrame({"id": ["centre"]}, geometry=[shapely.box(30, 20, 60, 50)])
    square.to_file(tmp_path / "cells.geojson")
    out = tmp_path / "cells.h5ad"
    words = ["aggregate", str(store), str(tmp_path / "cells.geojson"), "--genes", "nuclei_a", "--out", str(out)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"1 regions x 1 genes written to {out}\n"
    expected = sp.tl.aggregate(store, square.set_index("id"), genes="nuclei_a")
    found = ad.read_h5ad(out)
    assert list(found.obs_names) == ["centre"]
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-6)
    np.testing.assert_allclose(found.layers["density"], expected.layers["density"], rtol=1e-6)
    assert cli.main(words) == 2
    assert "exists" in capsys.readouterr().err

    (tmp_path / "centres.csv").write_text("x,y\n50,50\n20.5,70\n")
    words = ["aggregate", str(store), str(tmp_path / "centres.csv"), "--radius", "8", "--out", str(out), "--overwrite"]
    assert cli.main(words) == 0
    circles = sp.tl.aggregate(store, np.array([[50, 50], [20.5, 70]]), radius=8)
    np.testing.assert_allclose(ad.read_h5ad(out).X, circles.X, rtol=1e-6)

    assert cli.main(["aggregate", str(store), "toy_tissue", "--out", str(out), "--overwrite"]) == 0
    np.testing.assert_allclose(ad.read_h5ad(out).X, sp.tl.aggregate(store, "toy_tissue").X, rtol=1e-6)


def test_aggregate_sums_square_bins(store, tmp_path, capsys):
    out = tmp_path / "bins.h5ad"
    assert cli.main(["aggregate", str(store), "--square-um", "50", "--genes", "nuclei_a", "--out", str(out)]) == 0
    expected = sp.tl.aggregate(store, square_um=50, genes="nuclei_a")
    assert capsys.readouterr().out == f"{expected.n_obs} regions x 1 genes written to {out}\n"
    found = ad.read_h5ad(out)
    assert list(found.obs_names) == list(expected.obs_names)
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-6)
    assert cli.main(["aggregate", str(store), "--out", str(out), "--overwrite"]) == 2
    assert "Found neither of `regions` and `square_um`" in capsys.readouterr().err


def test_regions_that_are_not_there_are_named(store, tmp_path, capsys):
    out = tmp_path / "a.h5ad"
    assert cli.main(["aggregate", str(store), "cells.geojson", "--out", str(out)]) == 2
    assert "Found no file cells.geojson" in capsys.readouterr().err
    assert cli.main(["aggregate", str(store), "cells", "--out", str(out)]) == 2
    assert "Found no element 'cells' in the store" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_demo_writes_its_store_and_pictures_and_says_where(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_demo, "run", partial(_demo.run, size=96, pitch_um=24.0, epochs=1))
    out = tmp_path / "new" / "demo"
    for _ in range(2):  # the second time it replaces what the first wrote
        assert cli.main(["demo", "--out", str(out)]) == 0
        shown = capsys.readouterr().out
        pictures = sorted(path.name for path in out.glob("*.png"))
        assert pictures == [f"{name}.png" for name in
                            ("comparison", "gained", "history", "measured", "projection", "reconstruction", "umap")]  # fmt: skip
        assert all(str(out / name) in shown for name in [*pictures, "toy.zarr", "report.html"])
        assert all(Image.open(out / name).size[0] > 500 for name in pictures)
    assert summarise(out / "toy.zarr").projections["projection"]["params"]["genes"] == list(_demo.GENES)


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
    assert "\\u7ec4\\u7ec7.zarr: store of format 2, " in done.stdout.decode("ascii")
    assert b"Projection 'projection'" in done.stdout


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


def test_report_writes_a_file_and_says_so_or_says_why_not(store, tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.html"
    words = ["report", str(store), "--out", str(path), "--genes", "class1_a,nuclei_a", "--title", "A & B"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert "<title>A &amp; B</title>" in path.read_text()
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"sphisto report: {path} exists and is left alone.")
    assert cli.main([*words, "--overwrite"]) == 0
    assert cli.main([*words[:4], "--overwrite", "--genes", "class1_x"]) == 2
    assert "Close to 'class1_x': class1_" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(store)]) == 0
    assert (tmp_path / "report.html").is_file()
