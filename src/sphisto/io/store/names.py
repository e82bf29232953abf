"""Which names of a store belong to whom, and which are free."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphisto import _keys
from sphisto._settings import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("images", "labels", "points", "shapes", "tables")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # also safe as part of a file's name on every system


def check_name(name: str, what: str) -> None:
    """Refuse a name that cannot be part of an element's or a file's."""
    longest = 100  # characters: file systems take 255 bytes, with what is added to a name
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > longest:
        shown = repr(name) if len(str(name)) <= longest else f"{str(name)[:20]!r}... of {len(name)} characters"
        msg = (
            f"Found {what}={shown}; expected 1 to {longest} letters (a to z), digits, `_`, `-` or `.`, the first a "
            "letter or digit: it names elements and files. Choose another name."
        )
        raise ValueError(msg)


def element_name(name: str) -> str:
    """Replace what names in a store may not hold (all but letters, digits, ``_``, ``-`` and ``.``), and say so."""
    clean = as_element(name)
    if clean != name:
        logger.info("The library is called %r in the store, because %r cannot name an element.", clean, name)
    return clean


def as_element(name: str) -> str:
    """Return a name as it can stand in a store; where it loses its first letters, a digest tells it from others.

    Else sections of names without any Latin letter would be called alike.
    """
    text = unicodedata.normalize("NFC", str(name))
    clean = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    kept = clean.lstrip("_.-")
    lost = text[: len(clean) - len(kept)]
    digest = f"_{hashlib.sha256(text.encode()).hexdigest()[:6]}" if any(each.isalnum() for each in lost) else ""
    return (kept or "library") + digest


def libraries_of(mark: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Table of each library, by the marks of a store."""
    first = {str(mark["library_id"]): {"table": _keys.TABLE}}
    return dict(mark.get("libraries", first))


def library_of(mark: dict[str, Any], key: str) -> str:
    """Library of a projection; the first of the store where there is no such projection."""
    return str(mark["keys"].get(key, {}).get("library_id", mark["library_id"]))


def table_of(mark: dict[str, Any] | None, library_id: str) -> str:
    """Name the table of a library: the first one's is ``table``."""
    known = {} if mark is None else libraries_of(mark)
    if library_id in known:
        return known[library_id]["table"]
    return _keys.library_table(library_id) if known else _keys.TABLE


def members_of(mark: dict[str, Any], joint: str) -> dict[str, str]:
    """Libraries of the projections that were fitted together under a name, in whatever case, by projection."""
    return {
        name: library_of(mark, name)
        for name, about in mark["keys"].items()
        if about.get("joint", "").casefold() == joint.casefold()
    }


def fits_of(mark: dict[str, Any], joint: str) -> dict[str, str | None]:
    """Digest of the fit that wrote each of the sections that share a name, by library; former versions kept none."""
    return {library: mark["keys"][name].get("fit") for name, library in members_of(mark, joint).items()}


def check_free(
    store: Path,
    mark: dict[str, Any] | None,
    library_id: str,
    key: str,
    joint: str | None = None,
    together: Sequence[str] = (),
) -> None:
    """Refuse names that would take the place of what belongs to another library, projection or program.

    ``joint`` is the name that the projections of the libraries ``together`` share, which are fitted at once.
    """
    check_name(library_id, "library_id")
    check_name(key, "key_added")
    of_library = [*_keys.of_library(library_id), table_of(mark, library_id)]
    twice = _folded(of_library) & _folded(_keys.elements(key))
    if twice:
        msg = f"Found key_added={key!r}, which would name an element {min(twice)!r} of the library too; choose another."
        raise ValueError(msg)
    if mark is None:
        return
    _check_model_free(store, mark, key, joint, together)
    holder = library_of(mark, key)
    if key in mark["keys"] and holder != library_id:
        msg = (
            f"{store} holds a projection {key!r} of the library {holder!r}, not of {library_id!r}; it is left alone. "
            "Choose another `key_added` or another `store`."
        )
        raise FileExistsError(msg)
    if key in mark["keys"]:
        logger.info(
            "The projection %r of %r in %s will be replaced; another `key_added` keeps it.", key, library_id, store
        )
    own = set(of_library) if library_id in libraries_of(mark) else set()
    own |= set(_keys.elements(key)) if key in mark["keys"] else set()
    wanted = _folded([*of_library, *_keys.elements(key)])
    taken = sorted(name for name in elements(store) if name.casefold() in wanted and name not in own)
    if taken:
        msg = (
            f"{store} holds the element {taken[0]!r}, which the projection {key!r} of {library_id!r} would replace; it "
            "is left alone. Choose another `key_added`, `library_id` or `store`."
        )
        raise FileExistsError(msg)


def _check_model_free(store: Path, mark: dict[str, Any], key: str, joint: str | None, together: Sequence[str]) -> None:
    """Refuse a name whose model, beside the store, is that of other sections, too: it would be replaced."""
    if members := members_of(mark, key):
        msg = (
            f"{store} holds a projection {key!r} of several sections ({', '.join(map(repr, members.values()))}), whose "
            "one model would be replaced by that of a section alone; it is left alone. Choose another `key_added` or another `store`."
        )
        raise FileExistsError(msg)
    others = mark["keys"].get(key, {}).get("joint")
    if others not in (None, joint):
        msg = (
            f"{store} holds {key!r} as a part of the projection {others!r} of several sections, which would lose it; it is "
            "left alone. Choose another `key_added` or another `store`."
        )
        raise FileExistsError(msg)
    if joint is None:
        return
    alone = [name for name in mark["keys"] if name.casefold() == joint.casefold()]
    if alone:
        msg = (
            f"{store} holds a projection {alone[0]!r} of {library_of(mark, alone[0])!r} alone, whose model would be replaced by "
            "that of several sections; it is left alone. Choose another `key_added` or another `store`."
        )
        raise FileExistsError(msg)
    lost = [library for library in members_of(mark, joint).values() if library not in together]
    if lost:
        msg = (
            f"{store} holds a projection {joint!r} of {', '.join(map(repr, lost))}, too, which would be left without a model: "
            "expected all of its sections. Fit them together with these, or choose another `key_added` or another `store`."
        )
        raise FileExistsError(msg)


def elements(store: Path) -> list[str]:
    """Name all elements of a store."""
    return [path.name for kind in KINDS for path in (store / kind).glob("*") if path.is_dir()]


def _folded(names: Any) -> set[str]:
    """Names without regard to case: SpatialData and some file systems take no others."""
    return {name.casefold() for name in names}
