"""What the channels of an image are, determined by their number and their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

CHANNELS = (1, 3, 4)
"""Grey; red, green, blue; the same with alpha."""
MULTI_CHANNEL = "This seems to be a fluorescence or other multi-channel image"
"""In the message about channels that are no colours."""

_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "a": 3, "alpha": 3}
# names that programs give to channels which have none
_UNNAMED = re.compile(r"(channel|ch|c|band|image|s)?[\s_:.-]*\d*([\s_:.-]+\d+)*", re.IGNORECASE)
# stains, dyes and filters of fluorescence, and what ImageJ shows in a mixed colour; none is part of a colour's name
_FLUORESCENT = re.compile(
    r"dapi|hoechst|fitc|tritc|texas|\bcy-?[2357]|alexa|\baf ?-?\d{3}|gfp|rfp|yfp|cfp|mcherry|rhodamine|phalloidin|draq"
    r"|membrane|nucle[iu]|atto|opal|pan-?ck|\bcd\d+|\b\d{3} ?nm|shown as",
    re.IGNORECASE,
)


def named(names: Sequence[Any] | None) -> list[str] | None:
    """Return names of channels as text, ``None`` if they mean nothing."""
    if names is None:
        return None
    texts = [str(name).strip() for name in names]
    return None if all(_UNNAMED.fullmatch(text) for text in texts) else texts


def colour_order(n_channels: int, names: Sequence[Any] | None, what: str) -> tuple[list[int], str | None]:
    """Return where grey, or red, green, blue (and alpha) lie among the channels, and a note if names had to be read.

    ``what`` is the image, for messages.
    """
    order = list(range(n_channels))
    texts = named(names)
    if n_channels not in CHANNELS:
        raise ValueError(not_colours(what, n_channels, texts))
    if n_channels == 1 or texts is None:
        return order, None
    places = [_COLOURS.get(text.lower()) for text in texts]
    if sorted(place for place in places if place is not None) == order:
        found = [places.index(place) for place in order]
        note = f"channels {', '.join(texts)} were brought to the order red, green, blue{', alpha' * (n_channels == 4)}"
        return found, None if found == order else note
    if n_channels == 4 or any(_FLUORESCENT.search(text) for text in texts):
        raise ValueError(not_colours(what, n_channels, texts))
    return order, f"channels {', '.join(texts)} were taken for red, green and blue"


def named_alpha(n_channels: int, names: Sequence[Any] | None) -> Literal["straight"] | None:
    """Return that the fourth of channels in :func:`colour_order` is alpha, if they have names."""
    return "straight" if n_channels == 4 and named(names) else None


def not_colours(what: str, n_channels: int, names: Sequence[str] | None = None) -> str:
    """Return the message that channels are no colours, and what to do."""
    listed = f" ({', '.join(names)})" if names else ""
    return (
        f"{what} has {n_channels} channels{listed}. {MULTI_CHANNEL}; expected grey, RGB or RGBA. Choose one channel and "
        "pass it as a grey image, or compose an RGB image of them."
    )
