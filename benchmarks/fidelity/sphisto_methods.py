"""sphisto: its prior, the whole, its prototype, and controls. The only module of the benchmark that calls its insides."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.fidelity.cases import Prediction, pooled
from scipy import sparse

from sphisto.config import FitConfig, from_plain
from sphisto.core.tiles import plan_tiles
from sphisto.features.texture import Texture
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.genes.observations import informative
from sphisto.get import raster
from sphisto.io import section
from sphisto.io.store.read import n_contrasts
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.scoring.at_spots import pool_posterior
from sphisto.scoring.metrics import inside
from sphisto.scoring.skill import left_out_skill
from sphisto.tl import fit_projection

BRIGHTER = 0.05  # optical density taken from all pixels of a control
STAINED = np.array([0.9, 1.0, 1.1])  # times the optical densities of red, green and blue, as between two stainings


def prior(case, *, config=None):
    """Factors co-kriged, without a network; with predictive intervals and the skill it expects at held-out spots."""
    posterior, factors, own = kriged(case, config=from_plain(config or {}))
    counts = expected(case, posterior, factors)
    if not case.held_out:
        return Prediction(counts, note=f"{factors.n_factors} factors")
    skill = left_out_skill(own, factors, case.slide)
    scatter = skill.dispersion[case.scored]
    variance = posterior.variance_at(case.regions.centroids(), _scored(case, factors), counts, scatter)
    held = inside(case.truth, counts, variance)
    return Prediction(counts, inside=held, skill=skill.pearson[case.scored])


def shuffled_genes(case, **options):
    """Control: the prior, each gene's counts shuffled among the spots; without how much of a region is tissue, which tells."""
    spots, tissue = case.slide.spots, case.regions.mean(np.asarray(case.slide.tissue))
    values = np.random.default_rng(case.seed).permuted(spots.values.toarray(), axis=0)
    slide = replace(case.slide, measured=replace(spots, values=sparse.csr_array(values)))
    return Prediction(prior(replace(case, slide=slide), **options).counts / np.maximum(tissue, 0.01))


def other_colours(case):
    """Control: the prior of an image of other colours; inside is what changes by less than its standard deviation."""
    posterior, factors, _ = kriged(case)
    counts = expected(case, posterior, factors)
    other = replace(case, slide=replace(case.slide, image=recoloured(case.image)))
    changed = expected(other, kriged(other, factors)[0], factors)
    # of the kriged part alone, without the genes' own scatter, in which the image has no part; at some 1,000 regions
    some = np.arange(0, len(counts), -(-len(counts) // 1_000))
    places, scatter = case.regions.centroids()[some], np.zeros(counts.shape[1])
    sd = np.sqrt(posterior.variance_at(places, _scored(case, factors), counts[some], scatter))
    return Prediction(changed, inside=np.abs(changed - counts)[some] < sd)


def recoloured(image):
    """Stain (3, y, x) pixels more in one colour and less in another, and light them more."""
    density = -np.log((image.astype(np.float32) + 1) / 256)
    lit = 256 * np.exp(BRIGHTER - density * STAINED[:, None, None].astype(np.float32)) - 1
    return np.clip(lit, 0, 255).astype(np.uint8)


def kriged(case, factors=None, *, config=None):
    """Posterior given all training spots, the factors (those given, or their own), and the field."""
    known, config = informative(case.slide), config or FitConfig()
    factors = factors or fit_factors(case.slide.spots, known, config.genes, case.seed)
    field = fit_field(case.slide, factors, known, features_of(case.slide, [Texture()], config), config)
    return field.given("all"), factors, field


def expected(case, posterior, factors):
    """(m, S) counts that a posterior expects in the regions; nothing lies outside tissue."""
    tiles = plan_tiles(case.slide.grid.shape, size=256, multiple=posterior.stride)
    density = np.nan_to_num(pool_posterior(posterior, case.slide, case.regions, tiles))
    scored = _scored(case, factors)
    return rates(density, scored.loadings.astype(np.float64), scored.n_contrasts) * case.area[:, None]


def fitted(case, *, n_genes=2, **options):
    """Fit by the public function, and pool factor maps; the prototype's network models the most variable genes only."""
    named = list(case.genes[case.variable()[:n_genes]])
    adata, told = case.adata.copy(), dict(case.options)
    adata.uns.pop("toy", None)  # the truth's recipe is not for the fit
    scale = {"um_per_px": told.pop("um_per_px")} if "um_per_px" in told else {}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "case.zarr"
        fit_projection(section(adata, **told), store=store, genes=named, rng=case.seed, **scale, **options)
        maps, contrasts = raster(store, "projection_factors"), n_contrasts(store, "projection")
    ratio = maps.attrs["um_per_px"] / case.slide.grid.um_per_px
    assert np.allclose(np.multiply(maps.shape[1:], ratio), case.slide.grid.shape, atol=2 * ratio)
    density = pooled(case.regions, maps.to_numpy(), ratio)
    loadings = np.asarray(adata.varm["projection_loadings"], dtype=np.float64)[case.scored]
    seconds = ", ".join(f"{phase} {value:.0f} s" for phase, value in adata.uns["projection"]["seconds"].items())
    return Prediction(rates(density, loadings, contrasts) * case.area[:, None], note=seconds)


def _scored(case, factors):
    """Model of the scored genes."""
    return factors.of([factors.genes[i] for i in case.scored])
