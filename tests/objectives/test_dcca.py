from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA

from semiclip.objectives import Dcca
from semiclip.objectives._dcca import correlations


def gaussians(seed, n, d, e=None):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, width, generator=rng, dtype=torch.float64) for width in (d, e or d))


def related(seed, n=200, d=4):
    """Two views with correlations of every strength."""
    x, noise = gaussians(seed, n, d)
    y = x * torch.linspace(0.2, 2, d, dtype=torch.float64) + noise
    mixing, other = gaussians(seed + 1, d, d)
    return x @ mixing, y @ other


def one_by_one(x, y, epsilon=0.0):
    """Canonical correlations: what each one more adds to the sum."""
    sums = [Dcca(k=k, epsilon=epsilon)(x, y).item() for k in range(1, min(x.shape[1], y.shape[1]) + 1)]
    return -np.diff([0.0, *sums])


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_scikit_learn(seed):
    x, y = related(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = CCA(4, scale=False, max_iter=10_000, tol=1e-14).fit(x.numpy(), y.numpy()).transform(x, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(one_by_one(x, y), np.sort(expected)[::-1], atol=1e-6)
    assert Dcca(epsilon=0)(x, y).item() == pytest.approx(-sum(expected), abs=4e-6)


@pytest.mark.parametrize("d", [3, 30])
def test_a_linear_image_is_wholly_correlated(d):
    x, mixing = gaussians(0, 1000, d)[0], gaussians(1, d, d)[0]
    assert Dcca(epsilon=0)(x, x @ mixing + 5).item() == pytest.approx(-d, abs=1e-9)
    if d == 30:  # epsilon takes a little where the image hardly varies
        assert Dcca()(x, x @ mixing).item() == pytest.approx(-29.9999, abs=2e-4)


@pytest.mark.parametrize(("n", "ones"), [(17, 8), (21, 4), (25, 0), (26, 0)])
def test_few_rows_are_correlated_whatever_they_hold(n, ones):
    d = 12
    assert int((correlations(*gaussians(0, n, d), 0.0) > 1 - 1e-9).sum()) == ones == max(0, 2 * d - (n - 1))


def test_independent_noise_of_the_paper_s_width():
    few, many = (correlations(*gaussians(0, n, 768), 1e-6) for n in (1024, 2048))
    assert int((few > 1 - 1e-4).sum()) == 513
    assert float(few.sum()) == pytest.approx(623.7, abs=1.5)
    assert float(many.sum()) == pytest.approx(416.4, abs=0.5)
    assert float(many[:30].sum()) == pytest.approx(28.6, abs=0.05)


def test_only_the_largest_correlations_are_summed_on_request():
    x, y = related(0)
    assert (np.diff(one_by_one(x, y, 1e-6)) <= 0).all()
    assert Dcca(k=9)(x, y).item() == Dcca(k=4)(x, y).item() == Dcca()(x, y).item() < Dcca(k=3)(x, y).item()


@settings(deadline=None)  # the first eigenvalues of a process take long
@given(seed=st.integers(0, 10_000))
def test_invertible_linear_maps_are_not_seen(seed):
    x, y = related(seed)
    expected = one_by_one(x, y)
    orthogonal = torch.linalg.qr(gaussians(seed, 4, 4)[0])[0]
    scales = torch.tensor([0.1, 1, 10, 100], dtype=torch.float64)
    np.testing.assert_allclose(one_by_one(x @ orthogonal * scales + 1, y), expected, atol=1e-5)
    np.testing.assert_allclose(one_by_one(y, x), expected, atol=1e-5)


def test_epsilon_is_added_once():
    """To one variance of 1 each, so that a correlation of 1 becomes 1 / (1 + epsilon)."""
    x = gaussians(0, 50, 1)[0]
    x = (x - x.mean()) / x.std()
    assert Dcca(epsilon=0.25)(x, x).item() == pytest.approx(-0.8)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
def test_gradient(k, epsilon):
    x, y = gaussians(0, 14, 4, 3)
    assert torch.autograd.gradcheck(Dcca(k=k, epsilon=epsilon), (x.requires_grad_(), y.requires_grad_()))


def test_equal_singular_values_and_variances_have_a_finite_gradient():
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).repeat(3, 1)
    x, y = spread.clone().requires_grad_(), spread.clone()
    loss = Dcca()(x, y)
    loss.backward()
    assert loss.item() == pytest.approx(-2, abs=1e-5)
    assert x.grad.isfinite().all()
    assert float(x.grad.abs().max()) < 1e-5, "nothing is left to gain"


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_directions_without_variance_have_no_correlation(epsilon):
    x, y = related(0)
    without = Dcca(epsilon=epsilon)(x[:, :2], y).item()
    x = torch.cat([x[:, :2], torch.full((200, 1), 7.0, dtype=torch.float64)], dim=1).requires_grad_()
    loss = Dcca(epsilon=epsilon)(x, y)
    loss.backward()
    assert loss.item() == pytest.approx(without, abs=1e-6)
    assert x.grad.isfinite().all()
    still = torch.ones(20, 3, requires_grad=True)
    loss = Dcca(epsilon=epsilon)(still, gaussians(0, 20, 3)[0])
    loss.backward()
    assert loss.item() == 0
    assert still.grad.isfinite().all()


def test_float64_within_and_the_precision_of_the_student_without():
    x, y = related(0)
    single = Dcca()(x.float(), y.float())
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(Dcca()(x, y).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = Dcca()(x.bfloat16(), y.bfloat16())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(Dcca()(x.bfloat16().double(), y.bfloat16().double()).item(), rel=1e-6)


def test_the_embedding_has_as_many_dimensions_as_are_asked_for():
    assert Dcca().width(768) == 30
    assert Dcca().width(16) == 16
    assert Dcca(n_components=None).width(768) == 768
