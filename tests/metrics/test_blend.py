"""How much of an embedding comes from its teacher, chosen without labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import sem
from sklearn.covariance import LedoitWolf

from semiclip import errors
from semiclip.metrics import choose_weight, shared_directions

WEIGHTS = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]


def plant(n_keys=300, n_shared=3, n_own=9, own=2.0, seed=0):
    """Return a student of shared and own directions, and a teacher of the shared ones alone."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_keys, n_shared))
    return np.hstack([shared, own * rng.normal(size=(n_keys, n_own))]), shared @ rng.normal(size=(n_shared, n_shared))


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def agree_naively(student, teacher, n_shared, groups, weights, n_folds, seed):
    """Compare blends and teacher rows pair by pair in each fold, (n_folds, n)."""
    names = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {name: place % n_folds for name, place in zip(names, order, strict=True)}
    table = np.empty((n_folds, len(weights)))
    for left_out in range(n_folds):
        fitted = np.array([fold[name] != left_out for name in groups])
        shared = shared_directions(student[fitted], teacher[fitted], n_folds=0)
        own = student - student[fitted].mean(axis=0)
        distilled = (own @ shared.student[:, :n_shared]) * shared.correlations[:n_shared] ** 2
        own, distilled = (part / np.sqrt((part[fitted] ** 2).sum(axis=1).mean()) for part in (own, distilled))
        mean, covariance = teacher[fitted].mean(axis=0), LedoitWolf().fit(teacher[fitted]).covariance_
        white = np.linalg.solve(np.linalg.cholesky(covariance), (teacher - mean).T).T
        for column, weight in enumerate(weights):
            blend = np.hstack([np.sqrt(weight) * distilled, np.sqrt(1 - weight) * own])
            pairs = [
                (cosine(blend[i], blend[j]), cosine(white[i], white[j]))
                for i in np.flatnonzero(~fitted)
                for j in np.flatnonzero(~fitted)
                if i < j and groups[i] != groups[j]
            ]
            table[left_out, column] = np.corrcoef(np.array(pairs).T)[0, 1]
    return table


@pytest.mark.parametrize("n_groups", [60, 20])
def test_agreement_equals_a_naive_loop(n_groups):
    student, teacher = plant(60, own=1.0)
    groups = np.arange(60) % n_groups
    found = choose_weight(student, teacher, 2, groups=groups, n_folds=3, rng=4)
    table = agree_naively(student, teacher, 2, groups, WEIGHTS, 3, 4)
    np.testing.assert_array_equal(found.weights, WEIGHTS)
    np.testing.assert_allclose(found.agreement, table, rtol=1e-8, atol=1e-10)
    means = [table[:, i].mean() for i in range(len(WEIGHTS))]
    best = table[:, int(np.argmax(means))]
    close = [
        weight
        for weight, column in zip(WEIGHTS, table.T, strict=True)
        if (best - column).mean() <= (best - column).std(ddof=1) / np.sqrt(3)
    ]
    assert found.weight == min(close)


def test_the_smallest_share_within_an_error_is_chosen():
    chosen = set()
    for seed in range(20):
        student, teacher = plant(60, own=1.0, seed=seed)
        weights = np.linspace(0, 1, 41)
        found = choose_weight(student, teacher, 2, weights=weights, n_folds=3, rng=seed)
        best = found.agreement[:, np.argmax(found.agreement.mean(axis=0))]
        lacks = [best - column for column in found.agreement.T]
        expected = next(weight for weight, lack in zip(weights, lacks, strict=True) if np.mean(lack) <= sem(lack))
        assert found.weight == expected
        chosen.add(expected)
    assert len(chosen) > 5


def test_pairs_of_a_group_are_left_out():
    """The second dose of a compound is nearly the first one: such pairs agree whatever the weight."""
    student, teacher = plant(80, own=3.0)
    rng = np.random.default_rng(1)
    doubled = [np.repeat(side, 2, axis=0) + 1e-6 * rng.normal(size=(160, side.shape[1])) for side in (student, teacher)]
    groups = np.repeat(np.arange(80), 2)
    with_groups = choose_weight(*doubled, 3, groups=groups, shrinkage=0.1, rng=0).agreement
    single = choose_weight(student, teacher, 3, shrinkage=0.1, rng=0).agreement
    # four pairs of doses for one of compounds, which are as alike
    np.testing.assert_allclose(with_groups, single, atol=1e-4)
    assert (choose_weight(*doubled, 3, shrinkage=0.1, rng=0).agreement - single)[:, 0].min() > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_a_student_that_is_mostly_its_own_noise_gives_way(seed):
    assert choose_weight(*plant(600, own=4.0, seed=seed), 3, rng=seed).weight == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_student_that_tells_more_than_is_distilled_stays(seed):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(300, 8))
    teacher = student @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 0.5 * rng.normal(size=(300, 8))
    assert choose_weight(student, teacher, 8, rng=seed).weight < 0.5  # of all directions, both parts tell the same
    few = choose_weight(student, teacher, 1, rng=seed)
    assert few.weight < 0.5  # one direction of eight
    assert (few.agreement[:, 0] > few.agreement[:, -1]).all()


def test_scales_offsets_and_turns_change_nothing():
    student, teacher = plant(120, own=1.5)
    rotations = [np.linalg.qr(np.random.default_rng(i).normal(size=(d, d)))[0] for i, d in enumerate((12, 3))]
    plain = choose_weight(student, teacher, 3, rng=0)
    for sides in (
        (student * 1000, teacher),
        (student, teacher / 1000),
        (student + 5, teacher - 3),
        (student @ rotations[0], teacher @ rotations[1]),
    ):
        moved = choose_weight(*sides, 3, rng=0)
        np.testing.assert_allclose(moved.agreement, plain.agreement, rtol=1e-6, atol=1e-9)
        assert moved.weight == plain.weight


def test_weights_may_be_named_in_any_order():
    student, teacher = plant(120, own=1.5)
    one = choose_weight(student, teacher, 3, weights=(0.2, 0.8, 0.5), rng=0)
    other = choose_weight(student, teacher, 3, weights=(0.8, 0.5, 0.2), rng=0)
    assert one.agreement.shape == (5, 3)
    np.testing.assert_array_equal(one.agreement, other.agreement[:, [2, 0, 1]])
    assert one.weight == other.weight


def test_of_very_many_keys_some_are_compared():
    """Of each fold 2,000 keys, drawn after the folds."""
    student, teacher = plant(4100, n_own=2)
    found = choose_weight(student, teacher, 3, weights=(0.0, 1.0), n_folds=2, shrinkage=0.0, rng=5)
    generator = np.random.default_rng(5)
    fold = generator.permutation(4100) % 2
    for left_out in range(2):
        fitted, held = fold != left_out, np.flatnonzero(fold == left_out)
        held = held[generator.permutation(2050)[:2000]]
        shared = shared_directions(student[fitted], teacher[fitted], shrinkage=0.0, n_folds=0)
        own = student - student[fitted].mean(axis=0)
        distilled = (own @ shared.student[:, :3]) * shared.correlations[:3] ** 2
        covariance = np.cov(teacher[fitted].T, bias=True)
        white = np.linalg.solve(np.linalg.cholesky(covariance), (teacher - teacher[fitted].mean(axis=0)).T).T
        target = pdist(white[held], "cosine")
        expected = [np.corrcoef(pdist(part[held], "cosine"), target)[0, 1] for part in (own, distilled)]
        np.testing.assert_allclose(found.agreement[left_out], expected, rtol=1e-8)


def test_one_direction_alone_may_tell_nothing_apart():
    """In one dimension all cosines of a fold may be 1, which agree with nothing."""
    rng = np.random.default_rng(0)
    student = np.hstack([rng.normal(size=(40, 1)) + 20 * (np.arange(40) < 2)[:, None], rng.normal(size=(40, 3))])
    teacher = student[:, :2] + rng.normal(size=(40, 2))
    found = choose_weight(student, teacher, 1, rng=0)
    assert np.isfinite(found.agreement).all()
    assert (found.agreement[:, -1] == 0).any()
    table = agree_naively(student, teacher, 1, np.arange(40), WEIGHTS[:-1], 5, 0)
    np.testing.assert_allclose(found.agreement[:, :-1], table, rtol=1e-8, atol=1e-10)


def test_refused(refuses):
    student, teacher = plant(30)
    for n_folds in (0, 1, 2.5):
        with refuses(errors.BadValue, name="n_folds", value=n_folds):
            choose_weight(student, teacher, 2, n_folds=n_folds)
    for n_shared in (0, 1.5):
        with refuses(errors.BadValue, name="n_shared", value=n_shared):
            choose_weight(student, teacher, n_shared)
    with refuses(errors.TooFew, number=2, needed=3):
        choose_weight(student, teacher, 2, groups=np.arange(30) % 2)
    with refuses(errors.TooFew, number=0, needed=2):  # a group by itself has no other to be compared with
        choose_weight(student, teacher, 2, groups=np.arange(30) % 3)
    with refuses(errors.NoVariation):
        choose_weight(student * 0, teacher, 2)
