import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import spearmanr
from torchmetrics.functional import spearman_corrcoef

from semiclip import errors
from semiclip.metrics import spearman


@pytest.fixture
def matrices():
    """Two matrices that correlate, with many ties in some columns and none in others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 12))
    y = x + rng.normal(size=(40, 12))
    x[:, ::2], y[:, ::3] = np.round(x[:, ::2]), np.round(y[:, ::3])
    return x, y


@pytest.mark.parametrize("axis", [0, 1])
def test_equals_scipy_with_ties(matrices, axis):
    pairs = zip(*((a if axis else a.T) for a in matrices), strict=True)
    correlation, constant = spearman(*matrices, axis=axis)
    np.testing.assert_allclose(correlation, [spearmanr(a, b).statistic for a, b in pairs], atol=1e-14)
    assert not constant.any()


@pytest.mark.parametrize("axis", [0, 1])
def test_equals_torchmetrics_with_ties_and_constant_columns(matrices, axis):
    x, y = (np.ascontiguousarray(a if axis == 0 else a.T, dtype=np.float32) for a in matrices)
    x[:, 3], y[:, 4] = 1.5, -2
    expected = spearman_corrcoef(torch.tensor(x), torch.tensor(y)).numpy()
    correlation, constant = spearman(*((x, y) if axis == 0 else (x.T, y.T)), axis=axis)
    np.testing.assert_allclose(correlation, expected, atol=2e-6)
    np.testing.assert_array_equal(np.flatnonzero(constant), [3, 4])
    np.testing.assert_array_equal(correlation[[3, 4]], 0)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.coo_array])
@pytest.mark.parametrize("axis", [0, 1])
def test_takes_sparse_matrices_over_blocks(matrices, form, axis):
    small = matrices[0], np.where(matrices[1] > 0, matrices[1], 0)
    x, y = (np.tile(x, (3000, 1) if axis == 0 else (1, 3000)) for x in small)  # more than one block
    expected = spearman(x, y, axis=axis)
    np.testing.assert_allclose(expected[0], spearman(*small, axis=axis)[0], atol=1e-12)
    for a, b in ((x, form(y)), (form(x), form(y))):
        np.testing.assert_array_equal(spearman(a, b, axis=axis), expected)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_only_order_matters(n, g, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-3, 4, size=(2, n, g))
    correlation, constant = spearman(x, y)
    assert (np.abs(correlation) <= 1).all()
    np.testing.assert_array_equal(spearman(np.exp(x.astype(float)), y)[0], correlation)
    np.testing.assert_array_equal(spearman(y, x)[0], correlation)
    np.testing.assert_allclose(spearman(-x, y)[0], -correlation, atol=1e-15)
    np.testing.assert_allclose(spearman(x, x)[0], np.ptp(x, axis=0) > 0, atol=1e-15)
    np.testing.assert_array_equal(constant, (np.ptp(x, axis=0) == 0) | (np.ptp(y, axis=0) == 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_not_ranked_but_small_differences_are(dtype):
    y = np.arange(20.0)[:, None]
    rounded = (np.float64(0.1) * (1 + np.arange(20) % 2 * np.finfo(dtype).eps)).astype(dtype)[:, None]
    assert len(np.unique(rounded)) == 2
    assert [part.item() for part in spearman(rounded, y)] == [0, True]
    small = (1e-20 * y).astype(dtype)
    assert [part.item() for part in spearman(small, y)] == [pytest.approx(1), False]
    assert [part.item() for part in spearman(2**24 + y.astype(int), y)] == [pytest.approx(1), False]


def test_takes_data_frames_and_views_and_changes_nothing(matrices):
    x, y = (part.copy() for part in matrices)
    expected = spearman(x, y)[0]
    np.testing.assert_array_equal(spearman(pd.DataFrame(x), np.asfortranarray(y))[0], expected)
    np.testing.assert_array_equal(spearman(np.broadcast_to(x[0], x.shape), y)[0], 0)
    np.testing.assert_array_equal((x, y), matrices)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"y": np.ones((3, 4))}, errors.Mismatch, {"got": (3, 4), "expected": (3, 2)}),
        ({"x": np.ones(3), "y": np.ones(3)}, errors.WrongShape, {"where": "x", "shape": (3,)}),
        ({"x": np.ones((3, 0)), "y": np.ones((3, 0))}, errors.WrongShape, {"where": "x", "shape": (3, 0)}),
        ({"x": np.full((3, 2), np.nan)}, errors.NotFinite, {"where": "x", "rows": [0, 1, 2]}),
        ({"y": sparse.csr_array([[1, 2], [1, np.inf], [0, 0]])}, errors.NotFinite, {"where": "y", "rows": [1]}),
        ({"x": np.ones((3, 2), dtype=complex)}, errors.WrongDtype, {"where": "x", "dtype": np.complex128}),
        ({"x": np.full((3, 2), "a")}, errors.WrongDtype, {"where": "x"}),
        ({"axis": 2}, errors.UnknownChoice, {"name": "axis", "value": 2}),
        ({"x": np.ones((1, 2)), "y": np.ones((1, 2))}, errors.TooFew, {"number": 1, "needed": 2}),
    ],
)
def test_refuses(refuses, change, error, data):
    with refuses(error, **data):
        spearman(**{"x": np.ones((3, 2)), "y": np.ones((3, 2))} | change)
