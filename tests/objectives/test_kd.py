from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch.nn.functional import cross_entropy

from semiclip.objectives import Kd


def batch(seed=0, n=7, d_student=4, d_teacher=6, c=5, **arguments):
    """An objective with heads and a mini-batch, in float64."""
    torch.manual_seed(seed)
    objective = Kd(**arguments)
    objective.set_classes(d_student, d_teacher, c)
    student, teacher = (3 * torch.randn(n, d, dtype=torch.float64) for d in (d_student, d_teacher))
    return objective.double(), student, teacher, torch.randint(c, (n,))


def heads(objective, student, teacher):
    return objective.heads["student_head"](student).detach(), objective.heads["teacher_head"](teacher).detach()


@pytest.mark.parametrize(("temperature", "alpha"), [(9.0, 10.0), (1.0, 0.5), (4.0, 1.0)])
def test_equals_cross_entropy_and_the_entropies_of_scipy(temperature, alpha):
    objective, student, teacher, label = batch(temperature=temperature, alpha=alpha)
    own, other = heads(objective, student, teacher)
    each = entropy(softmax(other.numpy() / temperature, axis=1), softmax(own.numpy() / temperature, axis=1), axis=1)
    expected = cross_entropy(own, label).item() + alpha * temperature**2 * np.mean(each)
    loss = objective(student, teacher, label)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_by_default_the_temperature_is_9_and_the_weight_10():
    assert (Kd().temperature, Kd().alpha) == (9, 10)
    objective, student, teacher, label = batch()
    assert objective(student, teacher, label) == batch(temperature=9, alpha=10)[0](student, teacher, label)


def test_a_student_that_says_the_same_has_only_the_cross_entropy():
    objective, _, teacher, label = batch(d_student=6)
    objective.heads["student_head"].load_state_dict(objective.heads["teacher_head"].state_dict())
    own, _ = heads(objective, teacher, teacher)
    assert objective(teacher, teacher, label).item() == pytest.approx(cross_entropy(own, label).item(), abs=1e-12)


def test_a_high_temperature_compares_centred_logits():
    objective, student, teacher, label = batch(temperature=1e5, alpha=1.0)
    own, other = heads(objective, student, teacher)
    expected = cross_entropy(own, label) + (own - other).var(dim=1, unbiased=False).mean() / 2
    assert objective(student, teacher, label).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_teacher_is_only_listened_to():
    objective, student, teacher, label = batch()
    teacher.requires_grad_()
    objective(student, teacher, label).backward()
    assert teacher.grad is None
    assert {name: each.grad is None for name, each in objective.heads.named_parameters()} == {
        "student_head.weight": False,
        "student_head.bias": False,
        "teacher_head.weight": True,
        "teacher_head.bias": True,
    }
    assert Kd.frozen == ("teacher", "teacher_head")


def test_another_teacher_gives_another_loss():
    objective, student, teacher, label = batch()
    assert abs(objective(student, teacher, label) - objective(student, teacher.roll(1, 0), label)) > 0.01


def test_pretraining_is_the_cross_entropy_of_both_sides():
    objective, student, teacher, label = batch()
    own, other = heads(objective, student, teacher)
    expected = cross_entropy(own, label) + cross_entropy(other, label)
    assert objective.pretrain(student, teacher, label).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_loss_is_not_taken_in_half_precision():
    objective, student, teacher, label = batch()
    objective, student, teacher = objective.float(), student.float(), teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        losses = [objective(student, teacher, label), objective.pretrain(student, teacher, label)]
    full = [objective(student, teacher, label), objective.pretrain(student, teacher, label)]
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert [loss.item() for loss in losses] == pytest.approx([loss.item() for loss in full], rel=0.03)


def test_the_paper_s_rates():
    assert Kd.profiles["paper"] == {"lr": {"student": 0.1, "student_head": 1e-4}, "min_lr": 1e-10}


def test_refuses_to_run_without_classes():
    with pytest.raises(ValueError, match="Kd has no student_head yet: call set_classes first"):
        Kd()(torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0, 1]))


def test_refuses_a_single_class():
    with pytest.raises(ValueError, match="1 class cannot be told from others; training needs at least two pert"):
        Kd().set_classes(4, 4, 1)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature} must be positive"):
        Kd(temperature=temperature)


@pytest.mark.parametrize("alpha", [-1, float("nan")])
def test_refuses_a_weight(alpha):
    with pytest.raises(ValueError, match=f"alpha={alpha} must not be negative"):
        Kd(alpha=alpha)
