"""The invariants of Perturbation Embedding Augmentation, whose laws and arithmetic have files of their own."""

from __future__ import annotations

import logging
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from semiclip import errors
from semiclip.correction import PEA, Augmentation, fit

LEAST = 1e-3  # p-value: the draws are fixed, so a test that passes once always passes
FULL = {"methods": "tvn", "drop_probability": 0}
NAMES = ("center", "scale", "whiten")


def plates(n_controls=(30, 40, 25), n_treated=60, d=5, seed=0, offset=3.0):
    """Correlated rows in mixed order, of batches that differ by an offset and have so many controls."""
    rng = np.random.default_rng(seed)
    batch = np.concatenate([np.repeat(np.arange(len(n_controls)), n_controls), np.arange(n_treated) % len(n_controls)])
    control = np.arange(len(batch)) < sum(n_controls)
    x = rng.normal(size=(len(batch), d)) @ rng.normal(size=(d, d))
    x += offset * rng.normal(size=(len(n_controls), d))[batch]
    order = rng.permutation(len(batch))
    return x[order].astype(np.float32), batch[order], control[order]


def augmentation(data, *, seed=0, epoch=0, **options):
    made = Augmentation(PEA(**options), *data, seed=seed)
    made.start_epoch(epoch)
    return made


def augmented(data, *, seed=0, epoch=0, **options):
    """Draw for every row and return the draws and the rows."""
    x, batch, _ = data
    made = augmentation(data, seed=seed, epoch=epoch, **options)
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    return made.draw(rows, codes, epoch), made(torch.as_tensor(x), rows, codes, epoch).numpy()


def covariance(x):
    return np.cov(x, rowvar=False, ddof=0)


def test_a_row_that_keeps_no_step_stays_as_it_is_to_a_bit():
    data = plates()
    x = data[0]
    before = x.copy()
    draw, out = augmented(data)
    identity = ~draw.steps.any(dim=1).numpy()
    assert 20 < identity.sum() < len(x) / 2
    np.testing.assert_array_equal(out[identity], x[identity])
    assert (np.abs(out - x).max(axis=1) > 1e-3)[~identity].all()
    np.testing.assert_array_equal(augmented(data, drop_probability=1)[1], x)
    np.testing.assert_array_equal(x, before)
    assert out.dtype == np.float32


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_transforms_themselves_are_as_exact_as_their_storage(ridge):
    """Applied in float64, the stored mean and matrix leave nothing but their own rounding to float32."""
    data = x, batch, control = plates()
    made = augmentation(data, **FULL, control_law="all", ridge=ridge)
    assert len(made.bank.weight) == 3
    for code in range(3):
        controls = x[(batch == code) & control].astype(float)
        out = (controls - made.bank.mean[code].double().numpy()) @ made.bank.weight[code].double().numpy()
        values = np.linalg.eigvalsh(np.corrcoef(controls, rowvar=False))
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance(out)), values / (values + ridge), rtol=1e-6)
        np.testing.assert_allclose(out.mean(axis=0), 0, atol=2e-6)


@pytest.mark.parametrize("law", ["all", "uniform"])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_offset_and_scale_of_the_features_leave_the_whole_chain_unchanged(law, ridge):
    """Of sample and controls alike; floor and ridge are relative, so few controls are no exception."""
    data = x, batch, control = plates((30, 40), d=4, offset=1.0)
    rng = np.random.default_rng(1)
    options = {**FULL, "control_law": law, "ridge": ridge, "min_controls": 2 if ridge else 20}
    _, out = augmented(data, **options)
    for other in (x + rng.normal(size=4), x * rng.uniform(0.2, 5, 4), x * 1e-3):
        moved = augmented((other.astype(np.float32), batch, control), **options)[1]
        np.testing.assert_allclose(moved, out, atol=1e-4 * np.abs(out).max())


def test_the_same_seed_draws_the_same_whatever_the_mini_batches_and_the_process():
    data = x, batch, _ = plates()
    values, codes = torch.as_tensor(x), torch.as_tensor(batch)
    draw, whole = augmented(data, seed=3, epoch=2)
    order = torch.as_tensor(np.random.default_rng(1).permutation(len(x)))
    for n_processes, size in ((1, 1), (1, 7), (2, 16), (3, 50), (1, 1000)):
        for rank in range(n_processes):
            made = augmentation(data, seed=3, epoch=2)
            for rows in order[rank::n_processes].split(size):
                again = made.draw(rows, codes[rows], 2 if size == 7 else torch.tensor(2))
                assert all(torch.equal(a, b[rows]) for a, b in zip(again, draw, strict=True))
                out = made(values[rows], rows, codes[rows], 2).numpy()
                np.testing.assert_array_equal(out, whole[rows.numpy()])


def test_seeds_and_epochs_draw_differently():
    data = plates()
    draws = [augmented(data, seed=seed, epoch=epoch)[0] for seed, epoch in ((0, 0), (1, 0), (0, 1), (1, 1))]
    draws = [draw._replace(entry=draw.entry % 8) for draw in draws]  # which, for the same steps before
    for first, second in combinations(draws, 2):
        for one, other in zip(first, second, strict=True):
            assert (one != other).float().mean() > 0.3


def test_global_generators_are_neither_read_nor_moved():
    data = plates()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _, out = augmented(data, max_controls=20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    np.testing.assert_array_equal(augmented(data, max_controls=20)[1], out)


class OnGPU(torch.Tensor):
    """Takes the way of a GPU, where shapes may not depend on what was drawn."""

    is_cuda = True


@pytest.mark.parametrize("options", [{}, {"methods": "tvn", "drop_probability": 0}, {"methods": "center"}])
def test_the_way_of_a_gpu_gives_the_same(options, monkeypatch):
    data = x, batch, _ = plates()
    draw, expected = augmented(data, **options)
    made = augmentation(data, **options)
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    out = made.apply(torch.as_tensor(x).as_subclass(OnGPU), torch.as_tensor(batch), draw)
    np.testing.assert_array_equal(out.as_subclass(torch.Tensor).numpy(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same():
    x, batch, control = data = plates()
    draw, expected = augmented(data)
    made = Augmentation(PEA(), *data, device="cuda")
    made.start_epoch(0)
    rows, codes, values = (torch.as_tensor(part, device="cuda") for part in (np.arange(len(x)), batch, x))
    for one, other in zip(made.draw(rows, codes, 0), draw, strict=True):
        assert torch.equal(one.cpu(), other)
    np.testing.assert_allclose(made(values, rows, codes, 0).cpu().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_batches_draw_from_their_own_controls_alone():
    data = x, batch, control = plates((3, 12, 7), d=3)
    made = augmentation(data)
    codes = torch.as_tensor(np.repeat([0, 1, 2], 5000))
    draw = made.draw(torch.arange(15_000), codes, 0)
    chosen, pool = made.pools.draw_subset(codes, draw.number, draw.subset), made.pools.rows[codes]
    for code, n in enumerate((3, 12, 7)):
        here = (codes == code).numpy()
        assert set(draw.number[here].tolist()) == set(range(2, n + 1))
        assert not chosen[here][:, n:].any()
        controls = x[(batch == code) & control].astype(float)
        there = made.pools.standard[pool[here][0, :n]].double() * made.pools.sd[code] + made.pools.mean[code]
        np.testing.assert_allclose(there, controls, rtol=1e-5, atol=1e-5)


def test_one_draw_may_serve_a_whole_mini_batch():
    """Method, steps and controls of every row are then those of the first; numbers follow the size of each batch."""
    data = x, batch, control = plates((30, 40))
    values, codes = torch.as_tensor(x), torch.as_tensor(batch)
    made, rowwise = augmentation(data, granularity="batch"), augmentation(data)
    seen = []
    for rows in torch.arange(len(x)).split(10):
        draw = made.draw(rows, codes[rows], 0)
        assert len(torch.unique(draw.steps, dim=0)) == 1
        for code in (0, 1):
            for part in (draw.number, draw.subset, draw.entry):
                assert len(part[codes[rows] == code].unique()) == 1
        first = rowwise.draw(rows[:1], codes[rows[:1]], 0)
        assert all(torch.equal(one[:1], other) for one, other in zip(draw, first, strict=True))
        seen.append((*draw.steps[0].tolist(), draw.number[0].item()))
        kept = [name for name, there in zip(NAMES, draw.steps[0], strict=True) if there]
        if kept != ["center"]:
            continue
        out = made(values[rows], rows, codes[rows], 0).numpy()
        for code in (0, 1):
            here = (codes[rows] == code).numpy()
            moved = x[rows][here] - out[here]
            np.testing.assert_allclose(moved, moved[:1].repeat(len(moved), 0), atol=1e-5)
    assert len(set(seen)) > 8


def test_only_controls_are_read():
    data = x, batch, control = plates()
    poisoned = np.where(control[:, None], x, np.nan).astype(np.float32)
    made = augmentation((poisoned, batch, control))
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    np.testing.assert_array_equal(made(torch.as_tensor(x), rows, codes, 0).numpy(), augmented(data)[1])


@pytest.mark.parametrize(
    ("n_controls", "least", "few"),
    [
        ((9, 1, 0, 2), 2, {"B": 1, "C": 0}),
        ((9, 1, 0, 2), 3, {"B": 1, "C": 0, "D": 2}),
        ((1,), 2, {"A": 1}),
        ((0, 0), 2, {"A": 0, "B": 0}),
    ],
)
def test_batches_with_too_few_controls_are_named(refuses, n_controls, least, few):
    data = plates(n_controls, 12)
    data_of_error = {"batches": few, "needed": least, "total": sum(n_controls)}
    with refuses(errors.TooFewControls, **data_of_error):
        Augmentation(PEA(min_controls=least), *data, batch_names=list("ABCD"))
    if sum(n_controls) < least:
        with refuses(errors.TooFewControls, **data_of_error):
            Augmentation(PEA(min_controls=least), *data, batch_names=list("ABCD"), fallback="pooled")
    with refuses(errors.TooFewControls, batches={"ABCD".index(name): n for name, n in few.items()}):
        Augmentation(PEA(min_controls=least), *data)


def test_pooled_controls_stand_in_where_a_batch_has_too_few(caplog):
    """The batch with one control and the one with none draw from the controls of all batches, its own too."""
    x, batch, control = plates((6, 1, 0, 8), d=3)
    made = Augmentation(PEA(), x, batch, control, fallback="pooled", batch_names=list("ABCD"))
    made.start_epoch(0)
    assert [(record.levelno, record.args) for record in caplog.records] == [(logging.WARNING, (2, "B (1), C (0)"))]
    assert made.pools.count.tolist() == [6, 15, 15, 8]
    assert len(made.pools.standard) == 6 + 15 + 8  # the pool is kept once
    rows, codes = torch.arange(len(x)), torch.as_tensor(batch)
    draw = made.draw(rows, codes, 0)
    only = draw._replace(steps=torch.tensor([[True, True, False]]).expand(len(x), 3), number=made.pools.count[codes])
    out = made.apply(torch.as_tensor(x), codes, only).numpy()
    for code in range(4):
        own = control & (batch == code) if code in (0, 3) else control
        expected = fit(("center", "scale"), x[own].astype(float))(x[batch == code].astype(float))
        np.testing.assert_allclose(out[batch == code], expected, rtol=1e-4, atol=1e-5)
    numbers = made.draw(torch.arange(5000), torch.full((5000,), 2), 0).number
    assert chisquare(np.bincount(numbers.numpy(), minlength=16)[2:]).pvalue > LEAST


def test_large_batches_are_thinned_once(caplog):
    data = x, batch, control = plates((30, 12, 8), d=3)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        made = augmentation(data, max_controls=10, seed=4)
    assert [record.args for record in caplog.records] == [(10,)]
    assert made.pools.count.tolist() == [10, 10, 8]
    pool = (
        made.pools.standard[made.pools.rows[torch.arange(3)]].double() * made.pools.sd[:, None]
        + made.pools.mean[:, None]
    )
    chosen = []
    for code in range(3):
        own = x[(batch == code) & control].astype(float)
        distance = np.abs(pool[code, : made.pools.count[code]].numpy()[:, None] - own).max(axis=2)
        assert distance.min(axis=1).max() < 1e-5
        chosen.append(distance.argmin(axis=1).tolist())
        assert len(set(chosen[-1])) == made.pools.count[code]
        np.testing.assert_allclose(made.pools.mean[code], own[chosen[-1]].mean(axis=0), rtol=1e-5, atol=1e-6)
    assert chosen[2] == list(range(8))
    again, other = (augmentation(data, max_controls=10, seed=seed) for seed in (4, 5))
    assert torch.equal(again.pools.standard, made.pools.standard)
    assert not torch.equal(other.pools.mean[0], made.pools.mean[0])
    assert torch.equal(other.pools.mean[2], made.pools.mean[2])
    caplog.clear()
    assert augmentation(data, max_controls=None).pools.count.tolist() == [30, 12, 8]
    assert augmentation(data, max_controls=30).pools.count.tolist() == [30, 12, 8]
    assert not caplog.records
    x, batch, control = plates((30, 0, 1), d=3)
    made = Augmentation(PEA(max_controls=5), x, batch, control, fallback="pooled")
    assert made.pools.count.tolist() == [5, 5, 5]
    assert len(made.pools.standard) == 10  # those that are borrowed are kept once
    assert torch.equal(made.pools.rows[1], made.pools.rows[2])
