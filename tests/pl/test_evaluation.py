from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sphisto import pl


@pytest.fixture
def evaluated(section):
    """Three genes scored by three methods; the second best method is "prior", and Zero was not scored."""
    scores = {"sphisto": [0.6, np.nan, 0.3], "prior": [0.5, np.nan, 0.4], "nearest": [0.1, np.nan, -0.1]}
    section.varm["evaluation_by_method"] = pd.DataFrame(scores, index=section.var_names, dtype=np.float32)
    section.var["evaluation_ceiling"] = np.array([0.9, np.nan, 0.5], dtype=np.float32)
    table = pd.DataFrame({"mean_pearson": [0.45, 0.45, 0.0]}, index=list(scores))
    split = {"kind": "random", "share": 0.2, "held_out": 1200, "left": 4800}
    section.uns["evaluation"] = {"table": table, "split": split, "params": {}}
    return section


def curves(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_scores_are_sorted_method_by_method_under_the_ceiling(evaluated):
    left, _ = pl.evaluation(evaluated)
    found = curves(left)
    assert list(found) == [
        "sphisto, mean 0.450", "prior, mean 0.450", "nearest, mean 0.000", "noise ceiling, mean 0.700",
    ]  # fmt: skip
    np.testing.assert_allclose(found["sphisto, mean 0.450"], [0.3, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found["nearest, mean 0.000"], [-0.1, 0.1], rtol=1e-6)
    assert left.get_title() == "1,200 of 6,000 spots held out at random"


def test_each_gene_is_held_against_the_best_other_method(evaluated):
    _, right = pl.evaluation(evaluated)
    [dots] = right.collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.5, 0.6], [0.4, 0.3]], rtol=1e-6)
    assert right.get_xlabel() == "Pearson, prior"
    assert right.get_xlim() == right.get_ylim()
    assert right.get_title() == "of 2 genes 50% better, 50% worse"


def test_rounding_is_no_difference(evaluated):
    by_method = evaluated.varm["evaluation_by_method"]
    by_method["prior"] = by_method["sphisto"] + np.float32(1e-5)
    _, right = pl.evaluation(evaluated)
    assert right.get_title() == "of 2 genes 0% better, 0% worse"


def test_no_ceiling_no_line_and_blocks_are_named(evaluated):
    evaluated.var["evaluation_ceiling"] = np.float32(np.nan)
    evaluated.uns["evaluation"]["split"]["kind"] = "blocks"
    left, _ = pl.evaluation(evaluated)
    assert not any("ceiling" in name for name in curves(left))
    assert left.get_title().endswith("held out in blocks")


def test_what_evaluate_wrote_and_a_file_kept_is_drawn(small_toy, tmp_path):
    import anndata

    from sphisto import tl

    table = tl.evaluate(small_toy, max_epochs=1, device="cpu")
    small_toy.write_h5ad(tmp_path / "a.h5ad")
    left, right = pl.evaluation(anndata.read_h5ad(tmp_path / "a.h5ad"))
    assert f"sphisto, mean {table.loc['sphisto', 'mean_pearson']:.3f}" in curves(left)
    others = table.drop(index="sphisto")["mean_pearson"]
    assert right.get_xlabel() == f"Pearson, {others.idxmax()}"


def test_given_axes_and_file(evaluated, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(1, 2)
    assert pl.evaluation(evaluated, ax=given, save=tmp_path / "e.png") == list(given)
    assert (tmp_path / "e.png").exists()
    with pytest.raises(ValueError, match="expected 2, one for each panel: all methods, sphisto against prior"):
        pl.evaluation(evaluated, ax=given[0])


def test_nothing_evaluated(section):
    with pytest.raises(KeyError, match=r"find an evaluation in .uns\['evaluation'\]. Run `sphisto.tl.evaluate` first"):
        pl.evaluation(section)
