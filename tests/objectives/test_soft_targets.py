from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from semiclip.objectives import non_target_divergence, soft_divergence


def logits(seed, n=6, c=5, scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, n, c, generator=rng, dtype=torch.float64)
    return student, teacher, torch.randint(c, (n,), generator=rng)


def naive(student, teacher, label, temperature, nontarget):
    """Row by row, with the label taken out of the arrays or set to zero."""
    values = []
    for u, v, y in zip(student.numpy(), teacher.numpy(), label.numpy(), strict=True):
        if nontarget == "exclude":
            u, v = np.delete(u, y), np.delete(v, y)
        else:
            u, v = np.where(np.arange(len(u)) == y, 0, u), np.where(np.arange(len(v)) == y, 0, v)
        values.append(temperature**2 * entropy(softmax(v / temperature), softmax(u / temperature)))
    return values


@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), c=st.integers(1, 9), temperature=st.floats(0.5, 20))
def test_equals_the_entropies_of_scipy(seed, n, c, temperature):
    student, teacher, _ = logits(seed, n, c)
    divergences = entropy(
        softmax(teacher.numpy() / temperature, axis=1), softmax(student.numpy() / temperature, axis=1), axis=1
    )
    value = soft_divergence(student, teacher, temperature).item()
    assert value == pytest.approx(temperature**2 * divergences.mean(), rel=1e-9, abs=1e-10)


def test_logits_far_apart_stay_finite():
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    for value in (
        soft_divergence(student, -student.detach(), 1.0),
        non_target_divergence(student, -student.detach(), torch.tensor([2]), 1.0).mean(),
    ):
        (gradient,) = torch.autograd.grad(value, student)
        assert value.item() == pytest.approx(2e4)
        assert gradient.isfinite().all()


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 8),
    c=st.integers(2, 9),
    temperature=st.floats(0.5, 20),
    nontarget=st.sampled_from(["exclude", "zero"]),
)
def test_without_the_label_equals_the_entropies_of_scipy(seed, n, c, temperature, nontarget):
    student, teacher, label = logits(seed, n, c)
    values = non_target_divergence(student, teacher, label, temperature, nontarget=nontarget)
    expected = naive(student, teacher, label, temperature, nontarget)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("nontarget", ["exclude", "zero"])
def test_the_logit_of_the_label_does_not_matter(nontarget):
    student, teacher, label = logits(0)
    expected = non_target_divergence(student, teacher, label, 2.0, nontarget=nontarget)
    changed = student.clone()
    changed[torch.arange(len(label)), label] += 7
    changed.requires_grad_()
    values = non_target_divergence(changed, teacher, label, 2.0, nontarget=nontarget)
    values.sum().backward()
    torch.testing.assert_close(values, expected)
    assert (changed.grad[torch.arange(len(label)), label] == 0).all()
    assert changed.grad.isfinite().all()


@pytest.mark.parametrize(("c", "nontarget"), [(1, "exclude"), (2, "exclude"), (1, "zero")])
def test_too_few_classes_leave_nothing_to_tell(c, nontarget):
    student, teacher, label = logits(0, c=c)
    student.requires_grad_()
    values = non_target_divergence(student, teacher, label, 2.0, nontarget=nontarget)
    values.sum().backward()
    assert (values == 0).all()
    assert (student.grad == 0).all()
