import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from semiclip.metrics import _consistency, consistency
from semiclip.metrics._consistency import random_consistency


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_mean_of_all_pairs(dtype, monkeypatch):
    monkeypatch.setattr(_consistency, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(60, 5)).astype(dtype), rng.permutation(np.repeat(np.arange(6), [2, 3, 5, 10, 15, 25]))
    expected = [np.mean(1 - pdist(x[codes == code].astype(np.float64), "cosine")) for code in range(6)]
    np.testing.assert_allclose(consistency(x, codes, 6), expected, atol=2e-12)


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


def test_scale_does_not_matter():
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(20, 4)), np.arange(20) % 3
    scaled = x * rng.uniform(0.1, 9, size=(20, 1))
    np.testing.assert_allclose(consistency(scaled, codes, 3), consistency(x, codes, 3), atol=2e-12)


def test_random_sets_have_the_consistency_of_their_rows():
    x, sizes = np.random.default_rng(0).normal(size=(30, 4)), np.array([2, 5, 30])
    null = random_consistency(x, sizes, 20, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for draw in range(20):
        order = rng.choice(30, 30, replace=False)
        for i, size in enumerate(sizes):
            expected = consistency(x[order[:size]], np.zeros(size, dtype=int), 1)[0]
            assert null[i, draw] == pytest.approx(expected, abs=2e-12)
    assert null[2].std() < 1e-11  # all rows are always the same set


def test_random_sets_are_uniform():
    x = np.eye(4)[[0, 0, 0, 1]]
    null = random_consistency(x, np.array([2]), 4000, np.random.default_rng(0))
    assert null.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))  # three of the six pairs are equal


@pytest.mark.parametrize(
    ("x", "codes", "message"),
    [
        (np.ones((3, 2)), [0, 1], r"x has shape \(3, 2\) and codes \(2,\); rows of an embedding and one group per row"),
        (np.ones(3), [0, 1, 0], r"x has shape \(3,\)"),
        (np.ones((3, 2)), [0, 1, 2], r"codes run from 0 to 2; they must lie in 0 … 1"),
        (np.ones((3, 2)), [0, -1, 1], r"codes run from -1 to 1"),
        (np.array([[1.0], [np.nan], [np.inf]]), [0, 0, 1], r"x holds NaN or infinite values in 2 row\(s\): 1, 2;"),
    ],
)
def test_refuses(x, codes, message):
    with pytest.raises(ValueError, match=message):
        consistency(x, np.array(codes), 2)


def test_takes_lists_and_data_frames():
    x, codes = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 0, 0, 1, 1, 1])
    expected = consistency(x, codes, 2)
    np.testing.assert_array_equal(consistency(x.tolist(), codes.tolist(), 2), expected)
    np.testing.assert_array_equal(consistency(pd.DataFrame(x), pd.Series(codes), 2), expected)
