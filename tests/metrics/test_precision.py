from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from semiclip.metrics import average_precision


def by_hand(x, codes, batch=None, first=None):
    """One row at a time with scikit-learn."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    scores = []
    for i in range(first or len(x)):
        candidates = np.arange(len(x)) != i if batch is None else batch != batch[i]
        relevant = codes[candidates] == codes[i]
        cosine = np.round(unit[candidates] @ unit[i], 10)
        scores.append(average_precision_score(relevant, cosine) if relevant.any() else np.nan)
    return np.array(scores)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_equals_sklearn(ties, batched):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, size=(80, 3)).astype(float) if ties else rng.normal(size=(80, 6))
    codes = rng.permutation(np.repeat([0, 3, 4, 7, 9], [1, 2, 7, 20, 50]))
    batch = rng.choice(["b", "a", "c"], size=80) if batched else None
    value, chance = average_precision(x, codes, batch)
    expected = by_hand(x, codes, batch)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(chance), np.isnan(expected))
    assert np.isnan(value[codes == 0]).all()


def test_blocks_change_nothing():
    x, codes = np.random.default_rng(0).normal(size=(2500, 3)), np.arange(2500) % 50
    value, _ = average_precision(x, codes)  # rows are taken in two blocks
    rows = [0, 1, 1677, 1678, 2499]
    scores = [by_hand(np.roll(x, -i, axis=0), np.roll(codes, -i), first=1)[0] for i in rows]
    np.testing.assert_allclose(value[rows], scores, atol=1e-12)


def test_best_and_worst_and_constant():
    x, codes = np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4)
    assert (average_precision(x, codes)[0] == 1).all()
    last = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.5, 1.0]])
    assert average_precision(last, np.array([0, 0, 1, 2]))[0][0] == 1 / 3
    # all tie: the precision of taking every candidate
    np.testing.assert_allclose(average_precision(np.full((12, 5), 0.1), codes)[0], 3 / 11)


@pytest.mark.parametrize(("n_relevant", "n_candidates"), [(1, 1), (1, 6), (3, 7), (5, 6), (6, 6)])
def test_chance_is_the_mean_over_all_rankings(n_relevant, n_candidates):
    scores = [
        np.mean([(before + 1) / (place + 1) for before, place in enumerate(places)])
        for places in combinations(range(n_candidates), n_relevant)
    ]
    codes = np.arange(n_candidates + 1) > n_relevant  # the first row has so many others of its group
    assert average_precision(np.ones((n_candidates + 1, 2)), codes)[1][0] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("batched", [False, True])
def test_noise_is_at_chance(batched):
    rng = np.random.default_rng(0)
    codes, batch = np.repeat(np.arange(100), 6), np.tile(np.arange(3), 200) if batched else None
    value, chance = average_precision(rng.normal(size=(600, 20)), codes, batch)
    assert value.mean() == pytest.approx(chance.mean(), abs=4 * value.std() / np.sqrt(600))


def test_another_batch_is_where_replicates_are_looked_for():
    x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.2]])
    value, _ = average_precision(x, np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(value, [1, 1, np.nan, 1])
