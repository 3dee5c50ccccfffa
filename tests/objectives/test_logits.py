import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy, kendalltau

from semiclip import errors
from semiclip.objectives import estimate_kendall, kendall, non_target_divergence, soft_divergence

# ---- divergences


def logits(seed=0, n=6, c=5):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = 3.0 * torch.randn(2, n, c, generator=rng, dtype=torch.float64)
    return student, teacher, torch.randint(c, (n,), generator=rng)


def naive(student, teacher, label, temperature, nontarget):
    """Row by row, with the label taken out of the arrays, set to zero, or left in them."""
    values = []
    for *sides, y in zip(student.numpy(), teacher.numpy(), label.numpy(), strict=True):
        if nontarget == "exclude":
            sides = [np.delete(x, y) for x in sides]
        elif nontarget == "zero":
            sides = [np.where(np.arange(len(x)) == y, 0, x) for x in sides]
        u, v = (softmax(x / temperature) for x in sides)
        values.append(temperature**2 * entropy(v, u))
    return values


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 8),
    c=st.integers(2, 9),
    temperature=st.floats(0.5, 20),
    nontarget=st.sampled_from(["exclude", "zero"]),
)
def test_equals_the_entropies_of_scipy(seed, n, c, temperature, nontarget):
    student, teacher, label = logits(seed, n, c)
    values = non_target_divergence(student, teacher, label, temperature, nontarget=nontarget)
    expected = naive(student, teacher, label, temperature, nontarget)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-10)
    whole = np.mean(naive(student, teacher, label, temperature, None))
    assert soft_divergence(student, teacher, temperature).item() == pytest.approx(whole, rel=1e-9, abs=1e-10)


def test_logits_far_apart_stay_finite():
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    for value in (
        soft_divergence(student, -student.detach(), 1.0),
        non_target_divergence(student, -student.detach(), torch.tensor([2]), 1.0).mean(),
    ):
        (gradient,) = torch.autograd.grad(value, student)
        assert value.item() == pytest.approx(2e4)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("nontarget", ["exclude", "zero"])
def test_the_logit_of_the_label_does_not_matter(nontarget):
    student, teacher, label = logits()
    expected, place = non_target_divergence(student, teacher, label, 2.0, nontarget=nontarget), torch.arange(6)
    student[place, label] += 7
    values = non_target_divergence(student.requires_grad_(), teacher, label, 2.0, nontarget=nontarget)
    values.sum().backward()
    torch.testing.assert_close(values, expected)
    assert (student.grad[place, label] == 0).all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("c", "nontarget"), [(1, "exclude"), (2, "exclude"), (1, "zero")])
def test_too_few_classes_leave_nothing_to_tell(c, nontarget):
    student, teacher, label = logits(c=c)
    values = non_target_divergence(student.requires_grad_(), teacher, label, 2.0, nontarget=nontarget)
    values.sum().backward()
    assert (values == 0).all()
    assert (student.grad == 0).all()


# ---- Kendall's tau


def rows(seed, n, c, levels=None):
    """Rows that agree a little, of so many different values."""
    rng = torch.Generator().manual_seed(seed)
    a, noise = torch.randn(2, n, c, generator=rng, dtype=torch.float64)
    return [x if levels is None else (x * levels / 4).round() for x in (a, a + noise)]


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
def test_kendall_equals_scipy_row_by_row(seed, n, c, levels):
    a, b = rows(seed, n, c, levels)
    tau = kendall(a.requires_grad_(), b)
    assert tau.dtype == torch.float64
    assert not tau.requires_grad
    np.testing.assert_allclose(tau, loop(a.detach(), b), rtol=0, atol=1e-12)


@pytest.mark.parametrize("c", [255, 256, 257, 4056])
@pytest.mark.parametrize("levels", [None, 3])
def test_kendall_equals_scipy_for_many_classes(c, levels):
    a, b = rows(0, 4, c, levels)
    np.testing.assert_allclose(kendall(a, b), loop(a, b), rtol=0, atol=1e-12)


def test_rounding_does_not_lead_out_of_range():
    for c in range(4, 60):
        a = torch.arange(c).double()[None] // 3
        assert -1 <= kendall(a, -a).item() <= kendall(a, a).item() <= 1


def test_constant_rows_have_no_tau():
    a, b = rows(0, 4, 8)
    a[1], b[2] = 5.0, -1.0
    assert kendall(a, b).isnan().tolist() == [False, True, True, False]
    assert kendall(a[:, :1], b[:, :1]).isnan().all()
    assert kendall(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_any_type_of_number(dtype):
    a, b = (x.to(dtype) for x in rows(0, 4, 50, levels=8))
    np.testing.assert_allclose(kendall(a, b), loop(a.double(), b.double()), rtol=0, atol=1e-12)


def test_more_inversions_than_31_bits_can_count():
    a = torch.arange(70_000)[None]
    assert kendall(a, -a).item() == pytest.approx(-1, rel=1e-12)


# ---- its estimate from some pairs


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 5),
    c=st.integers(1, 70),
    levels=st.sampled_from([None, 1, 2, 4, 12]),
)
def test_the_estimate_from_all_pairs_is_exact(seed, n, c, levels):
    a, b = rows(seed, n, c, levels)
    tau = estimate_kendall(a.requires_grad_(), b, n_pairs=max(1, c * (c - 1) // 2), seed=seed)
    assert tau.dtype == torch.float64
    assert not tau.requires_grad
    np.testing.assert_array_equal(tau, kendall(a, b))


@pytest.mark.parametrize(("c", "n_pairs"), [(60, 60), (101, 404), (300, 1024)])
def test_the_error_of_the_estimate_stays_within_its_bound(c, n_pairs):
    a, b = rows(0, 40, c)
    b = a + torch.linspace(0, 3, 40)[:, None] * (b - a)  # from agreement to nearly none
    tau = np.array(loop(a, b))
    estimates = np.stack([estimate_kendall(a, b, n_pairs=n_pairs, seed=seed) for seed in range(400)])
    shifts = -(-n_pairs // c)
    bound = (1 - tau**2) / (shifts * c) * (c - 1 - 2 * shifts) / (c - 3)
    assert (np.abs(estimates.mean(axis=0) - tau) <= 4 * np.sqrt(bound / 400) + 1e-12).all()  # no bias
    assert (estimates.var(axis=0, ddof=1) <= 1.3 * bound + 1e-12).all()  # four standard errors of a variance of 400
    assert bound.max() < 1 / n_pairs


def test_the_bound_is_reached_where_most_pairs_are_independent():
    """Values in no order at all: pairs agree or not as coins fall, and fewer pairs would not do."""
    a, b = torch.randn(2, 30, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates = torch.stack([estimate_kendall(a, b, n_pairs=800, seed=seed) for seed in range(200)])
    share = estimates.var(dim=0).mean() / ((1 - kendall(a, b).square()).mean() / 800)
    assert 0.25 < share < 1


@pytest.mark.parametrize("levels", [2, 6])
def test_ties_are_estimated_too(levels):
    a, b = rows(0, 50, 500, levels)
    tau, estimate = np.array(loop(a, b)), estimate_kendall(a, b, n_pairs=4000, seed=3).numpy()
    assert np.abs(estimate - tau).max() < 4 / np.sqrt(4000 / 2)  # at most half of the pairs are tied


def test_constant_rows_have_no_estimate():
    a, b = rows(0, 4, 300)
    a[1], b[2] = 5.0, -1.0
    assert estimate_kendall(a, b, n_pairs=300).isnan().tolist() == [False, True, True, False]


def test_a_row_s_estimate_follows_from_the_seed_alone():
    a, b = rows(0, 900, 200)  # which are compared in blocks
    whole = estimate_kendall(a, b, n_pairs=400, seed=7)
    alone = [estimate_kendall(a[[i]], b[[i]], n_pairs=400, seed=torch.tensor(7)) for i in (0, 450, 899)]
    assert torch.equal(whole[[0, 450, 899]], torch.cat(alone))
    assert not torch.equal(whole, estimate_kendall(a, b, n_pairs=400, seed=8))
    # a strictly growing function of either side changes no order
    assert torch.equal(whole, estimate_kendall(a.exp(), 2 * b - 1, n_pairs=400, seed=7))


def test_few_rows_of_a_thousand_classes_are_decided_otherwise():
    """As C2KD does by default: 8,192 pairs, and rows whose correlation lies all around the threshold."""
    a, b = rows(1, 400, 1000)
    b = a + torch.linspace(1, 4, 400)[:, None] * (b - a)
    tau, estimate = kendall(a, b), estimate_kendall(a, b, n_pairs=8192)
    assert tau.min() < 0.2
    assert tau.max() > 0.4
    other = (tau > 0.3) != (estimate > 0.3)
    assert other.double().mean() <= 0.05
    assert (tau[other] - 0.3).abs().max() < 4 / 8192**0.5


def test_refuses_no_pairs(refuses):
    with refuses(errors.BadValue, name="n_pairs", value=0):
        estimate_kendall(*rows(0, 2, 5), n_pairs=0)
