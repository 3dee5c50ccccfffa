import numpy as np
import pytest
import torch

from semiclip._seed import seeded


def draw(rng):
    with seeded(rng):
        return torch.rand(3)


def test_the_same_seed_draws_the_same_whatever_the_state():
    torch.manual_seed(1)
    first = draw(5)
    torch.rand(7)
    assert torch.equal(draw(5), first)
    assert torch.equal(draw(np.random.default_rng(5)), first)
    assert not torch.equal(draw(6), first)


def test_a_generator_moves_on():
    rng = np.random.default_rng(5)
    assert not torch.equal(draw(rng), draw(rng))


def test_gives_the_state_back():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    draw(5)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError, match="inside"), seeded(5):
        torch.rand(1)
        message = "inside"
        raise RuntimeError(message)
    assert torch.equal(torch.get_rng_state(), state)


def test_none_leaves_the_state_in_charge():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(draw(None), expected)
    assert not torch.equal(draw(None), expected)
