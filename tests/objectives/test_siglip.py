from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from semiclip.objectives import SigLip


def pairs(seed, n=12, d=5):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(student, teacher, scale, bias):
    """Pair by pair, as the sum is written."""
    student, teacher = student.numpy(), teacher.numpy()
    total = 0.0
    for i, row in enumerate(student):
        for j, image in enumerate(teacher):
            logit = scale * row @ image / np.linalg.norm(row) / np.linalg.norm(image) + bias
            total += np.logaddexp(0, -logit if i == j else logit)
    return total / len(student)


@pytest.mark.parametrize("n", [1, 16, 1024])
def test_orthonormal_pairs(n):
    eye = torch.eye(n, dtype=torch.float64)
    loss = SigLip().double()(eye, eye).item()
    assert loss == pytest.approx(log(2) + (n - 1) * log1p(exp(-10)), rel=1e-6)  # log 10 is kept in float32
    if n == 16:
        assert loss == pytest.approx(0.693828, abs=5e-7)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), scale=st.floats(0.1, 100), bias=st.floats(-20, 20))
def test_equals_the_sum_pair_by_pair(seed, n, scale, bias):
    student, teacher = pairs(seed, n=n)
    loss = SigLip(scale=scale, bias=bias).double()(student, teacher)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive(student, teacher, scale, bias), rel=1e-5)


def test_value_and_gradients_are_those_of_open_clip():
    reference = pytest.importorskip("open_clip.loss").SigLipLoss()
    student, teacher = pairs(0, n=64)
    mine, other = student.clone().requires_grad_(), student.clone().requires_grad_()
    objective = SigLip().double()
    scale, bias = (value.detach().clone().requires_grad_() for value in (objective.log_scale, objective.bias))
    loss, expected = objective(mine, teacher), reference(normalize(other), normalize(teacher), scale.exp(), bias)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for value, expected in ((mine, other), (objective.log_scale, scale), (objective.bias, bias)):
        torch.testing.assert_close(value.grad, expected.grad, rtol=1e-6, atol=1e-9)


def test_scale_and_bias_start_as_in_the_reference_and_are_learned():
    learned = dict(SigLip().named_parameters())
    assert {name: value.item() for name, value in learned.items()} == {
        "log_scale": pytest.approx(log(10)),
        "bias": -10,
    }
    assert all(value.requires_grad for value in learned.values())


@pytest.mark.parametrize("zero", [0, 1])
def test_vectors_of_zeros_stay_finite(zero):
    sides = list(pairs(0))
    sides[zero][2] = 0
    sides[0].requires_grad_()
    loss = SigLip().double()(*sides)
    loss.backward()
    assert loss.isfinite()
    assert sides[0].grad.isfinite().all()


def test_half_precision_is_left_after_the_product():
    student, teacher = (side.float() for side in pairs(0, n=512, d=64))
    full = SigLip()(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        half = SigLip()(student, teacher)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)
