"""The whitening transforms that rows draw from: how many there are, and when they are drawn anew."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.correction import PEA, Augmentation, _augmentation

MOST = 8


def plates(n_controls=(9, 4), d=3, seed=0):
    """Controls alone, of batches that have so many."""
    batch = np.repeat(np.arange(len(n_controls)), n_controls)
    x = np.random.default_rng(seed).normal(size=(len(batch), d)) + batch[:, None]
    return x.astype(np.float32), batch, np.ones(len(batch), dtype=bool)


def augmentation(data=None, seed=0, **options):
    return Augmentation(PEA(**options), *(data or plates()), seed=seed)


def transforms(epochs, **options):
    """What the bank holds in each of the epochs, one after the other."""
    made, held = augmentation(**options), []
    for epoch in epochs:
        made.start_epoch(epoch)
        held.append((made.bank.mean.clone(), made.bank.weight.clone()))
    return held


def same(one, other):
    equal = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    assert equal in ([True, True], [False, False])
    return all(equal)


@pytest.mark.parametrize(
    ("refresh", "law", "versions"),
    [
        (1, "uniform", [0, 1, 2, 3, 4, 5, 6]),
        (3, "uniform", [0, 0, 0, 1, 1, 1, 2]),
        (3, "log_uniform", [0, 0, 0, 1, 1, 1, 2]),
        (0, "uniform", [0] * 7),
        (1, "all", [0] * 7),
    ],
)
def test_transforms_are_drawn_anew_when_they_are_due(refresh, law, versions):
    held = transforms(range(7), bank_refresh=refresh, control_law=law)
    for epoch, version in enumerate(versions):
        for earlier in range(epoch):
            assert same(held[epoch], held[earlier]) == (version == versions[earlier])


def test_nothing_is_computed_for_transforms_that_are_there():
    made = augmentation(bank_refresh=2)
    made.start_epoch(0)
    for epoch, is_due in ((0, False), (1, False), (2, True), (3, False)):
        made.bank.mean.zero_()
        made.start_epoch(epoch)
        assert made.bank.mean.any() == is_due


@pytest.mark.parametrize("refresh", [0, 1, 2, 5])
@pytest.mark.parametrize("epoch", [1, 4, 5])
def test_a_run_that_is_taken_up_again_has_the_transforms_that_it_would_have_had(refresh, epoch):
    through = transforms(range(epoch + 1), bank_refresh=refresh, seed=2)[-1]
    assert same(transforms([epoch], bank_refresh=refresh, seed=2)[0], through)
    assert not same(transforms([epoch], bank_refresh=refresh, seed=3)[0], through)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_how_many_are_fitted_together_does_not_matter(at_once, monkeypatch):
    expected = transforms([0])[0]
    monkeypatch.setattr(_augmentation, "AT_ONCE", at_once)
    for one, other in zip(transforms([0])[0], expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kinds", "size"),
    [
        ({}, [True, False], MOST),
        ({"bank_size": 5}, [True, False], 5),
        ({"bank_size": 40}, [True, False], 40),
        ({"methods": "tvn", "drop_probability": 0}, [True], MOST),
        ({"methods": "tvn", "min_steps": 3, "bank_size": 3}, [True], 3),
        ({"methods": "tvn", "min_steps": 2}, [True, False], MOST),
        ({"control_law": "all"}, [True, False], 1),
        ({"control_law": "all", "bank_size": 8}, [True, False], 1),
    ],
)
def test_each_batch_has_transforms_for_scaled_and_for_unscaled_controls(options, kinds, size):
    made = augmentation(**options)
    assert (made.bank.kinds, made.bank.size) == (kinds, size)
    assert made.bank.mean.shape == (2 * len(kinds) * size, 3)
    assert made.bank.weight.shape == (2 * len(kinds) * size, 3, 3)
    codes = torch.arange(2).repeat_interleave(10_000)
    draw = made.draw(torch.arange(20_000), codes, 0)
    kind = (~draw.steps[:, 1]).long() if len(kinds) == 2 else 0
    assert torch.equal(draw.entry // size, codes * len(kinds) + kind)
    assert len(draw.entry[draw.steps[:, 2]].unique()) == 2 * len(kinds) * size


@pytest.mark.parametrize(
    "options", [{"methods": "center"}, {"methods": ("center", "center_scale")}, {"drop_probability": 1}]
)
def test_without_whitening_there_is_none_and_controls_may_be_constant(options):
    x, batch, control = plates()
    x[batch == 0] = 0.1
    made = augmentation((x, batch, control), **options)
    assert made.bank is None
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    assert not made.draw(rows, codes, 0).entry.any()
    for epoch in range(30):
        made.start_epoch(epoch)
        assert torch.isfinite(made(torch.as_tensor(x) + 1, rows, codes, epoch)).all()


def test_controls_that_do_not_vary_at_all_are_refused_where_there_is_whitening(refuses):
    x, batch, control = plates((6, 4))
    x[batch == 0] = 0.1
    with refuses(errors.NoVariation, items=[0]):
        augmentation((x, batch, control))
    with refuses(errors.NoVariation, items=["A"]):
        Augmentation(PEA(), x, batch, control, batch_names=["A", "B"])


@pytest.mark.parametrize("room", [0, 2, 3, MOST - 1, MOST, 1000])
def test_so_many_transforms_as_memory_holds(room, monkeypatch, caplog):
    size = min(max(room, 2), MOST)
    bytes_ = room * 2 * 2 * 3 * 3 * 4  # batches, scaled and unscaled, features squared, bytes of a float32
    monkeypatch.setattr(_augmentation, "BANK_BYTES", bytes_)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert augmentation().bank.size == size
        assert [record.args for record in caplog.records] == ([] if size == MOST else [(size, bytes_)])
        caplog.clear()
        assert augmentation(bank_size=40).bank.size == 40  # what is asked for is made
        assert augmentation(control_law="all").bank.size == 1
    assert not caplog.records


def test_how_often_transforms_are_drawn_follows_from_what_a_training_step_may_cost():
    """Two batches have 32 transforms; 2**24 / 128**3 = 8 of them are affordable for each training step."""

    def refresh(steps_per_epoch, **options):
        return Augmentation(PEA(**options), *plates(d=128), steps_per_epoch=steps_per_epoch).refresh

    assert [refresh(n) for n in (None, 1, 2, 3, 4)] == [1, 4, 2, 2, 1]
    assert [refresh(1, bank_refresh=n) for n in (0, 5)] == [0, 5]
    assert refresh(1, methods="center") == 1


def test_rows_are_multiplied_by_the_transform_that_they_drew():
    data = x, batch, _ = plates((9, 4, 30), d=5)
    made = augmentation(data, methods="tvn", drop_probability=0, clip=None)
    made.start_epoch(0)
    rows, codes, values = torch.arange(len(x)), torch.as_tensor(batch), torch.as_tensor(x)
    entry = made.draw(rows, codes, 0).entry
    expected = torch.stack([(z - made.bank.mean[e]) @ made.bank.weight[e] for z, e in zip(values, entry, strict=True)])
    np.testing.assert_allclose(made(values, rows, codes, 0), expected, rtol=1e-5, atol=1e-6)
