"""The invariants of Perturbation Embedding Augmentation, and how often everything that it can draw is drawn."""

import logging
import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare

from semiclip import errors
from semiclip.correction import PEA, Augmentation, fit

LEAST = 1e-3  # p-value: the draws are fixed, so a test that passes once always passes
NAMES = ("center", "scale", "whiten")
FULL = {"methods": "tvn", "drop_probability": 0}
MOST = 8


def test_a_row_that_keeps_no_step_stays_as_it_is_to_a_bit(plates, augmented):
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


@pytest.mark.parametrize("d", [5, 200])
def test_the_same_seed_draws_the_same_whatever_the_mini_batches_and_the_process(plates, augmentation, augmented, d):
    data = x, batch, _ = plates(d=d)
    values, codes = torch.as_tensor(x), torch.as_tensor(batch)
    draw, whole = augmented(data, seed=3, epoch=2)
    order = torch.as_tensor(np.random.default_rng(1).permutation(len(x)))
    for n_processes, size in ((1, 1), (1, 7), (2, 16), (3, 50), (1, 1000)):
        for rank in range(n_processes):
            made = augmentation(data, seed=3, epoch=2)
            for rows in order[rank::n_processes].split(size):
                again = made.draw(rows, codes[rows], 2 if size == 7 else torch.tensor(2))
                assert all(torch.equal(a, b[rows]) for a, b in zip(again, draw, strict=True))
                out = made(values[rows], rows, codes[rows]).numpy()
                np.testing.assert_array_equal(out, whole[rows.numpy()])


def test_seeds_and_epochs_draw_differently(plates, augmented):
    draws = [augmented(plates(), seed=seed, epoch=epoch)[0] for seed, epoch in ((0, 0), (1, 0), (0, 1), (1, 1))]
    draws = [draw._replace(transform=draw.transform % MOST) for draw in draws]  # which, for the same steps before
    for first, second in combinations(draws, 2):
        for one, other in zip(first, second, strict=True):
            assert (one != other).float().mean() > 0.3


def test_global_generators_are_neither_read_nor_moved(plates, augmented):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _, out = augmented(plates(), max_controls=20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    np.testing.assert_array_equal(augmented(plates(), max_controls=20)[1], out)


class OnGPU(torch.Tensor):
    """Takes the way of a GPU, where shapes may not depend on what was drawn."""

    is_cuda = True


@pytest.mark.parametrize("options", [{}, FULL, {"methods": "center"}])
@pytest.mark.parametrize("d", [5, 60, 200])
def test_the_way_of_a_gpu_gives_the_same(plates, augmentation, augmented, options, d, monkeypatch):
    data = x, batch, _ = plates(d=d)
    draw, expected = augmented(data, **options)
    made = augmentation(data, **options)
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    out = made.apply(torch.as_tensor(x).as_subclass(OnGPU), torch.as_tensor(batch), draw)
    np.testing.assert_array_equal(out.as_subclass(torch.Tensor).numpy(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same(plates, augmented):
    x, batch, control = data = plates()
    draw, expected = augmented(data)
    made = Augmentation(PEA(), *data, device="cuda")
    made.start_epoch(0)
    rows, codes, values = (torch.as_tensor(part, device="cuda") for part in (np.arange(len(x)), batch, x))
    for one, other in zip(made.draw(rows, codes, 0), draw, strict=True):
        assert torch.equal(one.cpu(), other)
    np.testing.assert_allclose(made(values, rows, codes).cpu().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_one_draw_may_serve_a_whole_mini_batch(plates, augmentation):
    """Method, steps and controls of every row are then those of the first; numbers follow the size of each batch."""
    data = x, batch, _ = plates((30, 60))
    codes = torch.as_tensor(batch)
    made, rowwise = augmentation(data, granularity="batch"), augmentation(data)
    seen = set()
    for rows in torch.arange(len(x)).split(10):
        draw = made.draw(rows, codes[rows], 0)
        for code in (0, 1):
            for part in draw:
                assert len(torch.unique(part[codes[rows] == code], dim=0)) == 1
        first = rowwise.draw(rows[:1], codes[rows[:1]], 0)
        assert all(torch.equal(one[:1], other) for one, other in zip(draw, first, strict=True))
        share = [made.moments.number[draw.moments[codes[rows] == code][:1]] / n for code, n in ((0, 30), (1, 60))]
        assert all(len(part) for part in share)
        assert abs(share[0] - share[1]) < 0.1
        seen.add((*draw.steps[0].tolist(), share[0].item()))
    assert len(seen) > 8


def test_only_controls_are_read(plates, augmentation, augmented):
    data = x, batch, control = plates()
    poisoned = np.where(control[:, None], x, np.nan).astype(np.float32)
    out = augmentation((poisoned, batch, control))(torch.as_tensor(x), torch.arange(len(x)), torch.as_tensor(batch))
    np.testing.assert_array_equal(out.numpy(), augmented(data)[1])


@pytest.mark.parametrize("law", ["all", "uniform"])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_offset_and_scale_of_the_features_change_nothing(plates, augmented, law, ridge):
    """Floor and ridge are relative, so few controls are no exception."""
    x, batch, control = plates((30, 40), d=4, offset=1.0)
    rng, options = np.random.default_rng(1), FULL | {"control_law": law, "ridge": ridge}
    options["min_controls"] = 2 if ridge else 20
    _, out = augmented((x, batch, control), **options)
    for other in (x + rng.normal(size=4), x * rng.uniform(0.2, 5, 4), x * 1e-3):
        _, moved = augmented((other.astype(np.float32), batch, control), **options)
        np.testing.assert_allclose(moved, out, atol=1e-4 * np.abs(out).max())


def test_a_batch_is_corrected_by_its_own_controls_alone(plates, augmented):
    x, batch, control = plates()
    other = np.where((batch == 1)[:, None], x**3, x).astype(np.float32)
    (_, out), (_, again) = augmented((x, batch, control)), augmented((other, batch, control))
    np.testing.assert_array_equal(again[batch != 1], out[batch != 1])
    assert (again != out)[batch == 1].mean() > 0.5


# ---- pools of controls


@pytest.mark.parametrize(
    ("n_controls", "least", "few"),
    [((9, 1, 0, 2), 2, {"B": 1, "C": 0}), ((9, 1, 0, 2), 3, {"B": 1, "C": 0, "D": 2}), ((0, 0), 2, {"A": 0, "B": 0})],
)
def test_batches_with_too_few_controls_are_named(refuses, plates, n_controls, least, few):
    data = plates(n_controls, 12)
    for fallback in ("raise", "pooled") if sum(n_controls) < least else ("raise",):
        with refuses(errors.TooFewControls, batches=few, needed=least, total=sum(n_controls)):
            Augmentation(PEA(min_controls=least), *data, batch_names=list("ABCD"), fallback=fallback)


def test_pooled_controls_stand_in_where_a_batch_has_too_few(plates, caplog):
    """The batch with one control and the one with none draw from the controls of all batches, its own too."""
    data = x, batch, control = plates((6, 1, 0, 8), d=3)
    made = Augmentation(PEA(), x, batch, control, fallback="pooled", batch_names=list("ABCD"))
    made.start_epoch(0)
    assert [(record.levelno, record.args) for record in caplog.records] == [(logging.INFO, (2, "B (1), C (0)"))]
    assert made.pools.count.tolist() == [6, 15, 15, 8]
    assert len(made.pools.standard) == 6 + 15 + 8  # the pool is kept once
    everyone = Augmentation(PEA(**FULL | {"methods": "center_scale", "control_law": "all"}), *data, fallback="pooled")
    everyone.start_epoch(0)
    out = everyone(torch.as_tensor(x), torch.arange(len(x)), torch.as_tensor(batch)).numpy()
    for code in range(4):
        own = control & (batch == code) if code in (0, 3) else control
        expected = fit(("center", "scale"), x[own].astype(float))(x[batch == code].astype(float))
        np.testing.assert_allclose(out[batch == code], expected, rtol=1e-4, atol=1e-5)
    entry = (made.moments.batch == 2).nonzero()[:, 0].repeat(200)
    _, number, _ = made.moments.draw_controls(entry, torch.arange(len(entry)))
    assert chisquare(np.bincount(number, minlength=16)[2:]).pvalue > LEAST


def test_large_batches_are_thinned_once(plates, augmentation, caplog):
    data = x, batch, control = plates((30, 12, 8), d=3)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        made = augmentation(data, max_controls=10, seed=4)
    assert [record.args for record in caplog.records] == [(10,)]
    pools = made.pools
    assert pools.count.tolist() == [10, 10, 8]
    for code in range(3):  # each pool is so many different controls of its own batch
        pool = (pools.standard[pools.rows(torch.tensor(code))] * pools.sd[code] + pools.mean[code])[
            : pools.count[code]
        ].numpy()
        distance = np.abs(pool[:, None] - x[(batch == code) & control]).max(axis=2)
        assert distance.min(axis=1).max() < 1e-4
        assert len(set(distance.argmin(axis=1))) == pools.count[code]
        np.testing.assert_allclose(pools.mean[code], pool.mean(axis=0), rtol=1e-4, atol=1e-4)
    again, other = (augmentation(data, max_controls=10, seed=seed) for seed in (4, 5))
    assert torch.equal(again.pools.standard, pools.standard)
    assert not torch.equal(other.pools.mean[0], pools.mean[0])
    assert torch.equal(other.pools.mean[2], pools.mean[2])
    assert augmentation(data, max_controls=30).pools.count.tolist() == [30, 12, 8]
    borrowed = Augmentation(PEA(max_controls=5), *plates((30, 0, 1), d=3), fallback="pooled").pools
    assert borrowed.count.tolist() == [5, 5, 5]
    assert len(borrowed.standard) == 10  # those that are borrowed are kept once


# ---- laws


def drawn(n, n_controls=10, **options):
    """What n rows of one batch draw."""
    x = np.random.default_rng(0).normal(size=(n_controls, 2)).astype(np.float32)
    made = Augmentation(PEA(**options), x, np.zeros(n_controls, dtype=int), np.ones(n_controls, dtype=bool))
    codes = torch.zeros(n, dtype=torch.long)
    return made, codes, made.draw(torch.arange(n), codes, 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop_probability": 0},
        {"drop_probability": 0.25, "min_steps": 1},
        {"methods": ("center", "tvn")},
        {"methods": "tvn"},  # each step by a toss of its own
    ],
)
def test_plans_are_drawn_as_often_as_they_should(options):
    _, _, draw = drawn(30_000, **options)
    counts = Counter(tuple(name for name, kept in zip(NAMES, row, strict=True) if kept) for row in draw.steps.tolist())
    plans = PEA(**options).plans
    assert counts.keys() == plans.keys()
    expected = 30_000 * np.array(list(plans.values()))
    assert chisquare([counts[plan] for plan in plans], expected).pvalue > LEAST


def assert_sets_are_as_likely(chosen, number, n):
    counts = Counter(map(tuple, chosen.tolist()))
    assert len(counts) == math.comb(n, number)
    assert chisquare(list(counts.values())).pvalue > LEAST


def test_plan_moments_and_transform_are_independent():
    made, _, draw = drawn(40_000, 5)
    plan = (draw.steps * torch.tensor([1, 2, 4])).sum(dim=1).numpy()
    columns = [plan, draw.moments.numpy() // 8, draw.transform.numpy() % made.bank.size]
    for first, second in combinations(columns, 2):
        table = np.zeros((first.max() + 1, second.max() + 1))
        np.add.at(table, (first, second), 1)
        assert chi2_contingency(table).pvalue > LEAST


def test_the_transforms_of_the_bank_follow_the_same_laws():
    """The number of controls of a transform, which controls, and which transform a row takes."""
    made, _, draw = drawn(30_000, 6, bank_size=6000)
    entry = torch.arange(12_000)
    _, number, chosen = made.bank.draw_controls(entry, torch.zeros_like(entry))
    assert torch.equal(chosen.sum(dim=1), number)
    assert chisquare(np.bincount(number.numpy())[2:]).pvalue > LEAST
    for kind in (entry < 6000, entry >= 6000):
        assert_sets_are_as_likely(chosen[kind & (number == 3)], 3, 6)
    place = draw.transform % 6000
    assert torch.equal(draw.transform >= 6000, ~draw.steps[:, 1])  # those of scaled controls come first
    assert chisquare(np.bincount(place.numpy() // 60, minlength=100)).pvalue > LEAST
    made.start_epoch(0)
    mean = torch.einsum("en,nd->ed", chosen.double(), made.pools.standard.double()) / number[:, None]
    np.testing.assert_allclose((made.bank.mean - made.pools.mean) / made.pools.sd, mean, atol=1e-6)
