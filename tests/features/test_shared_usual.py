"""What is usual of features where one section alone teaches: the warning of a strange image rests on it."""

from __future__ import annotations

from dataclasses import replace

import sphisto as sp
from sphisto.config import FitConfig
from sphisto.features.maps import SectionFeatures
from sphisto.features.shared import share_features, sites
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.predict.sections import wide_sources


def test_another_section_of_the_kind_is_not_strange_to_one_and_an_inverted_image_is():
    """Places beside each other are more alike than those of two sections, and are no measure of what is strange."""
    config = FitConfig()
    slides = [make_slide(sp.io.section(sp.datasets.toy(384, 384, pitch_um=40, rng=seed))) for seed in (1, 2)]
    slides.append(replace(slides[1], image=255 - slides[1].image))
    maps = [SectionFeatures(slide, wide_sources([Texture()], config)).maps for slide in slides]
    shared = share_features(slides[:1], maps[:1], "section", config.drift, 0)
    own, alike, strange = (
        (shared.of(slide, each).shift(sites(slide)) > 1).mean() for slide, each in zip(slides, maps, strict=True)
    )
    assert own < 0.02
    assert alike < 0.05
    assert strange > 0.9
