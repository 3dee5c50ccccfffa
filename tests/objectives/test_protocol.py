"""What holds for every objective that a model can be made with."""

from __future__ import annotations

import pytest
import torch

from semiclip.model._module import SemiClipModule
from semiclip.objectives import OBJECTIVES, Objective


def batch(n=48, n_student=6, n_teacher=4):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, n_student, generator=rng), torch.randn(n, n_teacher, generator=rng), torch.arange(n)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_states_what_a_model_asks(name):
    objective = OBJECTIVES[name]()
    assert isinstance(objective, Objective)
    assert isinstance(objective, torch.nn.Module)
    assert not objective.needs_labels
    assert objective.same_space == (name != "dcca")
    assert objective.capturable == (name != "dcca")
    assert objective.width(768) == (30 if name == "dcca" else 768)
    assert list(objective.profiles) == ["default", "paper"]
    assert all("lr" in given for given in objective.profiles.values())


@pytest.mark.parametrize(("name", "rate"), [("semiclip", 1e-3), ("siglip", 0.1), ("vicreg", 0.1), ("dcca", 1e-6)])
def test_the_paper_s_rates(name, rate):
    assert OBJECTIVES[name].profiles["paper"]["lr"] == rate


@pytest.mark.parametrize(("name", "least"), [("semiclip", 1), ("siglip", 1), ("vicreg", 2), ("dcca", 10)])
def test_the_fewest_rows_that_have_a_finite_loss(name, least):
    objective = OBJECTIVES[name]()
    assert objective.min_batch_size(4, 4) == least
    _, teacher, key = batch(least)
    assert objective(teacher + 1, teacher, key).isfinite()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_learns_one_mini_batch_by_heart(name):
    student, teacher, key = batch()
    torch.manual_seed(0)
    module = SemiClipModule(6, [256], 4, objective=name)
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
    value, best = loss.item(), {"vicreg": module.objective(teacher, teacher).item(), "dcca": -4.0}
    if name in best:  # nothing is better than the teacher itself
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
    objective = OBJECTIVES[name]()
    assert objective(teacher, teacher, key) < objective(teacher, teacher.roll(1, 0), key) - 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_gradient_reaches_a_frozen_teacher(name):
    student, teacher, key = batch()
    module = SemiClipModule(6, [8], 4, objective=name)
    before = teacher.clone()
    module.objective(module(student), teacher, key).backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)
    assert all(weights.grad is not None for weights in module.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_pairs_does_not_matter(name):
    _, teacher, key = batch()
    student = teacher + batch(n_student=4)[0]
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    objective = OBJECTIVES[name]()
    torch.testing.assert_close(objective(student[order], teacher[order], key[order]), objective(student, teacher, key))
