from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiclip.objectives import Vicreg


def pairs(seed, n=12, d=5):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def terms(student, teacher):
    """Variance, covariance and invariance as they are written."""
    student, teacher = student.numpy(), teacher.numpy()
    d = student.shape[1]
    sides = (student, teacher)
    variance = sum(np.maximum(0, 1 - np.sqrt(x.var(axis=0, ddof=1) + 1e-4)).mean() for x in sides) / 2
    covariance = sum(np.cov(x.T)[~np.eye(d, dtype=bool)] @ np.cov(x.T)[~np.eye(d, dtype=bool)] / d for x in sides)
    return ((student - teacher) ** 2).mean(), variance, covariance


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 12),
    d=st.integers(2, 6),
    weights=st.tuples(*[st.floats(0, 50)] * 3),
)
def test_equals_the_terms_as_they_are_written(seed, n, d, weights):
    student, teacher = pairs(seed, n=n, d=d)
    names = ("invariance", "variance", "covariance")
    loss = Vicreg(**dict(zip(names, weights, strict=True)))(student, teacher)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(np.dot(weights, terms(student, teacher)), rel=1e-9, abs=1e-12)


def test_the_weights_are_25_25_and_1():
    student, teacher = pairs(0)
    assert Vicreg()(student, teacher).item() == pytest.approx(np.dot([25, 25, 1], terms(student, teacher)), rel=1e-12)


def test_constant_input_has_all_of_the_variance_term_and_no_covariance():
    constant = torch.full((8, 3), 2.0, dtype=torch.float64)
    assert Vicreg(invariance=0, covariance=0, variance=1)(constant, constant).item() == pytest.approx(0.99)
    assert Vicreg(invariance=0, covariance=1, variance=0)(constant, constant).item() == 0
    assert Vicreg()(constant, constant + 2).item() == pytest.approx(25 * 4 + 25 * 0.99)


def test_perfect_pairs_that_vary_enough_and_independently_cost_nothing():
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert Vicreg()(spread, spread).item() == 0


def test_of_a_frozen_teacher_only_the_value_sees_variance_and_covariance():
    student, teacher = pairs(0)
    stretched = teacher.clone()
    stretched[:, 0] /= 10
    free = Vicreg(invariance=0)
    gradients = []
    for side in (teacher, stretched):
        h = student.clone().requires_grad_()
        loss = free(h, side)
        loss.backward()
        gradients.append((loss.item(), h.grad))
    assert abs(gradients[0][0] - gradients[1][0]) > 0.1
    assert torch.equal(gradients[0][1], gradients[1][1])
    assert teacher.grad is None


def test_a_constant_column_has_a_finite_gradient():
    student, teacher = pairs(0)
    student[:, 1] = 3
    student.requires_grad_()
    Vicreg()(student, teacher).backward()
    assert student.grad.isfinite().all()


def test_moments_are_not_taken_in_half_precision():
    student, teacher = (side.float() for side in pairs(0, n=64, d=8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = Vicreg()(student.bfloat16(), teacher)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, Vicreg()(student.bfloat16().float(), teacher))
