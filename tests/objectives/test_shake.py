from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from semiclip.objectives import Kd, Shake

VARIANTS = ["paper", "original"]
HEADS = ["student_head", "teacher_head", "shadow"]


def batch(seed=0, n=7, d_student=4, d_teacher=6, c=5, **arguments):
    """An objective with heads and a mini-batch, in float64."""
    torch.manual_seed(seed)
    objective = Shake(**arguments)
    objective.set_classes(d_student, d_teacher, c)
    student, teacher = (3 * torch.randn(n, d, dtype=torch.float64) for d in (d_student, d_teacher))
    return objective.double(), student, teacher, torch.randint(c, (n,))


def said(objective, student, teacher):
    """Logits of the heads as arrays."""
    sides = {"student_head": student, "teacher_head": teacher, "shadow": teacher}
    return [objective.heads[name](sides[name]).detach().numpy() for name in HEADS]


def kd(a, b, t):
    return t**2 * entropy(softmax(b / t, axis=1), softmax(a / t, axis=1), axis=1).mean()


def ce(logits, label):
    return -log_softmax(logits, axis=1)[np.arange(len(label)), label].mean()


def naive(u, v, q, label, *, variant, temperature, alpha, beta, gamma):
    """The terms as they are written."""
    if variant == "paper":
        shadow = beta * kd(q, u, temperature) + kd(q, v, temperature)
        return gamma * ce(u, label) + alpha * kd(u, q, temperature) + shadow
    u, v, q = (pi * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) for x in (u, v, q))
    online = kd(q, u, temperature) + kd(u, q, temperature) + ce(q, label) + ((q - v) ** 2).mean()
    return gamma * ce(u, label) + alpha * kd(u, v, temperature) + beta * online


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 0.3, 0.7), (0.0, 1.0, 0.0), (3.0, 0.0, 0.5)])
def test_equals_the_terms_as_they_are_written(variant, weights):
    arguments = dict(zip(("alpha", "beta", "gamma"), weights, strict=True), variant=variant, temperature=3.0)
    objective, student, teacher, label = batch(**arguments)
    expected = naive(*said(objective, student, teacher), label.numpy(), **arguments)
    loss = objective(student, teacher, label)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("variant", "temperature", "alpha", "beta"), [("paper", 9.0, 10.0, 1e-3), ("original", 4.0, 0.0, 1.0)]
)
def test_what_is_not_given_depends_on_the_variant(variant, temperature, alpha, beta):
    objective, student, teacher, label = batch(variant=variant)
    assert (objective.temperature, objective.alpha, objective.beta, objective.gamma) == (temperature, alpha, beta, 1)
    arguments = {"variant": variant, "temperature": temperature, "alpha": alpha, "beta": beta, "gamma": 1.0}
    expected = naive(*said(objective, student, teacher), label.numpy(), **arguments)
    assert objective(student, teacher, label).item() == pytest.approx(expected, rel=1e-12)
    assert Shake(variant=variant, alpha=0.0).alpha == 0


def gradients(variant="paper", student_row=None, **arguments):
    """Gradients of the biases, which are those of the logits summed over rows."""
    objective, student, teacher, label = batch(variant=variant, **arguments)
    objective(student, teacher, label).backward()
    return {name: objective.heads[name].bias.grad for name in HEADS}


def test_the_student_learns_nothing_from_what_teaches_the_shadow():
    found = gradients(alpha=0.0, beta=1.0, gamma=0.0)
    assert (found["student_head"] == 0).all()
    assert (found["shadow"] != 0).any()


def test_the_shadow_learns_nothing_from_what_teaches_the_student():
    found = [gradients(alpha=alpha, beta=0.0, gamma=gamma) for alpha, gamma in ((0.0, 0.0), (10.0, 1.0))]
    assert torch.equal(found[0]["shadow"], found[1]["shadow"]), "it still learns from the teacher"
    assert (found[0]["student_head"] == 0).all()
    assert (found[1]["student_head"] != 0).any()


def test_the_original_s_online_terms_each_have_one_side():
    """Gradients of both directions as they are derived by hand, through the normalisation of the logits."""
    objective, student, teacher, label = batch(variant="original", gamma=0.0)
    objective(student, teacher, label).backward()
    t, n = 4.0, len(label)
    u, v, q = (torch.from_numpy(x).requires_grad_() for x in said(objective, student, teacher))
    nu, nv, nq = (pi * torch.nn.functional.layer_norm(x, x.shape[1:]) for x in (u, v, q))
    pu, pq = ((x / t).softmax(1).detach() for x in (nu, nq))
    truth = torch.nn.functional.one_hot(label, 5)
    on_shadow = t * (pq - pu) / n + (nq.softmax(1) - truth).detach() / n + (2 * (nq - nv) / nq.numel()).detach()
    (to_u,) = torch.autograd.grad(nu, u, t * (pu - pq) / n)
    (to_q,) = torch.autograd.grad(nq, q, on_shadow)
    torch.testing.assert_close(objective.heads["student_head"].bias.grad, to_u.sum(0))
    torch.testing.assert_close(objective.heads["shadow"].bias.grad, to_q.sum(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_teacher_is_only_listened_to(variant):
    objective, student, teacher, label = batch(variant=variant, alpha=1.0)
    teacher.requires_grad_()
    objective(student, teacher, label).backward()
    assert teacher.grad is None
    assert all(each.grad is None for each in objective.heads["teacher_head"].parameters())
    assert all(objective.heads[name].weight.grad.abs().sum() > 0 for name in ("student_head", "shadow"))
    assert Shake.frozen == ("teacher", "teacher_head")


def test_the_shadow_begins_as_the_teacher_s_head_and_then_it_is_distillation():
    objective, student, teacher, label = batch(beta=0.0)
    objective.begin()
    shadow, head = objective.heads["shadow"], objective.heads["teacher_head"]
    assert torch.equal(shadow.weight, head.weight)
    assert torch.equal(shadow.bias, head.bias)
    assert shadow.weight.data_ptr() != head.weight.data_ptr()
    plain = Kd()
    plain.set_classes(4, 6, 5)
    plain.double().heads.load_state_dict({k: x for k, x in objective.heads.state_dict().items() if "shadow" not in k})
    assert objective(student, teacher, label).item() == pytest.approx(plain(student, teacher, label).item(), rel=1e-12)


def test_the_original_does_not_see_the_size_of_logits():
    objective, student, teacher, label = batch(variant="original")
    expected = objective(student, teacher, label).item()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter *= 50
    assert objective(student, teacher, label).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_not_taken_in_half_precision(variant):
    objective, student, teacher, label = batch(variant=variant)
    objective, student, teacher = objective.float(), student.float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(student, teacher, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(objective(student, teacher, label).item(), rel=0.03)


def test_the_paper_s_rates():
    rates = {"student": 0.1, "student_head": 1e-4, "shadow": 1e-7}
    assert Shake.profiles["paper"] == {"lr": rates, "min_lr": 1e-10}


def test_refuses_an_unknown_variant():
    with pytest.raises(ValueError, match="variant='released' is not one of paper, original"):
        Shake(variant="released")


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature} must be positive"):
        Shake(temperature=temperature)


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
@pytest.mark.parametrize("weight", [-1, float("nan")])
def test_refuses_a_weight(name, weight):
    with pytest.raises(ValueError, match=f"{name}={weight} must not be negative"):
        Shake(**{name: weight})
