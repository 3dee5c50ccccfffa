"""How often everything that Perturbation Embedding Augmentation can draw is drawn."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chi2_contingency, chisquare

from semiclip.correction import PEA, Augmentation

LEAST = 1e-3  # p-value: the draws are fixed, so a test that passes once always passes
NAMES = ("center", "scale", "whiten")


def drawn(n, n_controls=10, **options):
    """What n rows of one batch draw."""
    x = np.random.default_rng(0).normal(size=(n_controls, 2)).astype(np.float32)
    made = Augmentation(PEA(**options), x, np.zeros(n_controls, dtype=int), np.ones(n_controls, dtype=bool))
    codes = torch.zeros(n, dtype=torch.long)
    return made, codes, made.draw(torch.arange(n), codes, 0)


def alike(chosen):
    """p-value of each control being chosen as often, where every row chooses as many without replacement."""
    n_rows, n = chosen.shape
    share = chosen[0].float().mean()
    statistic = ((chosen.sum(dim=0) - share * n_rows) ** 2).sum() / (n_rows * share * (1 - share)) * (n - 1) / n
    return chi2.sf(statistic, df=n - 1)


def frequencies(steps):
    return Counter(tuple(name for name, kept in zip(NAMES, row, strict=True) if kept) for row in steps.tolist())


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
    """With ``drop_probability=0`` the plans are the methods, a third each."""
    _, _, draw = drawn(30_000, **options)
    plans, counts = PEA(**options).plans, frequencies(draw.steps)
    assert counts.keys() == plans.keys()
    expected = 30_000 * np.array(list(plans.values()))
    assert chisquare([counts[plan] for plan in plans], expected).pvalue > LEAST


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
@pytest.mark.parametrize(("n_controls", "least"), [(2, 2), (3, 2), (3, 3), (10, 2), (10, 3), (40, 2)])
def test_the_number_of_controls_goes_from_the_least_to_all(n_controls, least, law):
    _, _, draw = drawn(20_000, n_controls, min_controls=least, control_law=law)
    numbers = np.arange(least, n_controls + 1)
    counts = np.bincount(draw.number.numpy(), minlength=n_controls + 1)
    chance = np.log((numbers + 1) / numbers) if law == "log_uniform" else np.ones(len(numbers))
    assert counts[:least].sum() == 0
    assert len(counts) == n_controls + 1
    assert n_controls == least or chisquare(counts[least:], 20_000 * chance / chance.sum()).pvalue > LEAST


def test_all_controls_are_all():
    made, codes, draw = drawn(100, 10, control_law="all")
    assert (draw.number == 10).all()
    assert made.pools.draw_subset(codes, draw.number, draw.subset).all()
    assert made.bank.size == 1


@pytest.mark.parametrize("law", ["uniform", "log_uniform"])
def test_every_control_is_drawn_as_often(law):
    made, codes, draw = drawn(30_000, 10, control_law=law)
    chosen = made.pools.draw_subset(codes, draw.number, draw.subset)
    assert torch.equal(chosen.sum(dim=1), draw.number)  # without replacement
    for number in (2, 5, 9):
        assert LEAST < alike(chosen[draw.number == number]) < 1 - LEAST
    np.testing.assert_allclose(chosen.float().mean(dim=0), draw.number.float().mean() / 10, rtol=0.05)


def test_every_set_of_controls_is_as_likely():
    made, codes, draw = drawn(30_000, 5)
    chosen = made.pools.draw_subset(codes, draw.number, draw.subset)
    for number in (2, 3, 4):
        counts = Counter(map(tuple, chosen[draw.number == number].tolist()))
        assert len(counts) == math.comb(5, number)
        assert chisquare(list(counts.values())).pvalue > LEAST


def test_plan_number_and_transform_are_independent():
    made, _, draw = drawn(40_000, 5)
    plan = (draw.steps * torch.tensor([1, 2, 4])).sum(dim=1).numpy()
    columns = [plan, draw.number.numpy() - 2, draw.entry.numpy() % made.bank.size, draw.subset.numpy() % 4]
    for first, second in combinations(columns, 2):
        table = np.zeros((first.max() + 1, second.max() + 1))
        np.add.at(table, (first, second), 1)
        assert chi2_contingency(table).pvalue > LEAST


def test_the_transforms_of_the_bank_follow_the_same_laws():
    """The number of controls of a transform, which controls, and which transform a row takes."""
    made, codes, draw = drawn(30_000, 8, bank_size=6000)
    entry = torch.arange(12_000)
    _, number, chosen = made.bank.draw_controls(entry, 0)
    assert torch.equal(chosen.sum(dim=1), number)
    assert chisquare(np.bincount(number.numpy())[2:]).pvalue > LEAST
    for kind in (entry < 6000, entry >= 6000):
        assert LEAST < alike(chosen[kind & (number == 4)]) < 1 - LEAST
    place = draw.entry % 6000
    assert torch.equal(draw.entry >= 6000, ~draw.steps[:, 1])  # those of scaled controls come first
    assert chisquare(np.bincount(place.numpy() // 60, minlength=100)).pvalue > LEAST
    made.start_epoch(0)
    controls = made.pools.standard.double()
    mean = torch.einsum("en,nd->ed", chosen.double(), controls) / number[:, None]
    np.testing.assert_allclose((made.bank.mean - made.pools.mean) / made.pools.sd, mean, atol=1e-6)
