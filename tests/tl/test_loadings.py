"""Fits with gene programmes that a user gives."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

import sphisto as sp
from sphisto.config import FitConfig, GeneModelConfig, TrainConfig
from sphisto.tl._loadings import with_loadings
from sphisto.tl._recipe import recipe_of

CLASSES = ["stroma", "lymphoid", "epithelium", "fat"]
KEY = "projection"


@pytest.fixture(scope="module")
def programmes(small_toy_once):
    """Mean true rate of each gene in each class of tissue; a stain does not change what a class is made of."""
    return programmes_of(small_toy_once)


def programmes_of(adata):
    rates = sp.datasets.toy_truth(adata, list(adata.var_names)).values.astype(np.float64)
    markers = sp.datasets.toy_truth(adata, [f"class{i}_a" for i in range(4)]).values
    tissue = rates.sum(axis=0) > 0
    of_class = markers.argmax(axis=0)
    return pd.DataFrame(
        {name: rates[:, tissue & (of_class == i)].mean(axis=1) for i, name in enumerate(CLASSES)},
        index=adata.var_names,
    )


def config(strength=None, **train):
    return FitConfig(genes=GeneModelConfig(loadings_strength=strength), train=TrainConfig(least_batches=4, **train))


def fit(data, path, **options):
    return sp.tl.fit_projection(data, store=path, **{"max_epochs": 2, "device": "cpu", **options})


@pytest.fixture(scope="module")
def told_once(small_toy_once, programmes, tmp_path_factory):
    adata = small_toy_once.copy()
    fit(adata, tmp_path_factory.mktemp("told") / "toy.zarr", loadings=programmes)
    return adata


@pytest.fixture
def told(told_once):
    """A section with a projection by given loadings; its store must not be written to."""
    return told_once.copy()


# ---- what is written


def test_given_loadings_are_those_of_table_store_and_model(told, programmes, tmp_path):
    expected = (programmes / programmes.sum()).to_numpy(np.float32)
    store, model = told.uns[KEY]["store"], sp.tl.load(told.uns[KEY]["model"])
    np.testing.assert_array_equal(told.varm[f"{KEY}_loadings"][:, :4], expected)
    np.testing.assert_array_equal(model.model.loadings[:, :4], expected)
    sp.tl.save(model, tmp_path / "again.pt")
    names = sp.get.raster(store, f"{KEY}_factors")["c"].values.tolist()
    assert names[:4] == CLASSES
    assert all(name.startswith("contrast") for name in names[4:])
    assert model.model.names == sp.tl.load(tmp_path / "again.pt").model.names == names
    assert "stroma, lymphoid, epithelium, fat" in repr(model)


def test_a_gene_of_the_store_is_the_sum_of_its_programmes(told):
    """Read from the store as any other gene, by maps of other names than before."""
    from sphisto.io.store import read as stores

    store = told.uns[KEY]["store"]
    assert stores.factors(store, KEY).names[:4] == CLASSES
    (made,) = sp.get.gene_raster(store, "class1_a").values
    maps = sp.get.raster(store, f"{KEY}_factors").values
    row = told.varm[f"{KEY}_loadings"][told.var_names.get_loc("class1_a")]
    plain = np.tensordot(row[:4], maps[:4], axes=1)
    contrast = np.tensordot(row[4:], maps[4:], axes=1)
    np.testing.assert_allclose(made, plain + np.maximum(contrast, -0.9 * plain), rtol=1e-4)


def test_the_record_names_what_was_given(told, programmes):
    record = told.uns[KEY]["params"]["loadings"]
    assert list(record["programmes"]) == CLASSES
    assert record["n_genes"] == len(programmes)
    assert len(record["hash"]) == 16
    assert "strength" not in record  # as given
    assert sp.tl.load(told.uns[KEY]["model"]).params["loadings"] == {**record, "programmes": CLASSES}


def test_maps_of_true_programmes_show_where_the_classes_are(told, fitted):
    """A programme's map against the tissue's class, beside the best of the maps that were found freely."""
    truth = sp.datasets.toy_truth(told, [f"class{i}_a" for i in range(4)]).values
    tissue = np.isfinite(sp.get.raster(told.uns[KEY]["store"], f"{KEY}_factors").values[0])
    found, free = (sp.get.raster(each.uns[KEY]["store"], f"{KEY}_factors").values[:, tissue] for each in (told, fitted))
    n_free = sum(
        name.startswith("factor") for name in sp.get.raster(fitted.uns[KEY]["store"], f"{KEY}_factors")["c"].values
    )
    there = [i for i in range(4) if truth[i][tissue].std() > 0]
    own = [np.corrcoef(found[i], truth[i][tissue])[0, 1] for i in there]
    best = [max(np.corrcoef(each, truth[i][tissue])[0, 1] for each in free[:n_free]) for i in there]
    assert np.mean(own) > np.mean(best) - 0.02
    assert min(own) > 0.5


def test_another_section_is_predicted_by_the_model_alone(told, tmp_path):
    other = sp.datasets.toy(96, 112, pitch_um=24, rng=7)
    sp.tl.predict(sp.tl.load(told.uns[KEY]["model"]), other, store=tmp_path / "other.zarr", device="cpu")
    assert sp.get.raster(tmp_path / "other.zarr", f"{KEY}_factors")["c"].values[:4].tolist() == CLASSES
    np.testing.assert_array_equal(other.varm[f"{KEY}_loadings"], told.varm[f"{KEY}_loadings"])


def test_genes_that_are_not_named_are_learned_and_counted(small_toy, programmes, tmp_path, caplog):
    some = programmes.drop(index=["class1_a", "class2_a"])
    with caplog.at_level(logging.INFO, "sphisto"):
        fit(small_toy, tmp_path / "toy.zarr", loadings=some)
    assert f"4 programmes are given, of {len(some)} genes; loadings of the 2 other genes are learned" in caplog.text
    found = small_toy.varm[f"{KEY}_loadings"][:, :4]
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)
    for gene in ("class1_a", "class2_a"):
        row, true = found[small_toy.var_names.get_loc(gene)], programmes.loc[gene]
        assert row.argmax() == true.argmax()
        assert np.corrcoef(row, true)[0, 1] > 0.9


def test_a_programme_may_be_called_as_a_gene_is(small_toy, programmes, tmp_path):
    named = programmes.rename(columns={"stroma": "class0_a", "fat": "Fat cells/αβ"})
    fit(small_toy, tmp_path / "toy.zarr", loadings=named, genes=["class0_a"])
    maps, gene = (sp.get.raster(tmp_path / "toy.zarr", name) for name in (f"{KEY}_factors", KEY))
    assert maps["c"].values.tolist()[:4] == list(named.columns)
    assert gene["c"].values.tolist() == ["class0_a"]
    assert not np.array_equal(maps.sel(c="class0_a"), gene.sel(c="class0_a"), equal_nan=True)
    import spatialdata as sd

    assert sd.read_zarr(tmp_path / "toy.zarr").images[f"{KEY}_factors"].sel(c="Fat cells/αβ").ndim == 2


# ---- evaluation


def test_an_evaluation_takes_what_a_fit_takes(small_toy, programmes):
    scores = sp.tl.evaluate(small_toy, loadings=programmes, max_epochs=1, device="cpu")
    free = sp.tl.evaluate(small_toy.copy(), max_epochs=1, device="cpu")
    assert scores.loc["prior", "mean_pearson"] > free.loc["prior", "mean_pearson"] - 0.05
    assert list(small_toy.uns["evaluation"]["params"]["loadings"]["programmes"]) == CLASSES


# ---- several sections


def section(name, seed):
    adata = sp.datasets.toy(96, 112, pitch_um=24, rng=seed)
    adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
    return adata


@pytest.mark.slow
def test_sections_are_fitted_together_by_given_loadings(programmes, tmp_path):
    both = [section("one", 1), section("two", 2)]
    fit(both, tmp_path / "pair.zarr", loadings=programmes)
    model = sp.tl.load(tmp_path / "pair.projection.pt")
    expected = (programmes / programmes.sum()).to_numpy(np.float32)
    np.testing.assert_array_equal(model.model.loadings[:, :4], expected)
    for name, adata in zip(("one", "two"), both, strict=True):
        key = f"{KEY}_{name}"
        assert sp.get.raster(tmp_path / "pair.zarr", f"{key}_factors")["c"].values[:4].tolist() == CLASSES
        levels = np.exp(model.sections[name].levels)[:, None]
        np.testing.assert_allclose(adata.varm[f"{key}_loadings"][:, :4], expected * levels, rtol=1e-5)
        assert list(adata.uns[key]["params"]["loadings"]["programmes"]) == CLASSES
    scores = sp.tl.evaluate(both, loadings=programmes, split="section", max_epochs=1, device="cpu")
    assert np.isfinite(scores.loc[("one", "sphisto"), "mean_pearson"])
    lacking = programmes.rename(index={"class0_a": "other"})
    with pytest.raises(KeyError, match="1 of the .* genes of `loadings` not in 'one': other"):
        fit(both, tmp_path / "new.zarr", loadings=lacking)
    assert not (tmp_path / "new.zarr").exists()


# ---- what is refused


def refused(adata, path, match, kind=ValueError, **options):
    """Refuse before an image is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sphisto.tl._fit_projection.make_slide", lambda *_, **__: pytest.fail("read the image"))
        patch.setattr("sphisto.tl._evaluate.make_slide", lambda *_, **__: pytest.fail("read the image"))
        with pytest.raises(kind, match=match):
            fit(adata, path, **options)
        with pytest.raises(kind, match=match):
            sp.tl.evaluate(adata, **options)
    assert not path.exists()


def test_what_cannot_be_is_refused_before_long_work(small_toy, programmes, tmp_path):
    path = tmp_path / "toy.zarr"
    refused(small_toy, path, "negative values", loadings=-programmes)
    refused(small_toy, path, "expected a pandas DataFrame", TypeError, loadings=programmes.to_numpy())
    refused(small_toy, path, "not in 'toy': Mbp", KeyError, loadings=programmes.rename(index={"class0_a": "Mbp"}))
    refused(
        small_toy, path, "network='prototype', whose maps are single genes", loadings=programmes, network="prototype",
        genes=["class0_a"],
    )  # fmt: skip
    small_toy.X = small_toy.X * 0.37
    refused(small_toy, path, "values of 'toy' that are no counts together with `loadings`", loadings=programmes)


def test_programmes_of_which_no_gene_was_counted_are_warned_of(small_toy, programmes, caplog):
    recipe = recipe_of(network="unet", config="fast", max_epochs=1, features="texture", rng=0, device="cpu")
    wide = programmes.assign(absent=0.0, seen=0.0)
    wide.loc[["noise_a", "class0_a"], "absent"] = 1
    wide.loc["class1_a", "seen"] = 1
    small_toy.X = small_toy.X.toarray() * ~small_toy.var_names.isin(["noise_a", "class0_a"])
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        with_loadings(recipe, wide, [sp.io.section(small_toy)])
    assert "toy: no gene of the programme(s) 'absent' has counts there" in caplog.text
    caplog.clear()
    with_loadings(recipe, programmes, [sp.io.section(small_toy)])
    assert "no gene of" not in caplog.text


# ---- resuming


@pytest.mark.slow
def test_an_unfinished_fit_of_other_loadings_is_not_resumed(small_toy, programmes, tmp_path, monkeypatch):
    from sphisto.train.trainer import Keeper

    def stop(*_):
        raise KeyboardInterrupt

    path, keep = tmp_path / "toy.zarr", Keeper.on_train_epoch_end
    monkeypatch.setattr(Keeper, "on_train_epoch_end", lambda *args: (keep(*args), stop()))
    with pytest.raises(KeyboardInterrupt):
        fit(small_toy, path, loadings=programmes)
    monkeypatch.setattr(Keeper, "on_train_epoch_end", keep)
    for other in ({"loadings": programmes**2}, {}, {"loadings": programmes.rename(columns={"fat": "adipocytes"})}):
        with pytest.raises(ValueError, match="is of another call: loadings"):
            fit(small_toy, path, resume=True, **other)
    with pytest.raises(ValueError, match="is of another call: genes.loadings_strength"):
        fit(small_toy, path, resume=True, loadings=programmes, config=config(strength=3.0))
    fit(small_toy, path, resume=True, loadings=programmes)
    unbroken = small_toy.copy()
    fit(unbroken, tmp_path / "unbroken.zarr", loadings=programmes)
    np.testing.assert_allclose(
        sp.get.raster(path, f"{KEY}_factors").values,
        sp.get.raster(tmp_path / "unbroken.zarr", f"{KEY}_factors").values,
        rtol=1e-3,
    )
