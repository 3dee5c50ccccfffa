import numpy as np
import pandas as pd
import pytest

from semiclip.metrics import group_mean


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_pandas_over_blocks(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(140_000, 2)).astype(dtype)  # two blocks and a short one
    codes = rng.permutation(np.arange(len(x)) % 9)
    expected = pd.DataFrame(x.astype(np.float64)).groupby(codes).mean().to_numpy()
    mean = group_mean(x, codes, 9)
    assert mean.dtype == np.float64
    np.testing.assert_allclose(mean, expected, atol=1e-14)


def test_sums_in_double_precision():
    x = np.full((100_000, 1), 0.1, dtype=np.float32)
    assert group_mean(x, np.zeros(100_000, dtype=int), 1)[0, 0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_takes_rows_that_are_not_contiguous():
    x = np.arange(12.0).reshape(4, 3).T
    np.testing.assert_array_equal(group_mean(x, np.array([1, 0, 1]), 2), [x[1], (x[0] + x[2]) / 2])
