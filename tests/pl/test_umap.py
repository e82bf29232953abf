from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from sphisto import pl


@pytest.fixture
def explored(section, rng):
    section.obsm["X_umap"] = rng.normal(size=(64, 2))
    section.obs["cluster"] = pd.Categorical(["left", "right"] * 32)
    section.uns["explore"] = {"params": {"key_added": "cluster"}}
    return section


def test_each_spot_has_its_value_and_high_ones_come_last(explored):
    _, ax = pl.umap(explored, "A")
    [dots] = ax.collections
    values = dots.get_array()
    assert values.tolist() == list(range(64))
    np.testing.assert_allclose(dots.get_offsets(), explored.obsm["X_umap"])  # A is in the order of the spots
    explored = explored[::-1].copy()
    dots = pl.umap(explored, "A")[1].collections[0]
    np.testing.assert_allclose(dots.get_offsets(), explored.obsm["X_umap"][::-1])
    assert dots.get_clim() == (0, pytest.approx(np.percentile(np.arange(64), 99.5)))


def test_a_store_is_drawn_by_its_table(explored, store, fitted, tmp_path, rng):
    import spatialdata as sd
    import zarr
    from anndata.io import write_elem

    path = Path(shutil.copytree(store, tmp_path / "a.zarr"))
    fitted.obsm["X_umap"] = rng.normal(size=(fitted.n_obs, 2))
    write_elem(zarr.open_group(path / "tables/table/obsm", mode="r+"), "X_umap", fitted.obsm["X_umap"])
    zarr.consolidate_metadata(path)
    drawn = pl.umap(fitted, "class1_a")[-1].collections[0]
    for data in (path, str(path), sd.read_zarr(path)):
        again = pl.umap(data, "class1_a")[-1].collections[0]
        np.testing.assert_allclose(again.get_offsets(), drawn.get_offsets())
        np.testing.assert_allclose(again.get_array(), drawn.get_array())
    with pytest.raises(ValueError, match="Run `sphisto.pp.explore` first, before the fit that writes the table"):
        pl.umap(store, "class1_a")
    with pytest.warns(FutureWarning, match=r"(?s)adata=.* is written data="):
        pl.umap(adata=explored, genes="A")


def test_clusters_come_first_in_their_colours_and_with_their_names(explored):
    explored.uns["cluster_colors"] = ["#ff0000", "#0000ff"]
    axes = pl.umap(explored, ["A", "One"])
    assert [ax.get_title() for ax in axes] == ["cluster", "A", "One"]
    [dots] = axes[0].collections
    np.testing.assert_allclose(dots.get_facecolors(), [to_rgba("red"), to_rgba("blue")] * 32)
    assert {text.get_text() for text in axes[0].texts} == {"left", "right"}
    [left] = [text for text in axes[0].texts if text.get_text() == "left"]
    np.testing.assert_allclose(left.xy, np.median(explored.obsm["X_umap"][::2], axis=0))


def test_clusters_of_no_colour_get_one_each(explored):
    explored.obs["many"] = pd.Categorical([str(i % 12) for i in range(64)])
    dots = pl.umap(explored, "A", clusters="many")[0].collections[0]
    assert len(np.unique(dots.get_facecolors(), axis=0)) == 12


def test_no_clusters_no_panel(explored):
    del explored.uns["explore"]
    assert [ax.get_title() for ax in pl.umap(explored, "A")] == ["A"]
    with pytest.raises(KeyError, match=r"Found no column 'leiden' in .obs; it holds 'array_row', 'array_col', 'clus"):
        pl.umap(explored, "A", clusters="leiden")


def test_unit_of_the_colours(explored):
    label = lambda **words: pl.umap(explored, "A", **words)[1].collections[0].colorbar.ax.get_ylabel()
    assert label() == "counts per spot"
    explored.layers["counts"] = explored.X.copy()
    explored.X = explored.X.log1p()
    assert label() == "X"
    explored.uns["log1p"] = {}
    assert label() == "log-normalised counts"
    assert label(layer="counts") == "counts per spot"


def test_follows_explore(small_toy):
    from sphisto import pp

    pp.normalize(small_toy)
    pp.explore(small_toy)
    axes = pl.umap(small_toy, ["class1_a", "nuclei_a"])
    assert [ax.get_title() for ax in axes] == ["cluster", "class1_a", "nuclei_a"]


def test_given_axes_and_file(explored, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(1, 2)
    assert pl.umap(explored, "A", ax=given, save=tmp_path / "u.png") == list(given)
    assert (tmp_path / "u.png").exists()
    with pytest.raises(ValueError, match="Found 2 axes in `ax`; expected 3, one for each panel: cluster, A, One"):
        pl.umap(explored, ["A", "One"], ax=given)


def test_what_is_not_there(section, explored):
    with pytest.raises(KeyError, match="Found no gene 'a' among the 3 of the table. Close to 'a': A"):
        pl.umap(explored, "a")
    del section.obsm["X_umap"]
    with pytest.raises(ValueError, match=r'Did not find .obsm\["X_umap"\]. Run `sphisto.pp.explore` first'):
        pl.umap(section, "A")
