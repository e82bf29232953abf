"""Lay a section upon another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._naming import naming
from sphisto._settings import logger
from sphisto.core.splits import evenly_spread
from sphisto.io.registration import (
    map_of,
    own_system,
    require_free_system,
    require_other_system,
    write_transformations,
)
from sphisto.io.sections import as_section
from sphisto.io.store.tables import require_own
from sphisto.slide.config import RegistrationConfig
from sphisto.slide.poses import agreement_at_spots, moved
from sphisto.slide.registration import Placed, Registration, doubts, place

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from sphisto.io.understood import Section
    from sphisto.slide.poses import AtSpots, Model

    Floats = NDArray[np.float64]

_SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])  # (x, y, 1) and (y, x, 1)
_CELL_UM = 100.0  # bins are summed over squares of that side: one alone holds too few counts


def register(
    moving: Section | AnnData | SpatialData | str | Path,
    fixed: Section | AnnData | SpatialData | str | Path,
    *,
    model: Model = "rigid",
    landmarks: tuple[ArrayLike, ArrayLike] | None = None,
    allow_reflection: bool = False,
    key_added: str = "registration",
) -> Registration:
    """Lay a section upon another, by outline and stain of the tissue or by landmarks; no image is resampled.

    A wrong registration harms whatever is carried over by it, without any sign, so that each is judged: outlines must
    overlap, no other place may fit nearly as well (turned, or mirrored as a section that was put on the slide upside
    down), and where both sections have spots, expression must agree better than two pitches away. What is not trusted
    has weight 0 and is warned of if both sections have spots, and is refused if not: nothing else could show the error.

    Parameters
    ----------
    moving
        The section that moves: AnnData in the Visium layout, SpatialData, the folder of a Space Ranger run, or a
        :class:`sphisto.io.Section`, also of an image alone.
    fixed
        The section it is laid upon, of the same kinds.
    model
        ``"rigid"``: turned and shifted; ``"affine"``: also stretched and sheared, by at most a fifth. Sections are cut
        one by one, so that affine fits outlines better and is no nearer to the truth where the tissue was torn.
    landmarks
        Two (n, 2) arrays of x, y in full-resolution px, of the same n points in ``moving`` and in ``fixed``: at least two for
        ``"rigid"``, three for ``"affine"`` or a reflection. They then decide, and are judged as the rest.
    allow_reflection
        Whether the section may be mirrored. Set it if one of them was put on the slide upside down.
    key_added
        Entry of ``uns`` to write.

    Returns
    -------
    :class:`Registration`: matrix between full-resolution px, figures of merit, weight, and why.

    Writes
    ------
    ``adata.uns[key_added]`` : the same as plain values, where ``moving`` has a table;
    :meth:`Registration.from_dict` reads them.
    SpatialData : a trusted registration is a transformation of all elements of the moving section to the coordinate system
    named after the fixed section, in memory and in the zarr store it was read from; those of ``fixed`` get theirs.

    Raises
    ------
    ValueError
        If the registration is not trusted and a section has no spots; if the two have one name, no tissue, or landmarks
        are too few or not pairs; if ``uns[key_added]`` holds the registration of another section of the table, or elements of
        a SpatialData lie in the coordinate system of the fixed section's name already, elsewhere.

    Examples
    --------
    >>> import sphisto as sp
    >>> first = sp.datasets.toy(192, 192, pitch_um=24)
    >>> second = first.copy()
    >>> second.uns["spatial"] = {"second": second.uns["spatial"].pop("toy")}
    >>> registration = sp.pp.register(second, first)
    >>> registration.trusted, round(abs(registration.turn))
    (True, 0)
    """
    config = RegistrationConfig()
    with naming("the moving section"):
        mover = as_section(moving)
    with naming("the fixed section"):
        target = as_section(fixed)
    if mover.library_id == target.library_id:
        msg = (
            f"Found two sections of the name {mover.library_id!r}; expected two names, by which their "
            "coordinate systems are called. Rename the library of one in `uns['spatial']`; of an image alone give `library_id`."
        )
        raise ValueError(msg)
    if model not in ("rigid", "affine"):
        msg = f"Found model={model!r}; expected 'rigid' or 'affine'."
        raise ValueError(msg)
    marks = None if landmarks is None else _landmarks(landmarks, model, allow_reflection, mover, target)
    is_again = mover.adata is not None and _was_registered(mover, target, key_added)
    others = (target.library_id, mover.library_id)
    systems = [
        None if of.sdata is None else (of.sdata, own_system(of, other))
        for of, other in zip((mover, target), others, strict=True)
    ]
    if systems[0] is not None:
        require_other_system(systems[0][1], target.library_id)
    # from the fixed section's full-resolution px to the coordinate system that bears its name
    frame: NDArray[Any] = np.eye(3)
    if systems[1] is not None:
        if systems[1][1][0] == target.library_id:
            frame = np.linalg.inv(systems[1][1][1])
        require_free_system(*systems[1], frame, target.library_id, _sides(target))
    with naming(mover.library_id):
        moving_map = map_of(mover)
    with naming(target.library_id):
        fixed_map = map_of(target)
    placed = place(moving_map, fixed_map, model, marks, allow_reflection=allow_reflection, config=config)
    at_spots = _at_spots(mover, target, placed, config)
    against = doubts(placed, at_spots, config)
    found = _registration(mover, target, model, placed, at_spots, against, config)
    if systems[0] is not None and not against and not is_again:
        require_free_system(*systems[0], frame @ found.matrix, target.library_id, _sides(mover))
    if mover.adata is not None:  # first: a store that cannot be written leaves what is in memory complete
        mover.adata.uns[key_added] = found.as_dict()
    if against:
        _tell(found, at_spots)
    else:
        for system, matrix in zip(systems, (frame @ found.matrix, frame), strict=True):
            if system is not None:
                write_transformations(*system, matrix, target.library_id)
    return found


def _sides(section: Section) -> tuple[float, float]:
    """(height, width) of a section's image in full-resolution px."""
    height, width = np.array(section.grid.shape) * section.grid.fullres_per_px
    return float(height), float(width)


def _was_registered(moving: Section, fixed: Section, key: str) -> bool:
    """Whether the table records that this section was laid upon that one; refuse an entry that is another's."""
    uns = moving.table.uns
    there = uns.get(key)
    require_own(uns, key, _is_registration(there), where="uns", remedy="Give another `key_added`.")
    if _is_registration(there) and there["moving"] != moving.library_id:
        msg = (
            f"Found the registration of {there['moving']!r} in uns[{key!r}] of the table that holds {moving.library_id!r}, too; "
            f"expected it free, or of this section. Give another `key_added`, such as '{key}_{moving.library_id}'."
        )
        raise ValueError(msg)
    pair = (moving.library_id, fixed.library_id)
    return any((entry["moving"], entry["fixed"]) == pair for entry in uns.values() if _is_registration(entry))


def _is_registration(entry: Any) -> bool:
    return isinstance(entry, Mapping) and {"matrix", "moving", "fixed"} <= set(entry)


def _um(section: Section) -> float:
    return section.grid.fullres_um_per_px


def _landmarks(
    landmarks: Any, model: Model, allow_reflection: bool, moving: Section, fixed: Section
) -> tuple[Floats, Floats]:
    """Landmarks (n, 2) of both sections as y, x in um."""
    arrays = _pair(landmarks)
    least = 3 if model == "affine" or allow_reflection else 2
    if len(arrays[0]) < least or min(map(_rank, arrays)) < least - 1:
        msg = (
            f"Found {len(arrays[0])} landmarks; expected at least {least} that differ"
            f"{' and lie on no line' if least == 3 else ''}, for model={model!r}, allow_reflection={allow_reflection}."
        )
        raise ValueError(msg)
    return arrays[0][:, ::-1] * _um(moving), arrays[1][:, ::-1] * _um(fixed)


def _pair(landmarks: Any) -> list[Floats]:
    """Return landmarks as two (n, 2) arrays of finite numbers."""
    found = f"type {type(landmarks).__name__}"
    try:
        arrays = (
            [] if isinstance(landmarks, Mapping) else [np.asarray(points, dtype=np.float64) for points in landmarks]
        )
    except (TypeError, ValueError):  # a number, points of unlike length, or no numbers
        arrays, found = [], f"{found} that holds no arrays of numbers"
    alike = len(arrays) == 2 and arrays[0].shape == arrays[1].shape and arrays[0].ndim == 2 and arrays[0].shape[1] == 2
    if alike and all(np.isfinite(points).all() for points in arrays):
        return arrays
    if arrays:
        found = " and ".join(str(points.shape) for points in arrays) + (", some NaN or infinite" if alike else "")
    msg = (
        f"Found landmarks of {found}; expected two (n, 2) arrays of finite x, y in full-resolution px, of the same n points. Give "
        "`landmarks=(points_of_moving, points_of_fixed)`."
    )
    raise ValueError(msg)


def _rank(points: Floats) -> int:
    """Dimensions in which (n, 2) points, one at least, differ."""
    return int(np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6 * np.ptp(points) + 1e-12))


def _registration(
    moving: Section,
    fixed: Section,
    model: Model,
    placed: Placed,
    at_spots: AtSpots | None,
    against: list[str],
    config: RegistrationConfig,
) -> Registration:
    um = _um(moving), _um(fixed)
    matrix = np.diag([1 / um[1], 1 / um[1], 1]) @ _SWAP @ placed.pose @ _SWAP @ np.diag([um[0], um[0], 1])
    by = "outlines, stain and expression agree" if at_spots else "outlines and stain agree"
    return Registration(
        moving=moving.library_id,
        fixed=fixed.library_id,
        matrix=matrix,
        um_per_px=um,
        model=model,
        by_landmarks=placed.by_landmarks,
        overlap=placed.fit.overlap,
        stain=placed.fit.stain,
        margin=placed.margin(config),
        off_um=placed.off_um,
        agreement=at_spots.agreement if at_spots else float("nan"),
        elsewhere=at_spots.elsewhere if at_spots else float("nan"),
        weight=0.0 if against else 1.0,
        why="; ".join(against) or by,
    )


def _tell(found: Registration, at_spots: AtSpots | None) -> None:
    """Warn of a registration that is not trusted, or refuse it where no spots could show that it is wrong."""
    mirrored = "" if found.reflected or "mirrored" not in found.why else " `allow_reflection=True`,"
    if at_spots is None:
        msg = (
            f"The registration of {found.moving!r} to {found.fixed!r} cannot be trusted: {found.why}. It is refused, as there are "
            f"no spots in both sections, with genes in common, that could show an error. Give{mirrored} `landmarks`, or the masks "
            "of the tissue that both sections show by `tissue` to `sphisto.io.section`; or leave these sections unregistered."
        )
        raise ValueError(msg)
    logger.warning(
        "The registration of %r to %r is not trusted and has weight 0: %s. Give%s `landmarks`, or the masks of the tissue that "
        "both sections show by `tissue` to `sphisto.io.section`; or leave these sections unregistered.",
        found.moving, found.fixed, found.why, mirrored,
    )  # fmt: skip


def _at_spots(moving: Section, fixed: Section, placed: Placed, config: RegistrationConfig) -> AtSpots | None:
    """Compare expression at spots; ``None`` if a section has none, or the two measured hardly a gene in common."""
    if moving.measured is None or fixed.measured is None:
        return None
    common = sorted(set(moving.measured.genes) & set(fixed.measured.genes))
    if len(common) < 2:
        return None
    spots = [_spots(section, common) for section in (moving, fixed)]
    counts = sum(np.asarray(values.sum(axis=0)).ravel() / max(values.sum(), 1) for _, values in spots)
    top = np.sort(np.argsort(-counts)[: config.expression_genes])
    (places, first), (others, second) = ((xy, _lognorm(values, top)) for xy, values in spots)
    pitch = max(_CELL_UM, *(section.measured.pitch * _um(section) for section in (moving, fixed) if section.measured))
    return agreement_at_spots((moved(placed.pose, places), first), (others, second), pitch, config)


def _spots(section: Section, genes: list[str]) -> tuple[Floats, sparse.csr_array]:
    """(n, 2) places y, x in um and (n, G) values of a section's spots; of bins in squares that hold as many counts."""
    most_spots = 2_000  # evenly chosen: enough for a mean over spots
    measured = section.measured
    assert measured is not None
    values = measured.of(genes).values
    places = measured.centers * _um(section)
    if measured.pitch * _um(section) < 0.75 * _CELL_UM:
        cells = np.floor(places / _CELL_UM).astype(np.int64)
        _, cell, size = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
        cell = cell.ravel()
        sums = sparse.csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(len(size), len(cell)))
        places, values = (sums @ places) / size[:, None], sums @ values
    counted = np.flatnonzero(np.asarray(values.sum(axis=1)).ravel() > 0)
    chosen = counted[evenly_spread(len(counted), most_spots)]
    return places[chosen], values[chosen]


def _lognorm(values: sparse.csr_array, genes: NDArray[np.intp]) -> Floats:
    """(n, G) log-normalised counts of some genes, scaled to the median total of the spots."""
    total = np.asarray(values.sum(axis=1)).ravel()
    median = float(np.median(total[total > 0])) if (total > 0).any() else 1.0
    found: Floats = np.log1p(values[:, genes].toarray() * (median / np.maximum(total, 1e-12))[:, None])
    return found
