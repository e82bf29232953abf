from __future__ import annotations

import sys

import pytest


@pytest.fixture
def small_toy_set(monkeypatch):
    """The toy set, small enough for tests."""
    from benchmarks.fidelity.sets import toy

    monkeypatch.setattr(toy.make, "__kwdefaults__", {"side": 400, "name": "toy"})


def test_a_cell_is_computed_again_only_if_its_code_changed(tmp_path, small_toy_set, monkeypatch):
    from benchmarks.fidelity import cells

    cell = cells.Cell("toy", "finer", "nearest", 0)
    assert not cells.is_fresh(cell, results=tmp_path)
    found = cells.compute(cell, None, results=tmp_path)
    assert found["median_pearson"] > 0.1
    assert cells.is_fresh(cell, results=tmp_path)
    monkeypatch.setattr(cells, "meaning", lambda source: source + "# changed")
    assert not cells.is_fresh(cell, results=tmp_path)


def test_an_error_is_kept_and_tried_again(tmp_path):
    from benchmarks.fidelity import cells

    cell = cells.Cell("mob_st_1", "random", "nearest", 0)
    found = cells.compute(cell, tmp_path / "nowhere", results=tmp_path)
    assert "FileNotFoundError" in found["error"]
    assert "FileNotFoundError" in cell.read(tmp_path)["error"]
    assert not cells.is_fresh(cell, results=tmp_path)


def test_a_process_that_dies_is_an_error(tmp_path, monkeypatch):
    from benchmarks.fidelity import cells

    monkeypatch.setattr(sys, "executable", "/bin/false")
    found = cells.compute_apart(cells.Cell("toy", "finer", "nearest", 0), None, results=tmp_path)
    assert "the process ended with 1" in found["error"]


def test_fingerprints_differ_by_method_and_set_but_not_by_comments():
    from benchmarks.fidelity import cells

    prints = {
        cells.fingerprint(cells.Cell(name, split, method, 0))
        for name, split in (("toy", "finer"), ("mob_st_1", "random"))
        for method in ("cokriging", "cokriging_12", "sphisto")
    }
    assert len(prints) == 6
    assert cells.meaning('"""Says."""\nx = 1  # why') == cells.meaning("x    = 1")
    assert cells.meaning("x = 1") != cells.meaning("x = 2")


def test_every_file_a_method_uses_is_in_its_fingerprint():
    """Imports between method files are followed by hand in ``_USED_BY_METHODS``."""
    from benchmarks.fidelity import cells
    from benchmarks.fidelity.methods import EVERY

    for module in {method.module for method in EVERY.values()}:
        text = (cells.HERE / "methods" / f"{module}.py").read_text()
        used = {
            line.split(".")[3].split()[0] for line in text.splitlines() if "from benchmarks.fidelity.methods." in line
        }
        assert used == set(cells._USED_BY_METHODS.get(module, ())), module


def test_cells_are_chosen_by_name():
    from benchmarks.fidelity.__main__ import chosen

    assert len(chosen("toy,cokriging,1", 3)) == 1
    assert len(chosen("mob_st_1,nearest,gaussian", 3)) == 2 * 2 * 3
    assert {cell.split for cell in chosen("finer", 1)} == {"finer"}
    with pytest.raises(SystemExit, match=r"Unknown: spam\. Known: .*cokriging"):
        chosen("spam", 3)


def test_files_used_by_those_that_are_used_count_too():
    from benchmarks.fidelity import cells

    assert set(cells.modules_of("controls")) == {"controls", "networks"}
    assert cells.modules_of("nowhere") == ["nowhere"]


def test_ablations_are_computed_on_one_seed_of_each_set():
    from benchmarks.fidelity.__main__ import ablations

    found = {(cell.name, cell.method, cell.seed) for cell in ablations("")}
    assert {("mouse_brain_coronal", "prior-half_the_range", 0), ("toy", "other_colours", 0)} <= found
    named = ablations("mouse_brain_coronal,prior-half_the_range")
    assert [(cell.name, cell.method) for cell in named] == [("mouse_brain_coronal", "prior-half_the_range")]


def test_missing_sets_are_left_out_with_the_reason(tmp_path, capsys):
    from benchmarks.fidelity.__main__ import chosen, run

    run(chosen("mob_st_1,nearest", 1), tmp_path, None, tmp_path)
    assert f"there is no folder mob_st_1 in {tmp_path}" in capsys.readouterr().out


@pytest.fixture
def results(tmp_path):
    """Results of three methods on one set: ours best by 0.02."""
    import json

    for method, score in (("nearest", 0.3), ("cokriging", 0.5), ("sphisto", 0.52)):
        for seed in (0, 1):
            genes = {"pearson": [score, None], "deviance": [score / 2, 0.1], "ceiling": [0.64, 0.64]}
            means = {f"{how}_{k}": v[0] for k, v in genes.items() for how in ("mean", "median")}
            result = {"n_genes": 2, "seconds": 1.0, "peak_mb": 9, "note": "", "genes": ["a", "b"], "counts": [5, 6]}
            path = tmp_path / f"mouse_brain_coronal.random.{method}.{seed}.json"
            path.write_text(json.dumps(result | means | {"by_gene": genes}))
    (tmp_path / "toy.finer.nearest.0.json").write_text('{"fingerprint": "", "error": "ValueError: no luck"}')
    return tmp_path


def test_targets_are_checked(results):
    from benchmarks.fidelity import table

    found = {target.text: target.state for target in table.targets(table.load(results))}
    assert found["1 brain, random: co-kriging + 0.01"] == "pass"
    assert found["1 brain, random: 0.80 of the ceiling"] == "pass"
    assert found["3 toy: Pearson 1.03 x none"] == "not run"


def test_methods_are_compared_on_the_seeds_of_which_ours_ran(results):
    """Seeds split spots differently, and by chance one split is easier than another."""
    from benchmarks.fidelity import table

    (results / "mouse_brain_coronal.random.sphisto.1.json").unlink()
    theirs = results / "mouse_brain_coronal.random.cokriging.1.json"
    theirs.write_text(theirs.read_text().replace('"mean_pearson": 0.5', '"mean_pearson": 0.9'))
    found = {target.text: target for target in table.targets(table.load(results))}
    assert found["1 brain, random: co-kriging + 0.01"].goal == pytest.approx(0.51)


def test_the_report_shows_means_shares_and_errors(results):
    from benchmarks.fidelity import table

    report = table.report(results)
    assert "**0.520 ± 0.000**" in report
    assert "- toy, finer than spots, nearest, seed 0: ValueError: no luck" in report
    brain = table.load(results)[0]
    assert brain.share_better("cokriging", "pearson") == 1
    assert brain.share_better("cokriging", "deviance") == 0.5
    assert brain.best("mean_pearson") == (0.5, "cokriging")


def test_ablations_are_compared_with_what_nothing_was_changed_in(tmp_path):
    import json

    from benchmarks.fidelity import page

    for method, score in {"prior-as_it_is": 0.5, "prior-half_the_range": 0.52}.items():
        (tmp_path / f"toy.finer.{method}.0.json").write_text(json.dumps({"median_pearson": score}))
    (tmp_path / "toy.finer.prior-position_only.0.json").write_text('{"error": "ValueError: no luck"}')
    shown = {row.split("|")[1].strip(): row.split("|")[-3].strip() for row in page.ablations(tmp_path).splitlines()}
    assert shown["prior: as it is"] == "0.500"
    assert shown["prior: half the range"] == "+0.020"
    assert "prior: position only" not in shown


def test_the_page_keeps_its_text_and_gets_tables_and_figures(results, tmp_path):
    from benchmarks.fidelity import page

    text = tmp_path / "fidelity.md"
    text.write_text(f"# Fidelity\n\nBefore.\n\n{page.BEGIN}\nold\n{page.END}\n\nAfter.\n")
    page.write(results, text, tmp_path / "figures")
    written = text.read_text()
    assert written.startswith("# Fidelity\n\nBefore.")
    assert written.endswith("After.\n")
    assert "old" not in written
    assert "| cokriging" in written
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "methods.svg",
        "genes-mouse_brain_coronal-random.svg",
    }
