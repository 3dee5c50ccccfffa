from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.cross_decomposition import CCA

from semiclip import errors
from semiclip.metrics import shared_directions


def plant(n_shared, n_keys=1000, seed=0, widths=(64, 128), noise=2.0):
    """Return two sides that share so many directions, each with noise in all of its own."""
    rng = np.random.default_rng(seed)
    both = rng.normal(size=(n_keys, n_shared))
    return [both @ rng.normal(size=(n_shared, d)) + noise * rng.normal(size=(n_keys, d)) for d in widths]


@pytest.mark.parametrize("widths", [(6, 9), (9, 6)])
def test_without_shrinkage_they_are_those_of_scikit_learn(widths):
    student, teacher = plant(4, 300, widths=widths)
    found = shared_directions(student, teacher, shrinkage=0, n_permutations=0)
    peer = CCA(4, scale=False, max_iter=5000, tol=1e-12).fit(student, teacher)
    scores = peer.transform(student, teacher)
    expected = [np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(found.correlations[:4], expected, rtol=1e-6)
    for directions, rotation in ((found.student, peer.x_rotations_), (found.teacher, peer.y_rotations_)):
        assert subspace_angles(directions[:, :4], rotation).max() < 1e-4
    assert found.n == len(found.correlations) == 6


@pytest.mark.parametrize("n_shared", [5, 20, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_are_found_as_there_are(n_shared, seed):
    found = shared_directions(*plant(n_shared, seed=seed), rng=0)
    assert abs(found.n - n_shared) <= 0.2 * n_shared


def test_nothing_is_shared_by_keys_in_a_random_order():
    student, teacher = plant(20, 400)
    rng = np.random.default_rng(1)
    numbers = [shared_directions(student, teacher[rng.permutation(400)], rng=seed).n for seed in range(40)]
    assert np.mean(np.array(numbers) > 0) < 0.2  # 5 % are expected
    assert max(numbers) <= 1


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
        np.testing.assert_allclose(moved.null, before.null, rtol=1e-8)


def test_shrinkage_keeps_few_keys_from_correlating_perfectly():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(40, 60)), rng.normal(size=(40, 50))
    assert shared_directions(student, teacher, shrinkage=0, n_permutations=0).correlations[0] > 0.999
    assert shared_directions(student, teacher, rng=0).n == 0


def test_directions_without_variation_are_left_out():
    student, teacher = plant(3, 200, widths=(6, 7))
    wide = np.hstack([student, np.zeros((200, 2)), student[:, :1]])
    found = shared_directions(wide, teacher, shrinkage=0, n_permutations=0)
    np.testing.assert_allclose(
        found.correlations, shared_directions(student, teacher, shrinkage=0, n_permutations=0).correlations, rtol=1e-8
    )


def test_refused(refuses):
    student, teacher = plant(2, 20, widths=(3, 3))
    with refuses(errors.WrongShape, shape=((20, 3), (19, 3))):
        shared_directions(student, teacher[1:])
    with refuses(errors.TooFew, number=1, needed=2):
        shared_directions(student[:1], teacher[:1])
    with refuses(errors.BadValue, name="shrinkage", value=1.5):
        shared_directions(student, teacher, shrinkage=1.5)
    with refuses(errors.NoVariation):
        shared_directions(student * 0, teacher)
