"""What holds for every objective that a model can be made with."""

from __future__ import annotations

import pytest
import torch

from semiclip.model._module import SemiClipModule
from semiclip.objectives import OBJECTIVES, LabelObjective, Objective

LABELS = {"kd", "shake", "c2kd"}


def batch(n=48, n_student=6, n_teacher=4):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, n_student, generator=rng), torch.randn(n, n_teacher, generator=rng), torch.arange(n)


def made(name, n_classes=48, width=4):
    """Return an objective, with heads where it has any."""
    torch.manual_seed(0)
    objective = OBJECTIVES[name]()
    if name in LABELS:
        objective.set_classes(width, width, n_classes)
        objective.begin()
    return objective


def knows(objective, teacher):
    """Give an objective heads that say of each row of the teacher which one it is."""
    for head in objective.heads.values():
        torch.nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight.copy_(20 * torch.nn.functional.normalize(teacher, dim=1))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_states_what_a_model_asks(name):
    objective = OBJECTIVES[name]()
    assert isinstance(objective, Objective)
    assert isinstance(objective, torch.nn.Module)
    assert objective.needs_labels == isinstance(objective, LabelObjective) == (name in LABELS)
    assert objective.same_space == (name not in LABELS | {"dcca"})
    assert objective.adapts_teacher == (name in LABELS | {"clip"})
    assert objective.frozen == (("teacher", "teacher_head") if name in ("kd", "shake") else ())
    assert objective.capturable == (name != "dcca")
    assert objective.width(768) == (30 if name == "dcca" else 768)
    assert list(objective.profiles) == ["default", "paper"]
    assert all("lr" in given for given in objective.profiles.values())


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("semiclip", 1e-3),
        ("clip", {"student": 1e-3, "teacher": 1e-3}),
        ("siglip", 0.1),
        ("vicreg", 0.1),
        ("dcca", 1e-6),
    ],
)
def test_the_paper_s_rates(name, rate):
    assert OBJECTIVES[name].profiles["paper"]["lr"] == rate


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("profile", ["default", "paper"])
def test_rates_are_of_parts_that_a_model_has(name, profile):
    module = SemiClipModule(6, [], 4, objective=name, teacher_hidden=[])
    given = OBJECTIVES[name].profiles[profile]
    rates = given["lr"] if isinstance(given["lr"], dict) else {"student": given["lr"]}
    assert set(rates) <= set(module.trained_parts)
    assert "student" in rates
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize(
    ("name", "least"),
    [("semiclip", 1), ("clip", 1), ("siglip", 1), ("vicreg", 2), ("dcca", 10), ("kd", 1), ("shake", 1), ("c2kd", 1)],
)
def test_the_fewest_rows_that_have_a_finite_loss(name, least):
    objective = made(name)
    assert objective.min_batch_size(4, 4) == least
    _, teacher, key = batch(least)
    assert objective(teacher + 1, teacher, key).isfinite()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learns_one_mini_batch_by_heart(name):
    student, teacher, key = batch()
    torch.manual_seed(0)
    module = SemiClipModule(6, [256], 4, objective=name)
    if name in LABELS:
        module.set_classes(48)
        knows(module.objective, teacher)
        module.objective.begin()
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    start = module.objective(module(student), teacher, key).item()
    for _ in range(600):
        optimizer.zero_grad()
        loss = module.objective(module(student), teacher, key)
        loss.backward()
        optimizer.step()
    embedded = module(student).detach()
    nearest = torch.nn.functional.normalize(embedded) @ torch.nn.functional.normalize(teacher).T
    found = float((nearest.argmax(dim=1) == key).float().mean())
    value, best = loss.item(), {"dcca": -4.0}
    if name == "vicreg":
        best[name] = module.objective(teacher, teacher).item()
    if name in LABELS:
        told = module.objective.logits("student_head", embedded).argmax(dim=1) == key
        assert start > value + 1
        assert float(told.float().mean()) > 0.9
    elif name in best:  # nothing is better than the teacher itself
        assert start > best[name] + 1
        assert value == pytest.approx(best[name], abs=0.15)
    else:
        assert start > value + 1
    if module.objective.same_space:
        assert found > 0.9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_student_that_does_not_know_the_pairs_is_told_apart(name):
    """Exchanging teacher rows changes the loss: none compares the student with itself."""
    _, teacher, key = batch()
    objective = made(name)
    if name in LABELS:
        knows(objective, teacher)
    assert objective(teacher, teacher, key) < objective(teacher, teacher.roll(1, 0), key) - 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_gradient_reaches_a_frozen_teacher(name):
    student, teacher, key = batch()
    module = SemiClipModule(6, [8], 4, objective=name)
    if name in LABELS:
        module.set_classes(48)
    before = teacher.clone()
    module.objective(module(student), teacher, key).backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)
    learned = [part for part in module.parts() if part not in module.objective.frozen]
    for part, parameters in module.parts().items():
        assert all((weights.grad is not None) == (part in learned) for weights in parameters)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_pairs_does_not_matter(name):
    _, teacher, key = batch()
    student = teacher + batch(n_student=4)[0]
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    objective = made(name)
    torch.testing.assert_close(objective(student[order], teacher[order], key[order]), objective(student, teacher, key))


@pytest.mark.parametrize("name", sorted(LABELS))
def test_pretraining_shares_nothing_between_the_sides(name):
    student, teacher, key = batch(n_student=4)
    objective = made(name)

    def gradients(student, teacher):
        objective.zero_grad(set_to_none=True)
        objective.pretrain(student, teacher, key).backward()
        return {part: head.weight.grad for part, head in objective.heads.items()}

    one, other = gradients(student, teacher), gradients(student, teacher.flip(0))
    assert torch.equal(one["student_head"], other["student_head"])
    assert not torch.equal(one["teacher_head"], other["teacher_head"])
    assert {part for part, gradient in one.items() if gradient is None} == set(objective.heads) - {
        "student_head",
        "teacher_head",
    }
