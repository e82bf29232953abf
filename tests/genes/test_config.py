from __future__ import annotations

import pytest

from sphisto.genes.config import GeneModelConfig


@pytest.mark.parametrize(
    ("n_spots", "n_genes", "n_factors"),
    [
        (60, 20_000, 12),  # few spots: the least
        (150, 20_000, 25),  # one for six spots
        (3_000, 20_000, 48),  # the most
        (3_000, 18, 12),  # few genes: the least
        (3_000, 45, 30),  # two for three genes
    ],
)
def test_spots_and_genes_support_so_many_factors(n_spots, n_genes, n_factors):
    assert GeneModelConfig().n_factors_for(n_spots, n_genes) == n_factors
