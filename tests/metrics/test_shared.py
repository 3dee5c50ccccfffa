from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm, subspace_angles
from sklearn.covariance import LedoitWolf, shrunk_covariance
from sklearn.cross_decomposition import CCA, PLSSVD

from semiclip import errors
from semiclip.metrics import shared_directions


def plant(n_shared, n_keys=1000, seed=0, widths=(64, 128), noise=2.0):
    """Return two sides that share so many directions, each with noise in all of its own."""
    rng = np.random.default_rng(seed)
    both = rng.normal(size=(n_keys, n_shared))
    return [both @ rng.normal(size=(n_shared, d)) + noise * rng.normal(size=(n_keys, d)) for d in widths]


def fit_naively(student, teacher, shrinkage):
    """Return means, directions and correlations, by symmetric roots of covariances that scikit-learn shrinks."""
    sides, means, roots = (student, teacher), [], []
    for side in sides:
        means.append(side.mean(axis=0))
        if shrinkage is None:
            covariance = LedoitWolf().fit(side).covariance_
        else:
            covariance = shrunk_covariance(np.cov(side.T, bias=True), shrinkage)
        roots.append(np.linalg.inv(sqrtm(covariance)))
    across = (student - means[0]).T @ (teacher - means[1]) / len(student)
    left, correlations, right = np.linalg.svd(roots[0] @ across @ roots[1], full_matrices=False)
    return means, (roots[0] @ left, roots[1] @ right.T), correlations


def hold_out_naively(student, teacher, groups, shrinkage, n_folds, seed):
    """Return the correlations of all held-out keys in the directions of the others, and errors from sums of groups."""
    names = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {name: place % n_folds for name, place in zip(names, order, strict=True)}
    sums = np.zeros((3, min(student.shape[1], teacher.shape[1])))
    by_group = dict.fromkeys(names, 0.0)
    for left_out in range(n_folds):
        held = np.array([fold[name] == left_out for name in groups])
        means, directions, _ = fit_naively(student[~held], teacher[~held], shrinkage)
        for x, y, name in zip(student[held], teacher[held], np.asarray(groups)[held], strict=True):
            a, b = (x - means[0]) @ directions[0], (y - means[1]) @ directions[1]
            sums += [a * b, a * a, b * b]
            by_group[name] = by_group[name] + a * b
    size = np.sqrt(sums[1] * sums[2])
    error = np.std([*by_group.values()], axis=0) * np.sqrt(len(names)) / size
    return sums[0] / size, np.maximum(error, 1 / np.sqrt(len(names)))


@pytest.mark.parametrize("widths", [(6, 9), (9, 6)])
def test_without_shrinkage_they_are_those_of_scikit_learn(widths):
    student, teacher = plant(4, 300, widths=widths)
    found = shared_directions(student, teacher, shrinkage=0, n_folds=0)
    peer = CCA(4, scale=False, max_iter=5000, tol=1e-12).fit(student, teacher)
    scores = peer.transform(student, teacher)
    expected = [np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(found.correlations[:4], expected, rtol=1e-6)
    for directions, rotation in ((found.student, peer.x_rotations_), (found.teacher, peer.y_rotations_)):
        assert subspace_angles(directions[:, :4], rotation).max() < 1e-4
    assert found.n == len(found.correlations) == 6
    assert np.isnan(found.held_out).all()


def test_with_full_shrinkage_they_are_those_of_the_cross_covariance():
    student, teacher = plant(4, 300, widths=(6, 9))
    found = shared_directions(student, teacher, shrinkage=1, rng=0)
    peer = PLSSVD(4, scale=False).fit(student, teacher)
    for directions, weights in ((found.student, peer.x_weights_), (found.teacher, peer.y_weights_)):
        unit = directions[:, :4] / np.linalg.norm(directions[:, :4], axis=0)
        np.testing.assert_allclose(np.abs((unit * weights).sum(axis=0)), 1, rtol=1e-8)
    across = (student - student.mean(axis=0)).T @ (teacher - teacher.mean(axis=0)) / 300
    scale = np.sqrt(student.var(axis=0).mean() * teacher.var(axis=0).mean())
    np.testing.assert_allclose(found.correlations, np.linalg.svd(across)[1] / scale, rtol=1e-6)
    assert found.n == 4
    assert (np.abs(found.held_out) <= 1).all()


@pytest.mark.parametrize("n_shared", [5, 20, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_are_found_as_there_are(n_shared, seed):
    found = shared_directions(*plant(n_shared, seed=seed), rng=0)
    assert abs(found.n - n_shared) <= 0.2 * n_shared


def test_nothing_is_shared_by_keys_in_a_random_order():
    student, teacher = plant(20, 400)
    rng = np.random.default_rng(1)
    assert {shared_directions(student, teacher[rng.permutation(400)], rng=seed).n for seed in range(30)} == {0}


@pytest.mark.parametrize(("n_keys", "widths"), [(60, (32, 48)), (400, (8, 16))])
def test_hardly_ever_is_anything_shared_by_few_keys_in_a_random_order(n_keys, widths):
    student, teacher = plant(20, n_keys, widths=widths)
    rng = np.random.default_rng(1)
    numbers = [shared_directions(student, teacher[rng.permutation(n_keys)], rng=seed).n for seed in range(60)]
    assert np.count_nonzero(numbers) <= 6
    assert max(numbers) <= 3


def test_what_keys_of_a_group_share_on_either_side_is_not_what_the_sides_share():
    """A compound has effects of its own on either side, at all doses: their chance agreement is no agreement."""
    groups, counts = np.repeat(np.arange(100), 3), {"with": [], "without": []}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        student, teacher = (3 * rng.normal(size=(100, 12))[groups] + rng.normal(size=(300, 12)) for _ in range(2))
        counts["with"].append(shared_directions(student, teacher, groups=groups, rng=seed).n)
        counts["without"].append(shared_directions(student, teacher, rng=seed).n)
    assert counts["with"] == [0] * 6
    assert min(counts["without"]) >= 3


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, None])
@pytest.mark.parametrize("n_groups", [120, 31, None])
def test_held_out_correlations_equal_a_naive_loop(shrinkage, n_groups):
    student, teacher = plant(3, 120, widths=(7, 5))
    groups = None
    if n_groups is not None:
        groups = np.array([f"compound {i % n_groups}" for i in range(120)])  # of unequal size
    found = shared_directions(student, teacher, groups=groups, shrinkage=shrinkage, n_folds=4, rng=6)
    naive = np.arange(120) if groups is None else groups
    expected, error = hold_out_naively(student, teacher, naive, shrinkage, 4, 6)
    np.testing.assert_allclose(found.held_out, expected, rtol=1e-6, atol=1e-9)
    sums = [(expected[: k + 1] - 2 * error[: k + 1]).sum() for k in range(5)]
    best = int(np.argmax(sums))
    assert found.n == (1 + best if sums[best] > 2 * error[best] else 0)
    # directions are fitted on all keys
    means, directions, correlations = fit_naively(student, teacher, shrinkage)
    np.testing.assert_allclose(found.correlations, correlations, rtol=1e-6)
    np.testing.assert_allclose(found.student_mean, means[0])
    np.testing.assert_allclose(found.teacher_mean, means[1])
    sign = np.sign((found.student * directions[0]).sum(axis=0))
    np.testing.assert_allclose(found.student * sign, directions[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.teacher * sign, directions[1], rtol=1e-6, atol=1e-9)


def test_more_folds_than_groups_leave_each_group_out():
    student, teacher = plant(2, 24, widths=(3, 3), noise=0.5)
    groups = np.repeat(np.arange(8), 3)
    many, all_of_them = (shared_directions(student, teacher, groups=groups, n_folds=n, rng=1) for n in (50, 8))
    np.testing.assert_array_equal(many.held_out, all_of_them.held_out)
    expected, _ = hold_out_naively(student, teacher, groups, None, 8, 1)
    np.testing.assert_allclose(many.held_out, expected, rtol=1e-6)


def test_projections_correlate_as_told_and_offsets_and_rotations_change_nothing():
    student, teacher = plant(5, 500, widths=(10, 12))
    found = shared_directions(student, teacher, shrinkage=0, rng=0)
    one = (student - found.student_mean) @ found.student
    other = (teacher - found.teacher_mean) @ found.teacher
    np.testing.assert_allclose(one.T @ other / 500, np.diag(found.correlations), atol=1e-10)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    for shrinkage in (0.3, None):
        before = shared_directions(student, teacher, shrinkage=shrinkage, rng=0)
        moved = shared_directions(student + 7, teacher @ rotation * 3 - 2, shrinkage=shrinkage, rng=0)
        np.testing.assert_allclose(moved.correlations, before.correlations, rtol=1e-8)
        np.testing.assert_allclose(moved.held_out, before.held_out, rtol=1e-6)
        assert moved.n == before.n == 5


def test_the_seed_decides_the_folds_and_names_of_groups_nothing():
    student, teacher = plant(5, 100, widths=(10, 12))
    groups = np.arange(100) // 2
    one, again, other = (shared_directions(student, teacher, groups=groups, rng=seed).held_out for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    named = shared_directions(student, teacher, groups=np.char.zfill(groups.astype(str), 3), rng=0)
    np.testing.assert_array_equal(named.held_out, one)


def test_shrinkage_keeps_few_keys_from_correlating_perfectly():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(40, 60)), rng.normal(size=(40, 50))
    assert shared_directions(student, teacher, shrinkage=0, n_folds=0).correlations[0] > 0.999
    found = shared_directions(student, teacher, rng=0)
    assert np.abs(found.held_out).max() < 0.5
    assert found.n == 0


def test_directions_without_variation_are_left_out():
    student, teacher = plant(3, 200, widths=(6, 7))
    wide = np.hstack([student, np.zeros((200, 2)), student[:, :1]])
    found, bare = (shared_directions(side, teacher, shrinkage=0, rng=0) for side in (wide, student))
    np.testing.assert_allclose(found.correlations, bare.correlations, rtol=1e-8)
    np.testing.assert_allclose(found.held_out, bare.held_out, rtol=1e-8)


def test_refused(refuses):
    student, teacher = plant(2, 20, widths=(3, 3))
    with refuses(errors.WrongShape, shape=((20, 3), (19, 3))):
        shared_directions(student, teacher[1:])
    for groups in (np.arange(19), np.zeros((20, 1)), 3):
        with refuses(errors.WrongShape, shape=np.shape(groups)):
            shared_directions(student, teacher, groups=groups)
    with refuses(errors.TooFew, number=1, needed=2):
        shared_directions(student[:1], teacher[:1])
    with refuses(errors.TooFew, number=2, needed=3):
        shared_directions(student, teacher, groups=np.arange(20) % 2)
    with refuses(errors.TooFew, number=2, needed=3):
        shared_directions(student[:2], teacher[:2])
    with refuses(errors.BadValue, name="shrinkage", value=1.5):
        shared_directions(student, teacher, shrinkage=1.5)
    with refuses(errors.BadValue, name="n_folds", value=-1):
        shared_directions(student, teacher, n_folds=-1)
    for sides in ((student * 0, teacher), (student, teacher * 0 + 3)):
        with refuses(errors.NoVariation):
            shared_directions(*sides)
