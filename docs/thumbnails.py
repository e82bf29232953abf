"""Cut the small pictures of docs/tutorials.md out of what the tutorials show.

    python docs/thumbnails.py

Run it again once `tutorials/run.py` ran; a test compares the pictures with the notebooks.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
OUT = DOCS / "_static" / "tutorials"
SIZE, MARGIN = (480, 300), 10  # px

# tutorial -> cell, and the part of its picture (left, top, right, bottom), as shares of its sides
SHOWN = {
    "first_projection": ("first-projection-22", (0.0, 0.0, 0.5, 1.0)),
    "mouse_brain": ("mouse-brain-27", (0.0, 0.52, 0.428, 1.0)),
    "full_resolution_slide": ("full-resolution-slid-18", (0.053, 0.0, 0.609, 0.945)),
    "visium_hd": ("visium-hd-12", (0.233, 0.5, 0.7, 1.0)),
    "is_it_right": ("is-it-right-08", (0.0, 0.0, 0.55, 1.0)),
    "two_sections": ("two-sections-08", (0.0, 0.53, 1.0, 1.0)),
    "slide_without_spots": ("slide-without-spots-08", (0.0, 0.0, 0.336, 0.49)),
    "ecosystem": ("ecosystem-16", (0.571, 0.0, 0.938, 0.88)),
}


def thumbnail(name: str) -> Image.Image:
    """Small picture of a tutorial, on white."""
    cell, (left, top, right, bottom) = SHOWN[name]
    notebook = json.loads((DOCS.parent / "tutorials" / f"{name}.ipynb").read_text(encoding="utf-8"))
    outputs = next(part["outputs"] for part in notebook["cells"] if part["id"] == cell)
    drawn = next(output["data"] for output in outputs if "image/jpeg" in output.get("data", {}))
    picture = Image.open(io.BytesIO(base64.b64decode(drawn["image/jpeg"]))).convert("RGB")
    width, height = picture.size
    part = picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
    part.thumbnail((SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN), Image.Resampling.LANCZOS)
    made = Image.new("RGB", SIZE, "white")
    made.paste(part, ((SIZE[0] - part.width) // 2, (SIZE[1] - part.height) // 2))
    return made


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        thumbnail(name).save(OUT / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
