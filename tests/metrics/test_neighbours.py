from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from sklearn.model_selection import LeaveOneGroupOut, LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from semiclip import errors, metrics
from semiclip.metrics import _neighbours, average_precision


def knn_accuracy(*arrays, n_permutations=0, **options):
    return metrics.knn_accuracy(*arrays, n_permutations=n_permutations, **options)


@pytest.fixture
def data():
    """Three unequally frequent labels, near each other, in four batches."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(["a", "b", "c"], [20, 30, 50]))
    means = {"a": [2, 0, 0, 0], "b": [0, 2, 0, 0], "c": [0, 0, 2, 0]}
    return np.stack([means[label] for label in labels]) + rng.normal(size=(100, 4)), labels, rng.integers(0, 4, 100)


@pytest.mark.parametrize("n_neighbors", [1, 2, 5, 20])
def test_votes_equal_sklearn(data, n_neighbors):
    x, labels, batch = data
    classifier = KNeighborsClassifier(n_neighbors, metric="cosine")
    for folds, split in (((), LeaveOneOut()), ((batch,), LeaveOneGroupOut())):
        predicted = cross_val_predict(classifier, x, labels, groups=batch if folds else None, cv=split)
        scores = knn_accuracy(x, labels, *folds, n_neighbors=n_neighbors)
        assert scores == {"value": pytest.approx((predicted == labels).mean()), "n_obs": 100, "chance": 0.5}


def test_rows_without_a_possible_neighbour_of_their_label_do_not_count():
    x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, -1.0]])
    labels = np.array(["a", "a", "b", "b", "alone"])
    assert knn_accuracy(x, labels, n_neighbors=1) == {"value": 1.0, "n_obs": 4, "chance": 0.5}
    # "b" is found in one batch only
    scores = knn_accuracy(x, labels, np.array([0, 1, 0, 0, 1]), n_neighbors=1)
    assert scores == {"value": 1.0, "n_obs": 2, "chance": 1.0}


def test_of_labels_that_tie_the_first_wins():
    x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
    scores = knn_accuracy(x, np.array([2, 2, 1, 3, 3, 3]), n_neighbors=2)
    assert (scores["value"], scores["n_obs"]) == (3 / 5, 5)


def test_permuted_labels_of_any_kind_measure_chance_and_nothing_is_changed(data):
    x, labels, batch = (part.copy() for part in data)
    scores = knn_accuracy(x, labels, batch, n_permutations=200, rng=0)
    for a, b in ((list(labels), pd.Series(batch)), (pd.Categorical(labels), list(batch))):
        assert knn_accuracy(x, a, b, n_permutations=200, rng=0) == scores
    rng = np.random.default_rng(0)
    expected = [knn_accuracy(x, rng.permutation(labels), batch)["value"] for _ in range(200)]
    assert scores["chance_mean"] == pytest.approx(np.mean(expected))
    assert scores["chance_sd"] == pytest.approx(np.std(expected, ddof=1))
    assert 0.34 < scores["chance_mean"] < 0.5 < scores["value"]  # between guessing by frequency and always the same
    for part, before in zip((x, labels, batch), data, strict=True):
        np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"n_neighbors": 3}, errors.BadValue, {"name": "n_neighbors", "value": 3}),
        ({"n_neighbors": 0}, errors.BadValue, {"value": 0}),
        ({"n_neighbors": 2, "batch": np.array([0, 0, 1])}, errors.BadValue, {"value": 2}),
        ({"batch": np.zeros(3)}, errors.BadValue, {"value": 1}),
        ({"labels": np.array(["a", "b", "c"])}, errors.Empty, {}),
        ({"batch": np.array([0, 0, 1])}, errors.Empty, {}),
        ({"n_permutations": 1}, errors.BadValue, {"name": "n_permutations"}),
        ({"n_permutations": -1}, errors.BadValue, {"name": "n_permutations"}),
    ],
)
def test_refuses(refuses, change, error, data):
    arguments = {"x": np.eye(3)[:, :2] + 1, "labels": np.array([0, 0, 1]), "n_neighbors": 1} | change
    with refuses(error, **data):
        knn_accuracy(**arguments)


# ---- average precision


def rank_by_hand(x, codes, batch=None, first=None, site=None):
    """One row at a time with scikit-learn."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    scores = []
    for i in range(first or len(x)):
        candidates = np.arange(len(x)) != i if batch is None else batch != batch[i]
        if site is not None:
            candidates &= site != site[i]
        relevant = codes[candidates] == codes[i]
        cosine = np.round(unit[candidates] @ unit[i], 10)
        scores.append(average_precision_score(relevant, cosine) if relevant.any() else np.nan)
    return np.array(scores)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_precision_equals_sklearn(ties, batched):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, size=(80, 3)).astype(float) if ties else rng.normal(size=(80, 6))
    codes = rng.permutation(np.repeat([0, 3, 4, 7, 9], [1, 2, 7, 20, 50]))
    batch = rng.choice(["b", "a", "c"], size=80) if batched else None
    value, chance = average_precision(x, codes, batch)
    expected = rank_by_hand(x, codes, batch)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(chance), np.isnan(expected))
    assert np.isnan(value[codes == 0]).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("block", [1, 150, 1 << 22])
@pytest.mark.parametrize("compared", [0, 8])
def test_precision_without_rows_of_its_site_equals_sklearn(ties, batched, block, compared, monkeypatch):
    monkeypatch.setattr(_neighbours, "BLOCK", block)
    monkeypatch.setattr(_neighbours, "COMPARED", compared)
    rng = np.random.default_rng(1)
    x = rng.integers(-1, 2, size=(90, 3)).astype(float) if ties else rng.normal(size=(90, 6))
    codes = rng.permutation(np.repeat([0, 1, 2, 3, 4, 5], [1, 2, 3, 9, 25, 50]))
    site = np.where(codes == 1, "own", rng.choice(["p", "q", "r", "s"], size=90))  # a group within a site
    batch = rng.integers(3, size=90) if batched else None
    value, chance = average_precision(x, codes, batch, site)
    expected = rank_by_hand(x, codes, batch, site=site)
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(chance), np.isnan(expected))
    assert np.isnan(value[codes <= 1]).all()


@pytest.mark.parametrize("batched", [False, True])
def test_precision_of_noise_is_at_chance(batched):
    rng, codes = np.random.default_rng(0), np.repeat(np.arange(100), 6)
    batch = np.tile(np.arange(3), 200) if batched else None
    value, chance = average_precision(rng.normal(size=(600, 20)), codes, batch)
    assert value.mean() == pytest.approx(chance.mean(), abs=4 * value.std() / np.sqrt(600))


def test_batch_effects_do_not_help_across_batches():
    rng, batch = np.random.default_rng(0), np.repeat(np.arange(4), 50)
    labels = np.where(rng.random(200) < 0.9, batch % 2, 1 - batch % 2)  # known from the batch
    x = 5 * np.eye(4)[batch] + rng.normal(size=(200, 4))
    assert knn_accuracy(x, labels)["value"] > 0.8
    assert knn_accuracy(x, labels, batch)["value"] < 0.7


def test_blocks_change_nothing():
    x, codes = np.random.default_rng(0).normal(size=(2500, 3)), np.arange(2500) % 50
    value, _ = average_precision(x, codes)  # rows are taken in two blocks
    rows = [0, 1, 1677, 1678, 2499]
    scores = [rank_by_hand(np.roll(x, -i, axis=0), np.roll(codes, -i), first=1)[0] for i in rows]
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
