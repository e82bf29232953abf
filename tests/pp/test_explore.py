from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sphisto import pp


def groups(n_groups=3, size=30, n_genes=24, *, rng=0, normalize=True):
    """Groups of spots, each with two genes of its own that are ten times as high; returns the table and the groups."""
    group = np.repeat(np.arange(n_groups), size)
    rates = np.full((n_groups, n_genes), 10.0)
    for i in range(n_groups):
        rates[i, [2 * i, 2 * i + 1]] = 150, 100
    counts = np.random.default_rng(rng).poisson(rates[group]).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=[f"g{i}" for i in range(n_genes)]))
    if normalize:
        pp.normalize(adata)
    return adata, group


def test_groups_are_found_and_marked():
    adata, group = groups()

    assert pp.explore(adata, resolution=0.3, n_markers=2) is None

    labels = adata.obs["cluster"].astype(str).to_numpy()
    assert len(set(zip(labels, group, strict=True))) == 3  # one label for each group
    assert set(adata.var_names[adata.var["marker"]]) == {f"g{i}" for i in range(6)}
    for i in range(3):
        assert set(adata.var["marker_of"].iloc[[2 * i, 2 * i + 1]]) == {labels[group == i][0]}
    assert set(adata.var["marker_of"][~adata.var["marker"]]) == {""}
    assert adata.var["marker"].dtype == bool
    assert adata.obsm["X_umap"].shape == (90, 2)
    assert adata.obsm["X_pca"].shape == (90, 23)
    assert adata.uns["explore"]["params"]["n_markers"] == 2


@pytest.fixture(scope="module")
def expected():
    adata, _ = groups()
    pp.explore(adata, resolution=0.3)
    return adata


def as_expected(adata, expected):
    assert list(adata.obs["cluster"].astype(str)) == list(expected.obs["cluster"].astype(str))
    assert np.array_equal(adata.obsm["X_pca"], expected.obsm["X_pca"])
    assert np.array_equal(adata.obsm["X_umap"], expected.obsm["X_umap"])
    assert list(adata.var["marker"]) == list(expected.var["marker"])
    assert list(adata.var["marker_of"]) == list(expected.var["marker_of"])
    assert set(adata.obsp) == {"connectivities", "distances"}
    assert set(adata.uns) >= {"pca", "neighbors", "umap", "rank_genes_groups", "cluster", "explore", "log1p"}


FORMS = {
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": lambda x: x.toarray(),
    "columns first": lambda x: np.asfortranarray(x.toarray()),
    "float64": lambda x: x.astype(np.float64),
    "nothing masked": lambda x: np.ma.asarray(x.toarray()),
}


@pytest.mark.parametrize("form", [*FORMS, "lazy", "view", "raw"])
def test_every_kind_of_matrix_gives_the_same_result(form, expected):
    adata, _ = groups()
    if form == "lazy":
        import dask.array as da

        adata.X = da.from_array(adata.X.toarray(), chunks=(20, 7)).map_blocks(sparse.csr_matrix)
    elif form == "view":
        adata = ad.concat([adata, adata[:3]], merge="same", uns_merge="same")[:90]
    elif form == "raw":  # scanpy would rank these
        adata.raw = ad.AnnData(np.random.default_rng(0).random((90, 30)))
    else:
        adata.X = FORMS[form](adata.X)
    kind = type(adata.X) if form != "view" else sparse.csr_matrix
    pp.explore(adata, resolution=0.3)
    as_expected(adata, expected)
    assert type(adata.X) is kind


@pytest.mark.parametrize("text", ["str", "string[python]", "string[pyarrow]"])
def test_names_of_every_type_of_text(text, expected, tmp_path):
    adata, _ = groups()
    adata.obs.index, adata.var.index = adata.obs.index.astype(text), adata.var.index.astype(text)
    pp.explore(adata, resolution=0.3)
    as_expected(adata, expected)


def test_columns_of_the_users_are_not_overwritten():
    adata, _ = groups()
    adata.obs["cluster"] = "cortex"
    adata.var["marker"] = "Anna's"
    with pytest.raises(ValueError, match=r"Found obs\['cluster'\], which sphisto did not .* Give another `key_added`"):
        pp.explore(adata)
    with pytest.raises(ValueError, match=r"Found var\['marker'\], which sphisto did not write"):
        pp.explore(adata, key_added="domain")
    assert set(adata.var["marker"]) == {"Anna's"}
    assert not adata.obsm
    del adata.var["marker"]
    pp.explore(adata, key_added="domain")
    assert set(adata.obs["cluster"]) == {"cortex"}
    pp.explore(adata, key_added="domain", n_markers=1)
    assert adata.uns["explore"]["params"]["n_markers"] == 1


def test_names_that_differ_in_case_only_are_refused_before_the_work():
    adata, _ = groups()
    adata.obs["Cluster"] = "tumour"
    with pytest.raises(
        ValueError,
        match=r"Found obs\['Cluster'\], whose name differs in case only from obs\['cluster'\].* Give another",
    ):
        pp.explore(adata)
    assert not adata.obsm
    pp.explore(adata, key_added="domain")
    adata.obsm["X_UMAP"] = adata.obsm["X_umap"]
    with pytest.raises(ValueError, match=r"Found obsm\['X_UMAP'\]"):
        pp.explore(adata, key_added="domain")


def test_a_table_that_stays_in_its_file_is_refused(tmp_path):
    groups()[0].write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"stays in its file .*to_memory"):
        pp.explore(ad.read_h5ad(tmp_path / "a.h5ad", backed="r"))


def test_the_best_markers_come_first():
    adata, _ = groups()
    pp.explore(adata, resolution=0.3, n_markers=1)
    assert set(adata.var_names[adata.var["marker"]]) == {"g0", "g2", "g4"}


@pytest.mark.parametrize("column", ["mt", "MT"])
def test_mitochondrial_genes_mark_nothing(column):
    adata, _ = groups()
    adata.var[column] = adata.var_names == "g0"
    pp.explore(adata, resolution=0.3, n_markers=1)
    assert set(adata.var_names[adata.var["marker"]]) == {"g1", "g2", "g4"}


def test_the_same_seed_gives_the_same_result():
    first, second = (groups()[0] for _ in range(2))
    pp.explore(first, rng=7)
    pp.explore(second, rng=7)
    assert first.obs["cluster"].equals(second.obs["cluster"])
    assert np.array_equal(first.obsm["X_umap"], second.obsm["X_umap"])
    assert first.var.equals(second.var)
    third = pp.explore(groups()[0], rng=np.random.default_rng(7), copy=True)
    assert isinstance(third.uns["explore"]["params"]["rng"], int)


def test_only_variable_genes_are_used_if_there_are_many():
    adata, group = groups(n_genes=60)
    pp.explore(adata, n_top_genes=20, resolution=0.3)
    assert adata.var["highly_variable"].sum() == 20
    assert adata.obsm["X_pca"].shape == (90, 19)
    assert len(set(zip(adata.obs["cluster"], group, strict=True))) == 3


@pytest.mark.parametrize(("n_obs", "n_vars"), [(12, 5), (4, 2), (5, 3)])
def test_tiny_tables_work(n_obs, n_vars):
    counts = np.random.default_rng(0).poisson(5.0, (n_obs, n_vars)) + 1
    counts[: n_obs // 2, 0] += 200
    adata = ad.AnnData(counts.astype(np.float32))
    pp.normalize(adata)
    pp.explore(adata)
    assert adata.obsm["X_umap"].shape == (n_obs, 2)
    assert np.isfinite(adata.obsm["X_umap"]).all()
    assert adata.obsm["X_pca"].shape[1] == min(n_obs, n_vars) - 1


def test_a_single_cluster_has_no_markers_and_says_so(caplog):
    adata, _ = groups(n_groups=1)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        pp.explore(adata, resolution=1e-3)
    assert adata.obs["cluster"].nunique() == 1
    assert not adata.var["marker"].any()
    assert "no gene is a marker" in caplog.text


def test_a_copy_leaves_the_table_alone_and_the_result_can_be_written(tmp_path):
    adata, _ = groups()
    out = pp.explore(adata, key_added="domain", copy=True)
    assert "marker" not in adata.var
    assert not adata.obsm
    assert "domain" in out.obs
    out.write_h5ad(tmp_path / "x.h5ad")
    assert ad.read_h5ad(tmp_path / "x.h5ad").var["marker"].sum() == out.var["marker"].sum()


def test_a_view_is_made_a_table_of_its_own():
    adata, _ = groups()
    part = adata[:60]
    pp.explore(part)
    assert not part.is_view
    assert "cluster" not in adata.obs


def test_wrong_tables_are_named():
    raw, _ = groups(normalize=False)
    with pytest.raises(
        ValueError, match=r"holds raw counts, expected log-normalised values. Run `sphisto.pp.normalize"
    ):
        pp.explore(raw)
    raw.X = raw.X * 1.5
    with pytest.raises(ValueError, match=r"holds values up to .*Run `sphisto.pp.normalize"):
        pp.explore(raw)
    adata, _ = groups()
    with pytest.raises(ValueError, match="has 3 spots and 24 genes, expected at least 4 spots and 2 genes"):
        pp.explore(adata[:3].copy())
    with pytest.raises(ValueError, match="n_pcs is 0, expected at least 1"):
        pp.explore(adata, n_pcs=0)
    adata.var_names = ["Twice", "Twice", *adata.var_names[2:]]
    with pytest.raises(ValueError, match=r"more than once \(Twice, ...\). Run `adata.var_names_make_unique"):
        pp.explore(adata)
    assert "explore" not in adata.uns
