from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from scipy.stats import energy_distance as in_one_dimension

from semiclip import errors
from semiclip.metrics import energy_distance
from semiclip.metrics._groups import energy_distances, permuted_energy_distances


def by_hand(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), [(23, 31), (2500, 2200)])  # more than one block
def test_equals_scipy(dtype, n, m):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 6)).astype(dtype), rng.normal(0.5, 2, size=(m, 6)).astype(dtype)
    assert energy_distance(x, y) == pytest.approx(by_hand(x.astype(float), y.astype(float)), rel=1e-11)
    assert energy_distance(y, x) == pytest.approx(energy_distance(x, y), rel=1e-11)


def test_is_twice_the_squared_distance_of_the_distributions_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.normal(1, 2, size=20)
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(in_one_dimension(x, y) ** 2, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2, 13, 500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_sets_have_no_distance(n, dtype):
    x = np.random.default_rng(n).normal(3, 1, size=(n, 7)).astype(dtype)
    assert energy_distance(x, x.copy()) == 0
    assert 0 <= energy_distance(x, np.repeat(x, 3, axis=0)[::-1]) < 1e-12


def test_has_the_units_of_the_rows_and_no_origin():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)), rng.normal(size=(15, 3))
    assert energy_distance(x + 5, y + 5) == pytest.approx(energy_distance(x, y))
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * energy_distance(x, y))
    assert energy_distance(np.zeros((4, 2)), np.tile([3.0, 4.0], (6, 1))) == 10


@pytest.mark.parametrize("others", [[0, 0, 0, 0], [1, 0, 0, 1]])
def test_exchanges_draw_every_set_of_the_same_batches_alike(others):
    batch, others = np.array([0, 0] if not any(others) else [0, 1]), np.array(others)
    x, reference = np.arange(2.0)[:, None].astype(np.float32), 10 ** np.arange(1.0, 5.0)[:, None]
    within, rng = cdist(reference, reference), np.random.default_rng(0)
    value, null = permuted_energy_distances(x, reference, within, (batch, others), 3000, rng)
    everything, batches = np.concatenate([x, reference]), np.append(batch, others)
    sets = [rows for rows in map(list, combinations(range(6), 2)) if sorted(batches[rows]) == sorted(batch)]
    expected = [by_hand(everything[rows], np.delete(everything, rows, axis=0)) for rows in sets]
    seen, counts = np.unique(null.round(6), return_counts=True)
    np.testing.assert_allclose(seen, np.sort(expected), rtol=1e-6)
    assert chisquare(counts).pvalue > 0.001
    assert value == pytest.approx(energy_distance(x, reference))
    np.testing.assert_allclose(energy_distances(iter([x, 2 * x]), reference)[0], value)


@pytest.mark.parametrize(
    ("x", "y", "error", "data"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), errors.Mismatch, {"got": 4, "expected": 2}),
        (np.ones((0, 2)), np.ones((3, 2)), errors.Empty, {"what": "rows in x"}),
        (np.ones((3, 2)), np.ones((0, 2)), errors.Empty, {"what": "rows in y"}),
        (np.ones((3, 2)), np.full((1, 2), np.inf), errors.NotFinite, {"where": "y", "rows": [0]}),
    ],
)
def test_refuses(refuses, x, y, error, data):
    with refuses(error, **data):
        energy_distance(x, y)
