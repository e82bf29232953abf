"""The image of a SpatialData that belongs to a region, by its name and its coordinate systems."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.io.elements import finest, matrix_to, relative_scale, scale_and_shift
from sphisto.io.image.channels import CHANNELS
from sphisto.io.image.pyramid import Pyramid, as_pyramid
from sphisto.io.layouts import opened, stated_scale
from sphisto.io.spatialdata_regions import annotated_regions

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

# ends of images' names, perhaps with the key that `spatialdata.concatenate` puts after the names of all elements
_KIND = re.compile(
    r"(?:^|_)(?:(?:hires|lowres|full|fullres|cytassist)(?:(?:_tissue)?_image)?|(?:tissue_)?image)(-.+)?$"
)
_CYTASSIST = re.compile(r"(?:^|_)cytassist(?:(?:_tissue)?_image)?(?:-.+)?$")


def choose_image(
    sdata: SpatialData, region: str, image: Any, image_scale: float | None, to_fullres: float
) -> tuple[Pyramid, float | None, str]:
    """Return the image of a region, its px per full-resolution px, and which it is."""
    named = isinstance(image, str) and image in sdata.images
    if image is not None and not named and not _is_placed(image):
        pyramid, which = opened(image, map(str, sdata.images))
        if image_scale is None:
            return pyramid, None, which
        stated = stated_scale(image_scale)
        return pyramid, stated, f"{which}, image_scale={stated:g} as stated"
    others: list[str] = []
    if image is None:
        name, others = _own_image(sdata, region, to_fullres)
        element = sdata.images[name]
    else:
        name, element = (image, sdata.images[image]) if named else ("the image element that was given", image)
    scale = _image_scale(element, name, sdata.shapes[region], region, to_fullres) / to_fullres
    scale = scale if image_scale is None else stated_scale(image_scale)
    given = "" if image is None else " as given"
    also = f"; there are also {', '.join(map(repr, others))}" if others else ""
    return as_pyramid(element), scale, f"{name!r}{given}, {scale:.4g} px per full-resolution px{also}"


def _is_placed(image: Any) -> bool:
    """Whether an image is an element with a place: SpatialData keeps that in the attributes of its array."""
    array = next(iter(image["scale0"].data_vars.values())) if "scale0" in getattr(image, "children", ()) else image
    return "transform" in getattr(array, "attrs", ())


def _own_image(sdata: SpatialData, region: str, to_fullres: float) -> tuple[str, list[str]]:
    """Return the finest image that belongs to a region, and the others that do."""
    from spatialdata.transformations import get_transformation

    systems = set(get_transformation(sdata.shapes[region], get_all=True))
    shared = [str(name) for name in sdata.images if systems & set(get_transformation(sdata.images[name], get_all=True))]
    images = [name for name in shared if _is_colour(sdata.images[name]) and not _CYTASSIST.search(name)]
    if not images:
        msg = (
            f"Found no image in a coordinate system of {region!r} ({', '.join(map(str, systems))}); the SpatialData holds "
            f"{', '.join(map(str, sdata.images)) or 'no images'}. Add a brightfield image (grey, RGB or RGBA), or pass "
            "`image=`. If it was lost as the SpatialData was cropped, give the whole and `sphisto.io.section(whole, bbox=...)`."
        )
        raise ValueError(msg)
    stems = {name: _stem_of(name) for name in images}
    others = {each for _, _, each in annotated_regions(sdata)} - {region}
    stems = {name: stem for name, stem in stems.items() if not _is_anothers(stem, region, others)}
    if not stems:
        msg = (
            f"Found no image of {region!r} in its coordinate systems, but those of other sections: {', '.join(images)}. Add "
            "its own, or choose one with `image=`."
        )
        raise ValueError(msg)
    own = {stem for stem in stems.values() if _belongs(region, *stem)}
    longest = max(own, key=lambda stem: len("".join(stem)), default=None)
    if longest is None and len(set(stems.values())) == 1:
        longest = next(iter(stems.values()))
    if longest is None:
        msg = (
            f"Found several images in the coordinate systems of {region!r}, none with a name that shows which belongs to it: "
            f"{', '.join(stems)}. Choose one with `image=`."
        )
        raise ValueError(msg)
    chosen = [name for name, stem in stems.items() if stem == longest]
    fine = {name: _image_scale(sdata.images[name], name, sdata.shapes[region], region, to_fullres) for name in chosen}
    best = max(chosen, key=lambda name: fine[name])
    return best, [name for name in chosen if name != best]


def _stem_of(image: str) -> tuple[str, str]:
    """Return what stands before the kind of an image in its name (``A`` of ``A_hires_image``), and what after it."""
    kind = _KIND.search(image)
    return (image, "") if kind is None else (image[: kind.start()], kind.group(1) or "")


def _belongs(region: str, stem: str, joined: str) -> bool:
    """Whether a region bears the name of an image: ``A``, or ``A_`` and more, and the same key if it was joined."""
    name = region.removesuffix(joined)
    return region.endswith(joined) and (name == stem or name.startswith(f"{stem}_"))


def _is_anothers(stem: tuple[str, str], region: str, others: set[str]) -> bool:
    """Whether images of a name are those of another region: it bears the very name, or only others belong to it."""
    exactly = [other for other in others if other.removesuffix("_spots").removesuffix(stem[1]) == stem[0]]
    own = region.removesuffix("_spots").removesuffix(stem[1]) == stem[0]
    if own or not any(_belongs(other, *stem) for other in others):
        return False
    return bool(exactly) or not _belongs(region, *stem)


def _is_colour(element: Any) -> bool:
    from spatialdata.models import get_channel_names

    return len(get_channel_names(element)) in CHANNELS


def _image_scale(
    image: Any, name: str, shapes: GeoDataFrame, region: str, to_fullres: float, *, most: float = 1.05
) -> float:
    """Px of an image per unit of a region's own coordinates, in the coordinate systems that both have.

    ``to_fullres`` is full-resolution px per such unit, for the window that is named where the image was cropped.
    Scales in several coordinate systems differ by rounding only: by no more than ``most``, largest over smallest.
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
        each = ", ".join(f"{scale:.4g} in {system!r}" for system, scale in found.items())
        msg = (
            f"Found {name!r} at different scales against {region!r}: {each} px per unit of the shapes; expected one. Correct "
            "the transformations, or remove those that are not meant (`spatialdata.transformations.remove_transformation`)."
        )
        raise ValueError(msg)
    if found:
        return next(iter(found.values()))
    if not relative:
        msg = f"Found {name!r} in no coordinate system of {region!r}; expected both in one."
        raise ValueError(msg)
    if window := _window_of(image, np.asarray(relative[0], dtype=np.float64), to_fullres):
        msg = (
            f"{region!r} lies in {name!r} by a scale and a shift: the image does not begin where the coordinates do. If the "
            "SpatialData was cropped (`bounding_box_query`, `polygon_query`), give the whole and a window of it, "
            f"`sphisto.io.section(whole, bbox={window})`; else bring the image to the pixels of the spots."
        )
        raise ValueError(msg)
    msg = (
        f"{region!r} lies in {name!r} by more than a scale: {np.round(relative[0], 4).tolist()}. Rotations, shifts "
        "and shears of spots against their image are not supported; bring the image to the pixels of the spots first."
    )
    raise ValueError(msg)


def _window_of(image: Any, matrix: NDArray[np.float64], to_fullres: float) -> tuple[int, int, int, int] | None:
    """(x_min, y_min, x_max, y_max) of an image in full-resolution px; ``None`` if a matrix is more than a scale and a shift.

    ``matrix`` (3, 3) brings coordinates of shapes to pixels of the image.
    """
    scale = scale_and_shift(matrix)
    if scale is None:
        return None
    height, width = finest(image, ("c", "y", "x")).shape[-2:]
    corners = (np.array([[0, 0], [width, height]]) - matrix[:2, 2]) / scale * to_fullres
    (x_min, y_min), (x_max, y_max) = np.rint(corners).astype(int).tolist()
    return x_min, y_min, x_max, y_max
