"""Sections as they are registered: their coarse maps, and what is written of a registration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.core.grid import SAME_PLACE_PX
from sphisto.core.spot import Spot
from sphisto.io.elements import matrix_to
from sphisto.io.slides import make_slide
from sphisto.io.spatialdata_regions import BINS, annotated_regions, rows_of
from sphisto.io.store.lock import locked
from sphisto.slide.config import RegistrationConfig
from sphisto.slide.poses import TissueMap, tissue_map

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.io.understood import Section
    from sphisto.slide.slide import Slide


def map_of(section: Section, config: RegistrationConfig = RegistrationConfig()) -> TissueMap:
    """Make the coarse map of a section's image; spots play no part in it."""
    read_um = 20.0  # um per px at which tissue is found: its edges are known to a pixel of the map
    slide = _image_of(section, read_um)
    return tissue_map(np.asarray(slide.image), np.asarray(slide.tissue), slide.grid.um_per_px, config)


def image_and_tissue(
    section: Section, longest_side: int = 1000
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[float, float]]:
    """(y, x, 3) image of a section, small enough to be drawn, (y, x) tissue, and full-resolution px per px along y and x."""
    slide = _image_of(section, section.grid.um_per_px * max(section.grid.shape) / longest_side)
    return np.moveaxis(np.asarray(slide.image), 0, -1), np.asarray(slide.tissue), slide.grid.fullres_per_px


def _image_of(section: Section, um_per_px: float) -> Slide:
    """The image of a section and its tissue, without its spots, at a scale that is no finer than its own."""
    image_alone = replace(section, measured=None, spot=None, check=False)
    um = max(um_per_px, section.grid.um_per_px)
    return make_slide(image_alone, um_per_px=um, spot=Spot(um), repair=False)


def own_system(section: Section, last: str) -> tuple[str, NDArray[np.float64]]:
    """Name a coordinate system of its SpatialData in which a section lies, and the (3, 3) matrix to its full-resolution px.

    The system ``last``, to which it may have been brought by an earlier registration, is named if there is no other.
    That bears its name, or holds no spots of another section: where several share one, their elements cannot be distinguished.
    """
    sdata, measured = section.sdata, section.measured
    assert sdata is not None  # else there is none to write to
    assert measured is not None  # of a SpatialData there are spots
    regions = [
        (region, rows_of(table, region, sdata.shapes[region])[:2], table)
        for _, table, region in annotated_regions(sdata)
    ]
    tried: list[str] = []
    for region, (rows, shapes), table in regions:
        if table is not section.adata or not np.array_equal(rows, section.rows):
            continue
        others = {name for name, *_ in regions if BINS.sub("", name) != BINS.sub("", region)}
        taken = {system for name in others for system in _systems_of(sdata.shapes[name])}
        center = shapes.geometry.centroid
        xy = np.column_stack([center.x, center.y, np.ones(len(center))])
        fullres = measured.centers[:, ::-1]
        tried = sorted(
            _systems_of(sdata.shapes[region]), key=lambda system: (system == last, system != section.library_id, system)
        )
        for system in tried:
            there = xy @ matrix_to(sdata.shapes[region], system).T
            fit = np.linalg.lstsq(there, fullres, rcond=None)[0]
            right = np.abs(there @ fit - fullres).max() < SAME_PLACE_PX
            if right and (system == section.library_id or system not in taken):
                return system, np.vstack([fit.T, [0, 0, 1]])
    msg = (
        f"Found no coordinate system of the SpatialData that holds {section.library_id!r} alone and leads to its full-resolution "
        f"px ({', '.join(tried) or 'its spots are not those of an element'}); expected one, to write the registration to. "
        "Register its table (an AnnData) instead, or give the section's elements a system of their own "
        "(`spatialdata.transformations.set_transformation`)."
    )
    raise ValueError(msg)


def require_other_system(own: tuple[str, NDArray[np.float64]], system: str) -> None:
    """Refuse a moving section that lies in a coordinate system which is called as the fixed section; ``own`` is its own."""
    if own[0] == system:
        msg = (
            f"Found the moving section in a coordinate system {system!r}, which is the name of the fixed one; expected another. Rename it "
            f"(`sdata.rename_coordinate_systems({{{system!r}: 'moving'}})`)."
        )
        raise ValueError(msg)


def require_free_system(
    sdata: SpatialData,
    own: tuple[str, NDArray[np.float64]],
    matrix: NDArray[np.float64],
    system: str,
    sides: tuple[float, float],
) -> None:
    """Refuse elements of a section that lie in the ``system`` already, elsewhere than the ``matrix`` would lay them.

    Compared are the corners of its image, of (height, width) ``sides`` in full-resolution px. Other parameters as of
    :func:`write_transformations`.
    """
    name_of_own, to_fullres = own
    if name_of_own == system:
        return
    corners = np.array([(x, y, 1.0) for x in (0, sides[1]) for y in (0, sides[0])]).T
    for name, element in _elements_in(sdata, name_of_own).items():
        if system not in _systems_of(element):
            continue
        there = matrix_to(element, system) @ np.linalg.inv(to_fullres @ matrix_to(element, name_of_own))
        if np.abs((there - matrix) @ corners).max() > SAME_PLACE_PX:
            msg = (
                f"Found a transformation of {name!r} to {system!r} that is not this registration, and none like it in uns; it is left as it "
                f"is. Remove it (`spatialdata.transformations.remove_transformation(sdata[{name!r}], {system!r})`), or register the "
                "table (an AnnData) instead, which writes no transformations."
            )
            raise ValueError(msg)


def _elements_in(sdata: SpatialData, system: str) -> dict[str, Any]:
    """Elements that lie in a coordinate system, by name."""
    return {
        str(name): element
        for kind in ("images", "labels", "points", "shapes")
        for name, element in getattr(sdata, kind).items()
        if system in _systems_of(element)
    }


def _systems_of(element: Any) -> set[str]:
    from spatialdata.transformations import get_transformation

    return set(map(str, get_transformation(element, get_all=True)))


def write_transformations(
    sdata: SpatialData, own: tuple[str, NDArray[np.float64]], matrix: NDArray[np.float64], system: str
) -> None:
    """Give all elements that lie with a section a transformation to a further coordinate system.

    Where the SpatialData is that of a zarr store, their metadata there are written, too; no image is.

    ``own`` is what :func:`own_system` returned, ``matrix`` (3, 3) from x, y in the section's full-resolution px to the
    ``system``.
    """
    from spatialdata.transformations import Affine, Sequence, get_transformation, set_transformation

    name_of_own, to_fullres = own
    step = Affine(matrix @ to_fullres, ("x", "y"), ("x", "y"))
    written = _elements_in(sdata, name_of_own) if name_of_own != system else {}
    for element in written.values():
        set_transformation(element, Sequence([get_transformation(element, name_of_own), step]), system)
    if sdata.path is not None:
        on_disk = {path.rpartition("/")[2] for path in sdata.elements_paths_on_disk()}
        with locked(Path(sdata.path)):
            for name in written:
                if name in on_disk:
                    sdata.write_transformations(name)
