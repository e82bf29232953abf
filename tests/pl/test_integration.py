from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import sphisto as sp


@pytest.fixture
def judged(rng):
    """What tl.integration leaves, with figures known by heart."""
    adata = AnnData(rng.poisson(3, (60, 2)).astype(np.float32), var=pd.DataFrame(index=["A", "B"]))
    adata.obs["slide"] = np.repeat(["one", "two", "three"], 20)
    adata.obs["kind"] = np.tile(["x", "y"], 30)
    adata.obsm["spatial"] = np.column_stack([np.arange(60) % 5, np.arange(60) // 5]).astype(float)
    adata.obsm["corrected"] = np.column_stack([np.arange(60.0), np.zeros(60)])
    for stage in ("before", "after"):
        adata.obsm[f"integration_umap_{stage}"] = rng.normal(size=(60, 2))
    figures = {"section_accuracy": [0.9, 0.4], "section_silhouette": [0.3, 0.0], "section_mixing": [0.1, 0.9]}
    figures |= {"label_silhouette": [0.1, 0.2], "label_purity": [0.6, 0.8], "label_connectivity": [1.0, 1.0]}
    figures |= {"clusters_kept": [0.5, 0.7]}
    chance = dict.fromkeys(figures, float("nan")) | {"section_accuracy": 1 / 3, "section_mixing": 1.0}
    adata.uns["integration"] = {
        "table": pd.DataFrame(figures, index=["before", "after"]),
        "chance": chance,
        "params": {"section_key": "slide", "label_key": "kind", "after": "corrected"},
    }
    return adata


def heights(axis):
    return [bar.get_height() for bar in axis.patches]


def test_bars_are_the_figures_and_lines_are_at_chance(judged):
    axes = sp.pl.integration(judged, show=False)
    assert len(axes) == 6 + 3
    sections = axes[2]
    assert heights(sections) == [0.9, 0.3, 0.1, 0.4, 0.0, 0.9]
    lines = {round(float(line.get_ydata()[0]), 3) for line in sections.lines}
    assert {0.333, 1.0} <= lines
    assert [text.get_text() for text in sections.get_legend().get_texts()] == ["chance", "before", "after"]
    assert heights(axes[5]) == [0.5, 0.1, 0.6, 1.0, 0.7, 0.2, 0.8, 1.0]


def test_without_labels_there_are_fewer_panels(judged):
    del judged.uns["integration"]["params"]["label_key"]
    judged.uns["integration"]["table"][["label_silhouette", "label_purity", "label_connectivity"]] = np.nan
    axes = sp.pl.integration(judged, show=False)
    assert len(axes) == 4 + 3
    assert heights(axes[3]) == [0.5, 0.7]


def test_maps_share_one_scale(judged):
    *_, first, second, third = sp.pl.integration(judged, vmin=0, vmax=59, show=False)
    drawn = [axis.collections[0] for axis in (first, second, third)]
    assert {spots.get_clim() for spots in drawn} == {(0, 59)}
    np.testing.assert_array_equal(drawn[1].get_array(), judged.obsm["corrected"][judged.obs["slide"] == "three", 0])
    assert second.get_title() == "three, factor 0"


def test_a_gene_or_another_factor_is_mapped(judged):
    assert sp.pl.integration(judged, gene="B", show=False)[-1].get_title() == "two, B"
    with pytest.raises(ValueError, match="Found factor=2; obsm"):
        sp.pl.integration(judged, factor=2, show=False)
    with pytest.raises(KeyError):
        sp.pl.integration(judged, gene="C", show=False)


def test_given_axes_are_drawn_in(judged):
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(3, 3, layout="constrained")
    assert sp.pl.integration(judged, ax=grid)[0].figure is figure
    with pytest.raises(ValueError, match="expected 9, one for each panel"):
        sp.pl.integration(judged, ax=grid[0])


def test_what_was_not_judged_is_refused(judged):
    with pytest.raises(KeyError, match=r"Run `sphisto.tl.integration` first"):
        sp.pl.integration(judged, key="other")
