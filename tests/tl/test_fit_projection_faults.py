"""Several projections and libraries in one store, and what may go wrong: nothing that was there is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading

import anndata as ad
import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.io.store import read as stores

pytestmark = pytest.mark.slow  # whole fits

ODD = ("µ gène/../x", "../../../etc/passwd", "x" * 300)


def fit(adata, path, **options):
    sp.tl.fit_projection(adata, store=path, **{"max_epochs": 1, "device": "cpu", "genes": ["noise_a"], **options})
    return adata


def digests(store, names):
    """Digest of each element over all its files."""
    found = {}
    for element in store.glob("*/*"):
        if element.name in names:
            files = sorted(path for path in element.rglob("*") if path.is_file())
            content = b"".join(str(p.relative_to(element)).encode() + p.read_bytes() for p in files)
            found[element.name] = hashlib.sha256(content).hexdigest()
    assert set(found) == set(names)
    return found


FIRST = ("a", "a_factors", "a_sd", "a_reconstruction")
LIBRARY = ("toy_image", "toy_tissue", "toy_spots", "table")


def test_projections_and_libraries_live_side_by_side(small_toy, tmp_path):
    import spatialdata as sd

    path = tmp_path / "toy.zarr"
    original = small_toy.copy()
    fit(small_toy, path, key_added="a")
    sdata = sd.read_zarr(path)
    sdata["cells"] = sd.models.Labels2DModel.parse(np.ones((96, 112), dtype=np.int32), dims=("y", "x"))
    sdata.write_element("cells")
    before = digests(path, (*FIRST, "cells"))
    fit(original.copy(), path, key_added="b", rng=1)  # from a table that knows nothing of the first
    assert digests(path, (*FIRST, "cells")) == before
    table = stores.table(path)
    for name in ("a_loadings", "b_loadings"):
        assert name in table.varm
    np.testing.assert_array_equal(table.varm["a_loadings"], small_toy.varm["a_loadings"])
    np.testing.assert_array_equal(table.obsm["a_fitted"], small_toy.obsm["a_fitted"])
    assert table.uns["a"]["params"]["rng"] == 0

    with pytest.raises(ValueError, match=r"lacks 1 genes \(noise_a.*of the projection 'a'"):
        fit(original[:, original.var_names != "noise_a"].copy(), path, key_added="b", genes=["class1_a"])
    before |= digests(path, (*LIBRARY, "b", "b_factors"))
    other = original.copy()
    other.uns["spatial"] = {"other": other.uns["spatial"]["toy"]}
    with pytest.raises(FileExistsError, match="holds a projection 'a' of the library 'toy', not of 'other'"):
        fit(other, path, key_added="a")
    fit(other, path, key_added="c", rng=2)
    assert digests(path, before) == before
    assert stores.library_id(path, "c") == "other"
    assert stores.table_name(path, "c") == "other_table"
    assert set(sd.read_zarr(path).tables) == {"table", "other_table"}
    np.testing.assert_array_equal(stores.table(path, "c").varm["c_loadings"], other.varm["c_loadings"])
    for key in "abc":
        assert np.isfinite(sp.get.gene_raster(path, "class1_a", key=key).values).any()
    before |= digests(path, ("c", "c_factors", "other_image", "other_table"))
    kept = {name: before[name] for name in ("cells", *FIRST, "c", "c_factors", "other_image", "other_table")}
    fit(original.copy(), path, key_added="b", rng=3)
    assert digests(path, kept) == kept


@pytest.mark.parametrize("left", ["half of a table", "no table"])
def test_killed_while_the_table_is_written_other_projections_keep_their_share_of_it(
    small_toy, tmp_path, monkeypatch, left
):
    import shutil

    from sphisto.io.store import write as building

    path = tmp_path / "toy.zarr"
    original = small_toy.copy()
    fit(small_toy, path, key_added="a")

    def stop(staging):
        shutil.rmtree(staging / "tables" / "table" / ("var" if left == "half of a table" else ""))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(original.copy(), path, key_added="b")
    fit(original.copy(), path, key_added="b", resume=True)
    table = stores.table(path)
    np.testing.assert_array_equal(table.varm["a_loadings"], small_toy.varm["a_loadings"])
    np.testing.assert_array_equal(table.obsm["a_fitted"], small_toy.obsm["a_fitted"])
    assert table.uns["b"]["params"]["genes"] == ["noise_a"]


def test_odd_gene_names_are_only_names(small_toy, tmp_path):
    import spatialdata as sd

    small_toy.var_names = [*ODD, *small_toy.var_names[len(ODD) :]]
    folder = tmp_path / "deep" / "deeper"
    fit(small_toy, folder / "toy.zarr", genes=[*ODD, ODD[0]])
    assert stores.raster(folder / "toy.zarr", "projection").channels == ODD
    assert sd.models.get_channel_names(sd.read_zarr(folder / "toy.zarr")["projection"]) == list(ODD)
    np.testing.assert_allclose(
        sp.get.gene_raster(folder / "toy.zarr", ODD[1]).values[0],
        sp.get.raster(folder / "toy.zarr", "projection").values[1],
        rtol=1e-3,
    )
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent in (tmp_path, folder)) == [
        "deep", "toy.projection.pt", "toy.zarr"
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["../a", "a/b", "", "toy_image", "x" * 300])
def test_impossible_keys_are_refused_before_anything_is_written(small_toy, tmp_path, key):
    with pytest.raises(ValueError, match="key_added="):
        fit(small_toy, tmp_path / "deep" / "toy.zarr", key_added=key)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_while_tiles_are_written_costs_only_the_tiles(small_toy, tmp_path, monkeypatch):
    from sphisto.io.store.raster import RasterWriter
    from sphisto.tl import _fit_projection

    path = tmp_path / "toy.zarr"
    fit(small_toy.copy(), path, rng=9)
    before = digests(path, ("projection", "table", "toy_image"))

    write = RasterWriter.write

    def full(*args):
        if threading.current_thread() is threading.main_thread():  # the picture, before anything is fitted
            return write(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(RasterWriter, "write", full)
        with pytest.raises(OSError, match=r"disk filled up .*unchanged; the fitted model is kept for resume=True"):
            fit(small_toy.copy(), path)
    assert digests(path, before) == before
    monkeypatch.setattr(_fit_projection, "fit", None)  # the model is there
    fit(small_toy, path, resume=True)
    assert digests(path, ("projection",)) != {"projection": before["projection"]}
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_chunk_is_said_when_read_and_mended_by_another_fit(small_toy, tmp_path):
    path = tmp_path / "toy.zarr"
    fit(small_toy.copy(), path)
    chunk = next((path / "images" / "projection_factors").rglob("c/0/0/0"))
    chunk.write_bytes(b"not a chunk")
    said = r"toy\.zarr/images/projection_factors/s0 is damaged: c/0/0/0 cannot be read .*with the same `store`"
    for read in (
        lambda: sp.get.raster(path, "projection_factors"),
        lambda: sp.get.gene_raster(path, "noise_a"),
        lambda: sp.pl.projection(path, "class1_a"),
        lambda: sp.tl.aggregate(path, small_toy.obsm["spatial"], radius=5),
    ):
        with pytest.raises(ValueError, match=said):
            read()
    fit(small_toy, path)
    assert np.isfinite(sp.get.raster(path, "projection_factors").values).any()


def test_a_damaged_table_or_picture_is_said_before_anything_is_done(small_toy, tmp_path):
    import spatialdata as sd

    path = tmp_path / "toy.zarr"
    fit(small_toy.copy(), path)
    fitted = sp.tl.load(tmp_path / "toy.projection.pt")
    for chunk in (path / "images" / "toy_image").rglob("c/0/0/0"):
        chunk.write_bytes(b"not a chunk")
    with pytest.raises(ValueError, match=r"The image cannot be read at .* the file or store it comes from is damaged"):
        sp.tl.predict(fitted, sd.read_zarr(path), image="toy_image", store=tmp_path / "other.zarr")
    assert not (tmp_path / "other.zarr").exists()
    (path / "tables" / "table" / "varm" / "projection_loadings" / "c" / "0" / "0").write_bytes(b"")
    said = r"toy\.zarr.* is damaged: .*varm/projection_loadings/c/0/0 cannot be read .*another `store`"
    for call in (
        lambda: sp.get.gene_raster(path, "noise_a"),
        lambda: stores.table(path),
        lambda: sp.tl.predict(fitted, small_toy.copy(), store=path, key_added="b"),
        lambda: fit(small_toy.copy(), path, key_added="b"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert not list(tmp_path.glob(".*"))


def test_another_resolution_for_one_projection_leaves_the_rasters_of_the_others(small_toy, tmp_path):
    import spatialdata as sd

    path = tmp_path / "toy.zarr"
    fit(small_toy, path, key_added="a")
    before, um_per_px = digests(path, FIRST), small_toy.uns["a"]["params"]["um_per_px"]
    drawn = sp.get.gene_raster(path, "class1_a", key="a")
    counts = sp.tl.aggregate(path, small_toy.obsm["spatial"], radius=5, key="a").X
    fit(small_toy, path, key_added="b", um_per_px=2 * um_per_px)
    assert digests(path, FIRST) == before
    again = sp.get.gene_raster(path, "class1_a", key="a")
    assert again.identical(drawn)
    np.testing.assert_array_equal(sp.tl.aggregate(path, small_toy.obsm["spatial"], radius=5, key="a").X, counts)
    for name, factor in (("a", 1), ("a_sd", 1), ("b", 2), ("toy_image", 2), ("toy_tissue", 2)):  # of the last one's
        raster = sp.get.raster(path, name)
        assert raster.shape[-2:] == (96 // factor, 112 // factor)
        assert raster.um_per_px == pytest.approx(factor * um_per_px)
        matrix = sd.transformations.get_transformation(sd.read_zarr(path)[name], "global").to_affine_matrix("yx", "yx")
        np.testing.assert_allclose(np.diag(matrix), (factor, factor, 1))


def test_a_table_that_no_store_can_hold_is_said_before_the_training(small_toy, tmp_path):
    small_toy.obs["cell type"] = "b"
    with pytest.raises(
        ValueError,
        match=r"table of 'toy' cannot be written to a store: .*obs/cell type: .*`spatialdata.sanitize_table\(adata\)`",
    ):
        fit(small_toy, tmp_path / "toy.zarr")
    del small_toy.obs["cell type"]
    small_toy.uns["thing"] = object()
    with pytest.raises(
        ValueError, match=r"table of 'toy' cannot be written to a store: .*key 'thing'.*Convert or remove"
    ):
        fit(small_toy, tmp_path / "toy.zarr")
    assert not list(tmp_path.iterdir())


def test_a_library_that_cannot_name_an_element_is_called_otherwise_in_the_store(small_toy, tmp_path):
    small_toy.uns["spatial"] = {"V1 Mouse/Brain": small_toy.uns["spatial"]["toy"]}
    fit(small_toy, tmp_path / "toy.zarr")
    table = stores.table(tmp_path / "toy.zarr")
    assert table.uns["projection"]["params"]["library_id"] == "V1_Mouse_Brain"
    assert list(table.uns["spatial"]) == ["V1_Mouse_Brain"]
    assert list(small_toy.uns["spatial"]) == ["V1 Mouse/Brain"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_file_system_that_is_read_only(small_toy, tmp_path):
    import subprocess
    import sys

    run = (
        "import sphisto as sp\n"
        f"sp.tl.fit_projection(sp.datasets.toy(96, 112, pitch_um=24, rng=1), store={str(tmp_path / 'a.zarr')!r})"
    )
    mount = f'mount -t tmpfs -o ro none {tmp_path} || exit 77; exec {sys.executable} -W ignore -c "$RUN"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount],
        env={**os.environ, "RUN": run},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("nothing can be mounted here")
    assert re.search(
        r"PermissionError: Cannot write in .* \(Read-only file system\); expected .*another `store`", done.stderr
    )


def test_little_memory_makes_smaller_pieces(small_toy, tmp_path, monkeypatch, caplog):
    from sphisto.networks.unet import UNet
    from sphisto.predict import tiles as inference

    fit(small_toy.copy(), tmp_path / "whole.zarr")
    forward, sizes = UNet.forward, []

    def limited(self, picture, prior, margin=0, pixels=None):
        if not torch.is_inference_mode_enabled():
            return forward(self, picture, prior, margin, pixels)
        sizes.append(picture.shape[-1])
        if picture.shape[-1] > 32 + 2 * 64:
            raise torch.OutOfMemoryError("as if the memory were small")  # noqa: EM101
        return forward(self, picture, prior, margin, pixels)

    monkeypatch.setattr(UNet, "forward", limited)
    monkeypatch.setattr(inference, "_LEAST_PIECE", 16)
    fit(small_toy, tmp_path / "pieces.zarr")
    assert "did not suffice for tiles of 112 px; 56 px are tried" in caplog.text
    for name in ("projection_factors", "projection_reconstruction"):
        np.testing.assert_allclose(
            sp.get.raster(tmp_path / "pieces.zarr", name).values,
            sp.get.raster(tmp_path / "whole.zarr", name).values,
            rtol=1e-3,
            atol=1e-5,
        )
    monkeypatch.setattr(inference, "_LEAST_PIECE", 64)
    with pytest.raises(MemoryError, match=r"does not suffice for pieces of 112 px .*as if.*choose another `device`"):
        fit(small_toy, tmp_path / "none.zarr")


def test_another_section_of_a_name_that_the_store_holds_is_refused(small_toy, tmp_path, caplog):
    """Its image, spots and counts would take the place of those that the older projection is of."""
    fit(small_toy, tmp_path / "toy.zarr", key_added="old")
    other = sp.datasets.toy(100, 108, pitch_um=24, rng=9)
    with pytest.raises(
        ValueError, match=r"holds 'old' of a library of that name, with spots of these names at other places"
    ):
        fit(other, tmp_path / "toy.zarr", key_added="new")
    other.obs_names = [f"other{i}" for i in range(other.n_obs)]
    with pytest.raises(ValueError, match=r"holds 'old' of a library of that name, with none of its spots"):
        fit(other, tmp_path / "toy.zarr", key_added="new")
    fit(small_toy, tmp_path / "toy.zarr", key_added="new")
    assert "will be replaced" not in caplog.text
    fit(small_toy, tmp_path / "toy.zarr", key_added="new")
    assert "The projection 'new' of 'toy'" in caplog.text


def test_spots_that_another_projection_has_values_at_are_not_lost(small_toy, tmp_path):
    fit(small_toy, tmp_path / "toy.zarr", key_added="old")
    lost, first = small_toy.n_obs - 30, small_toy.obs_names[30:].sort_values()[0]
    with pytest.raises(
        ValueError, match=rf"lacks {lost} of {small_toy.n_obs} spots \({first}, .*of the projections 'old'"
    ):
        fit(small_toy[:30].copy(), tmp_path / "toy.zarr", key_added="new")
    assert stores.table(tmp_path / "toy.zarr").n_obs == small_toy.n_obs
    fit(small_toy[:30].copy(), tmp_path / "toy.zarr", key_added="old")  # whose values all are written anew
    assert stores.table(tmp_path / "toy.zarr").n_obs == 30


@pytest.mark.parametrize("changed", ["names", "places", "counts", "genes", "normalised"])
def test_a_section_is_known_again_by_what_was_not_mended(small_toy, tmp_path, changed):
    fit(small_toy, tmp_path / "toy.zarr")
    if changed == "names":
        small_toy.obs_names = [f"other{i}" for i in range(small_toy.n_obs)]
    elif changed == "places":
        small_toy.obsm["spatial"] = np.asarray(small_toy.obsm["spatial"]) + 3
    elif changed == "counts":
        small_toy.X = small_toy.X * 2
    elif changed == "genes":
        small_toy = small_toy[:, 5:].copy()
    else:
        small_toy.layers["counts"] = small_toy.X.copy()
        small_toy.X = np.log1p(small_toy.X.toarray())
    fit(small_toy, tmp_path / "toy.zarr")


@pytest.mark.parametrize("key", ["projection", "other"])
def test_another_section_on_the_same_lattice_is_told_by_its_counts(small_toy, tmp_path, key, rng):
    """As of arrays whose spots are called by row and column, and lie there."""
    fit(small_toy, tmp_path / "toy.zarr")
    other = small_toy.copy()
    other.X = other.X[rng.permutation(other.n_obs)]
    with pytest.raises(ValueError, match="another section of that library's name: .* and other counts"):
        fit(other, tmp_path / "toy.zarr", key_added=key)


def test_another_section_does_not_take_the_place_of_the_one_in_the_store(small_toy, tmp_path):
    fit(small_toy, tmp_path / "toy.zarr")
    before = sp.get.gene_raster(small_toy, "class0_a").values
    other = sp.datasets.toy(100, 108, pitch_um=24, rng=9)
    other.layers["counts"] = other.X.copy()
    for names, values in (
        (other.obs_names, other.X),
        ([f"other{i}" for i in range(other.n_obs)], other.X),
        (other.obs_names, None),
    ):
        other.obs_names, other.X = names, values
        with pytest.raises(
            ValueError, match=r"another section of that library.s name: of \d+ spots, with \d+ of the \d+ here"
        ):
            fit(other, tmp_path / "toy.zarr")
    np.testing.assert_array_equal(sp.get.gene_raster(small_toy, "class0_a").values, before)


def test_spots_of_one_name_are_refused_where_they_would_carry_something_over(small_toy, tmp_path):
    small_toy.obs_names = ["twice", "twice", *small_toy.obs_names[2:]]
    fit(small_toy, tmp_path / "toy.zarr", key_added="old")
    with pytest.raises(ValueError, match=r"several spots of the name 'twice'.*obs_names_make_unique"):
        fit(small_toy, tmp_path / "toy.zarr", key_added="new")


def test_some_rows_of_a_table_that_stays_in_its_file_are_refused(small_toy, tmp_path):
    small_toy.write_h5ad(tmp_path / "toy.h5ad")
    some = ad.read_h5ad(tmp_path / "toy.h5ad", backed="r")[:30]
    for call in (sp.io.section, sp.tl.fit_projection, sp.tl.evaluate):
        with pytest.raises(ValueError, match=r"Found a view of a table that stays in its file .*to_memory"):
            call(some)


def test_places_written_as_text_are_numbers(small_toy, tmp_path):
    expected = np.asarray(small_toy.obsm["spatial"], dtype=float)
    small_toy.obsm["spatial"] = expected.astype(str)
    fit(small_toy, tmp_path / "toy.zarr")
    np.testing.assert_allclose(stores.table(tmp_path / "toy.zarr").obsm["spatial"], expected)
