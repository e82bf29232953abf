from __future__ import annotations

import numpy as np
import pytest
import torch

from sphisto.networks import precision
from sphisto.networks.losses import dissimilarity
from sphisto.networks.precision import computed, fastest
from sphisto.networks.registry import network
from sphisto.train.crops import Batch, pool

CPU = torch.device("cpu")


@pytest.fixture
def module():
    torch.manual_seed(0)
    made = network("unet").build(torch.ones(4)).eval()
    for block in (*made.left, *made.right):
        torch.nn.init.normal_(block.second.weight, 0, 0.05)
    torch.nn.init.normal_(made.last.weight, 0, 0.3)
    return made.to(memory_format=torch.channels_last)


@pytest.fixture
def seen():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, 96, 128, generator=generator), 1 + torch.rand(1, 4, 12, 16, generator=generator)


def test_bfloat16_changes_little_and_answers_in_float32(module, seen):
    with torch.inference_mode():
        exact, rough = (computed(module, *seen, kind) for kind in ("float32", "bfloat16"))
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
    ratio = torch.log(exact[1] / rough[1])
    assert torch.log(exact[1]).std() > 0.2  # the network does say something
    assert ratio.abs().mean() < 0.005
    assert (exact[0] - rough[0]).abs().mean() < 1 / 255


def test_where_channels_lie_in_memory_changes_nothing(module, seen):
    with torch.inference_mode():
        found = computed(module, *seen, "float32")
        plain = module.to(memory_format=torch.contiguous_format)(*seen)
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_nothing_is_copied_into_another_order_of_memory_between_network_and_losses(module, seen):
    """One part that makes or asks for another order takes as long as several convolutions."""
    pixels, spots = torch.arange(60), torch.arange(60) // 30
    drawn, values = computed(module, *seen, "bfloat16", pixels=pixels)
    given = [drawn]
    drawn.register_hook(given.append)
    batch = Batch(
        *seen,
        pixels,
        spots,
        torch.full((60,), 1 / 30),
        torch.ones(2, 5),
        *torch.zeros(2, 2, dtype=torch.bool),
        torch.tensor(0),
    )
    (dissimilarity(drawn, seen[0], 1.0) + pool(values, batch).square().sum()).backward()
    assert len(given) == 2
    assert all(values.is_contiguous(memory_format=torch.channels_last) for values in given)


@pytest.mark.parametrize(("gain", "chosen"), [(0.2, "float32"), (1.1, "float32"), (2.0, "bfloat16")])
def test_bfloat16_is_chosen_where_it_is_clearly_faster(monkeypatch, gain, chosen):
    monkeypatch.setattr(precision, "_seconds", lambda _, dtype: 1.0 if dtype == torch.bfloat16 else gain)
    fastest.cache_clear()
    assert fastest(CPU) == chosen
    fastest.cache_clear()


def test_the_choice_is_measured_and_draws_nothing_random():
    fastest.cache_clear()
    before = torch.random.get_rng_state()
    assert fastest(CPU) in {"float32", "bfloat16"}
    assert torch.equal(before, torch.random.get_rng_state())
