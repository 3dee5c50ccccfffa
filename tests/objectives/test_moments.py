import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA

from semiclip.objectives import Dcca, Vicreg


def gaussians(seed, n, d, e=None):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, width, generator=rng, dtype=torch.float64) for width in (d, e or d))


SPREAD = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)

# ---- VICReg


def terms(student, teacher):
    """Invariance, variance and covariance as they are written."""
    sides = student.numpy(), teacher.numpy()
    d = sides[0].shape[1]
    variance = sum(np.maximum(0, 1 - np.sqrt(x.var(axis=0, ddof=1) + 1e-4)).mean() for x in sides) / 2
    covariance = sum((np.cov(x.T)[~np.eye(d, dtype=bool)] ** 2).sum() / d for x in sides)
    return ((sides[0] - sides[1]) ** 2).mean(), variance, covariance


@given(
    seed=st.integers(0, 10_000), n=st.integers(2, 12), d=st.integers(2, 6), weights=st.tuples(*[st.floats(0, 50)] * 3)
)
def test_vicreg_equals_the_terms_as_they_are_written(seed, n, d, weights):
    sides, names = gaussians(seed, n, d), ("invariance", "variance", "covariance")
    loss = Vicreg(**dict(zip(names, weights, strict=True)))(*sides)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(np.dot(weights, terms(*sides)), rel=1e-9, abs=1e-12)
    assert Vicreg()(*sides).item() == pytest.approx(np.dot([25, 25, 1], terms(*sides)), rel=1e-9)


def test_constant_input_has_all_of_the_variance_term_and_perfect_pairs_cost_nothing():
    constant = torch.full((8, 3), 2.0, dtype=torch.float64)
    assert Vicreg(invariance=0, covariance=0, variance=1)(constant, constant).item() == pytest.approx(0.99)
    assert Vicreg()(constant, constant + 2).item() == pytest.approx(25 * 4 + 25 * 0.99)
    assert Vicreg()(SPREAD, SPREAD).item() == 0


def test_a_constant_column_has_a_finite_gradient():
    student, teacher = gaussians(0, 12, 5)
    student[:, 1] = 3
    Vicreg()(student.requires_grad_(), teacher).backward()
    assert student.grad.isfinite().all()


def test_moments_are_not_taken_in_half_precision():
    student, teacher = (side.float() for side in gaussians(0, 64, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = Vicreg()(student.bfloat16(), teacher)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, Vicreg()(student.bfloat16().float(), teacher))


# ---- DCCA


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


@pytest.mark.parametrize(("n", "ones"), [(17, 8), (21, 4), (25, 0)])
def test_few_rows_are_correlated_whatever_they_hold(n, ones, monkeypatch):
    monkeypatch.setattr(Dcca, "min_batch_size", lambda *widths: 1)
    assert (one_by_one(*gaussians(0, n, 12)) > 1 - 1e-9).sum() == ones == max(0, 2 * 12 - (n - 1))


def test_independent_noise_of_the_paper_s_width(monkeypatch):
    monkeypatch.setattr(Dcca, "min_batch_size", lambda *widths: 1)
    few, many = (gaussians(0, n, 768) for n in (1024, 2048))
    assert Dcca(k=513)(*few).item() == pytest.approx(-513, abs=0.02)
    assert Dcca()(*few).item() == pytest.approx(-623.7, abs=1.5)
    assert Dcca()(*many).item() == pytest.approx(-416.4, abs=0.5)
    assert Dcca(k=30)(*many).item() == pytest.approx(-28.6, abs=0.05)


def test_only_the_largest_correlations_are_summed_on_request():
    x, y = related(0)
    assert (np.diff(one_by_one(x, y, 1e-6)) <= 0).all()
    assert Dcca(n_components=None).width(768) == 768
    assert Dcca(k=9)(x, y).item() == Dcca(k=4)(x, y).item() == Dcca()(x, y).item() < Dcca(k=3)(x, y).item()


@settings(deadline=None)  # the first eigenvalues of a process take long
@given(seed=st.integers(0, 10_000))
def test_invertible_linear_maps_are_not_seen(seed):
    x, y = related(seed)
    expected = one_by_one(x, y)
    orthogonal = torch.linalg.qr(gaussians(seed, 4, 4)[0])[0]
    scales = torch.tensor([1, 2, 5, 10], dtype=torch.float64)  # a map that loses few digits
    np.testing.assert_allclose(one_by_one(x @ orthogonal * scales + 1, y), expected, atol=1e-5)
    np.testing.assert_allclose(one_by_one(y, x), expected, atol=1e-5)


def test_epsilon_is_added_once():
    """To one variance of 1 each, so that a correlation of 1 becomes 1 / (1 + epsilon)."""
    x = gaussians(0, 50, 1)[0]
    x = (x - x.mean()) / x.std()
    assert Dcca(epsilon=0.25)(x, x).item() == pytest.approx(-0.8)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
def test_gradient_of_dcca(k, epsilon):
    x, y = gaussians(0, 14, 4, 3)
    assert torch.autograd.gradcheck(Dcca(k=k, epsilon=epsilon), (x.requires_grad_(), y.requires_grad_()))


def test_equal_singular_values_and_variances_have_a_finite_gradient():
    x, y = SPREAD.repeat(3, 1).requires_grad_(), SPREAD.repeat(3, 1)
    loss = Dcca()(x, y)
    loss.backward()
    assert loss.item() == pytest.approx(-2, abs=1e-5)
    assert float(x.grad.abs().max()) < 1e-5, "nothing is left to gain"


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_directions_without_variance_have_no_correlation(epsilon):
    x, y = related(0)
    flat = torch.cat([x[:, :2], torch.full((200, 1), 7.0, dtype=torch.float64)], dim=1)
    still = torch.ones(200, 3, dtype=torch.float64)
    for side, expected in [(flat, Dcca(epsilon=epsilon)(x[:, :2], y).item()), (still, 0)]:
        loss = Dcca(epsilon=epsilon)(side.requires_grad_(), y)
        loss.backward()
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        assert side.grad.isfinite().all()


def test_float64_within_and_the_precision_of_the_student_without():
    x, y = related(0)
    single = Dcca()(x.float(), y.float())
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(Dcca()(x, y).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = Dcca()(x.bfloat16(), y.bfloat16())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(Dcca()(x.bfloat16().double(), y.bfloat16().double()).item(), rel=1e-6)
