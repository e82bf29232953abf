from __future__ import annotations

import pandas as pd
import pytest


def rows_of(name, kind, scores, seeds=(0, 1), version="new"):
    """Tidy rows of some methods' scores."""
    return [
        {"set": name, "kind": kind, "seed": seed, "method": method, "metric": metric, "value": value, "seconds": 1.0,
         "version": version, "fingerprint": "x"}
        for seed in seeds
        for method, pearson in scores.items()
        for metric, value in {"pearson": pearson, "ceiling": 0.8, "genes": 9, "better_than_gaussian": 0.9}.items()
    ]  # fmt: skip


@pytest.fixture
def results():
    """Results on two sets."""
    rows = rows_of(
        "xenium_breast_dapi", "finer", {"gaussian": 0.25, "cokriging_roots": 0.29, "sphisto": 0.31, "prior": 0.3}
    )
    rows += rows_of("toy", "finer", {"gaussian": 0.9, "colour_ridge": 0.95, "sphisto": 0.97})
    return pd.DataFrame(rows + rows_of("mob_st_1", "random", {"gaussian": 0.2, "sphisto": 0.3, "prior": 0.5}))


@pytest.mark.parametrize("version", ["5163415", "12e4567", "0012345"])
def test_a_version_that_looks_like_a_number_is_read_as_it_was_written(results, tmp_path, version):
    from benchmarks.fidelity.results import read

    results.assign(version=version, fingerprint=version).to_csv(tmp_path / "toy.csv", index=False)
    found = read(tmp_path)
    assert set(found.version) == set(found.fingerprint) == {version}


def test_targets_are_checked(results):
    from benchmarks.fidelity import table

    found = table.targets(table.wide(results)).set_index("target")
    assert found.sphisto["xenium_breast_dapi: Pearson over gaussian's"] == pytest.approx(0.31 / 0.25)
    assert found.state["xenium_breast_dapi: Pearson over gaussian's"] == "pass"
    assert found.state["xenium_breast_dapi: Pearson over the best kriging's"] == "pass"
    assert found.prior["xenium_breast_dapi: Pearson over the best kriging's"] == pytest.approx(0.3 / 0.29)
    assert found.sphisto["toy: way from the best baseline to 1"] == pytest.approx(0.4)
    assert found.state["toy_sparse: way from the best baseline to 1"] == "not run"
    held_out = found.loc[f"mob_st_1, random: Pearson since {table.VERSION}"]
    assert held_out.state == "short"
    assert held_out.prior > 0


def test_recorded_values_do_not_pass_against_themselves(results):
    from benchmarks.fidelity import table

    found = table.targets(table.wide(results.assign(version=f"{table.VERSION} or before"))).set_index("target")
    assert found.state[f"mob_st_1, random: Pearson since {table.VERSION}"] == "not run"


def test_methods_are_compared_on_the_seeds_of_which_ours_ran(results):
    """Seeds split spots differently, and by chance one split is easier than another."""
    from benchmarks.fidelity import table

    results = results[~((results.method == "sphisto") & (results.seed == 1))]
    results.loc[(results.method == "gaussian") & (results.seed == 1), "value"] = 0.9
    found = table.targets(table.wide(results)).set_index("target")
    assert found.sphisto["xenium_breast_dapi: Pearson over gaussian's"] == pytest.approx(0.31 / 0.25)


def test_results_are_tidy_and_computed_once(tmp_path, monkeypatch, capsys, toy_case):
    from benchmarks.fidelity import results

    monkeypatch.setattr(results, "make_case", lambda *_: toy_case)
    rows = [("toy", "finer", 0, "nearest"), ("toy", "finer", 0, "gaussian")]
    results.run(rows, None, tmp_path)
    found = results.read(tmp_path)
    assert list(found) == results.COLUMNS
    assert not found.duplicated([*results.KEY, "metric"]).any()
    assert found.set_index(["method", "metric"]).value["gaussian", "pearson"] > 0.3
    capsys.readouterr()
    results.run(rows, None, tmp_path)
    assert "2 rows, 2 of them up to date." in capsys.readouterr().out
    monkeypatch.setattr(
        results, "print_of", lambda row, _: "another" if row[3] == "nearest" else results_print(found, row)
    )
    results.run(rows, None, tmp_path)
    assert "2 rows, 1 of them up to date." in capsys.readouterr().out
    assert set(results.read(tmp_path).query("method == 'nearest'").fingerprint) == {"another"}
    assert len(results.read(tmp_path)) == len(found)


def results_print(found, row):
    return found[found.method == row[3]].fingerprint.iloc[0]


def test_rows_are_chosen_by_name_and_missing_sets_left_out_with_the_reason(tmp_path, capsys):
    from benchmarks.fidelity.__main__ import available, chosen

    assert chosen("toy,cokriging_12,1", 3) == [("toy", "finer", 1, "cokriging_12")]
    assert len(chosen("mob_st_1,nearest,gaussian", 3)) == 2 * 2 * 3
    assert {row[1] for row in chosen("finer", 1)} == {"finer"}
    assert {row[2] for row in chosen("prior: half the range", 3)} == {0}
    with pytest.raises(SystemExit, match="Nothing is all of toy,random"):
        chosen("toy,random", 3)
    with pytest.raises(SystemExit, match=r"Unknown: spam\. Known: .*cokriging"):
        chosen("spam", 3)
    assert available(chosen("mob_st_1,nearest", 1), tmp_path) == []
    assert f"there is no folder mob_st_1 in {tmp_path}" in capsys.readouterr().out


def test_the_page_keeps_its_text_and_gets_tables_and_figure(results, tmp_path):
    from benchmarks.fidelity import page

    results.assign(fingerprint="x").to_csv(tmp_path / "all.csv", index=False)
    names = ("held-out spots", "finer truth", "deviance", "details", "targets", "ablations", "intervals")
    text, peers = tmp_path / "page.md", tmp_path / "peers.md"
    peers.write_text("<!-- held-out spots: begin --><!-- held-out spots: end -->")
    text.write_text("Before.\n" + "".join(f"<!-- {n}: begin -->\nold\n<!-- {n}: end -->\n" for n in names) + "After.\n")
    page.write(tmp_path, text, peers, tmp_path / "figures")
    written = text.read_text()
    assert written.startswith("Before.")
    assert written.endswith("After.\n")
    assert "old" not in written
    assert "| colour_ridge" in written
    assert "its co-kriging alone" in peers.read_text()
    assert (tmp_path / "figures" / "methods.svg").exists()
    text.write_text("Nothing.")
    with pytest.raises(ValueError, match="held-out spots: begin"):
        page.write(tmp_path, text, peers, tmp_path / "figures")


def test_the_results_that_are_kept_are_whole():
    from benchmarks.fidelity import results, table
    from benchmarks.fidelity.cases import SETS
    from benchmarks.fidelity.methods import METHODS

    found = results.read()
    assert not found.duplicated([*results.KEY, "metric"]).any()
    assert set(found.method) <= set(METHODS)
    assert set(zip(found.set, found.kind, strict=True)) <= set(SETS)
    assert "pass" in table.report(found)
