"""Apply a fitted projection to another slide."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._progress import stage
from sphisto._settings import logger
from sphisto.features.sources import require_same, sources_of
from sphisto.io.paths import store_path
from sphisto.io.sections import as_section
from sphisto.io.slides import make_slide
from sphisto.io.store import write as building
from sphisto.io.store.tables import require_free_key
from sphisto.io.understood import Section
from sphisto.predict.sections import LEAST_SHARED, frame_in, require_same_section
from sphisto.predict.tiles import device_of
from sphisto.tl._cluster import check_client
from sphisto.tl._fit_sections import SAME_DETAIL, check_scaling, refuse_registered
from sphisto.tl._save import as_fitted
from sphisto.tl._write import Output, write_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from distributed import Client
    from spatialdata import SpatialData

    from sphisto.features.shared import Scaling
    from sphisto.features.source import FeatureSource
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide


def predict(
    fitted: Fitted | str | Path,
    data: Section | AnnData | SpatialData | str | Path,
    *,
    store: str | Path,
    image: Any = None,
    library_id: str | None = None,
    features: str | FeatureSource | Sequence[FeatureSource] = "texture",
    scaling: Scaling | None = None,
    device: str | None = None,
    client: Client | None = None,
    key_added: str = "projection",
    resume: bool = False,
) -> None:
    """Write the rasters of a slide under a fitted projection, without training.

    With spots, their counts are co-kriged as in the fit, and the skill of genes is that at these spots. Without, the image alone decides: of a
    projection of several sections by what these teach about places that look alike, of a projection of one by little.
    Composition and relative levels are what such a prediction means; absolute levels are those of the usual section. Where
    the image looks like none of the sections, deviations are widened, with a warning.

    Genes of the projection that the slide lacks are predicted from the others; how many is logged.

    A section of a projection of several is predicted from its own spots and what the others teach. One that was not among
    them is added without fitting the others again: its own spots decide its levels, and how far the others are followed.

    Parameters
    ----------
    fitted
        What :func:`sphisto.tl.load` returned, or the path of the model's file.
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
    scaling
        Of a projection of several sections, how features of this one are standardised: ``"section"``, by itself, where the
        tissue is made up alike and the stain may differ: what is usual in the image is taken for what is usual in the
        others, so that a section of other make-up is shown as if it had theirs; ``"pooled"``, as in all sections of the
        fit, where the make-up may differ and the stain does not. It must be stated for an image without spots; default
        with spots: as in the fit. With a projection of one section it is refused.
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
        If a section of the projection's has its name and other counts, the slide shares too few genes with the model, its
        spots have another size or shape, its values are no counts and those of the fit were, the scale of an image is
        missing, or its pixels differ by more than half from those of the fit (beyond a quarter a warning), the sources of
        features are others, ``scaling`` is given with a projection of one section, or the input
        cannot be right.
    TypeError
        If ``fitted`` is neither a projection nor a path.

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
    fitted = as_fitted(fitted)
    require_same(sources, fitted.features)
    if scaling is not None:
        _check_scaling(scaling, fitted)
    if client is None:
        device_of(device)  # refused before anything is read
    path = store_path(store)
    with stage("read"):
        section = as_section(data, image=image, library_id=library_id)
    logger.info("%r", section)
    _refuse_other_spots(section, fitted)
    _refuse_other_values(section, fitted)
    if fitted.regressions and section.measured is None and scaling is None:
        msg = (
            "Found scaling=None for an image without spots, and a projection of several sections; expected 'section' "
            "(the same tissue, perhaps stained otherwise: features are standardised in the image by itself) or 'pooled' "
            "(the tissue's make-up may differ: as in all sections of the fit)."
        )
        raise ValueError(msg)
    if not fitted.regressions:
        refuse_registered(section)
    frame = frame_in(fitted, section.library_id, section.registration) if fitted.regressions else None
    own = fitted.sections.get(section.library_id)
    building.check_target(path, section.library_id, key_added)
    with stage("image and tissue"):
        slide = make_slide(section, um_per_px=fitted.um_per_px, spot=fitted.spot if own is None else own.spot)
    _check_scale(slide, fitted)
    if section.adata is None:
        section = replace(section, adata=_empty_table(fitted))
    else:
        require_free_key(section.table, key_added)
        slide = _with_model_genes(slide, fitted)
    slide = replace(slide, frame=frame)
    if own is not None:
        require_same_section(own, slide)
    output = Output(path, device, client, resume, started)
    write_section(fitted, section, slide, sources, output, key=key_added, model=None, scaling=scaling)


def _check_scale(slide: Slide, fitted: Fitted) -> None:
    """Refuse pixels of another size than those of the fit, by which texture and network see another magnification; warn of some."""
    most_apart = 1.5  # ratio of um per px that averaging whole blocks of pixels can leave
    here, there = slide.grid.um_per_px, fitted.um_per_px
    apart = max(here / there, there / here)
    if apart > most_apart:
        msg = (
            f"Found {here:.3g} um per px of {slide.name!r}, the nearest to the {there:.3g} of the projection that its image has; "
            f"expected about the same. Give an image of {there:.3g} um per px or finer, or check `image_um_per_px`."
        )
        raise ValueError(msg)
    if apart > SAME_DETAIL:
        logger.warning(
            "%s is predicted at %.3g um per px, the nearest to the %.3g of the projection that its image has: what the network and "
            "the texture know of the tissue is of another magnification. An `image` of %.3g um per px, or much finer, avoids that.",
            slide.name, here, there, there,
        )  # fmt: skip


def _check_scaling(scaling: Scaling, fitted: Fitted) -> None:
    check_scaling(scaling)
    if not fitted.regressions:
        msg = (
            f"Found scaling={scaling!r} and a projection of one section, which teaches others nothing; expected no `scaling`. "
            "Leave it out, or fit a list of sections, also of one, that others are to be predicted by."
        )
        raise ValueError(msg)


def _refuse_other_spots(section: Section, fitted: Fitted) -> None:
    """Raise for spots of another size or shape than the model's: its factors are counts per area of one of its spots."""
    same_size = 0.02  # relative
    spot = section.spot
    if fitted.regressions:  # of several sections, each of its own depth, levels per area of its own spots are learned
        return
    if spot is not None and (spot.shape != fitted.spot.shape or abs(spot.um / fitted.spot.um - 1) > same_size):
        msg = (
            f"Found spots of {spot.um:.4g} um ({spot.shape}); expected those of the model, {fitted.spot.um:.4g} um "
            f"({fitted.spot.shape}): its maps are in counts per area of such a spot. If the section's really are of that "
            f"size, say so: `sphisto.io.section(data, spot_um={fitted.spot.um:.4g}, spot_shape={fitted.spot.shape!r})`; "
            "else fit a model to this section."
        )
        raise ValueError(msg)


def _refuse_other_values(section: Section, fitted: Fitted) -> None:
    """Raise for values that are no counts under a model of counts, or the other way round: they are of another scale."""
    if section.measured is not None and section.measured.is_counts != fitted.is_counts:
        kinds = ("values that are no counts", "raw counts")
        msg = (
            f"Found {kinds[section.measured.is_counts]} of {section.library_id!r}; expected {kinds[fitted.is_counts]}, which "
            "the projection was fitted to. Give the `layer` that holds them to `sphisto.io.section`."
        )
        raise ValueError(msg)


def _with_model_genes(slide: Slide, fitted: Fitted) -> Slide:
    """Keep the values of the model's genes, in its order; log those that the slide lacks: they are predicted from the others."""
    spots = slide.spots
    shared = np.isin(fitted.model.genes, spots.genes)
    weight = np.nan_to_num(fitted.model.loadings) @ fitted.mean
    share = weight[shared].sum() / weight.sum()
    if share < LEAST_SHARED:
        msg = (
            f"The slide has {shared.sum()} of the model's {len(shared)} genes, which carry {share:.0%} of its counts; "
            f"expected at least {LEAST_SHARED:.0%}. Are the gene names of the same kind (symbols or ids) and species?"
        )
        raise ValueError(msg)
    if not shared.all():
        logger.info(
            "%s lacks %d of the %d genes of the projection, which carry %.1f %% of its counts; they are predicted "
            "from the others.", slide.name, (~shared).sum(), len(shared), 100 * (1 - share),
        )  # fmt: skip
    genes = [gene for gene, has in zip(fitted.model.genes, shared, strict=True) if has]
    return replace(slide, measured=spots.of(genes))


def _empty_table(fitted: Fitted) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    return AnnData(
        X=sparse.csr_matrix((0, len(fitted.model.genes)), dtype=np.float32),
        var=pd.DataFrame(index=list(fitted.model.genes)),
    )
