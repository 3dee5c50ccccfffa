"""Rankings by distance, whose ties stand in every order, against all orders."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from semiclip.metrics import average_precision
from semiclip.metrics._nearby import nearby_precision


def average_over_orders(distance, is_relevant):
    """Return the mean average precision over the orders that do not put a farther candidate first."""
    orders = np.array(list(itertools.permutations(range(len(distance)))))
    orders = orders[(np.diff(distance[orders], axis=1) >= 0).all(axis=1)]
    hits = is_relevant[orders]
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(axis=1).mean() / is_relevant.sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["all", "batch", "site"])
def test_ties_stand_in_every_order(seed, kind):
    rng = np.random.default_rng(seed)
    position, codes = rng.integers(0, 3, (8, 2)), rng.integers(0, 3, 8)
    batch = rng.integers(0, 2, 8) if kind == "batch" else None
    site = np.unique(position, axis=0, return_inverse=True)[1].ravel() if kind == "site" else None
    value, chance = nearby_precision(position, codes, batch, apart=kind == "site")
    for i in range(8):
        keep = np.arange(8) != i if batch is None else batch != batch[i]
        if site is not None:
            keep &= site != site[i]
        if not (codes[keep] == codes[i]).any():
            assert np.isnan([value[i], chance[i]]).all()
            continue
        distance = ((position[keep] - position[i]) ** 2).sum(axis=1)
        is_relevant = codes[keep] == codes[i]
        assert value[i] == pytest.approx(average_over_orders(distance, is_relevant))
        assert chance[i] == pytest.approx(average_over_orders(0 * distance, is_relevant))


def test_without_ties_it_is_that_of_scikit_learn_and_of_a_cosine():
    position = np.array([[0, 0], [0, 1], [0, 3], [0, 7], [0, 15], [0, 31]])
    codes = np.array([0, 1, 0, 1, 0, 1])
    value, _ = nearby_precision(position, codes)
    for i in range(6):
        keep = np.arange(6) != i
        distance = ((position[keep] - position[i]) ** 2).sum(axis=1)
        assert value[i] == pytest.approx(average_precision_score(codes[keep] == codes[i], -distance))


def test_rows_of_the_same_site_are_no_candidates():
    rng = np.random.default_rng(0)
    x, codes, site = rng.normal(size=(60, 5)), rng.integers(0, 6, 60), rng.integers(0, 9, 60)
    batch = rng.integers(0, 3, 60)
    value, _ = average_precision(x, codes, batch, site)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for i in range(60):
        keep = (batch != batch[i]) & (site != site[i])
        expected = average_precision_score(codes[keep] == codes[i], unit[keep] @ unit[i])
        assert value[i] == pytest.approx(expected)
