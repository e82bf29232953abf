"""A section that was turned is found; a mirrored or shifted one has weight 0, or is refused where no spots could show it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest

import sphisto as sp

if TYPE_CHECKING:
    from anndata import AnnData

UM_PER_PX = 8.0
SIDE = 256


def named(adata: AnnData, name: str, image=None, xy=None) -> AnnData:
    """A copy of a toy section under another name, with another image and other places."""
    adata = adata.copy()
    about = adata.uns["spatial"].pop("toy")
    if image is not None:
        about["images"] = {"hires": np.ascontiguousarray(image)}
    if xy is not None:
        adata.obsm["spatial"] = xy
        del adata.obs["array_row"], adata.obs["array_col"]
        about["scalefactors"]["microns_per_pixel"] = UM_PER_PX
    adata.uns["spatial"] = {name: about}
    return adata


@pytest.fixture(scope="module")
def drawn():
    adata = sp.datasets.toy(SIDE, SIDE, um_per_px=UM_PER_PX, rng=3)
    counts = adata.X.toarray().astype(int)
    half = np.random.default_rng(0).binomial(counts, 0.5)
    first, second = adata.copy(), adata.copy()
    first.X, second.X = half.astype(np.float32), (counts - half).astype(np.float32)
    return first, second


@pytest.fixture
def fixed(drawn):
    return named(drawn[0], "first")


def image_of(adata):
    return adata.uns["spatial"]["toy"]["images"]["hires"]


@pytest.fixture
def turned(drawn):
    """The other half of the molecules, a quarter turn counter-clockwise."""
    x, y = drawn[1].obsm["spatial"].T
    return named(drawn[1], "turned", np.rot90(image_of(drawn[1])), np.column_stack([y, SIDE - x]))


@pytest.fixture
def mirrored(drawn):
    x, y = drawn[1].obsm["spatial"].T
    return named(drawn[1], "mirrored", image_of(drawn[1])[:, ::-1], np.column_stack([SIDE - x, y]))


def image_alone(adata):
    name, about = next(iter(adata.uns["spatial"].items()))
    return sp.io.section(about["images"]["hires"], image_um_per_px=UM_PER_PX, library_id=f"{name}_image")


def error_um(registration, moving, fixed):
    away = registration.to_fixed(moving.obsm["spatial"]) - fixed.obsm["spatial"]
    return np.sqrt((away**2).sum(axis=1).mean()) * UM_PER_PX


def test_a_turned_section_is_laid_back(turned, fixed):
    found = sp.pp.register(turned, fixed)
    assert found.trusted, found.why
    assert error_um(found, turned, fixed) < 30
    assert found.turn == pytest.approx(90, abs=2)
    assert not found.reflected
    assert found.agreement > found.elsewhere
    np.testing.assert_allclose(found.to_moving(found.to_fixed(turned.obsm["spatial"])), turned.obsm["spatial"])


def test_what_is_written_is_read_again(turned, fixed, tmp_path):
    found = sp.pp.register(turned, fixed, key_added="laid")
    turned.write_h5ad(tmp_path / "turned.h5ad")
    read = sp.pp.Registration.from_dict(ad.read_h5ad(tmp_path / "turned.h5ad").uns["laid"])
    assert repr(read) == repr(found)
    np.testing.assert_array_equal(read.matrix, found.matrix)
    assert "laid" not in fixed.uns
    turned.uns["laid"] = "mine"
    with pytest.raises(ValueError, match="Give another `key_added`"):
        sp.pp.register(turned, fixed, key_added="laid")


def test_images_alone_are_enough(turned, fixed):
    found = sp.pp.register(image_alone(turned), image_alone(fixed))
    assert found.trusted
    assert np.isnan(found.agreement)
    assert error_um(found, turned, fixed) < 30


def test_a_mirrored_section_has_weight_0(mirrored, fixed, caplog):
    with caplog.at_level(logging.WARNING, "sphisto"):
        found = sp.pp.register(mirrored, fixed)
    assert found.weight == 0
    assert "mirrored it fits better" in found.why
    assert "Give `allow_reflection=True`" in caplog.text
    assert not sp.pp.Registration.from_dict(mirrored.uns["registration"]).trusted
    allowed = sp.pp.register(mirrored, fixed, allow_reflection=True)
    assert allowed.trusted
    assert allowed.reflected
    assert error_um(allowed, mirrored, fixed) < 30


def test_a_mirrored_section_without_spots_is_refused(mirrored, fixed):
    with pytest.raises(ValueError, match=r"cannot be trusted.*`allow_reflection=True`"):
        sp.pp.register(image_alone(mirrored), fixed)
    assert "registration" not in mirrored.uns


@pytest.mark.parametrize("step", [(2, 0), (0, -2)])
def test_a_shift_by_two_pitches_has_weight_0_or_is_refused(turned, fixed, step):
    marks = turned.obsm["spatial"], fixed.obsm["spatial"] + np.array(step) * 100 / UM_PER_PX
    found = sp.pp.register(turned, fixed, landmarks=marks)
    assert found.weight == 0
    assert found.elsewhere > found.agreement
    assert found.off_um == pytest.approx(200, abs=40)
    with pytest.raises(ValueError, match="where the landmarks put it"):
        sp.pp.register(image_alone(turned), fixed, landmarks=marks)


def test_right_landmarks_decide(turned, fixed):
    marks = turned.obsm["spatial"][::9], fixed.obsm["spatial"][::9]
    for model in ("rigid", "affine"):
        found = sp.pp.register(turned, fixed, landmarks=marks, model=model)
        assert found.trusted, found.why
        assert error_um(found, turned, fixed) < 1
        assert found.by_landmarks


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (([[0, 0]], [[0, 0]]), "Found 1 landmarks; expected at least 2"),
        (([[0, 0], [0, 0]], [[0, 0], [1, 1]]), "expected at least 2 that differ"),
        (([[0, 0], [1, 1]], [[0, 0]]), r"expected two \(n, 2\) arrays"),
        (([[0, 0], [1, np.nan]], [[0, 0], [1, 1]]), "NaN or infinite; expected .*finite"),
        (
            ([[1, 2], [3]], [[1, 2], [3, 4]]),
            r"Found landmarks of type tuple that holds no arrays of numbers; .*`landmarks=\(",
        ),
        ({"a": [[1, 2]], "b": [[1, 2]]}, "Found landmarks of type dict; expected two"),
        (5, "Found landmarks of type int that holds no arrays"),
        ((np.zeros((0, 2)), np.zeros((0, 2))), "Found 0 landmarks; expected at least 2"),
        (([[0, 0], [1, 1]],), r"Found landmarks of \(2, 2\); expected two"),
    ],
)
def test_landmarks_that_decide_nothing_are_refused(turned, fixed, marks, message):
    with pytest.raises(ValueError, match=message):
        sp.pp.register(turned, fixed, landmarks=marks)


def test_an_affine_needs_three_landmarks_on_no_line(turned, fixed):
    line = np.array([[0.0, 0], [1, 1], [2, 2]])
    with pytest.raises(ValueError, match="lie on no line"):
        sp.pp.register(turned, fixed, landmarks=(line, line), model="affine")


def test_a_part_cut_off_is_trusted_only_with_spots(turned, fixed):
    tissue = sp.pp.tissue_mask(turned)
    tissue[:, np.cumsum(tissue.sum(axis=0)) > 0.8 * tissue.sum()] = False
    cut = sp.io.section(turned, tissue=tissue, check=False)
    found = sp.pp.register(cut, fixed)
    assert found.trusted, found.why
    assert found.overlap < 0.91
    assert error_um(found, turned, fixed) < 40
    picture = turned.uns["spatial"]["turned"]["images"]["hires"]
    with pytest.raises(ValueError, match="the outlines overlap by"):
        sp.pp.register(sp.io.section(picture, image_um_per_px=UM_PER_PX, tissue=tissue), fixed)


def test_names_and_models_are_checked(fixed):
    with pytest.raises(ValueError, match="two sections of the name 'first'"):
        sp.pp.register(fixed.copy(), fixed)
    with pytest.raises(ValueError, match="expected 'rigid' or 'affine'"):
        sp.pp.register(named(sp.datasets.toy(96, 96, pitch_um=24), "other"), fixed, model="elastic")


def test_tissue_that_fills_its_image_has_no_outline(drawn):
    whole = image_of(drawn[0])[80:180, 80:180]
    sections = [
        sp.io.section(part, image_um_per_px=UM_PER_PX, library_id=name, tissue=np.ones(part.shape[:2], bool))
        for name, part in (("a", whole), ("b", whole[:, ::-1].copy()))
    ]
    with pytest.raises(ValueError, match="no outline to go by"):
        sp.pp.register(*sections)


def as_spatialdata(adata, name):
    import geopandas as gpd
    import shapely
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity

    image = next(iter(adata.uns["spatial"].values()))["images"]["hires"]
    frame = gpd.GeoDataFrame(
        {"radius": np.full(adata.n_obs, 55 / 2 / UM_PER_PX)}, geometry=shapely.points(adata.obsm["spatial"])
    )
    table = ad.AnnData(adata.X, obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    table.obs["region"], table.obs["id"] = name, np.arange(adata.n_obs)
    table.obs["region"] = table.obs["region"].astype("category")
    return SpatialData(
        images={f"{name}_image": Image2DModel.parse(np.moveaxis(image, -1, 0), dims=("c", "y", "x"), transformations={"global": Identity()})},
        shapes={name: ShapesModel.parse(frame, transformations={"global": Identity()})},
        tables={f"{name}_table": TableModel.parse(table, region=name, region_key="region", instance_key="id")},
    )  # fmt: skip


def test_transformations_are_written_into_spatialdata_and_its_store(turned, fixed, tmp_path):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    moving, target = as_spatialdata(turned, "turned"), as_spatialdata(fixed, "first")
    moving.write(tmp_path / "turned.zarr")
    moving = sd.read_zarr(tmp_path / "turned.zarr")
    before = np.asarray(moving["turned_image"])
    found = sp.pp.register(moving, target)
    assert found.trusted, found.why
    for sdata in (moving, sd.read_zarr(tmp_path / "turned.zarr")):
        for element in ("turned_image", "turned"):
            matrix = get_transformation(sdata[element], "first").to_affine_matrix(("x", "y"), ("x", "y"))
            np.testing.assert_allclose(matrix, found.matrix, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(sdata["turned_image"]), before)
        assert len(sp.io.section(sdata).rows) == turned.n_obs  # the further coordinate system does not confuse
    assert get_transformation(target["first"], "first") is not None
    together = sd.concatenate([moving, target])
    assert "first" in together.coordinate_systems


def test_two_sections_of_one_spatialdata_are_registered_within_it(turned, fixed):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    parts = [as_spatialdata(turned, "turned"), as_spatialdata(fixed, "first")]
    for part, name in zip(parts, ("turned", "first"), strict=True):
        part.rename_coordinate_systems({"global": name})
    both = sd.concatenate(parts)
    sections = [sp.io.section(both, library_id=name) for name in ("turned", "first")]
    found = sp.pp.register(*sections)
    assert found.trusted, found.why
    matrix = get_transformation(both["turned_image"], "first").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, found.matrix, atol=1e-6)
    identity = get_transformation(both["first_image"], "first").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_array_equal(identity, np.eye(3))
    for name, adata in (("turned", turned), ("first", fixed)):  # each is still understood as before
        again = sp.io.section(both, library_id=name)
        np.testing.assert_allclose(again.measured.centers[:, ::-1], adata.obsm["spatial"], atol=1e-6)


def test_what_others_wrote_into_a_spatialdata_is_left_as_it_is(turned, fixed):
    from spatialdata.transformations import Translation, get_transformation, set_transformation

    by_hand, target = Translation([5.0, 7.0], axes=("x", "y")), as_spatialdata(fixed, "first")
    for own in ("turned", "turned_image"):
        moving = as_spatialdata(turned, "turned")
        set_transformation(moving[own], by_hand, "first")
        with pytest.raises(ValueError, match=f"transformation of '{own}' to 'first' that is not this registration"):
            sp.pp.register(moving, target)
        assert get_transformation(moving[own], "first") == by_hand
        assert "registration" not in moving["turned_table"].uns
    named = as_spatialdata(turned, "turned")
    named.rename_coordinate_systems({"global": "first"})
    with pytest.raises(
        ValueError, match="moving section in a coordinate system 'first', which is the name of the fixed"
    ):
        sp.pp.register(named, as_spatialdata(fixed, "first"))


def test_a_registration_may_be_found_again(turned, fixed):
    """Also where the table does not record it, as when only the store of the elements was kept; another one only if it does."""
    moving, target = as_spatialdata(turned, "turned"), as_spatialdata(fixed, "first")
    found = sp.pp.register(moving, target)
    del moving["turned_table"].uns["registration"]
    again = sp.pp.register(moving, target, key_added="again")
    np.testing.assert_array_equal(again.matrix, found.matrix)
    x, y = turned.obsm["spatial"].T
    landmarks = [turned.obsm["spatial"][::20] + 3, np.column_stack([SIDE - y, x])[::20]]
    moved = sp.pp.register(moving, target, landmarks=landmarks, key_added="by_landmarks")
    assert moved.trusted, moved.why
    assert not np.allclose(moved.matrix, found.matrix)
    del moving["turned_table"].uns["again"], moving["turned_table"].uns["by_landmarks"]
    with pytest.raises(ValueError, match="is not this registration, and none like it in uns"):
        sp.pp.register(moving, target)


def test_the_fixed_section_may_lie_anywhere_in_its_own_system(turned, fixed):
    """Both then lie in one frame, which need not be that of its full-resolution pixels."""
    from spatialdata.transformations import Affine, get_transformation, set_transformation

    moving, target = as_spatialdata(turned, "turned"), as_spatialdata(fixed, "first")
    place = np.array([[0.5, 0, 40], [0, 0.5, -30], [0, 0, 1]])
    for element in ("first", "first_image"):
        set_transformation(target[element], Affine(place, ("x", "y"), ("x", "y")), "first")
    found = sp.pp.register(moving, target)
    matrix = get_transformation(moving["turned"], "first").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, place @ found.matrix, atol=1e-6)


def test_the_registration_of_another_section_of_the_table_is_kept(turned, fixed):
    both = ad.concat({"turned": turned, "again": turned}, label="library_id", index_unique="-")
    entry = turned.uns["spatial"]["turned"]
    both.uns["spatial"] = {"turned": entry, "again": entry}
    first, second = (sp.io.section(both, library_id=name) for name in ("turned", "again"))
    sp.pp.register(first, fixed)
    with pytest.raises(ValueError, match=r"registration of 'turned' in uns\['registration'\] .*'registration_again'"):
        sp.pp.register(second, fixed)
    sp.pp.register(second, fixed, key_added="registration_again")
    assert [both.uns[key]["moving"] for key in ("registration", "registration_again")] == ["turned", "again"]


def test_sections_that_share_a_coordinate_system_are_refused(turned, fixed):
    import spatialdata as sd

    both = sd.concatenate([as_spatialdata(turned, "turned"), as_spatialdata(fixed, "first")])  # both in global
    with pytest.raises(ValueError, match="holds 'turned' alone"):
        sp.pp.register(*(sp.io.section(both, library_id=name) for name in ("turned", "first")))


def test_a_registration_that_is_not_trusted_is_not_written_into_spatialdata(mirrored, fixed):
    moving = as_spatialdata(mirrored, "mirrored")
    assert sp.pp.register(moving, as_spatialdata(fixed, "first")).weight == 0
    assert "first" not in moving.coordinate_systems


def test_neighbouring_sections_are_trusted_and_others_refused(real_section):
    tumour = [sp.io.read_visium(real_section(name)) for name in ("her2st_C2", "her2st_C3")]
    found = sp.pp.register(*tumour)
    assert found.trusted, found.why
    assert found.turn == pytest.approx(10, abs=1.5)
    assert found.overlap > 0.96
    bulb = sp.io.read_visium(real_section("mob_st_1"))
    with pytest.raises(ValueError, match="the outlines overlap by"):
        sp.pp.register(tumour[0], bulb)
