"""Several sections, fitted together: what is written, what they predict, and what is refused."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.io.store import read as stores
from sphisto.tl._fit_sections import comparable_slides, sections_of

NAMES = ("one", "two")
SEEDS = {"one": 1, "two": 2, "new": 5}
RASTERS = ("", "_factors", "_sd", "_reconstruction")
SHOWN = ("class0_a", "class1_a", "class1_b", "class3_a", "class3_b", "nuclei_a", "nuclei_b", "total_a")  # by the image


def toy(name, **options):
    """Draw a section of some 50 spots, under that name."""
    adata = sp.datasets.toy(96, 112, **{"pitch_um": 24, "rng": SEEDS.get(name, 3), **options})
    adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
    adata.obs_names = [f"{name}_{barcode}" for barcode in adata.obs_names]
    return adata


def fit(sections, path, **options):
    return sp.tl.fit_projection(sections, store=path, **{"max_epochs": 2, "device": "cpu", **options})


def raster(store, name):
    return sp.get.raster(store, name).values


def assert_same_rasters(store, other, names=NAMES, **tolerance):
    for name in names:
        for which in RASTERS:
            found, expected = (raster(path, f"projection_{name}{which}") for path in (store, other))
            np.testing.assert_allclose(found, expected, err_msg=f"{name}{which}", **tolerance)


@dataclass
class Pair:
    """Two sections that were fitted together."""

    store: Path
    tables: list = field(default_factory=list)

    @property
    def model(self):
        return self.store.with_name("pair.projection.pt")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two sections and their store, neither of which may be changed."""
    store, tables = tmp_path_factory.mktemp("pair") / "pair.zarr", [toy(name) for name in NAMES]
    assert fit(tables, store) is None
    return Pair(store, tables)


@pytest.fixture
def sections():
    return [toy(name) for name in NAMES]


@pytest.fixture(scope="module")
def new():
    return toy("new")


def image_of(adata, name="new", **about):
    """Return the image of a section alone, at the scale that its spots give it."""
    um_per_px = sp.io.section(adata).grid.um_per_px
    pixels = adata.uns["spatial"][name]["images"]["hires"]
    return sp.io.section(pixels, **{"image_um_per_px": um_per_px, "library_id": name, **about})


# --- what is written --------------------------------------------------------------------------------------------------


def test_one_store_holds_what_the_documentation_says_of_each_section(pair):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    sdata = sd.read_zarr(pair.store)
    of = {name: {f"projection_{name}{which}" for which in RASTERS} | {f"{name}_image"} for name in NAMES}
    assert set(sdata.images) == set.union(*of.values())
    assert set(sdata.labels) == {f"{start}{name}_tissue" for name in NAMES for start in ("", "projection_")}
    assert set(sdata.shapes) == {"one_spots", "two_spots"}
    assert set(sdata.tables) == {"table", "two_table"}
    for name, table, adata in zip(NAMES, ("table", "two_table"), pair.tables, strict=True):
        key = f"projection_{name}"
        for element in (*of[name], f"{name}_tissue", f"projection_{name}_tissue", f"{name}_spots"):
            assert set(get_transformation(sdata[element], get_all=True)) == {name}, "in a coordinate system of its own"
        assert list(sdata[table].obs_names) == list(adata.obs_names)
        assert set(sdata[table].uns["spatial"]) == {name}
        for each in (adata, sdata[table]):
            assert [entry for entry in each.uns if "projection" in entry] == [key]
            assert each.uns[key]["params"]["library_id"] == name
            assert Path(each.uns[key]["model"]) == pair.model
            assert each.obsm[f"{key}_fitted"].shape == (each.n_obs, each.varm[f"{key}_loadings"].shape[1])
            assert np.isfinite(each.obsm[f"{key}_fitted"]).all()
            assert each.var[f"{key}_pearson"].notna().any()
    assert sorted(path.name for path in pair.store.parent.iterdir()) == ["pair.projection.pt", "pair.zarr"]


def test_the_store_says_which_projections_were_fitted_together(pair):
    import zarr

    keys = zarr.open_group(pair.store, mode="r").attrs["sphisto"]["keys"]
    assert {key: (about["joint"], about["library_id"]) for key, about in keys.items()} == {
        "projection_one": ("projection", "one"), "projection_two": ("projection", "two"),
    }  # fmt: skip


@pytest.mark.parametrize("named", [{"library_id": "two"}, {"key": "projection_two"}])
def test_any_gene_of_a_section(pair, named):
    found = sp.get.gene_raster(pair.store, ["noise_a", "class1_a"], **named)
    table = pair.tables[1]
    loadings = table[:, ["noise_a", "class1_a"]].varm["projection_two_loadings"]
    expected = np.tensordot(loadings, raster(pair.store, "projection_two_factors"), axes=1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-5)


def test_which_section_is_asked_for_if_it_is_not_said(pair):
    with pytest.raises((ValueError, KeyError), match=r"one.*two"):
        sp.get.gene_raster(pair.store, "class1_a")


def test_the_mean_of_a_raster_over_a_spot_is_its_fitted_value(pair):
    for name, adata in zip(NAMES, pair.tables, strict=True):
        key, params = f"projection_{name}", adata.uns[f"projection_{name}"]["params"]
        radius = params["spot_um"] / params["fullres_um_per_px"] / 2
        over = sp.tl.aggregate(pair.store, adata.obsm["spatial"], radius=radius, library_id=name)
        expected = adata.obsm[f"{key}_fitted"] @ adata.varm[f"{key}_loadings"].T
        np.testing.assert_allclose(over.X, expected, rtol=1e-3, atol=1e-4)


def test_one_section_is_drawn(pair):
    import matplotlib.pyplot as plt

    (ax,) = sp.pl.projection(pair.store, "class1_a", library_id="two")
    shown = np.ma.filled(ax.images[-1].get_array(), np.nan)
    expected = sp.get.gene_raster(pair.store, "class1_a", library_id="two").values[0]
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    plt.close("all")


def test_gates_and_levels_are_those_of_each_section(pair):
    model = sp.tl.load(pair.model)
    for name, adata in zip(NAMES, pair.tables, strict=True):
        own = model.of_section(name)
        assert adata.uns[f"projection_{name}"]["params"]["gate"] == own.params["gate"]
        np.testing.assert_array_equal(adata.varm[f"projection_{name}_loadings"], own.model.loadings)
    loadings = [adata.varm[f"projection_{name}_loadings"] for name, adata in zip(NAMES, pair.tables, strict=True)]
    ratio = loadings[0] / loadings[1]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)  # a level for each gene


def test_markers_of_any_section_are_the_default_genes(sections, tmp_path):
    sections[0].var["marker"] = [name == "nuclei_a" for name in sections[0].var_names]
    sections[1].var["marker"] = [name == "class1_a" for name in sections[1].var_names]
    fit(sections, tmp_path / "a.zarr", max_epochs=1)
    assert set(sections[1].uns["projection_two"]["params"]["genes"]) == {"nuclei_a", "class1_a"}


@pytest.mark.parametrize("first", ["alone", "together"])
def test_a_section_may_have_a_projection_of_its_own_in_the_same_store(sections, tmp_path, first):
    """Its image, tissue and spots then belong to both, and lie in the coordinate systems of both."""
    from spatialdata import read_zarr
    from spatialdata.transformations import get_transformation

    store, options = tmp_path / "a.zarr", {"max_epochs": 1, "genes": "class1_a"}
    for which in ("alone", "together") if first == "alone" else ("together", "alone"):
        if which == "alone":
            fit(sections[0], store, key_added="mine", **options)
        else:
            fit(sections, store, **options)
    sdata = read_zarr(store)
    for element in ("one_image", "one_tissue", "one_spots"):
        assert set(get_transformation(sdata[element], get_all=True)) == {"global", "one"}
    assert set(get_transformation(sdata["two_spots"], get_all=True)) == {"two"}
    assert {"mine", "projection_one"} <= set(sdata["table"].uns)
    for key in ("mine", "projection_one"):
        over = sp.tl.aggregate(store, "one_spots", key=key)
        expected = sections[0].obsm[f"{key}_fitted"] @ sections[0].varm[f"{key}_loadings"].T
        np.testing.assert_allclose(over.X, expected, rtol=1e-3, atol=1e-4)


def test_genes_that_not_all_sections_have_are_left_out_and_said(sections, tmp_path, caplog):
    caplog.set_level("INFO", "sphisto")
    few = sections[1][:, ::-1][:, 2:].copy()  # in another order, too
    fit([sections[0], few], tmp_path / "a.zarr", max_epochs=1, genes=["class1_a"])
    assert "one: 16 of 18 genes are in all sections and are used" in caplog.text
    missing = [name not in few.var_names for name in sections[0].var_names]
    np.testing.assert_array_equal(np.isnan(sections[0].varm["projection_one_loadings"]).all(axis=1), missing)
    assert np.isfinite(few.varm["projection_two_loadings"]).all()
    common = [name for name in few.var_names if name in set(sections[0].var_names)]
    at = few.var_names.get_indexer(common)
    there = sections[0].var_names.get_indexer(common)
    ratio = sections[0].varm["projection_one_loadings"][there] / few.varm["projection_two_loadings"][at]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)


def test_copies_leave_the_sections_as_they_were(sections, pair, tmp_path):
    before = [set(adata.uns) for adata in sections]
    changed = fit(sections, tmp_path / "a.zarr", copy=True)
    assert isinstance(changed, list)
    assert [set(adata.uns) for adata in sections] == before
    assert not any(adata.obsm.keys() - {"spatial"} for adata in sections)
    for name, adata, expected in zip(NAMES, changed, pair.tables, strict=True):
        np.testing.assert_allclose(
            adata.obsm[f"projection_{name}_fitted"], expected.obsm[f"projection_{name}_fitted"], rtol=1e-5
        )


@pytest.fixture
def joined(sections):
    """Both sections in one table, their rows mixed."""
    both = ad.concat(dict(zip(NAMES, sections, strict=True)), label="sample", merge="same")
    both.uns["spatial"] = {name: adata.uns["spatial"][name] for name, adata in zip(NAMES, sections, strict=True)}
    return both


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index, pd.Series, pd.Categorical])
def test_names_of_libraries_may_be_of_any_sequence(joined, no_work, kind):
    names = kind(["one", "two"])
    sections, teach = sections_of(joined, image=None, library_id=names, library_key=None)
    assert teach
    assert [section.library_id for section in sections] == ["one", "two"]
    joined.obs["half"] = joined.obs["sample"].astype(str).where(joined.obs["sample"] == "one")
    with pytest.raises(KeyError, match=r"no library 'two' in obs\['half'\]"):
        sections_of(joined, image=None, library_id=names, library_key="half")


def test_the_column_that_is_named_decides_whatever_others_hold(joined, no_work, caplog):
    """A column that is usually taken may be of another time, or of other rows."""
    own = (joined.obs["sample"] == "one").to_numpy()
    joined.obs["library_id"] = np.where(np.arange(joined.n_obs) < 20, "one", "two")
    sections, _ = sections_of(joined, image=None, library_id=None, library_key="sample")
    np.testing.assert_array_equal(sections[0].rows, np.flatnonzero(own))
    np.testing.assert_array_equal(sections[1].rows, np.flatnonzero(~own))
    (alone,), _ = sections_of(joined, image=None, library_id="two", library_key="sample")
    np.testing.assert_array_equal(alone.rows, np.flatnonzero(~own))
    assert "no value" not in caplog.text


def test_a_column_may_hold_numbers_and_rows_of_no_section(joined, no_work, caplog):
    joined.uns["spatial"] = {str(i): entry for i, entry in enumerate(joined.uns["spatial"].values())}
    joined.obs["number"] = np.where(joined.obs["sample"] == "one", 0.0, 1.0)
    joined.obs.loc[joined.obs_names[0], "number"] = np.nan
    sections, _ = sections_of(joined, image=None, library_id=None, library_key="number")
    assert sorted(section.library_id for section in sections) == ["0", "1"]
    assert sum(len(section.rows) for section in sections) == joined.n_obs - 1
    assert f"1 of {joined.n_obs} rows have no value in obs['number']" in caplog.text


def test_a_column_of_a_section_is_of_a_table_and_goes_with_a_name(joined):
    with pytest.raises(ValueError, match="library_key='sample' with no library_id; expected an AnnData"):
        sp.io.section(joined, library_key="sample")
    with pytest.raises(ValueError, match="library_key='sample' with a ndarray"):
        sp.io.section(np.zeros((20, 20, 3)), library_key="sample", library_id="one")
    assert sp.io.section(joined, library_key="sample", library_id="one").library_id == "one"


def test_a_column_with_anything_but_a_table_is_refused_with_the_mend(pair, no_work):
    """Tables of a SpatialData may have that column."""
    import spatialdata as sd

    with pytest.raises(
        ValueError, match=r"library_key='region' with a SpatialData; .*an AnnData.*`library_id=\[\.\.\.\]`"
    ):
        fit(sd.read_zarr(pair.store), "a.zarr", library_key="region")


@pytest.mark.parametrize("named", [{"library_key": "sample"}, {"library_id": ["one", "two"]}])
def test_sections_of_one_table_are_fitted_as_separate_ones(joined, pair, tmp_path, named):
    assert fit(joined, tmp_path / "a.zarr", **named) is None
    assert_same_rasters(tmp_path / "a.zarr", pair.store, rtol=1e-6)
    for name, expected in zip(NAMES, pair.tables, strict=True):
        own, fitted = (joined.obs["sample"] == name).to_numpy(), joined.obsm[f"projection_{name}_fitted"]
        np.testing.assert_allclose(fitted[own], expected.obsm[f"projection_{name}_fitted"], rtol=1e-6)
        assert np.isnan(fitted[~own]).all()
        assert joined.uns[f"projection_{name}"]["params"]["library_id"] == name


def test_a_copy_of_one_table_is_one_table(joined, tmp_path):
    changed = fit(joined, tmp_path / "a.zarr", max_epochs=1, library_key="sample", copy=True)
    assert isinstance(changed, ad.AnnData)
    assert {"projection_one", "projection_two"} <= set(changed.uns)
    assert not any("projection" in key for key in joined.uns)


def test_one_of_the_libraries_that_a_column_names_is_a_section_by_itself(joined, tmp_path):
    fit(joined, tmp_path / "a.zarr", max_epochs=1, library_key="sample", library_id="two")
    assert joined.uns["projection"]["params"]["library_id"] == "two"


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [False, True])
def test_a_section_of_the_fit_is_predicted_as_it_was_fitted(pair, tmp_path, caplog, saved):
    caplog.set_level("INFO", "sphisto")
    model = sp.tl.load(pair.model)
    if saved:
        sp.tl.save(model, tmp_path / "copy.pt")
        model = sp.tl.load(tmp_path / "copy.pt")
    table = pair.tables[1].copy()
    sp.tl.predict(model, table, store=tmp_path / "a.zarr", key_added="projection_again", device="cpu")
    assert "two is taken for the section of that name" in caplog.text
    for which in RASTERS:
        np.testing.assert_allclose(
            raster(tmp_path / "a.zarr", f"projection_again{which}"),
            raster(pair.store, f"projection_two{which}"), rtol=1e-3, atol=1e-5,
        )  # fmt: skip
    np.testing.assert_allclose(
        table.obsm["projection_again_fitted"], table.obsm["projection_two_fitted"], rtol=1e-3, atol=1e-5
    )


def named_two(adata):
    adata = adata.copy()
    adata.uns["spatial"]["two"] = adata.uns["spatial"].pop("new")
    return adata


def test_another_section_of_a_known_name_is_refused(pair, new, tmp_path):
    with pytest.raises(ValueError, match=r"counts of 'two' that are not those of the section .*`library_id`"):
        sp.tl.predict(sp.tl.load(pair.model), named_two(new), store=tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_a_section_of_the_fit_is_known_in_any_order_and_with_genes_that_were_left_out(pair, tmp_path, rng):
    table = pair.tables[1].copy()[rng.permutation(pair.tables[1].n_obs)]
    more = ad.concat([table, ad.AnnData(np.ones((table.n_obs, 1)), obs=table.obs[[]], var={"x": [0]})], axis=1)
    more.var_names = [*table.var_names, "other"]
    more.obsm, more.uns = table.obsm, {"spatial": table.uns["spatial"]}
    sp.tl.predict(sp.tl.load(pair.model), more, store=tmp_path / "a.zarr", device="cpu")


@pytest.mark.parametrize("other", [False, True])
def test_another_image_of_a_known_name_is_said(pair, new, tmp_path, caplog, other):
    image = image_of(new, library_id="two") if other else image_of(pair.tables[1], "two")
    sp.tl.predict(sp.tl.load(pair.model), image, store=tmp_path / "a.zarr", scaling="section", device="cpu")
    assert ("The image of 'two' is not that of the section of that name" in caplog.text) == other


def test_models_of_before_digests_were_kept_are_read(pair, new, tmp_path):
    import torch

    content = torch.load(pair.model, weights_only=True)
    for section in content["sections"].values():
        del section["counts"], section["image"]
    torch.save(content, tmp_path / "before.pt")
    sp.tl.predict(sp.tl.load(tmp_path / "before.pt"), named_two(new), store=tmp_path / "a.zarr", device="cpu")


def test_the_model_tells_of_its_sections(pair):
    text = repr(sp.tl.load(pair.tables[0], key="projection_one"))
    assert re.search(r"sections +one, two", text)
    assert "model format 4" in text
    with pytest.raises(KeyError, match="Found no section 'three' in this projection; it was fitted to 'one', 'two'"):
        sp.tl.load(pair.model).of_section("three")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content["sections"]["two"].pop("levels"), "'levels'"),
        (lambda content: content["lessons"]["section"].pop("roots"), "KeyError\\('roots'\\)"),
        (lambda content: content["lessons"]["pooled"]["config"].update(landmarks=-1), "landmarks"),
        (lambda content: content["lessons"]["section"]["features"].update(unknown=1), "unknown"),
        (lambda content: content["sections"].update(one=None), "NoneType"),
    ],
)
def test_a_damaged_model_is_refused_by_name(pair, tmp_path, damage, said):
    import torch

    content = torch.load(pair.model, weights_only=True)
    damage(content)
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=rf"bad\.pt is damaged or was changed: .*{said}.*fit again"):
        sp.tl.load(tmp_path / "bad.pt")


def test_versions_that_know_nothing_of_several_sections_refuse_the_model(pair, fitted):
    """They know formats up to 3, of which that of one section was 2."""
    import torch

    assert torch.load(pair.model, weights_only=True)["format"] == 4
    assert torch.load(fitted.uns["projection"]["model"], weights_only=True)["format"] == 4


# --- other sections ---------------------------------------------------------------------------------------------------


def agreement(store, adata, key="projection"):
    """Correlation of a prediction with the truth over the tissue, by gene; 0 where it is the same everywhere."""
    found = sp.get.gene_raster(store, list(SHOWN), key=key).values
    truth, tissue = np.asarray(sp.datasets.toy_truth(adata, list(SHOWN))), np.isfinite(found[0])
    with np.errstate(invalid="ignore"):
        return np.nan_to_num([np.corrcoef(a[tissue], b[tissue])[0, 1] for a, b in zip(found, truth, strict=True)])


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_an_image_alone_is_predicted_by_what_sections_teach(pair, fitted, new, tmp_path, scaling):
    sp.tl.predict(sp.tl.load(pair.model), image_of(new), store=tmp_path / "a.zarr", scaling=scaling, device="cpu")
    of_one = sp.tl.load(fitted)
    image = image_of(new, image_um_per_px=of_one.um_per_px)
    sp.tl.predict(of_one, image, store=tmp_path / "one.zarr", device="cpu")
    joint, single = agreement(tmp_path / "a.zarr", new), agreement(tmp_path / "one.zarr", new)
    assert np.mean(joint) > np.mean(single) + 0.3
    assert np.mean(joint) > 0.5
    assert (joint > 0.3).mean() > 0.8


def test_how_features_of_an_image_are_standardised_must_be_said(pair, new, tmp_path):
    with pytest.raises(ValueError, match=r"Found scaling=None for an image without spots.*'section' .*'pooled' "):
        sp.tl.predict(sp.tl.load(pair.model), image_of(new), store=tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_an_image_that_looks_like_nothing_known_is_said_and_less_certain(pair, new, tmp_path, caplog, scaling):
    other = new.copy()
    pixels = other.uns["spatial"]["new"]["images"]["hires"]
    usual, tissue = image_of(new), sp.datasets.toy_truth(new, ["total_a"]).values[0] > 0
    strange = image_of(other, tissue=tissue)
    model, uncertain = sp.tl.load(pair.model), {}
    sp.tl.predict(model, usual, store=tmp_path / "usual.zarr", scaling=scaling, device="cpu")
    assert "looks like none" not in caplog.text
    pixels[...] = 255 - pixels
    strange = image_of(other, tissue=tissue)
    sp.tl.predict(model, strange, store=tmp_path / "strange.zarr", scaling=scaling, device="cpu")
    assert re.search(r"new: \d+ % of its tissue looks like none of the sections .*`image_um_per_px`", caplog.text)
    for name in ("usual", "strange"):
        sd, mean = (raster(tmp_path / f"{name}.zarr", which) for which in ("projection_sd", "projection"))
        both = np.isfinite(sd[0]) & tissue
        uncertain[name] = np.median(sd[:, both] / np.maximum(mean[:, both], 0.3))
    assert uncertain["strange"] > 1.2 * uncertain["usual"]


def test_how_strange_each_place_looks_is_a_raster(pair, new, tmp_path):
    """Half of the image is inverted: that half is strange, and what lies near it, as surroundings are looked at, too."""
    import spatialdata as sd
    import zarr

    other = new.copy()
    pixels = other.uns["spatial"]["new"]["images"]["hires"]
    half = pixels.shape[1] // 2
    tissue = sp.datasets.toy_truth(new, ["total_a"]).values[0] > 0
    pixels[:, :half] = 255 - pixels[:, :half]
    store = tmp_path / "half.zarr"
    sp.tl.predict(sp.tl.load(pair.model), image_of(other, tissue=tissue), store=store, scaling="pooled", device="cpu")
    found = sp.get.raster(store, "projection_shift")
    assert found.shape == (1, *tissue.shape)
    assert list(found.c.values) == ["shift"]
    np.testing.assert_array_equal(np.isfinite(found.values[0]), tissue)
    left, right = (np.nanmedian(part) for part in (found.values[0, :, : half // 2], found.values[0, :, -half // 2 :]))
    assert left > 1.3 * right
    assert left > 1
    share = zarr.open_group(store, mode="r")["tables/table/uns/projection/params/strange"][()]
    assert (found.values[0, tissue] > 1).mean() == pytest.approx(share, abs=0.1)
    assert "projection_shift" in sd.read_zarr(store).images
    # another projection of that key takes its place
    sp.tl.predict(sp.tl.load(pair.model), image_of(new, tissue=tissue), store=store, scaling="pooled", device="cpu")
    assert np.nanmedian(sp.get.raster(store, "projection_shift").values) < 1
    assert not (pair.store / "images" / "projection_one_shift").exists()


@pytest.mark.parametrize("n_spots", [3, 30])
def test_a_new_section_with_few_spots_and_with_many(pair, new, tmp_path, n_spots):
    rng = np.random.default_rng(0)
    some = new[np.sort(rng.choice(new.n_obs, n_spots, replace=False))].copy()
    some.X = some.X * 4  # sequenced deeper
    sp.tl.predict(sp.tl.load(pair.model), some, store=tmp_path / "a.zarr", device="cpu")
    assert np.mean(agreement(tmp_path / "a.zarr", new)) > 0.45
    found = sp.get.gene_raster(tmp_path / "a.zarr", list(SHOWN)).values
    truth = np.asarray(sp.datasets.toy_truth(new, list(SHOWN)))
    ratio = np.nanmean(found) / truth[:, np.isfinite(found[0])].mean()
    assert 2.5 < ratio < 6  # its own depth, not that of the others
    assert np.isfinite(some.obsm["projection_fitted"]).all()
    assert np.isfinite(some.var["projection_pearson"]).any() == (n_spots == 30)  # three spots correlate with anything
    assert 0 <= some.uns["projection"]["params"]["strange"] < 0.3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_levels_of_an_image_alone_do_not_depend_on_the_size_of_the_spots_that_teach(tmp_path, order):
    """Spots of 55 and of 100 um of one tissue, as deeply sequenced: a slide has the counts per area that both have."""
    area = (100 / 55) ** 2
    about = {"small": (128, 100, 55, 10), "large": (160, 200, 100, 10 * area), "slide": (128, 100, 55, 10)}
    drawn = {
        name: sp.datasets.toy(side, side, um_per_px=8.0, pitch_um=pitch, spot_um=um, mean_counts=counts, rng=side + um)
        for name, (side, pitch, um, counts) in about.items()
    }
    for name, adata in drawn.items():
        adata.uns["spatial"] = {name: adata.uns["spatial"]["toy"]}
    third = drawn.pop("slide")
    given = [sp.io.section(each, spot_um=about[name][2], image_um_per_px=8.0) for name, each in drawn.items()]
    fit([given[i] for i in order], tmp_path / "a.zarr")
    slide = sp.io.section(
        np.asarray(third.uns["spatial"]["slide"]["images"]["hires"]), image_um_per_px=8.0, library_id="slide"
    )
    model = sp.tl.load(tmp_path / "a.projection.pt")
    assert model.spot.um == 100
    sp.tl.predict(model, slide, store=tmp_path / "b.zarr", scaling="section", device="cpu")
    names = ["noise_a", "noise_b", "total_a"]
    found = sp.get.gene_raster(tmp_path / "b.zarr", names).values
    inside = np.isfinite(found[0])
    expected = np.asarray(sp.datasets.toy_truth(third, names))[:, inside].mean() * area
    assert found[:, inside].mean() == pytest.approx(expected, rel=0.15)


def test_the_skill_in_a_new_section_is_that_of_its_own_spots(pair, new, tmp_path):
    gene = SHOWN[0]
    column = new.var_names.get_loc(gene)
    counts = new.X.toarray()
    counts[:, column] = counts[:, column].max() - counts[:, column]  # high where it should be low
    new.X = type(new.X)(counts)
    fitted = sp.tl.load(pair.model)
    sp.tl.predict(fitted, new, store=tmp_path / "a.zarr", device="cpu")
    usual, own = fitted.skill.pearson[fitted.model.places([gene])[0]], new.var["projection_pearson"]
    assert usual > 0.4
    assert own[gene] < usual - 0.25
    assert own.median() > 0.3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch):
    """Make long work fail: what is refused is refused before."""
    for module in ("_fit_sections", "_evaluate_sections"):
        monkeypatch.setattr(f"sphisto.tl.{module}.fit_sections", None)


def test_features_of_one_section_are_not_taken_for_those_of_all(sections, no_work, tmp_path):
    encoded = sp.io.RasterFeatures(np.zeros((2, 24, 28), dtype=np.float32), name="encoder")
    for verb in (
        lambda: fit(sections, tmp_path / "a.zarr", features=["texture", encoded]),
        lambda: sp.tl.evaluate(sections, features=encoded),
    ):
        with pytest.raises(
            ValueError, match=r"'encoder' of one raster, and the sections one, two; .*\{library_id: raster"
        ):
            verb()
    assert not list(tmp_path.iterdir())


def renamed(adata, new_names):
    adata.var_names = new_names
    return adata


def ids(adata):
    return renamed(adata, [f"ENSG{i:011d}" for i in range(adata.n_vars)])


def lower(adata):
    return renamed(adata, [name.capitalize() for name in adata.var_names])


def fractions(adata):
    adata.X = adata.X * 0.37
    return adata


def called(adata, name):
    adata.uns["spatial"][name] = adata.uns["spatial"].pop("two")
    return adata


def image_alone(adata):
    return image_of(adata, "two")


REFUSED = {
    "an empty list": (lambda one, two: [], {}, r"empty list of sections"),
    "no genes in common": (
        lambda one, two: [one, renamed(two, [f"gene{i}" for i in range(two.n_vars)])], {},
        r"0 genes in common, which carry 0% .*look like class0_a, class0_b, class1_a, those of 'two' like gene0",
    ),
    "ids beside symbols": (lambda one, two: [one, ids(two)], {}, r"those of 'two' like ENSG.*adata\.var\['gene_ids'\]"),
    "mouse beside human": (lambda one, two: [one, lower(two)], {}, r"like class0_a.* like Class0_a.*of one species"),
    "an image alone": (
        lambda one, two: [one, image_alone(two)], {}, r"'two' is an image alone; .*`sphisto\.tl\.predict`",
    ),
    "no counts": (lambda one, two: [one, fractions(two)], {}, r"values of 'two' that are no counts.*`layer`"),
    "one name for two": (lambda one, two: [one, called(two, "one")], {}, r"several sections of the name 'one'.*Rename"),
    "names that differ by case": (lambda one, two: [one, called(two, "ONE")], {}, r"sections of the name 'ONE', 'one' \(AnnData.*'one'.*'ONE'"),
    "names that name one element": (
        lambda one, two: [one, called(two, "one_sd")], {}, r"'one' and 'one_sd', both of .*'projection_one_sd'",
    ),
    "images of other detail": (
        lambda one, two: [one, toy("two", um_per_px=4.0)], {"um_per_px": 8.4},
        r"8.33 um per px of 'one' and 16.7 of 'two'; .*Give `um_per_px=16.7`",
    ),
    "a network of single genes": (
        lambda one, two: [one, two], {"network": "prototype", "genes": ["class1_a"]}, r"network='prototype' for several",
    ),
    "an unknown scaling": (lambda one, two: [one, two], {"scaling": "own"}, r"scaling='own'; .*'section', 'pooled'"),
    "a gene that is not there": (lambda one, two: [one, two], {"genes": ["clas1_a"]}, r"no gene 'clas1_a'.*class1_a"),
    "images that are no list": (lambda one, two: [one, two], {"image": "he.tif"}, r"image=str; expected a list of 2"),
    "a library beside a list": (lambda one, two: [one, two], {"library_id": "one"}, r"together with library_id="),
    "a column beside a list": (lambda one, two: [one, two], {"library_key": "sample"}, r"together with .*library_key="),
    "a column that is not there": (lambda one, two: one, {"library_key": "sample"}, r"no column obs\['sample'\]"),
    "a library that is not there": (lambda one, two: one, {"library_id": ["one", "six"]}, r"no library 'six'"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["fit_projection", "evaluate"])
@pytest.mark.parametrize(("make", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused_before_long_work(
    sections, no_work, tmp_path, monkeypatch, verb, make, options, said
):
    monkeypatch.chdir(tmp_path)
    if verb == "evaluate" and "one_sd" in said:
        pytest.skip("an evaluation writes no store")
    before = [set(adata.uns) for adata in sections]
    data = make(*sections)
    with pytest.raises((ValueError, KeyError), match=said):
        getattr(sp.tl, verb)(data, **{"max_epochs": 1, "device": "cpu", **options})
    assert not list(tmp_path.iterdir()), "something was written"
    if data:
        assert [set(adata.uns) for adata in sections] == before


def without_places(adata):
    del adata.obsm["spatial"]
    return adata


def shifted(adata):
    adata.obsm["spatial"] = adata.obsm["spatial"] + 60
    return adata


@pytest.mark.parametrize(("change", "said"), [(without_places, "^section 2 of 2: "), (shifted, "^two: ")])
def test_an_error_of_one_of_the_sections_names_it(sections, no_work, tmp_path, change, said):
    one, two = sections
    with pytest.raises((ValueError, KeyError), match=said):
        fit([one, change(two)], tmp_path / "a.zarr")


def test_every_warning_of_one_of_the_sections_names_it(sections, tmp_path, caplog):
    one, two = sections
    times = np.where(np.arange(two.n_obs) < 3, 0, 40)  # a spot without counts has failed where others have many
    two.X = sparse.csr_matrix(sparse.diags(times.astype(np.float32)) @ two.X)
    flat = sp.io.RasterFeatures(dict.fromkeys(("one", "two"), np.ones((1, 96, 112))), name="flat", version="1")
    fit([one, two], tmp_path / "a.zarr", max_epochs=1, features=[flat])
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    said = [message for message in warned if "The training ended" not in message]
    assert any("two: 3 of 43 spots hold no counts" in message for message in said)
    assert sum("too few spots to decide whether the network helps" in message for message in said) == 2
    assert any("features 'flat' are the same" in message for message in said)
    for message in said:
        assert message.startswith(("one: ", "two: ")) or "'one'" in message or "'two'" in message


def test_a_library_that_a_column_does_not_name_is_refused(joined, no_work):
    with pytest.raises(KeyError, match=r"no library 'three' in obs\['sample'\]; it holds one, two"):
        fit(joined, "a.zarr", library_key="sample", library_id=["one", "three"])


def test_a_list_of_one_section_is_fitted_to_teach_others(sections, new, tmp_path):
    assert fit(sections[:1], tmp_path / "a.zarr", max_epochs=1, genes="class1_a") is None
    assert "projection_one" in sections[0].uns
    model = sp.tl.load(tmp_path / "a.projection.pt")
    assert list(model.sections) == ["one"]
    sp.tl.predict(model, image_of(new), store=tmp_path / "b.zarr", scaling="pooled", device="cpu")
    assert np.mean(agreement(tmp_path / "b.zarr", new)) > 0.3


def test_a_list_of_one_section_cannot_be_evaluated(sections, no_work):
    with pytest.raises(ValueError, match="list of one section; expected several, or the section itself"):
        sp.tl.evaluate(sections[:1], max_epochs=1, device="cpu")


def test_a_key_that_is_taken_in_the_store_is_refused_before_long_work(sections, no_work, tmp_path):
    fit(sections[0].copy(), tmp_path / "a.zarr", max_epochs=1, genes="class1_a", key_added="mine_two")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=r"holds a projection 'mine_two' of the library 'one', not of 'two'"):
        fit(sections, tmp_path / "a.zarr", key_added="mine")
    assert sorted(tmp_path.rglob("*")) == before


def test_one_and_several_sections_never_share_a_model(sections, pair, new, tmp_path, no_work):
    """Each other's would be replaced, and nobody could say which one is read by that name."""
    import shutil

    store, options = tmp_path / "pair.zarr", {"max_epochs": 1, "genes": "class1_a"}
    shutil.copytree(pair.store, store)
    model, before = sp.tl.load(pair.model), sorted(tmp_path.rglob("*"))
    several = r"holds a projection 'projection' of several sections \('one', 'two'\).*`key_added`"
    with pytest.raises(FileExistsError, match=several):
        fit(sections[0], store, **options)
    with pytest.raises(FileExistsError, match=several):
        sp.tl.predict(model, image_of(new), store=store, scaling="section", device="cpu")
    with pytest.raises(FileExistsError, match=r"'projection_one' as a part of the projection 'projection' of several"):
        fit(sections[0], store, key_added="projection_one", **options)
    with pytest.raises(FileExistsError, match=r"holds a projection 'projection' of 'two', too, which would be left"):
        fit([sections[0], new], store, **options)
    assert sorted(tmp_path.rglob("*")) == before
    sp.tl.predict(model, image_of(new), store=store, scaling="section", device="cpu", key_added="added")
    found = sp.get.gene_raster(store, "class1_a", key="added")
    np.testing.assert_array_equal(sp.get.gene_raster(store, "class1_a", key="added", library_id="new"), found)


def test_several_sections_never_replace_the_model_of_one(sections, tmp_path, no_work):
    fit(sections[0].copy(), tmp_path / "a.zarr", max_epochs=1, genes="class1_a")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=r"holds a projection 'projection' of 'one' alone, whose model"):
        fit(sections, tmp_path / "a.zarr")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_of_one_section_and_of_several_is_that_of_the_one(pair, tmp_path):
    """Former versions wrote such stores."""
    import shutil

    import zarr

    store = tmp_path / "mixed.zarr"
    shutil.copytree(pair.store, store)
    root = zarr.open_group(store, mode="r+")
    mark = dict(root.attrs["sphisto"])
    about = {name: value for name, value in mark["keys"]["projection_one"].items() if name != "joint"}
    root.attrs["sphisto"] = {**mark, "keys": {**mark["keys"], "projection": about}}
    assert stores.projection(store, "projection") == "projection"
    assert stores.projection(store, "projection", "one") == "projection"
    assert stores.projection(store, "projection", "two") == "projection_two"
    assert stores.projection(store, "projection_one", "one") == "projection_one"


def test_the_key_itself_is_named_where_it_cannot_be_one(sections, no_work, tmp_path):
    with pytest.raises(ValueError, match=r"^Found key_added='a b'; expected 1 to 100 letters"):
        fit(sections, tmp_path / "a.zarr", key_added="a b")


def test_a_key_that_is_taken_in_a_table_is_refused_before_long_work(sections, no_work, tmp_path):
    sections[1].uns["projection_two"] = "mine"
    with pytest.raises(ValueError, match=r"projection_two"):
        fit(sections, tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_a_fit_that_fails_before_its_first_epoch_leaves_nothing(sections, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("sphisto.train.fit.fit_together", fail)
    with pytest.raises(MemoryError):
        fit(sections, tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["several", "one", "predict"])
def test_a_store_that_another_process_writes_is_refused_before_images_are_read(
    sections, pair, new, tmp_path, monkeypatch, verb
):
    from sphisto.io.store.lock import locked

    for module in ("_fit_sections", "_fit_projection", "_predict"):
        monkeypatch.setattr(f"sphisto.tl.{module}.make_slide", None)
    store = tmp_path / "a.zarr"
    write = {
        "several": lambda: fit(sections, store),
        "one": lambda: fit(sections[0], store),
        "predict": lambda: sp.tl.predict(sp.tl.load(pair.model), new.copy(), store=store, device="cpu"),
    }[verb]
    with locked(store), pytest.raises(BlockingIOError, match=r"a\.zarr is being written by process"):
        write()
    assert not list(tmp_path.iterdir())


def test_several_sections_hold_their_store_from_before_the_training_to_the_end(sections, tmp_path, monkeypatch):
    from sphisto.io.store.lock import refuse_held
    from sphisto.tl import _fit_sections

    store, tried = tmp_path / "a.zarr", []

    def noted(function):
        def wrapped(*args, **options):
            with pytest.raises(BlockingIOError):
                refuse_held(store)
            found = function(*args, **options)
            with pytest.raises(BlockingIOError):
                refuse_held(store)
            tried.append(function.__name__)
            return found

        return wrapped

    for name in ("fit_sections", "write_section"):
        monkeypatch.setattr(_fit_sections, name, noted(getattr(_fit_sections, name)))
    fit(sections, store, max_epochs=1, genes="class1_a")
    assert tried == ["fit_sections", "write_section", "write_section"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.projection.pt", "a.zarr"]


@pytest.fixture
def before_the_second_is_written(monkeypatch):
    """Break a fit off in the block once it has written its first section."""
    from sphisto.tl import _fit_sections

    write = _fit_sections.write_section

    def broken_off(fitted, section, *args, **keywords):
        if section.library_id == "two":
            raise KeyboardInterrupt
        write(fitted, section, *args, **keywords)

    @contextlib.contextmanager
    def block():
        with monkeypatch.context() as patch:
            patch.setattr(_fit_sections, "write_section", broken_off)
            with pytest.raises(KeyboardInterrupt):
                yield

    return block


def test_a_fit_that_was_broken_off_between_sections_is_known_as_one(
    sections, tmp_path, before_the_second_is_written, capsys
):
    """By those who read its store, and by those who would fit again what hours were spent on."""
    from sphisto.cli import main
    from sphisto.io.store.summary import summarise

    store, options = tmp_path / "a.zarr", {"max_epochs": 1, "genes": "class1_a"}
    with before_the_second_is_written():
        fit(sections, store, **options)
    left = r"broken off, or is still writing: 1 of 2 sections are written \(one\)"
    with pytest.raises(FileNotFoundError, match=rf"a.projection.pt yet, but a fit that was {left}.*resume=True"):
        sp.tl.load(tmp_path / "a.projection.pt")
    with pytest.raises(FileNotFoundError, match=r"^((?!fit\.pt).)*$"):  # what a fit leaves for itself is no model
        sp.tl.load(store)
    capsys.readouterr()
    assert main(["info", str(store)]) == 0
    assert re.search(rf"'projection' is of a fit that was {left}; the same call with --resume", capsys.readouterr().out)
    assert main(["fit", str(tmp_path), "--store", str(store)]) == 2
    assert re.search(rf"{left}; bring it to its end by the same command with --resume", capsys.readouterr().err)
    state = tmp_path / "a.projection.sections"
    noted = state.read_bytes()
    state.write_bytes(noted[:-5])
    with pytest.raises(
        ValueError, match=r"a\.projection\.sections is damaged.*resume=False"
    ):  # the model may be another call's
        fit(sections, store, resume=True, **options)
    state.write_bytes(noted)
    fit(sections, store, resume=True, **options)
    assert summarise(store).unfinished == {}
    assert sp.tl.load(tmp_path / "a.projection.pt").sections.keys() == {"one", "two"}


def test_sections_of_two_fits_are_told_wherever_they_are_read(sections, tmp_path, before_the_second_is_written, caplog):
    """A second fit was broken off once it had written the first section."""
    store, options = tmp_path / "a.zarr", {"max_epochs": 1, "genes": "class1_a"}
    fit(sections, store, **options)
    with before_the_second_is_written():
        fit(sections, store, rng=1, **options)
    one, two, model = *sections, tmp_path / "a.projection.pt"
    reads = {
        r"'projection' of 'one' is of another fit than that of 'two'": [
            lambda: sp.get.gene_raster(store, "class1_a", library_id="one"),
            lambda: sp.get.gene_raster(one, "class1_a", key="projection_one"),
            lambda: sp.pl.projection(store, "class1_a", library_id="one", show=False),
            lambda: sp.tl.aggregate(store, "one_spots", library_id="one"),
        ],
        r"'projection' of 'two' is of another fit than that of 'one'": [
            lambda: sp.get.gene_raster(store, "class1_a", library_id="two"),
            lambda: sp.pl.report(store, tmp_path / "report.html", overwrite=True),
        ],
        r"model .*a\.projection\.pt is of another fit than what was written of 'one'": [lambda: sp.tl.load(model)],
        r"another fit than what was written of 'projection_one'": [lambda: sp.tl.load(one, key="projection_one")],
    }
    for said, calls in reads.items():
        for call in calls:
            caplog.clear()
            call()
            assert re.search(f"{said}.*resume=True", caplog.text)
    with pytest.raises(ValueError, match=r"'projection' of 'one' of another fit than that of 'two'"):
        sp.tl.integration(sections)
    caplog.clear()
    sp.tl.load(two, key="projection_two")  # which is of the model's fit
    assert "another fit" not in caplog.text
    fit(sections, store, rng=1, resume=True, **options)
    caplog.clear()
    for calls in reads.values():
        for call in calls:
            call()
    assert "another fit" not in caplog.text
    kept = {stores.record(store, f"projection_{name}")["params"]["fit"] for name in NAMES}
    assert kept == {sp.tl.load(model).params["fit"]}


def test_a_disk_that_is_too_small_is_found_before_the_training(sections, no_work, tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000, total=1000, used=0))
    with pytest.raises(OSError, match=r"The rasters need"):
        fit(sections, tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def unwritable(adata):
    adata.obs["mixed"] = [{"a": 1}, *range(1, adata.n_obs)]
    return adata


def test_a_table_that_no_store_can_hold_is_refused_before_long_work(sections, no_work, tmp_path):
    one, two = sections
    with pytest.raises(ValueError, match=r"table of 'two' cannot be written to a store: "):
        fit([one, unwritable(two)], tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_a_table_that_no_store_can_hold_is_refused_before_its_section_is_predicted(pair, new, tmp_path, monkeypatch):
    new = new.copy()
    monkeypatch.setattr("sphisto.tl._write.posterior_for", None)
    with pytest.raises(ValueError, match=r"table of 'new' cannot be written to a store: "):
        sp.tl.predict(sp.tl.load(pair.model), unwritable(new), store=tmp_path / "made" / "a.zarr")
    assert not list((tmp_path / "made").iterdir())


def test_an_unknown_scaling_of_a_prediction_is_refused(pair, new, tmp_path):
    with pytest.raises(ValueError, match="Found scaling='own'; expected one of 'section', 'pooled'"):
        sp.tl.predict(sp.tl.load(pair.model), image_of(new), store=tmp_path / "a.zarr", scaling="own")


def test_images_of_another_scale_are_brought_to_the_coarsest(sections, tmp_path):
    coarse = toy("two", um_per_px=4.0, pitch_um=24)
    fit([sections[0], coarse], tmp_path / "a.zarr", max_epochs=1, genes="class1_a")
    shapes = [sp.get.raster(tmp_path / "a.zarr", f"projection_{name}").shape for name in NAMES]
    assert shapes == [(1, 48, 56), (1, 96, 112)]


# --- sections that lie upon each other -------------------------------------------------------------------------------


def test_bins_of_several_sections_are_worked_at_as_those_of_one():
    """The image is finer than bins can tell."""
    bins = [sp.datasets.toy(48, 48, um_per_px=1.0, bin_um=8.0, rng=seed) for seed in (1, 2)]
    given = [sp.io.section(each, image_um_per_px=1.0) for each in bins]
    alone = make_slide(given[0]).grid.um_per_px
    assert alone == 2.0
    assert [slide.grid.um_per_px for slide in comparable_slides(given, None, None)] == [alone, alone]
    with pytest.raises(ValueError, match="um_per_px=0"):
        comparable_slides(given, 0, None)


@pytest.fixture(scope="module")
def upon(registration):
    """Lay a section upon another: toy sections have one frame."""

    def lay(section, fixed, shift=(0.0, 0.0), **about):
        one, other = (sp.io.section(each) if isinstance(each, ad.AnnData) else each for each in (section, fixed))
        um = (one.grid.fullres_um_per_px, other.grid.fullres_um_per_px)
        return one.registered(registration(one.library_id, other.library_id, 0, shift, um, **about))

    return lay


@pytest.fixture(scope="module")
def laid(tmp_path_factory, upon):
    """Two sections, the second upon the first, and their store."""
    store, tables = tmp_path_factory.mktemp("laid") / "pair.zarr", [toy(name) for name in NAMES]
    fit([tables[0], upon(tables[1], tables[0])], store)
    return Pair(store, tables)


def test_a_gene_that_not_all_sections_have_is_refused_with_those_that_lack_it(sections, no_work, tmp_path):
    one, two = sections[0], sections[1][:, [name for name in sections[1].var_names if name != "class0_a"]].copy()
    with pytest.raises(KeyError, match=r"Found no gene 'class0_a' in 'two'; expected one that all sections have"):
        fit([one, two], tmp_path / "pair.zarr", genes=["class0_a"])


def test_the_image_alone_of_a_section_is_drawn_per_area_of_its_own_spots(tmp_path):
    """The first section's are a quarter of the area."""
    one, two = toy("one", spot_um=10), toy("two", spot_um=20)
    um_per_px = sp.io.section(two).grid.um_per_px
    fit([sp.io.section(one, spot_um=55), sp.io.section(two, spot_um=110)], tmp_path / "pair.zarr")
    model = sp.tl.load(tmp_path / "pair.projection.pt")
    assert (model.sections["one"].spot.um, model.sections["two"].spot.um) == (55, 110)
    pixels = two.uns["spatial"]["two"]["images"]["hires"]
    alone = sp.io.section(pixels, image_um_per_px=um_per_px, library_id="two")
    sp.tl.predict(model, alone, store=tmp_path / "two.zarr", scaling="section", device="cpu")
    assert stores.spot(tmp_path / "two.zarr", "projection").um == 110
    found, expected = (
        np.nanmean(sp.get.raster(tmp_path / store, name).values)
        for store, name in (("two.zarr", "projection_factors"), ("pair.zarr", "projection_two_factors"))
    )
    assert found == pytest.approx(expected, rel=0.3)


def test_a_table_of_a_joint_fit_is_read_by_the_name_of_the_fit_and_the_section(pair):
    one = pair.tables[0]
    expected = sp.get.gene_raster(pair.store, "class1_a", key="projection_one")
    found = sp.get.gene_raster(one, "class1_a", library_id="one")
    np.testing.assert_array_equal(found.values, expected.values)
    sp.pl.projection(one, "class1_a", library_id="one", show=False)
    sp.pl.comparison(one, "class1_a", library_id="one", show=False)
    with pytest.raises(KeyError, match="there is 'projection_one'"):
        sp.get.gene_raster(one, "class1_a", key="other", library_id="one")


def test_a_registration_changes_what_is_predicted_and_is_recorded(laid, pair, tmp_path, upon):
    assert not np.allclose(raster(laid.store, "projection_two_factors"), raster(pair.store, "projection_two_factors"))
    params = laid.tables[1].uns["projection_two"]["params"]
    assert params["section"]["registration"] == "upon 'one'"
    assert "registration" not in laid.tables[0].uns["projection_one"]["params"]["section"]
    for table, name in zip(laid.tables, NAMES, strict=True):  # each lies upon the other
        assert table.uns[f"projection_{name}"]["params"]["registered_used"] in (True, False)
        assert table.uns[f"projection_{name}"]["params"]["followed"] in (0, 0.5, 1)
        assert (
            sp.tl.load(laid.model).of_section(name).params["followed"]
            == table.uns[f"projection_{name}"]["params"]["followed"]
        )
    assert "registered_used" not in pair.tables[0].uns["projection_one"]["params"]
    fit([toy("one"), upon(toy("two"), toy("one"), weight=0.0)], tmp_path / "pair.zarr")
    assert_same_rasters(tmp_path / "pair.zarr", pair.store, rtol=1e-5, atol=1e-6)


def test_a_slide_without_spots_is_laid_upon_a_section_of_the_fit(laid, pair, new, tmp_path, upon):
    fitted, found = sp.tl.load(laid.model), {}
    slides = {"apart": image_of(new), "laid": upon(image_of(new), laid.tables[1])}
    slides["off"] = upon(image_of(new), laid.tables[1], (40.0, 0.0))
    for name, slide in slides.items():
        sp.tl.predict(fitted, slide, store=tmp_path / f"{name}.zarr", scaling="section", device="cpu")
        found[name] = sp.get.raster(tmp_path / f"{name}.zarr", "projection_factors").values
    assert not np.allclose(found["laid"], found["apart"])
    assert not np.allclose(found["laid"], found["off"])
    for name in slides:
        params = stores.record(tmp_path / f"{name}.zarr", "projection")["params"]
        assert ("registered_used" in params) == (name != "apart")
        assert params.get("registered_used", True)
    with pytest.raises(ValueError, match="keep_spots=True"):
        sp.tl.predict(
            sp.tl.load(pair.model), slides["laid"], store=tmp_path / "none.zarr", scaling="section", device="cpu"
        )
    stray = upon(image_of(new), toy("z"))
    with pytest.raises(ValueError, match=r"'new' registered to 'z', which is not among"):
        sp.tl.predict(fitted, stray, store=tmp_path / "none.zarr", scaling="section", device="cpu")
    assert not (tmp_path / "none.zarr").exists()


def test_a_section_of_a_registered_fit_is_predicted_as_it_was_fitted(laid, tmp_path):
    sp.tl.predict(
        sp.tl.load(laid.model), toy("two"), store=tmp_path / "two.zarr", key_added="projection_two", device="cpu"
    )
    assert_same_rasters(tmp_path / "two.zarr", laid.store, names=("two",), rtol=1e-3, atol=1e-4)


def test_a_registration_to_a_section_that_is_not_fitted_is_refused(sections, no_work, tmp_path, upon):
    with pytest.raises(ValueError, match=r"'two' registered to 'z', which is not among the sections 'one', 'two'"):
        fit([sections[0], upon(sections[1], toy("z"))], tmp_path / "pair.zarr")


def test_a_registration_of_another_section_is_refused(sections, registration):
    with pytest.raises(ValueError, match=r"registration of 'one'.*with 'two'"):
        sp.io.section(sections[1]).registered(registration("one", "two"))


def test_what_is_registered_to_nothing_that_is_known_is_refused(sections, no_work, tmp_path, upon):
    laid = upon(sections[1], sections[0])
    with pytest.raises(ValueError, match=r"'two' registered to 'one', of which nothing is known here"):
        sp.tl.fit_projection(laid, store=tmp_path / "two.zarr")
    with pytest.raises(ValueError, match=r"'two' registered to 'one', of which nothing is known here"):
        sp.tl.evaluate(laid)
    with pytest.raises(ValueError, match=r"'two' registered to 'one', which is not among"):
        fit([laid], tmp_path / "two.zarr")


def test_a_section_that_is_left_out_still_lies_upon_the_others(upon):
    """The one in the middle, upon which the third one lies."""
    one, two, three = (toy(name) for name in ("one", "two", "three"))
    apart = sp.tl.evaluate([one, two, three], split="section", max_epochs=1, device="cpu", copy=False)
    middle = upon(two, one)
    laid = sp.tl.evaluate(
        [one, middle, upon(three, middle)], split="section", max_epochs=1, device="cpu", key_added="laid"
    )
    prior = [scores.xs("prior", level="method")["mean_pearson"] for scores in (laid, apart)]
    assert (prior[0] != prior[1]).all()
