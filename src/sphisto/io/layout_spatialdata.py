"""A section in a SpatialData: a table, the circles or squares it annotates, and the picture that belongs to them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto.core.grid import SAME_PLACE_PX
from sphisto.io.counts import require_frames
from sphisto.io.elements import is_shifted, matrix_to, relative_scale, scale_and_shift
from sphisto.io.image.channels import CHANNELS
from sphisto.io.image.pyramid import Pyramid, as_pyramid
from sphisto.io.layout_anndata import libraries_of, part_of
from sphisto.io.layouts import Layout, bin_um_of, centers_of, opened, positive_or_none, under_tissue, valid_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.core.spot import SpotShape

logger = logging.getLogger("sphisto")

_REDUCED = re.compile(r"(downscaled|_hires|_lowres)")  # coordinate systems that are pixels of a reduced picture
# ends of pictures' names, perhaps with the key that `spatialdata.concatenate` puts after the names of all elements
_KIND = re.compile(
    r"(?:^|_)(?:(?:hires|lowres|full|fullres|cytassist)(?:(?:_tissue)?_image)?|(?:tissue_)?image)(-.+)?$"
)
_BINS = re.compile(r"(?:^|_)square_(\d{3})um(?:-.+)?$")  # what spatialdata-io and Space Ranger call bins of a side
_CYTASSIST = re.compile(r"(?:^|_)cytassist(?:(?:_tissue)?_image)?(?:-.+)?$")
INTRINSIC = "the shapes' own coordinates"


def layout_of_spatialdata(
    sdata: SpatialData, *, image: Any = None, image_scale: float | None = None, library_id: str | None = None
) -> Layout:
    """Find rows, places, picture and scales of one section in a SpatialData.

    Raises
    ------
    ValueError
        If something is missing or ambiguous; the message says what was found and what to do.
    """
    name, table, region = _choose_region(sdata, library_id)
    require_frames(table)
    shapes = sdata.shapes[region]
    rows, shapes, kept = _rows_of(table, region, shapes)
    side, shape = _size_of(shapes, region)
    center = shapes.geometry.centroid
    xy = np.column_stack([center.x, center.y])
    to_fullres, frame = _full_resolution(table, rows, sdata.shapes[region], region, xy)
    pyramid, scale, told_image = _choose_image(sdata, region, image, image_scale, to_fullres)
    if scale is not None and scale > 1 and image_scale is None:
        # the picture is finer than the coordinates: its pixels are the full resolution
        to_fullres, scale, frame = to_fullres * scale, 1.0, f"pixels of the picture, the finest there are ({frame})"
    factors = _factors_of(table)
    named = _BINS.search(region)
    about = _written_by_us(sdata, region)
    return Layout(
        library_id=library_id or re.sub(r"_spots$", "", region),
        adata=table,
        rows=rows,
        centers=centers_of(xy * to_fullres),
        image=pyramid,
        image_scale=None if scale is None else valid_scale(scale, "the picture's scale"),
        spot_px=side * to_fullres,
        spot_px_is_true=shape == "square" or about is not None,
        drawn=shape,
        bin_um=positive_or_none(factors.get("bin_size_um"))
        or (float(named.group(1)) if named else bin_um_of(table.obs_names[rows])),
        microns_per_px=about or positive_or_none(factors.get("microns_per_pixel")),
        told={
            "layout": f"SpatialData, table {name!r}, which annotates {'circles' if shape == 'disc' else 'squares'} {region!r}",
            "rows": kept,
            "image": told_image,
            "frame": frame,
        },
    )


def _choose_region(sdata: SpatialData, library_id: str | None) -> tuple[str, AnnData, str]:
    """Return a table, its name and the shapes element it annotates."""
    found = _annotated(sdata)
    drawn = [each for each in found if each[2] in sdata.shapes]
    if not drawn and any(region in sdata.labels for _, _, region in found):
        of_labels = ", ".join(f"{name!r} annotates {region!r}" for name, _, region in found)
        msg = (
            f"Found tables that annotate labels only ({of_labels}); expected one that annotates circles or squares. Read bins "
            "with `annotate_table_by_labels=False`; cells are no spots."
        )
        raise ValueError(msg)
    if library_id is None:
        return _the_only(drawn, found, "")
    choice = f" for library_id={library_id!r}"
    ways = (
        lambda region: region in (library_id, _keys.spots(library_id)),
        lambda region: region.endswith(f"-{library_id}"),  # the key by which `spatialdata.concatenate` joined it
        lambda region: region.startswith(f"{library_id}_") or region.endswith(f"_{library_id}"),
        lambda region: re.search(rf"(?:^|[\W_]){re.escape(library_id)}(?:$|[\W_])", region) is not None,
    )
    for way in ways:
        matching = [each for each in drawn if way(each[2])]
        if matching:
            return _the_only(matching, found, choice)
    return _the_only([], found, choice)


def _annotated(sdata: SpatialData) -> list[tuple[str, AnnData, str]]:
    """Return each region that a table annotates, with that table and its name."""
    return [
        (str(name), table, str(region))
        for name, table in sdata.tables.items()
        for region in np.atleast_1d(table.uns.get("spatialdata_attrs", {}).get("region", []))
    ]


def _the_only(
    chosen: Sequence[tuple[str, AnnData, str]], found: Sequence[tuple[str, AnnData, str]], choice: str
) -> tuple[str, AnnData, str]:
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        others = ", ".join(f"{name!r} annotates {region!r}" for name, _, region in found) or "none annotates anything"
        msg = (
            f"Found no table{choice} that annotates circles or squares in the SpatialData; expected one. Of its tables "
            f"{others}."
        )
        raise ValueError(msg)
    regions = {region for _, _, region in chosen}
    if len(regions) == 1:
        names = ", ".join(repr(name) for name, _, _ in chosen)
        msg = (
            f"Found several tables{choice} that annotate {regions.pop()!r}: {names}; expected one. Leave the others out: "
            '`sdata.subset([..., "the table"])`, or `del sdata.tables["another"]`.'
        )
        raise ValueError(msg)
    msg = (
        f"Found several annotated regions{choice}: {', '.join(region for _, _, region in chosen)}. Choose one with "
        "`library_id=` (a part of its name that no other has)."
    )
    raise ValueError(msg)


def _rows_of(table: AnnData, region: str, shapes: GeoDataFrame) -> tuple[NDArray[np.intp], GeoDataFrame, str]:
    """Return the rows of the table that annotate a region, with their shapes in that order."""
    import pandas as pd

    keys = table.uns["spatialdata_attrs"]
    lost = [keys[name] for name in ("region_key", "instance_key") if keys.get(name) not in table.obs]
    if lost:
        msg = (
            f"Found no column {', '.join(map(repr, lost))} in obs, by which the table annotates {region!r} (so its "
            "uns['spatialdata_attrs'] says); expected it. Add the column again, or parse the table anew (`TableModel.parse`)."
        )
        raise ValueError(msg)
    rows = np.flatnonzero((table.obs[keys["region_key"]].astype(str) == region).to_numpy())
    ids = table.obs[keys["instance_key"]].iloc[rows].to_numpy()
    if not shapes.index.is_unique:
        twice = int(shapes.index.duplicated().sum())
        msg = f"Found {twice} of {len(shapes)} shapes of {region!r} with the id of another; expected one shape for each id."
        raise ValueError(msg)
    place = shapes.index.get_indexer(pd.Index(ids))
    if (place < 0).all():  # numbers on one side and words on the other
        place = pd.Index(shapes.index.astype(str)).get_indexer(pd.Index(ids).astype(str))
    found = place[place >= 0]
    if len(np.unique(found)) < len(found):
        twice = int(len(found) - len(np.unique(found)))
        msg = (
            f"Found {twice} of {len(place)} rows of the table that annotate a shape of {region!r} which another row annotates, "
            f"by {keys['instance_key']!r}; expected one row for each spot. Correct that column."
        )
        raise ValueError(msg)
    gone = int((place < 0).sum())
    if gone == len(place):
        msg = (
            f"Found none of the {len(place)} spots of the table (such as {ids[0]!r}, by {keys['instance_key']!r}) among the "
            f"{len(shapes)} shapes of {region!r} (such as {shapes.index[0]!r}); expected their ids. Correct that column."
            if len(place)
            else f"Found no rows of the table that annotate {region!r}, though it says so; expected some. Correct the "
            f"column {keys['region_key']!r} of obs."
        )
        raise ValueError(msg)
    if gone:
        logger.warning("%d of %d spots of the table have no shape in %r and are left out.", gone, len(place), region)
    rows = rows[place >= 0]
    kept, told = under_tissue(table, rows)
    place = place[place >= 0][np.isin(rows, kept)]
    return kept, shapes.iloc[place], told + (f"; {gone} have no shape in {region!r} and are left out" if gone else "")


def _size_of(
    shapes: GeoDataFrame, region: str, *, spread: float = 0.05, excess: float = 0.1
) -> tuple[float, SpotShape]:
    """Return diameter or side of spots or bins, and which; refuse outlines of cells, which differ.

    Parameters
    ----------
    shapes, region
        The region's shapes, and its name.
    spread
        Relative spread of sizes up to which shapes are spots or bins; cells differ by more.
    excess
        Share of its side by which the bounds of a square may exceed it: turned by up to 6 degrees.
    """
    import shapely

    discs = "radius" in shapes
    if discs:
        size = 2 * shapes["radius"].to_numpy(dtype=float)
        regular = True
    else:
        size = np.sqrt(shapely.area(shapes.geometry.to_numpy()))
        corners = shapely.get_num_coordinates(shapes.geometry.to_numpy())
        low_x, low_y, high_x, high_y = shapely.bounds(shapes.geometry.to_numpy()).T
        across = np.maximum(high_x - low_x, high_y - low_y)
        regular = bool((corners == 5).all() and (across < (1 + excess) * size).all())
    median = float(np.median(size))
    alike = median > 0 and bool((np.abs(size / median - 1) < spread).mean() > 0.99)
    if alike and not regular:
        msg = (
            f"Found equal polygons in {region!r} that are no upright squares (bins), {int(corners[0]) - 1} corners each and "
            f"{median:.3g} across. If they are spots, make circles of them: `ShapesModel.parse(xy, geometry=0, radius=..., "
            f"index=sdata[{region!r}].index)` with xy of their centroids, and the same transformation."
        )
        raise ValueError(msg)
    if not alike:
        kind = "circles" if discs else "polygons"
        msg = (
            f"Found {kind} of different sizes or forms in {region!r} ({size.min():.3g} to {size.max():.3g} across): outlines of "
            "cells, or other regions. Expected equal circles (spots) or upright squares (bins). Fit the spots or bins of the "
            "same section (for Visium HD a table of bins, such as `square_008um`), then sum the rasters over these outlines "
            f"with `sphisto.tl.aggregate(store, sdata[{region!r}])`."
        )
        raise ValueError(msg)
    return median, "disc" if discs else "square"


def _full_resolution(
    table: AnnData, rows: NDArray[np.intp], element: GeoDataFrame, region: str, xy: NDArray[np.float64]
) -> tuple[float, str]:
    """Return full-resolution px per unit of the shapes' own coordinates, and from what that was concluded."""
    from spatialdata.transformations import get_transformation

    matrices = {"": np.eye(3)} | {
        str(system): matrix_to(element, str(system))
        for system in get_transformation(element, get_all=True)
        if not _REDUCED.search(str(system))
    }
    scales = {system: scale for system, matrix in matrices.items() if (scale := scale_and_shift(matrix)) is not None}
    named = sorted((s for s in scales if s), key=lambda s: (s != "global", -_alike(s, region)))
    note = ""
    if "spatial" in table.obsm:
        stated = np.asarray(table.obsm["spatial"])[rows]
        if stated.ndim == 2 and stated.shape[1] >= 2 and np.issubdtype(stated.dtype, np.number):
            for system in [*named, ""]:
                there = xy @ matrices[system][:2, :2].T + matrices[system][:2, 2]
                if any(
                    np.allclose(at, stated[:, :2], atol=SAME_PLACE_PX, rtol=0) for at in (there, xy * scales[system])
                ):
                    which = f"coordinate system {system!r}" if system else INTRINSIC
                    frame = f'{which}, where the shapes lie as obsm["spatial"] of the table says'
                    return scales[system], frame + _shift(matrices[system], system, region)
            note = '; obsm["spatial"] of the table agrees with none of them and is not used'
            logger.warning('%r: obsm["spatial"] of the table agrees with no full-resolution coordinate system of the shapes '
                           "and is not used. If rows of the table are not those of the shapes, correct their ids.", region)  # fmt: skip
    if named:
        frame = f"coordinate system {named[0]!r}{note}"
        return scales[named[0]], frame + _shift(matrices[named[0]], named[0], region)
    return 1.0, f"no coordinate system but of reduced pictures: {INTRINSIC}{note}"


def _shift(matrix: NDArray[np.float64], system: str, region: str) -> str:
    """Say that shapes lie shifted in a coordinate system, which nothing that is written here repeats."""
    if not is_shifted(matrix):
        return ""
    by = " and ".join(f"{shift:.5g}" for shift in matrix[:2, 2])
    logger.warning(
        "%r lies shifted by %s (x and y) in %r of the SpatialData, perhaps beside other sections. `global` of a store begins "
        "where the section's picture does: give other elements of the SpatialData to `sphisto.tl.aggregate` without that shift.",
        region, by, system,
    )  # fmt: skip
    return f", without its shift by {by} (x and y)"


def _alike(name: str, region: str) -> int:
    """Length of the beginning that two names share."""
    return next((i for i, (a, b) in enumerate(zip(name, region, strict=False)) if a != b), min(len(name), len(region)))


def _choose_image(
    sdata: SpatialData, region: str, image: Any, image_scale: float | None, to_fullres: float
) -> tuple[Pyramid, float | None, str]:
    """Return the picture of a region, its px per full-resolution px, and which it is."""
    named = isinstance(image, str) and image in sdata.images
    if image is not None and not named and not _is_placed(image):
        pyramid, told = opened(image, map(str, sdata.images))
        if image_scale is None:
            return pyramid, None, told
        stated = valid_scale(image_scale, "image_scale")
        return pyramid, stated, f"{told}, image_scale={stated:g} as stated"
    if image is not None:
        name, element = (image, sdata.images[image]) if named else ("the image element that was given", image)
        scale = _image_scale(element, name, sdata.shapes[region], region) / to_fullres
        scale = scale if image_scale is None else valid_scale(image_scale, "image_scale")
        return as_pyramid(element), scale, f"{name!r} as given, {scale:.4g} px per full-resolution px"
    name, others = _own_image(sdata, region)
    scale = _image_scale(sdata.images[name], name, sdata.shapes[region], region) / to_fullres
    scale = scale if image_scale is None else valid_scale(image_scale, "image_scale")
    also = f"; there are also {', '.join(map(repr, others))}" if others else ""
    return (
        as_pyramid(sdata.images[name]),
        scale,
        f"{name!r}, {scale:.4g} px per full-resolution px{also}",
    )


def _is_placed(image: Any) -> bool:
    """Whether a picture is an element that says where it lies: SpatialData keeps that in the attributes of its array."""
    array = next(iter(image["scale0"].data_vars.values())) if "scale0" in getattr(image, "children", ()) else image
    return "transform" in getattr(array, "attrs", ())


def _own_image(sdata: SpatialData, region: str) -> tuple[str, list[str]]:
    """Return the finest picture that belongs to a region, and the others that do."""
    from spatialdata.transformations import get_transformation

    systems = set(get_transformation(sdata.shapes[region], get_all=True))
    shared = [str(name) for name in sdata.images if systems & set(get_transformation(sdata.images[name], get_all=True))]
    pictures = [name for name in shared if _is_colour(sdata.images[name]) and not _CYTASSIST.search(name)]
    if not pictures:
        msg = (
            f"Found no image in a coordinate system of {region!r} ({', '.join(map(str, systems))}); the SpatialData holds "
            f"{', '.join(map(str, sdata.images)) or 'no images'}. Add a brightfield picture (grey, RGB or RGBA), or pass "
            "`image=`."
        )
        raise ValueError(msg)
    stems = {name: _stem_of(name) for name in pictures}
    others = {each for _, _, each in _annotated(sdata)} - {region}
    stems = {name: stem for name, stem in stems.items() if not _is_anothers(stem, region, others)}
    if not stems:
        msg = (
            f"Found no image of {region!r} in its coordinate systems, but those of other sections: {', '.join(pictures)}. Add "
            "its own, or choose one with `image=`."
        )
        raise ValueError(msg)
    own = {stem for stem in stems.values() if _belongs(region, *stem)}
    longest = max(own, key=lambda stem: len("".join(stem)), default=None)
    if longest is None and len(set(stems.values())) == 1:
        longest = next(iter(stems.values()))
    if longest is None:
        msg = (
            f"Found several images in the coordinate systems of {region!r}, none with a name that says which belongs to it: "
            f"{', '.join(stems)}. Choose one with `image=`."
        )
        raise ValueError(msg)
    chosen = [name for name, stem in stems.items() if stem == longest]
    fine = {name: _image_scale(sdata.images[name], name, sdata.shapes[region], region) for name in chosen}
    best = max(chosen, key=lambda name: fine[name])
    return best, [name for name in chosen if name != best]


def _stem_of(picture: str) -> tuple[str, str]:
    """Return what stands before the kind of a picture in its name (``A`` of ``A_hires_image``), and what after it."""
    kind = _KIND.search(picture)
    return (picture, "") if kind is None else (picture[: kind.start()], kind.group(1) or "")


def _belongs(region: str, stem: str, joined: str) -> bool:
    """Whether a region bears the name of a picture: ``A``, or ``A_`` and more, and the same key if it was joined."""
    name = region.removesuffix(joined)
    return region.endswith(joined) and (name == stem or name.startswith(f"{stem}_"))


def _is_anothers(stem: tuple[str, str], region: str, others: set[str]) -> bool:
    """Whether pictures of a name are those of another region: it bears the very name, or only others belong to it."""
    exactly = [other for other in others if other.removesuffix("_spots").removesuffix(stem[1]) == stem[0]]
    own = region.removesuffix("_spots").removesuffix(stem[1]) == stem[0]
    if own or not any(_belongs(other, *stem) for other in others):
        return False
    return bool(exactly) or not _belongs(region, *stem)


def _is_colour(element: Any) -> bool:
    from spatialdata.models import get_channel_names

    return len(get_channel_names(element)) in CHANNELS


def _image_scale(image: Any, name: str, shapes: GeoDataFrame, region: str, *, most: float = 1.05) -> float:
    """Px of an image per unit of a region's own coordinates, wherever both lie together.

    Scales in several coordinate systems differ by rounding only: by no more than ``most``, largest over smallest.

    Raises
    ------
    ValueError
        If they lie together nowhere, or by more than a scale of one to the other.
    """
    from spatialdata.transformations import get_transformation

    systems = set(get_transformation(image, get_all=True)) & set(get_transformation(shapes, get_all=True))
    relative = [np.linalg.solve(matrix_to(image, s), matrix_to(shapes, s)) for s in sorted(map(str, systems))]
    found = {
        system: scale
        for system, matrix in zip(sorted(map(str, systems)), relative, strict=True)
        if (scale := relative_scale(np.asarray(matrix, dtype=np.float64))) is not None
    }
    if found and max(found.values()) > most * min(found.values()):
        said = ", ".join(f"{scale:.4g} in {system!r}" for system, scale in found.items())
        msg = (
            f"Found {name!r} at different scales against {region!r}: {said} px per unit of the shapes; expected one. Correct "
            "the transformations, or remove those that are not meant (`spatialdata.transformations.remove_transformation`)."
        )
        raise ValueError(msg)
    if found:
        return next(iter(found.values()))
    if not relative:
        msg = f"Found {name!r} in no coordinate system of {region!r}; expected both in one."
        raise ValueError(msg)
    msg = (
        f"{region!r} lies in {name!r} by more than a scale: {np.round(relative[0], 4).tolist()}. Rotations, shifts "
        "and shears of spots against their picture are not supported; bring the picture to the pixels of the spots first."
    )
    raise ValueError(msg)


def _factors_of(table: AnnData) -> Mapping[str, Any]:
    """Scale factors that the table still has of the Visium layout, if they are of one library."""
    libraries, _ = libraries_of(table.uns.get("spatial", {}))
    return part_of(next(iter(libraries.values())), "scalefactors") if len(libraries) == 1 else {}


def _written_by_us(sdata: SpatialData, region: str) -> float | None:
    """Um per full-resolution px by what a store of sphisto says of itself."""
    mark = sdata.attrs.get(_keys.MARK)
    grids = mark.get("grids", {}) if isinstance(mark, dict) else {}
    about = grids.get(_keys.image(re.sub(r"_spots$", "", region)))
    if about is None:
        return None
    y, x = about["fullres_per_px"]
    return float(about["um_per_px"] / np.sqrt(y * x))
