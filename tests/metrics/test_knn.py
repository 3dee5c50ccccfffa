import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut, LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from semiclip import errors, metrics


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
def test_equals_sklearn(data, n_neighbors):
    x, labels, batch = data
    classifier = KNeighborsClassifier(n_neighbors, metric="cosine")
    predicted = cross_val_predict(classifier, x, labels, cv=LeaveOneOut())
    scores = knn_accuracy(x, labels, n_neighbors=n_neighbors)
    assert scores == {"value": pytest.approx((predicted == labels).mean()), "n_obs": 100, "chance": 0.5}
    predicted = cross_val_predict(classifier, x, labels, groups=batch, cv=LeaveOneGroupOut())
    scores = knn_accuracy(x, labels, batch, n_neighbors=n_neighbors)
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
    assert knn_accuracy(x, np.array([2, 2, 1, 3, 3, 3]), n_neighbors=2)["n_obs"] == 5
    assert knn_accuracy(x, np.array([2, 2, 1, 3, 3, 3]), n_neighbors=2)["value"] == 3 / 5


def test_permuted_labels_measure_chance(data):
    x, labels, batch = data
    scores = knn_accuracy(x, labels, batch, n_permutations=200, rng=0)
    assert scores == knn_accuracy(x, labels, batch, n_permutations=200, rng=0)
    rng = np.random.default_rng(0)
    expected = [knn_accuracy(x, rng.permutation(labels), batch)["value"] for _ in range(200)]
    assert scores["chance_mean"] == pytest.approx(np.mean(expected))
    assert scores["chance_sd"] == pytest.approx(np.std(expected, ddof=1))
    assert 0.34 < scores["chance_mean"] < 0.5 < scores["value"]  # between guessing by frequency and always the same


def test_takes_any_kind_of_labels_and_changes_nothing(data):
    x, labels, batch = (part.copy() for part in data)
    expected = knn_accuracy(x, labels, batch, n_permutations=2, rng=0)
    for a, b in ((list(labels), pd.Series(batch)), (pd.Categorical(labels), list(batch))):
        assert knn_accuracy(x, a, b, n_permutations=2, rng=0) == expected
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
