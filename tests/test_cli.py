from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
import pytest
from PIL import Image

from sphisto import __version__, _demo, cli
from sphisto.io.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData


def read_visium(path, *, image: str | Path | None = None, library_id: str | None = None) -> AnnData:
    """Read.

    Parameters
    ----------
    path
        A folder.
    image
        A picture, 100 % of it.
    library_id
        Its name.

    Returns
    -------
    A table.
    """
    if image == "missing.tif":
        msg = "Found no picture at missing.tif."
        raise FileNotFoundError(msg)
    if library_id == "broken":
        raise ZeroDivisionError
    if library_id == "unknown":
        msg = "Found no library 'unknown'."
        raise KeyError(msg)
    if library_id == "interrupted":
        raise KeyboardInterrupt
    return SimpleNamespace(n_obs=3, n_vars=2, calls=[("read", path, image, library_id)])


def qc(adata, *, min_genes: int = 200, max_counts: float | None = 30_000, copy: bool = False) -> None:
    """Clean."""
    adata.calls.append(("qc", min_genes, max_counts))


def fit_projection(
    adata: AnnData,
    *,
    store: str | Path | None = None,
    image: str | Path | np.ndarray | None = None,
    genes: Sequence[str] | int | None = None,
    layer: str | None = None,
    device: Literal["auto", "cpu"] = "auto",
    rng: int | np.random.Generator | None = 0,
    um_per_px: float | None = None,
    resume: bool = False,
    training: dict[str, int] | None = None,
) -> None:
    """Fit.

    Parameters
    ----------
    adata
        The section.
    genes
        Genes to write,
        as in ``adata.var_names``.
    um_per_px, rng
        Two at once, see :func:`~sphisto.tl.save`.
    """
    fit_projection.calls = [*adata.calls, ("fit", store, image, genes, device, rng, um_per_px, resume)]


@pytest.fixture
def stand_ins(monkeypatch):
    """Functions that note how they were called, in place of those that take minutes."""
    monkeypatch.setattr(cli, "_fit_functions", lambda: (read_visium, qc, fit_projection))
    fit_projection.calls = []


def fit(*words):
    return cli.main(["fit", "folder", "--store", "out.zarr", *words])


@pytest.mark.usefixtures("stand_ins")
def test_fit_passes_options_on_to_the_functions_that_take_them(capsys):
    words = "--image he.tif --genes A,B --min-genes 5 --max-counts 1e5 --um-per-px 0.5 --rng 3 --resume --device cpu"
    assert fit(*words.split()) == 0
    read, clean, fitted = fit_projection.calls
    assert [str(word) for word in read] == ["read", "folder", "he.tif", "None"]
    assert clean == ("qc", 5, 1e5)
    assert [str(word) for word in fitted[1:3]] == ["out.zarr", "he.tif"]
    assert fitted[3:] == (["A", "B"], "cpu", 3, 0.5, True)
    shown = capsys.readouterr()
    assert "read 3 spots x 2 genes from folder" in shown.err


@pytest.mark.usefixtures("stand_ins")
def test_options_not_given_leave_the_functions_own_defaults():
    assert fit() == 0
    assert fit_projection.calls[1] == ("qc", 200, 30_000)
    assert fit_projection.calls[2][3:] == (None, "auto", 0, None, False)


@pytest.mark.usefixtures("stand_ins")
def test_help_comes_from_docstrings_and_leaves_out_what_a_word_cannot_say(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        fit("--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "Genes to write, as in adata.var_names." in shown
    assert "Two at once, see sphisto.tl.save. (default: 0)" in shown
    assert "100 % of it" in shown
    assert "--no-resume" in shown
    for absent in ("--layer", "--copy", "--training"):
        assert absent not in shown


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "missing.tif"], "sphisto fit: Found no picture at missing.tif.\n"),
        (["--library-id", "unknown"], "sphisto fit: Found no library 'unknown'.\n"),
    ],
)
def test_an_error_of_ours_is_one_message_without_traceback(capsys, words, message):
    assert fit(*words) == 2
    assert capsys.readouterr().err == message


@pytest.mark.usefixtures("stand_ins")
def test_traceback_is_shown_when_asked_for(capsys):
    assert cli.main(["--traceback", "fit", "folder", "--store", "s", "--image", "missing.tif"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.usefixtures("stand_ins")
def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        fit("--library-id", "broken")


@pytest.mark.usefixtures("stand_ins")
def test_stopping_is_not_an_error_of_the_input(capsys):
    assert fit("--library-id", "interrupted") == 130
    assert capsys.readouterr().err.endswith("sphisto: stopped.\n")


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genes", ","], "expected names separated by commas, found ','"),
        (["--um-per-px", "half"], "invalid float value: 'half'"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_a_wrong_word_is_named(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        fit(*words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("bool", None, bool),
        ("int", "3", 3),
        ("float | int | None", "0.5", 0.5),
        ("str | None", "a", "a"),
        ("Literal['cpu', 'cuda']", "cpu", "cpu"),
        ("Sequence[str] | str | None", "a, b", ["a", "b"]),
        ("Sequence[str | int]", "a", ["a"]),
        ("np.ndarray | None", None, None),
        ("Callable[[str], int]", None, None),
        ("dict[str, str]", None, None),
    ],
)
def test_annotations_say_how_a_word_is_read(annotation, text, value):
    reader = cli._reader(annotation)
    assert (reader(text) if text else reader) == value


def test_every_function_behind_fit_has_a_description_for_each_option():
    for function in cli._fit_functions():
        described = cli._described(function)
        assert [name for name in cli._readers(function) if not described.get(name)] == []


def test_options_of_the_real_fit_include_what_a_user_needs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    shown = capsys.readouterr().out
    for option in ("image", "genes", "network", "um-per-px", "max-epochs", "device", "rng", "min-genes", "key-added"):
        assert f"--{option} " in shown


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


def test_demo_writes_its_store_and_pictures_and_says_where(tmp_path, capsys, monkeypatch):
    for name, value in {"SIZE": 96, "PITCH_UM": 24.0, "EPOCHS": 1}.items():
        monkeypatch.setattr(_demo, name, value)
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
