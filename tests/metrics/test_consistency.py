import numpy as np
import pytest
from scipy.spatial.distance import pdist

from semiclip.metrics import consistency
from semiclip.metrics._groups import random_consistency


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("copies", [1, 100])  # 6,000 rows are two blocks
def test_equals_the_mean_of_all_pairs(dtype, copies):
    rng = np.random.default_rng(0)
    sizes = copies * np.array([2, 3, 5, 10, 15, 25])
    x, codes = rng.normal(size=(sizes.sum(), 5)).astype(dtype), rng.permutation(np.repeat(np.arange(6), sizes))
    expected = [np.mean(1 - pdist(x[codes == code].astype(np.float64), "cosine")) for code in range(6)]
    np.testing.assert_allclose(consistency(x, codes, 6), expected, atol=2e-12)
    scaled = (x * rng.uniform(0.1, 9, size=(len(x), 1))).astype(np.float64)
    np.testing.assert_allclose(consistency(scaled, codes, 6), expected, atol=2e-7)


@pytest.mark.parametrize("n", [2, 3, 7, 20_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_replicates_are_exactly_one_and_opposite_ones_minus_one(n, dtype):
    row = np.random.default_rng(n).normal(size=50).astype(dtype)
    assert consistency(np.tile(row, (n, 1)), np.zeros(n, dtype=int), 1) == 1.0
    assert consistency(np.stack([row, -3 * row]), np.zeros(2, dtype=int), 1) == -1.0


def test_small_groups_have_no_value_and_zeros_have_cosine_zero():
    x = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    np.testing.assert_array_equal(consistency(x, np.array([0, 1, 1, 3, 3]), 5), [np.nan, 0, np.nan, 0, np.nan])
    np.testing.assert_allclose(consistency(x, np.zeros(5, dtype=int), 1), 1 / 10)  # one pair of ten


def test_random_sets_are_uniform_and_have_the_consistency_of_their_rows():
    x, sizes = np.random.default_rng(0).normal(size=(30, 4)), np.array([2, 5, 30])
    null = random_consistency(x, sizes, 20, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for draw in range(20):
        order = rng.choice(30, 30, replace=False)
        expected = [consistency(x[order[:size]], np.zeros(size, dtype=int), 1)[0] for size in sizes]
        np.testing.assert_allclose(null[:, draw], expected, atol=2e-12)
    assert null[2].std() < 1e-11  # all rows are always the same set
    null = random_consistency(np.eye(4)[[0, 0, 0, 1]], np.array([2]), 4000, np.random.default_rng(0))
    assert null.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))  # three of the six pairs are equal
