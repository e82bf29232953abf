"""Undo what a report's pixels and numbers are packed with, byte by byte and pixel by pixel, as its script does."""

from __future__ import annotations

import numpy as np

PER_BYTE = {4: 4, 6: 3, 16: 2}  # differences, by their levels


def read_text(text):
    """Bytes that were written as characters, two for 13 bits."""
    signs = [ord(sign) - ord("#") for sign in text.replace("!", "<")]
    bits = "".join(f"{91 * first + second:013b}" for first, second in zip(signs[::2], signs[1::2], strict=False))
    n = len(bits) // 8 - len(text) % 2
    return bytes(int(bits[8 * i : 8 * i + 8], 2) for i in range(n))


def read_codes(told, weights, levels, ends, known):
    """(y, x) codes from their differences from what is predicted; a pixel where nothing is known is as the one above."""
    height, width = known.shape
    codes, told = np.zeros((height + 2, width + 4), dtype=int).tolist(), told.tolist()
    begins = [0, *ends[:-1]]
    groups = [
        iter([byte // levels**k % levels for byte in told[begin:end] for k in range(PER_BYTE[levels])])
        for begin, end in zip(begins, ends, strict=True)
    ]
    far = iter(told[ends[-1] :])
    for y, row in enumerate(known.tolist(), start=2):
        now, up, above = codes[y], codes[y - 1], codes[y - 2]
        for x, is_known in enumerate(row, start=2):
            now[x] = up[x]
            if is_known:
                around = (
                    now[x - 1], up[x], up[x - 1], up[x + 1], now[x - 2], above[x], up[x - 2], above[x - 1], above[x + 1],
                    up[x + 2], above[x - 2], above[x + 2], 1,
                )  # fmt: skip
                predicted = sum(weight * value for weight, value in zip(weights, around, strict=True)) + 2048
                digit = next(groups[predicted // 256 % 16])
                further = next(far) if digit == levels - 1 else digit - (levels // 2 - 1)
                now[x] = (predicted // 4096 + further) % 256
    assert next(far, None) is None
    return np.where(known, np.array(codes)[2:, 2:-2], 0)
