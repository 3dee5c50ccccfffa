import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from semiclip.metrics import consistency, group_mean

PRECISIONS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@PRECISIONS
def test_means_equal_pandas_over_blocks(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(140_000, 2)).astype(dtype)  # two blocks and a short one
    codes = rng.permutation(np.arange(len(x)) % 9)
    expected = pd.DataFrame(x.astype(np.float64)).groupby(codes).mean().to_numpy()
    mean = group_mean(x, codes, 9)
    assert mean.dtype == np.float64
    np.testing.assert_allclose(mean, expected, atol=1e-14)
    y = np.arange(12.0).reshape(4, 3).T  # rows that are not contiguous
    np.testing.assert_array_equal(group_mean(y, np.array([1, 0, 1]), 2), [y[1], (y[0] + y[2]) / 2])


def test_means_are_summed_in_double_precision():
    x = np.full((100_000, 1), 0.1, dtype=np.float32)
    assert group_mean(x, np.zeros(100_000, dtype=int), 1)[0, 0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@PRECISIONS
@pytest.mark.parametrize("copies", [1, 100])  # 6,000 rows are two blocks
def test_consistency_equals_the_mean_of_all_pairs(dtype, copies):
    rng = np.random.default_rng(0)
    sizes = copies * np.array([2, 3, 5, 10, 15, 25])
    x, codes = rng.normal(size=(sizes.sum(), 5)).astype(dtype), rng.permutation(np.repeat(np.arange(6), sizes))
    expected = [np.mean(1 - pdist(x[codes == code].astype(np.float64), "cosine")) for code in range(6)]
    np.testing.assert_allclose(consistency(x, codes, 6), expected, atol=2e-12)
    scaled = (x * rng.uniform(0.1, 9, size=(len(x), 1))).astype(np.float64)
    np.testing.assert_allclose(consistency(scaled, codes, 6), expected, atol=2e-7)


@PRECISIONS
@pytest.mark.parametrize("n", [2, 3, 7, 20_001])
def test_equal_replicates_are_exactly_one_and_opposite_ones_minus_one(n, dtype):
    row = np.random.default_rng(n).normal(size=50).astype(dtype)
    assert consistency(np.tile(row, (n, 1)), np.zeros(n, dtype=int), 1) == 1.0
    assert consistency(np.stack([row, -3 * row]), np.zeros(2, dtype=int), 1) == -1.0


def test_small_groups_have_no_value_and_zeros_have_cosine_zero():
    x = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    np.testing.assert_array_equal(consistency(x, np.array([0, 1, 1, 3, 3]), 5), [np.nan, 0, np.nan, 0, np.nan])
    np.testing.assert_allclose(consistency(x, np.zeros(5, dtype=int), 1), 1 / 10)  # one pair of ten
