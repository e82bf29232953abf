"""Fit one projection to several sections and write the rasters of each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto import _keys
from sphisto._naming import naming
from sphisto._progress import stage
from sphisto._settings import logger
from sphisto.features.shared import SCALINGS
from sphisto.features.sources import require_sections
from sphisto.genes.model import require_genes
from sphisto.io.disk import full_disk, is_full, naming_full_disk
from sphisto.io.libraries import libraries_by
from sphisto.io.paths import beside
from sphisto.io.sections import as_section
from sphisto.io.slides import make_slide, um_per_px_for
from sphisto.io.store import read as stores
from sphisto.io.store import write as building
from sphisto.io.store.lock import locked
from sphisto.io.store.names import check_name
from sphisto.io.store.space import check_space
from sphisto.io.store.tables import flags, require_free_key
from sphisto.io.store.transaction import FREE_OR_ELSEWHERE, UNCHANGED
from sphisto.io.store.unfinished import note_unfinished, read_unfinished
from sphisto.predict.fitted import load_fitted, save_fitted
from sphisto.predict.sections import largest_spot, of_common_genes
from sphisto.predict.tiles import device_of
from sphisto.slide.fingerprint import fingerprint, fingerprint_of_slide
from sphisto.slide.frames import frames_of
from sphisto.tl._genes import default_genes, names_of
from sphisto.tl._project import annotate
from sphisto.tl._write import Output, digest_of, write_section
from sphisto.train.fit import fit_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from sphisto.features.shared import Scaling
    from sphisto.field.posterior import Posterior
    from sphisto.io.understood import Section
    from sphisto.slide.slide import Slide
    from sphisto.train.recipe import Recipe

SAME_DETAIL = 1.25
"""Ratio of um per px; beyond, textures are not of the same detail."""


def sections_of(data: Any, *, image: Any, library_id: Any, library_key: str | None) -> tuple[list[Section], bool]:
    """Return the section, or the several ones, that a call is about; and whether they are to teach, as a list is."""
    if isinstance(data, list | tuple):
        if library_id is not None or library_key is not None:
            msg = "Found several sections together with library_id= or library_key=; expected them in `sphisto.io.section(...)`."
            raise ValueError(msg)
        images, found = _one_for_each(image, len(data)), []
        for number, (one, own) in enumerate(zip(data, images, strict=True), 1):
            with naming(f"section {number} of {len(data)}"):
                found.append(as_section(one, image=own))
    elif library_key is not None or np.ndim(library_id) == 1:
        names = _libraries(data, library_id, library_key)
        if isinstance(library_id, str):
            return [as_section(data, image=image, library_id=library_id, library_key=library_key)], False
        images, found = _one_for_each(image, len(names)), []
        for name, own in zip(names, images, strict=True):
            with naming(name):
                found.append(as_section(data, image=own, library_id=name, library_key=library_key))
    else:
        section = as_section(data, image=image, library_id=library_id)
        refuse_registered(section)
        return [section], False
    if not found:
        msg = "Found an empty list of sections; expected at least one."
        raise ValueError(msg)
    for section in found:
        if section.measured is None:
            msg = (
                f"The section {section.library_id!r} is an image alone; expected counts of every section that is fitted. Fit "
                "the others, and predict this one with `sphisto.tl.predict`."
            )
            raise ValueError(msg)
        if not section.measured.is_counts:
            msg = (
                f"Found values of {section.library_id!r} that are no counts; sections can teach each other by raw counts "
                "alone. Give the `layer` that holds them to `sphisto.io.section`."
            )
            raise ValueError(msg)
    _refuse_one_name(found)
    return found, True


def _refuse_one_name(sections: Sequence[Section]) -> None:
    """Refuse sections that are called alike, but for case: SpatialData and some file systems take no such names."""
    folded = [section.library_id.casefold() for section in sections]
    alike = [section for section in sections if folded.count(section.library_id.casefold()) > 1]
    if alike:
        names = ", ".join(map(repr, sorted({section.library_id for section in alike})))
        where = "; ".join(section.about["layout"] for section in alike)
        msg = (
            f"Found several sections of the name {names} ({where}); expected a name for each: it names their elements in the store. "
            "Rename the library in `uns['spatial']`, or give `library_id` to `sphisto.io.section`."
        )
        raise ValueError(msg)


def _one_for_each(image: Any, n: int) -> Sequence[Any]:
    if image is None:
        return [None] * n
    if not isinstance(image, list | tuple) or len(image) != n:
        msg = f"Found image={type(image).__name__}; expected a list of {n}, one for each section, or none."
        raise ValueError(msg)
    return image


def _libraries(data: Any, library_id: Any, library_key: str | None) -> list[str]:
    if library_key is None:
        return [str(name) for name in library_id]
    obs = getattr(data, "obs", None)
    if obs is None:
        msg = (
            f"Found library_key={library_key!r} with a {type(data).__name__}; expected an AnnData, whose obs has that column. Name the "
            "sections of a SpatialData by `library_id=[...]`, and give those of folders in a list."
        )
        raise ValueError(msg)
    known = libraries_by(data, library_key)
    if library_id is None:
        return known
    asked = [library_id] if isinstance(library_id, str) else [str(name) for name in library_id]
    if missing := [name for name in asked if name not in known]:
        msg = f"Found no library {missing[0]!r} in obs[{library_key!r}]; it holds {', '.join(known)}."
        raise KeyError(msg)
    return asked


def copied(sections: Sequence[Section]) -> list[Section]:
    """Return the same sections with tables of their own; those of one table share its copy."""
    tables: dict[int, AnnData | None] = {}
    for section in sections:
        if id(section.adata) not in tables:
            tables[id(section.adata)] = section.copy().adata
    return [replace(section, adata=tables[id(section.adata)]) for section in sections]


def as_given(data: Any, tables: list[AnnData] | None) -> list[AnnData] | AnnData | None:
    """Return the tables of sections as the sections were given: in a list, or as one table that holds all of them."""
    several = isinstance(data, list | tuple) or tables is None or any(table is not tables[0] for table in tables)
    return tables if several or tables is None else tables[0]


def refuse_registered(section: Section) -> None:
    """Refuse a section that is laid upon another of which nothing is known."""
    if section.registration is not None:
        msg = (
            f"Found {section.library_id!r} registered to {section.registration.fixed!r}, of which nothing is known here; expected "
            "both, `sphisto.tl.fit_projection([a, b])`, or a projection that was fitted so. Or give the section without `registered`."
        )
        raise ValueError(msg)


def for_several(recipe: Recipe, scaling: Scaling, sections: Sequence[Section]) -> Recipe:
    """Return a recipe for sections that teach each other.

    Refuse a network that models single genes, as they share factors, and features that are those of one of them.
    """
    if recipe.spec.one_map_per_gene:
        msg = f"Found network={recipe.network!r} for several sections; expected one whose maps are factors, such as 'unet'."
        raise ValueError(msg)
    check_scaling(scaling)
    require_sections(recipe.sources, [section.library_id for section in sections])
    return replace(recipe, scaling=scaling)


def check_scaling(scaling: str) -> None:
    """Refuse an unknown way to standardise features."""
    if scaling not in SCALINGS:
        msg = f"Found scaling={scaling!r}; expected one of {', '.join(map(repr, SCALINGS))}."
        raise ValueError(msg)


def _refuse_one_name_for_two(sections: Sequence[Section], key_added: str) -> None:
    """Refuse sections of which one would name an element as another one does, such as ``a`` and ``a_sd``."""
    owner: dict[str, str] = {}
    for section in sections:
        name = section.library_id
        for element in (*_keys.of_library(name), *_keys.elements(_keys.of_section(key_added, name))):
            other = owner.setdefault(element.casefold(), name)
            if other != name:
                msg = (
                    f"Found sections {other!r} and {name!r}, both of which would name an element {element!r} of the store; "
                    "expected names that do not continue each other so. Give another `library_id` to `sphisto.io.section`."
                )
                raise ValueError(msg)


def fit_several(
    sections: list[Section],
    recipe: Recipe,
    output: Output,
    *,
    genes: str | Sequence[str] | None,
    um_per_px: float | None,
    key_added: str,
    copy: bool,
) -> list[AnnData] | None:
    """Fit several sections together and write each into the store; parameters as of :func:`sphisto.tl.fit_projection`."""
    path, resume = output.store, output.resume
    check_name(key_added, "key_added")
    together = [section.library_id for section in sections]
    for section in sections:
        key = _keys.of_section(key_added, section.library_id)
        with naming(section.library_id):
            require_free_key(section.table, key)
            building.check_target(path, section.library_id, key, joint=key_added, together=together)
    _refuse_one_name_for_two(sections, key_added)
    slides = comparable_slides(sections, um_per_px, recipe.config.train.longest_side)
    if len({slide.spot.area_px(1.0) for slide in slides}) > 1:
        spot = largest_spot(slides)
        logger.info(
            "Spots differ in area: a slide without spots will have counts per area of a %s of %g um.",
            spot.shape,
            spot.um,
        )
    if copy:
        sections = copied(sections)
    chosen = chosen_genes(genes, sections, slides)
    model = beside(path, key_added, "pt")
    checkpoint, draft, state = (beside(path, key_added, suffix) for suffix in ("ckpt", "fit.pt", "sections"))
    call = {
        **recipe.call(), "format": _keys.FORMAT, "key": key_added, "genes": fingerprint(chosen),
        "slides": [fingerprint_of_slide(slide) for slide in slides], "um_per_px": [f"{slide.grid.um_per_px:.3g}" for slide in slides],
    }  # fmt: skip
    with locked(path), locked(model):  # from before the training to the last section
        done = _begun(state, json.loads(json.dumps(call)), resume)
        if not resume:
            draft.unlink(missing_ok=True)
            checkpoint.unlink(missing_ok=True)
        posteriors: list[Posterior | None] = [None] * len(slides)
        if not draft.exists():
            try:
                for section, slide in zip(sections, slides, strict=True):
                    with naming(slide.name):
                        check_space(path, slide, recipe.most_maps + 2 * len(chosen) + 3)
                        building.check_table(path, slide, section.table, _keys.of_section(key_added, slide.name))
                fitted, posteriors[:] = fit_sections(
                    slides, recipe, genes=chosen, device=device_of(output.device), checkpoint=checkpoint,
                    resume=resume and checkpoint.exists(),
                )  # fmt: skip
                fitted = replace(fitted, params={**fitted.params, "fit": digest_of(fitted)})
                save_fitted(fitted, draft)
            except BaseException as error:
                if not (trained := checkpoint.exists()):  # there is nothing to go on from
                    state.unlink(missing_ok=True)
                if is_full(error):
                    also = "; the training is kept for resume=True" if trained else ""
                    raise full_disk(path, kept=UNCHANGED + also, mend=FREE_OR_ELSEWHERE) from error
                raise
        else:
            fitted = load_fitted(draft)
        for i, (section, slide) in enumerate(zip(sections, slides, strict=True)):
            key = _keys.of_section(key_added, slide.name)
            there = (stores.read_mark(path) or {}).get("keys", {}).get(key, {})
            if slide.name in done and there.get("fit", "") == fitted.params.get("fit"):
                logger.info("%s is written already.", slide.name)
                record = {**stores.record(path, key), "history": dict(fitted.history)}
                annotate(section, fitted.of_section(slide.name), stores.fitted(path, key), key, record)
                continue
            with naming(slide.name):
                write_section(
                    fitted, section, slide, recipe.sources, output,
                    key=key, model=model, posterior=posteriors[i], joint=key_added,
                )  # fmt: skip
            posteriors[i] = None  # the next section needs the memory
            done.append(slide.name)
            _note(state, call, done)
        draft.replace(model)
        state.unlink(missing_ok=True)
        checkpoint.unlink(missing_ok=True)
    return [section.adata for section in sections if section.adata is not None] if copy else None


def _begun(state: Path, call: dict[str, Any], resume: bool) -> list[str]:
    """Names of the sections that an interrupted run of the same call had written."""
    if not (resume and state.exists()):
        _note(state, call, [])
        return []
    left = read_unfinished(state)
    if left is None:
        msg = f"{state} is damaged, so that it is not known what the unfinished fit has written. Start again with resume=False."
        raise ValueError(msg)
    differing = sorted(name for name in call if left.call.get(name) != call[name])
    if differing:
        msg = (
            f"The unfinished fit beside {state} is of another call: {', '.join(differing)} differ. Call as before, or "
            "start again with resume=False."
        )
        raise ValueError(msg)
    return list(left.written)


def _note(state: Path, call: dict[str, Any], written: list[str]) -> None:
    with naming_full_disk(state, kept=UNCHANGED, mend=FREE_OR_ELSEWHERE):
        note_unfinished(state, call, written)


def comparable_slides(sections: Sequence[Section], um_per_px: float | None, longest_side: int | None) -> list[Slide]:
    """Return the slides of sections at one scale and of common genes; refuse those that cannot be compared."""
    frames = frames_of({section.library_id: section.registration for section in sections})
    own = (um_per_px_for(section, longest_side) for section in sections)
    common = max(own) if um_per_px is None else um_per_px  # that of the coarsest image
    with stage("images and tissue"):
        made = []
        for section in sections:
            with naming(section.library_id):
                made.append(make_slide(section, um_per_px=common))
        slides = of_common_genes(made)
    _refuse_other_scales(slides)
    return [replace(slide, frame=frames[slide.name]) for slide in slides]


def _refuse_other_scales(slides: Sequence[Slide]) -> None:
    """Refuse sections whose pixels differ in size even where images are averaged: the network sees pixels."""
    scales = {slide.name: slide.grid.um_per_px for slide in slides}
    finest, coarsest = min(scales, key=scales.__getitem__), max(scales, key=scales.__getitem__)
    if scales[coarsest] > SAME_DETAIL * scales[finest]:
        msg = (
            f"Found {scales[finest]:.3g} um per px of {finest!r} and {scales[coarsest]:.3g} of {coarsest!r}; expected about the "
            f"same, within {SAME_DETAIL - 1:.0%}. Give `um_per_px={scales[coarsest]:.3g}` or coarser, or images that have it."
        )
        raise ValueError(msg)


def chosen_genes(
    genes: str | Sequence[str] | None, sections: Sequence[Section], slides: Sequence[Slide]
) -> tuple[str, ...]:
    """Genes whose rasters are written: those asked for, markers that all sections have, or the most variable ones."""
    known = slides[0].spots.genes
    names = names_of(genes)
    for name in sorted(set(names).difference(known)):
        lacking = [section.library_id for section in sections if name not in section.table.var_names]
        if 0 < len(lacking) < len(sections):
            msg = (
                f"Found no gene {name!r} in {', '.join(map(repr, lacking))}; expected one that all sections have, as they share "
                "their genes. Leave it out, or leave these sections out."
            )
            raise KeyError(msg)
    require_genes(names, known, sections[0].table.var)
    if names:
        return names
    marked: list[str] = []
    for section in sections:
        found = flags(section.table.var, "marker", "var")
        if found is not None:
            marked += [str(name) for name in section.table.var_names[found]]
    there = set(known)
    values = [slide.spots.values for slide in slides]
    every = values[0] if len(values) == 1 else sparse.vstack(values, format="csr")  # which copies
    return default_genes(tuple(dict.fromkeys(name for name in marked if name in there)), every, known)


def describe(sections: Sequence[Section]) -> None:
    """Log what was understood of each section."""
    for section in sections:
        logger.info("%r", section)
