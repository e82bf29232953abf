"""Masks of the tissue that lie in files."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from sphisto.io.paths import user_path


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Read a mask: ``True`` where the file holds anything else than 0.

    ``path`` is an npy file or an image (png, tif, ...) of shape (y, x). Channels are taken for one if they are all
    alike.
    """
    file = user_path(path)
    if file.suffix.lower() == ".npy" and file.is_file():
        values = np.load(file, allow_pickle=False)
    else:
        from sphisto.io.image.open import read_image

        values = read_image(file)
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            msg = f"{file} holds {values.shape[2]} different channels; expected a mask with one: 0 beside the tissue."
            raise ValueError(msg)
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "buif" or (values.dtype.kind == "f" and np.isnan(values).any()):
        msg = f"{file} holds {values.dtype} of shape {values.shape}; expected a mask (y, x) of numbers: 0 beside the tissue."
        raise ValueError(msg)
    return np.asarray(values != 0)
