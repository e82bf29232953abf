from __future__ import annotations

import numpy as np


def test_ablations_are_settings_of_the_package(toy_case):
    from benchmarks.fidelity.methods import ABLATIONS, BASE
    from benchmarks.fidelity.methods.networks import kriged

    from sphisto.field.config import FieldConfig

    for method in ABLATIONS.values():
        FieldConfig(**method.options["settings"])
    assert not kriged(toy_case, settings=ABLATIONS["prior-position_only"].options["settings"])[0].uses_features
    usual, changed = (ABLATIONS[name](toy_case).counts for name in (BASE, "prior-gaussian_weights"))
    assert not np.allclose(usual, changed)
