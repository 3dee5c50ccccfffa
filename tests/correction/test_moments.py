"""The moments of random controls that rows draw: their laws, their arithmetic, and how they are renewed."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from semiclip.correction import PEA, Augmentation, _moments

LEAST = 1e-3  # p-value: the draws are fixed, so a test that passes once always passes
CENTER = {"methods": "center", "drop_probability": 0}  # every row needs moments
LASTS = 32  # epochs of an entry


def make(n_controls=10, n_rows=40, d=2, seed=0, **options):
    """An augmentation of rows of one batch, the first of them controls."""
    x = np.random.default_rng(0).normal(size=(n_rows, d)).astype(np.float32)
    codes, control = np.zeros(n_rows, dtype=int), np.arange(n_rows) < n_controls
    return x, Augmentation(PEA(**CENTER | options), x, codes, control, seed=seed)


def draw_versions(made, n_versions):
    """Number and controls of every entry in so many versions."""
    entry = torch.arange(len(made.moments.mean)).repeat(n_versions)
    version = torch.arange(n_versions).repeat_interleave(len(made.moments.mean))
    return made.moments.draw_controls(entry, version)[1:]


def draw_rows(made, n_rows, epochs):
    """Entry of every row in each of the epochs, and the number of controls behind it."""
    rows, codes = torch.arange(n_rows), torch.zeros(n_rows, dtype=torch.long)
    for epoch in epochs:
        made.start_epoch(epoch)
        draw = made.draw(rows, codes, epoch)
        yield draw.moments, made.count_controls(draw)


# ---- laws


def chances(law, least, most):
    numbers = np.arange(least, most + 1)
    chance = np.log((numbers + 1) / numbers) if law == "log_uniform" else np.ones(len(numbers))
    return chance / chance.sum()


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
@pytest.mark.parametrize(("n_controls", "least"), [(2, 2), (3, 2), (3, 3), (10, 2), (10, 3), (40, 2)])
def test_the_number_of_controls_goes_from_the_least_to_all(n_controls, least, law):
    _, made = make(n_controls, min_controls=least, control_law=law)
    number, chosen = draw_versions(made, 40)
    assert torch.equal(chosen.sum(dim=1), number)  # without replacement
    counts = np.bincount(number.numpy(), minlength=n_controls + 1)
    assert counts[:least].sum() == 0
    assert len(counts) == n_controls + 1
    chance = chances(law, least, n_controls)
    assert n_controls == least or chisquare(counts[least:], len(number) * chance).pvalue > LEAST


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
def test_rows_have_numbers_by_the_same_law(law):
    """In epochs that are far apart, so that no entry is met again."""
    _, made = make(10, 40, control_law=law)
    numbers = torch.cat([number for _, number in draw_rows(made, 40, range(0, 200 * LASTS, LASTS))])
    counts = np.bincount(numbers.numpy(), minlength=11)
    assert chisquare(counts[2:], len(numbers) * chances(law, 2, 10)).pvalue > LEAST
    by_row = numbers.view(200, 40).double()  # no row has more than another
    sd = np.sqrt(np.arange(2, 11) ** 2 @ chances(law, 2, 10) - (np.arange(2, 11) @ chances(law, 2, 10)) ** 2)
    assert (by_row.mean(dim=0) - by_row.mean()).abs().max() < 4 * sd / math.sqrt(200)


def test_every_entry_of_a_batch_is_as_likely():
    _, made = make(10, 40)
    size = int(made.moments.size[0])
    draw = made.draw(torch.arange(30_000), torch.zeros(30_000, dtype=torch.long), 0)
    assert chisquare(np.bincount(draw.moments, minlength=size)).pvalue > LEAST


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
def test_every_set_of_controls_is_as_likely(law):
    _, made = make(5, control_law=law)
    number, chosen = draw_versions(made, 60)
    for m in (2, 3, 4):
        counts = Counter(map(tuple, chosen[number == m].tolist()))
        assert len(counts) == math.comb(5, m)
        assert chisquare(list(counts.values())).pvalue > LEAST


def test_each_control_and_each_pair_of_them_is_as_likely():
    _, made = make(20)
    number, chosen = draw_versions(made, 200)
    for m in (2, 9, 17):
        sets = chosen[number == m].numpy().astype(float)
        together = sets.T @ sets / len(sets)
        one, two = m / 20, m * (m - 1) / 20 / 19
        assert np.abs(np.diag(together) - one).max() < 4.5 * math.sqrt(one * (1 - one) / len(sets))
        off = together[np.triu_indices(20, 1)]
        assert np.abs(off - two).max() < 4.5 * math.sqrt(two * (1 - two) / len(sets))


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
def test_moments_of_rows_are_spread_as_if_each_row_had_drawn_controls_of_its_own(law):
    x, made = make(12, 40, d=3, control_law=law, methods="center_scale")
    drawn = []
    for entry, _ in draw_rows(made, 40, range(0, 150 * LASTS, LASTS)):
        drawn.append(torch.cat([made.moments.mean[entry], made.moments.scale[entry]], dim=1))
    ours = torch.cat(drawn).double().numpy()
    rng, pool = np.random.default_rng(1), x[:12].astype(np.float64)
    numbers, floor = rng.choice(np.arange(2, 13), p=chances(law, 2, 12), size=20_000), 0.1 * pool.std(axis=0)
    naive = np.empty((len(numbers), 6))
    for i, m in enumerate(numbers):
        mine = pool[rng.choice(12, m, replace=False)]
        naive[i] = np.concatenate([mine.mean(axis=0), np.maximum(mine.std(axis=0), floor)])
    for power in (1, 2, 3):
        ours_, naive_ = ours**power, naive**power
        error = np.sqrt(ours_.var(axis=0) / len(ours_) + naive_.var(axis=0) / len(naive_))
        assert (np.abs(ours_.mean(axis=0) - naive_.mean(axis=0)) < 4 * error).all()
    # the variance of a mean of m of n without replacement
    m = np.arange(2, 13)
    expected = chances(law, 2, 12) @ ((12 - m) / m / 11) * pool.var(axis=0)
    squared = (ours[:, :3] - pool.mean(axis=0)) ** 2
    assert (np.abs(squared.mean(axis=0) - expected) < 4 * squared.std(axis=0) / math.sqrt(len(ours))).all()


# ---- arithmetic


@pytest.mark.parametrize("n_controls", [(9, 2), (70, 3)])
def test_entries_are_the_moments_of_their_controls(plates, augmentation, n_controls):
    x, batch, control = data = plates(n_controls, 30, d=6)
    made = augmentation(data, epoch=20)
    bank = made.moments
    version = torch.as_tensor(bank.rota.versions(20))
    code, number, chosen = bank.draw_controls(torch.arange(len(bank.mean)), version)
    assert torch.equal(number, bank.number)
    for entry in range(len(bank.mean)):
        pool = x[control & (batch == int(code[entry]))].astype(np.float64)
        mine, size = pool[chosen[entry, : len(pool)].numpy()], np.abs(pool).max(axis=0)
        np.testing.assert_array_less(np.abs(bank.mean[entry].numpy() - mine.mean(axis=0)), 1e-6 * size)
        expected = np.maximum(mine.std(axis=0), 0.1 * pool.std(axis=0))
        # float32 holds a variance that is far below that of all controls to fewer digits
        np.testing.assert_allclose(bank.scale[entry], expected, rtol=1e-4, atol=2e-6 * size.max())


@pytest.mark.parametrize("numbers", [1, 1000])
def test_how_many_are_fitted_together_does_not_matter(plates, augmentation, numbers, monkeypatch):
    data = plates((60, 5, 30), 250, d=4)
    expected = augmentation(data).moments
    monkeypatch.setattr(_moments, "AT_ONCE", numbers)
    made = augmentation(data).moments
    for one, other in ((made.mean, expected.mean), (made.scale, expected.scale)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)
    assert torch.equal(made.number, expected.number)


# ---- the bank


@pytest.mark.parametrize("n_plates", [1, 40])
def test_few_rows_of_a_mini_batch_share_their_moments(n_plates):
    batch = np.arange(20_000) % n_plates
    x = np.random.default_rng(0).normal(size=(len(batch), 2)).astype(np.float32)
    made = Augmentation(PEA(), x, batch, np.arange(len(batch)) < 10 * n_plates)
    shared = []
    for rows in torch.randperm(len(batch), generator=torch.Generator().manual_seed(0)).split(1024)[:10]:
        draw = made.draw(rows, torch.as_tensor(batch)[rows], 0)
        entry = draw.moments[draw.steps[:, :2].any(dim=1) & ~draw.steps[:, 2]]
        _, inverse, counts = entry.unique(return_inverse=True, return_counts=True)
        shared.append((counts[inverse] > 1).double().mean())
    assert 0.04 < np.mean(shared) < 0.1


def test_how_many_entries_a_batch_has_follows_from_its_rows(monkeypatch):
    batch = np.repeat([0, 1, 2], [10_000, 5_000, 20])
    x = np.random.default_rng(0).normal(size=(len(batch), 2)).astype(np.float32)
    data = x, batch, np.arange(len(batch)) % 10 == 0

    def sizes(**options):
        return Augmentation(PEA(**CENTER | options), *data).moments.size.tolist()

    wanted = 12 * 1024
    assert sizes() == [math.ceil(wanted * 10_000 / 15_020), math.ceil(wanted * 5_000 / 15_020), 32]
    assert sizes(drop_probability=0.75)[0] == math.ceil(wanted / 4 * 10_000 / 15_020)
    assert sizes(control_law="all") == [1, 1, 1]
    monkeypatch.setattr(_moments, "BANK_BYTES", 24 * 2 * 2 * 4)
    assert sizes() == [16, 8, 8]
    assert Augmentation(PEA(methods="tvn", drop_probability=0), *data).moments is None
    assert Augmentation(PEA(drop_probability=1), *data).moments is None


def test_a_resumed_run_has_the_moments_of_one_that_was_not_interrupted():
    """Each epoch renews a thirty-second of them."""
    _, whole = make(30, 40, seed=3)
    held = []
    for epoch in range(72):
        whole.start_epoch(epoch)
        held.append(torch.cat([whole.moments.mean, whole.moments.scale, whole.moments.number[:, None]], dim=1))
        if epoch in (0, 5, 32, 71):
            _, resumed = make(30, 40, seed=3)
            resumed.start_epoch(epoch)
            parts = resumed.moments.mean, resumed.moments.scale, resumed.moments.number[:, None]
            assert torch.equal(torch.cat(parts, dim=1), held[-1])
    new = [(one != other).any(dim=1) for one, other in zip(held, held[1:], strict=False)]
    assert max(part.double().mean() for part in new) <= 1 / LASTS + 0.01
    some = whole.moments.number < 29  # each is new within so many epochs; one of 29 draws all controls anew
    for first in range(0, len(new) - LASTS, 7):
        assert torch.stack(new[first : first + LASTS]).any(dim=0)[some].all()
    whole.moments.mean.zero_()
    whole.start_epoch(71)
    assert not whole.moments.mean.any()  # what is there is not fitted again


def test_one_draw_for_a_mini_batch_has_one_random_number_for_all_its_batches(plates, augmentation):
    data = plates((50, 100), 400)
    made, codes = augmentation(data, granularity="batch"), torch.tensor([0, 1, 0, 1])
    for row in range(30):
        draw = made.draw(torch.arange(row, row + 4), codes, 0)
        one, other, *again = made.moments.number[draw.moments].tolist()
        assert again == [one, other]
        assert abs(one / 50 - other / 100) < 0.05
