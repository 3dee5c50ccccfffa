from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from semiclip.objectives import kendall


def rows(seed, n, c, levels=None):
    """Rows that agree a little, of so many different values."""
    rng = torch.Generator().manual_seed(seed)
    a, noise = torch.randn(2, n, c, generator=rng, dtype=torch.float64)
    pair = (a, a + noise)
    return pair if levels is None else tuple((x * levels / 4).round() for x in pair)


def loop(a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is not defined
        return [kendalltau(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 5),
    c=st.integers(1, 70),
    levels=st.sampled_from([None, 1, 2, 4, 12]),
)
def test_equals_scipy_row_by_row(seed, n, c, levels):
    a, b = rows(seed, n, c, levels)
    tau = kendall(a, b)
    assert tau.dtype == torch.float64
    np.testing.assert_allclose(tau, loop(a, b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("c", [255, 256, 257, 4056])
@pytest.mark.parametrize("levels", [None, 3])
def test_equals_scipy_for_many_classes(c, levels):
    a, b = rows(0, 4, c, levels)
    np.testing.assert_allclose(kendall(a, b), loop(a, b), rtol=0, atol=1e-12)


def test_rounding_does_not_lead_out_of_range():
    for c in range(2, 60):
        a = torch.arange(c).double()[None] // 3
        if c > 3:
            assert -1 <= kendall(a, -a).item() <= kendall(a, a).item() <= 1


def test_constant_rows_have_none():
    a, b = rows(0, 4, 8)
    a[1], b[2] = 5.0, -1.0
    assert kendall(a, b).isnan().tolist() == [False, True, True, False]
    assert kendall(a[:, :1], b[:, :1]).isnan().all()
    assert kendall(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_any_type_of_number(dtype):
    a, b = (x.to(dtype) for x in rows(0, 4, 50, levels=8))
    np.testing.assert_allclose(kendall(a, b), loop(a.double(), b.double()), rtol=0, atol=1e-12)


def test_no_gradient_is_followed():
    a, b = rows(0, 2, 5)
    assert not kendall(a.requires_grad_(), b).requires_grad


def test_more_inversions_than_31_bits_can_count():
    a = torch.arange(70_000)[None]
    assert kendall(a, -a).item() == pytest.approx(-1, rel=1e-12)
