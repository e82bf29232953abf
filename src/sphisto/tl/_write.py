"""Write what a fitted projection predicts of one section, without training."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sphisto import __version__, _keys
from sphisto._progress import stage
from sphisto._terminal import print_line
from sphisto.io.store import write as building
from sphisto.io.store.space import check_space
from sphisto.io.store.transaction import replacing
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.sections import shift_map
from sphisto.slide.fingerprint import fingerprint, fingerprint_of_slide
from sphisto.tl._project import annotate, record_of, stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributed import Client

    from sphisto.features.shared import Scaling
    from sphisto.features.source import FeatureSource
    from sphisto.field.posterior import Posterior
    from sphisto.io.understood import Section
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide

PREPARED = "slide"  # in the journal: image and table are written


def digest_of(fitted: Fitted) -> str:
    """Short digest of a fitted projection, which differs from that of every other one."""
    weights = [value.cpu().numpy() for value in fitted.weights.values()]
    levels = [own.levels for own in fitted.sections.values()]
    model = fitted.model
    return fingerprint(
        [*weights, model.genes, model.names, model.loadings, fitted.mean, fitted.genes, fitted.config, *levels]
    )


@dataclass(frozen=True, eq=False)
class Output:
    """Where rasters are written, and by what."""

    store: Path
    device: str | None  # on which tiles are computed, as of :func:`sphisto.tl.fit_projection`
    client: Client | None  # whose workers compute them; None: here
    resume: bool  # whether to go on with what an interrupted run left
    started: float  # when the work began, by the performance counter


def write_section(
    fitted: Fitted,
    section: Section,
    slide: Slide,
    sources: Sequence[FeatureSource],
    output: Output,
    *,
    key: str,
    model: Path | None,
    scaling: Scaling | None = None,
    posterior: Posterior | None = None,
    joint: str | None = None,
) -> None:
    """Predict a section and write its rasters into a store, and what describes them into its table.

    ``slide`` is at the projection's resolution and of its genes. ``model`` is the file in which the projection is kept,
    ``None`` where its user knows. Of a section of the fit ``posterior`` is given all its spots; ``joint`` is what the
    projections of sections share that were fitted together: who fitted them holds the store's lock for all.
    """
    path = output.store
    call = {
        "version": __version__, "format": _keys.FORMAT, "key": key, "slide": fingerprint_of_slide(slide),
        "model": digest_of(fitted),
        "features": fitted.features,
        **({} if scaling is None else {"scaling": scaling}),
    }  # fmt: skip
    with replacing(path, call=call, resume=output.resume, held=joint is not None) as work:
        check_space(work.staging, slide, fitted.model.n_factors + 2 * len(fitted.genes) + 3)
        if PREPARED not in work.journal:
            if posterior is None:  # a fit checked all tables before its training
                building.check_table(path, slide, section.table, key)
            with stage("write image"):
                building.write_slide(work.staging, slide, key, joint, fitted.params.get("fit"))
            work.journal.note(PREPARED)
        if not isinstance(slide.image, np.ndarray):
            slide = replace(slide, image=building.stored_image(work.staging, slide))  # a file is decoded once
        prepared = time.perf_counter()
        if posterior is None:
            with stage("field"):
                fitted, posterior = posterior_for(fitted, slide, sources, scaling)
        elif slide.name in fitted.sections:
            fitted = fitted.of_section(slide.name)
        spots = stream(fitted, slide, posterior, work, key, output.device, output.client)
        drift = None if slide.name in fitted.sections else getattr(posterior.solution, "drift", None)
        if drift is not None:
            with stage("how far places are from what is known"):
                building.write_shift(work.staging, slide, key, *shift_map(slide, drift))
        seconds = {"prepare": prepared - output.started, "write": time.perf_counter() - prepared}
        with stage("write table"):
            annotate(section, fitted, spots, key, record_of(fitted, slide, section, path, model, seconds))
            building.write_table(work.staging, path, slide, section.table, key)
            building.finish(work.staging)
    print_line(f"Projection {key!r} of {slide.name!r} written to {path}")  # the user must find it
