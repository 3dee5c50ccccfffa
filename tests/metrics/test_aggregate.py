import numpy as np
import pandas as pd
import pytest

from semiclip.metrics import _aggregate, group_mean


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_pandas(dtype, monkeypatch):
    monkeypatch.setattr(_aggregate, "BLOCK", 7)  # many blocks, the last of them short
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 5)).astype(dtype)
    codes = rng.permutation(np.arange(100) % 9)
    expected = pd.DataFrame(x.astype(np.float64)).groupby(codes).mean().to_numpy()
    mean = group_mean(x, codes, 9)
    assert mean.dtype == np.float64
    np.testing.assert_allclose(mean, expected, rtol=1e-13)


def test_sums_in_double_precision():
    x = np.full((100_000, 1), 0.1, dtype=np.float32)
    assert group_mean(x, np.zeros(100_000, dtype=int), 1)[0, 0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_takes_rows_that_are_not_contiguous():
    x = np.arange(12.0).reshape(4, 3).T
    np.testing.assert_array_equal(group_mean(x, np.array([1, 0, 1]), 2), [x[1], (x[0] + x[2]) / 2])


@pytest.mark.parametrize(
    ("codes", "n_groups", "message"),
    [
        ([0, 1], 2, r"codes has shape \(2,\) for 3 rows"),
        ([0, 1, 2], 2, r"codes run from 0 to 2; they must lie in 0 … 1"),
        ([0, -1, 1], 2, r"codes run from -1 to 1"),
        ([0, 3, 0], 5, r"3 of 5 groups have no row: 1, 2, 4"),
    ],
)
def test_refuses(codes, n_groups, message):
    with pytest.raises(ValueError, match=message):
        group_mean(np.ones((3, 2)), np.array(codes), n_groups)
