"""Apply a fitted projection to another slide."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto import __version__, _keys
from sphisto._progress import stage
from sphisto._terminal import print_line
from sphisto.features.sources import require_same, sources_of
from sphisto.io.paths import store_path
from sphisto.io.sections import Section, as_section
from sphisto.io.slides import make_slide
from sphisto.io.store import write as building
from sphisto.io.store.space import check_space
from sphisto.io.store.tables import require_free_key
from sphisto.io.store.transaction import replacing
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.fitted import Fitted
from sphisto.predict.tiles import device_of
from sphisto.slide.fingerprint import fingerprint, fingerprint_of_slide
from sphisto.tl._cluster import check_client
from sphisto.tl._project import annotate, record_of, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from distributed import Client
    from spatialdata import SpatialData

    from sphisto.features.source import FeatureSource
    from sphisto.slide.slide import Slide

logger = logging.getLogger("sphisto")

_PREPARED = "slide"  # in the journal
_SAME_SIZE = 0.02  # relative
_LEAST_SHARED = 0.5  # of the model's counts; with fewer genes in common a spot does not determine its factors


def predict(
    fitted: Fitted,
    data: Section | AnnData | SpatialData | str | Path,
    *,
    store: str | Path,
    image: Any = None,
    library_id: str | None = None,
    features: str | FeatureSource | Sequence[FeatureSource] = "texture",
    device: str | None = None,
    client: Client | None = None,
    key_added: str = "projection",
    resume: bool = False,
) -> None:
    """Write the rasters of a slide under a fitted projection, without training.

    With spots, the slide's own spots speak for their surroundings as in the fit. Without, the image alone decides;
    expect less of it: most of what is known between spots comes from the spots around.

    Parameters
    ----------
    fitted
        What :func:`sphisto.tl.load` returned.
    data
        AnnData, SpatialData or the folder of a Space Ranger run, as in :func:`sphisto.tl.fit_projection`; or a
        :class:`sphisto.io.Section`, which an image alone needs to state its scale:
        ``sphisto.io.section("other.tif", image_um_per_px=0.5)``. Spots must be of the model's size and shape.
    store
        Folder of the SpatialData zarr store to write.
    image, library_id, device, key_added
        As in :func:`sphisto.tl.fit_projection`.
    features
        The sources that the projection was fitted with, as in :func:`sphisto.tl.fit_projection`; others are refused.
    client
        As in :func:`sphisto.tl.fit_projection`; ``device`` then is one of the workers'.
    resume
        Go on with the regions (2,048 px wide) that an interrupted run of the same call had not written yet.

    Returns
    -------
    ``None``.

    Writes
    ------
    The store
        As :func:`sphisto.tl.fit_projection` does; its table has no spots for an image alone.
    `adata.uns`, `adata.varm`, `adata.obsm`
        As :func:`sphisto.tl.fit_projection`, if there are spots.

    Raises
    ------
    ValueError
        If the slide shares too few genes with the model, its spots have another size or shape, the scale of an image is
        missing, the sources of features are others, or the input cannot be right.

    Examples
    --------
    >>> import sphisto as sp
    >>> fitted = sp.tl.load("toy.projection.pt")  # doctest: +SKIP
    >>> other = sp.io.section("other.tif", image_um_per_px=0.5)  # doctest: +SKIP
    >>> sp.tl.predict(fitted, other, store="other.zarr")  # doctest: +SKIP
    """
    started = time.perf_counter()
    check_client(client)
    sources = sources_of(features)
    require_same(sources, fitted.features)
    if client is None:
        device_of(device)  # refused before anything is read
    path = store_path(store)
    with stage("read"):
        section = as_section(data, image=image, library_id=library_id)
    logger.info("%r", section)
    _refuse_other_spots(section, fitted)
    with stage("image and tissue"):
        slide = make_slide(section, um_per_px=fitted.um_per_px, spot=fitted.spot)
    if section.adata is None:
        section = replace(section, adata=_empty_table(fitted))
    else:
        require_free_key(section.table, key_added)
        slide = _with_model_genes(slide, fitted)
    building.check_target(path, slide.name, key_added)
    weights = [value.cpu().numpy() for value in fitted.weights.values()]
    call = {
        "version": __version__, "format": _keys.FORMAT, "key": key_added, "slide": fingerprint_of_slide(slide),
        "model": fingerprint([*weights, fitted.model.genes, fitted.model.loadings, fitted.mean, fitted.genes, fitted.config]),
        "features": fitted.features,
    }  # fmt: skip
    with replacing(path, call=call, resume=resume) as work:
        check_space(work.staging, slide, fitted.model.n_factors + 2 * len(fitted.genes) + 3)
        if _PREPARED not in work.journal:
            with stage("write image"):
                building.write_slide(work.staging, slide, key_added)
            work.journal.note(_PREPARED)
        if not isinstance(slide.image, np.ndarray):
            slide = replace(slide, image=building.stored_image(work.staging, slide))  # a file is decoded once
        prepared = time.perf_counter()
        with stage("field"):
            posterior = posterior_for(fitted, slide, sources)
        spots = stream(fitted, slide, posterior, work, key_added, device, client)
        seconds = {"prepare": prepared - started, "write": time.perf_counter() - prepared}
        with stage("write table"):
            annotate(section, fitted, spots, key_added, record_of(fitted, slide, section, path, None, seconds))
            building.write_table(work.staging, path, slide, section.table, key_added)
            building.finish(work.staging)
    print_line(f"Projection {key_added!r} of {slide.name!r} written to {path}")  # the user must find it


def _refuse_other_spots(section: Section, fitted: Fitted) -> None:
    """Raise for spots of another size or shape than the model's: its factors are counts per area of one of its spots."""
    spot = section.spot
    if spot is not None and (spot.shape != fitted.spot.shape or abs(spot.um / fitted.spot.um - 1) > _SAME_SIZE):
        msg = (
            f"Found spots of {spot.um:.4g} um ({spot.shape}); expected those of the model, {fitted.spot.um:.4g} um "
            f"({fitted.spot.shape}): its maps are in counts per area of such a spot. If the section's really are of that "
            f"size, say so: `sphisto.io.section(data, spot_um={fitted.spot.um:.4g}, spot_shape={fitted.spot.shape!r})`; "
            "else fit a model to this section."
        )
        raise ValueError(msg)


def _with_model_genes(slide: Slide, fitted: Fitted) -> Slide:
    """Bring the values into the model's gene order; genes the slide lacks count as not measured: zero."""
    spots = slide.spots
    position = {gene: i for i, gene in enumerate(spots.genes)}
    shared = np.array([gene in position for gene in fitted.model.genes])
    weight = np.nan_to_num(fitted.model.loadings) @ fitted.mean
    share = weight[shared].sum() / weight.sum()
    if share < _LEAST_SHARED:
        msg = (
            f"The slide has {shared.sum()} of the model's {len(shared)} genes, which carry {share:.0%} of its counts; "
            f"expected at least {_LEAST_SHARED:.0%}. Are the gene names of the same kind (symbols or ids) and species?"
        )
        raise ValueError(msg)
    columns = [position[gene] for gene, has in zip(fitted.model.genes, shared, strict=True) if has]
    place = sparse.csr_array(
        (np.ones(len(columns), dtype=np.float32), (np.arange(len(columns)), np.flatnonzero(shared))),
        shape=(len(columns), len(shared)),
    )
    values = sparse.csr_array(spots.values[:, columns] @ place)
    return replace(slide, measured=replace(spots, values=values, genes=fitted.model.genes, others=None))


def _empty_table(fitted: Fitted) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    return AnnData(
        X=sparse.csr_matrix((0, len(fitted.model.genes)), dtype=np.float32),
        var=pd.DataFrame(index=list(fitted.model.genes)),
    )
