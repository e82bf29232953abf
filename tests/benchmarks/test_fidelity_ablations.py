from __future__ import annotations

import numpy as np


def test_an_ablation_changes_what_it_says_and_puts_it_back(toy_case):
    from benchmarks.fidelity.methods import ABLATIONS

    from sphisto.model import factorize

    usual = ABLATIONS["prior-as_it_is"](toy_case).counts
    before = factorize._SHRINKING
    changed = ABLATIONS["prior-loadings_not_shrunken"](toy_case).counts
    assert before == factorize._SHRINKING
    assert not np.allclose(usual, changed)
    np.testing.assert_array_equal(ABLATIONS["prior-as_it_is"](toy_case).counts, usual)


def test_each_ablation_has_a_base_and_names_what_exists():
    """A constant that is renamed in the package would otherwise fail only when the table is computed."""
    from importlib import import_module

    from benchmarks.fidelity.methods import ABLATED, ABLATIONS, group_of

    for name, method in ABLATIONS.items():
        assert group_of(name).base in ABLATIONS
        assert set(group_of(name).sets) <= set(ABLATED)
        assert callable(getattr(import_module(f"benchmarks.fidelity.methods.{method.module}"), method.function))
        for address in method.options.get("constants", {}):
            module, constant = address.split(":")
            assert hasattr(import_module(module), constant)


def test_without_kriging_spots_are_weighted_by_distance(toy_case):
    from benchmarks.fidelity.methods import ABLATIONS
    from benchmarks.fidelity.methods.ablations import changed
    from benchmarks.fidelity.methods.networks import kriged

    from sphisto.model.neighbours import Neighbours

    with changed(ABLATIONS["prior-gaussian_weights"].options["constants"]):
        assert isinstance(kriged(toy_case)[0], Neighbours)
