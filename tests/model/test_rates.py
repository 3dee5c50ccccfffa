"""Learning rates by part: given, merged, annealed, and of which part."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.model import SemiClip
from semiclip.model._module import SemiClipModule
from semiclip.model._plan import MIN_LR, DistillationPlan, PretrainingPlan, anneal, merge_rates, rate_of
from semiclip.objectives import OBJECTIVES, PRESETS

PARTS = ["student", "teacher", "student_head"]
START = {"optimizer": "sgd", "lr": {"student": 0.1, "teacher": 0.2, "shadow": 0.3}, "min_lr": 1e-6}


def module(objective, **kwargs):
    made = SemiClipModule(4, [], 3, objective=objective, **kwargs)
    if made.objective.spec.needs_labels:
        made.set_classes(5)
    return made


@pytest.mark.parametrize(
    ("given", "lr", "min_lr"),
    [
        ({}, {"student": 0.1, "teacher": 0.2}, 1e-6),
        ({"lr": 0.5}, 0.5, 1e-6),
        ({"lr": {"teacher": 0.5}}, {"student": 0.1, "teacher": 0.5}, 1e-6),
        ({"lr": {"student": 0.5, "student_head": 0.6}}, {"student": 0.5, "teacher": 0.2, "student_head": 0.6}, 1e-6),
        ({"min_lr": {"teacher": 0.01}}, {"student": 0.1, "teacher": 0.2}, {"student": 1e-6, "teacher": 0.01}),
    ],
)
def test_rates_given_by_part_go_over_those_of_the_profile(given, lr, min_lr):
    start = {**START, "lr": dict(START["lr"])}
    assert merge_rates(start, given, PARTS) == {"optimizer": "sgd", "lr": lr, "min_lr": min_lr}
    assert start == START


def test_a_profile_with_one_rate_is_that_of_the_student():
    assert merge_rates({"lr": 0.1}, {"lr": {"teacher": 1e-3}}, PARTS) == {"lr": {"student": 0.1, "teacher": 1e-3}}
    assert merge_rates({"lr": 0.1}, {"momentum": 0.5}, PARTS) == {"lr": 0.1, "momentum": 0.5}


@pytest.mark.parametrize("name", ["lr", "min_lr"])
def test_a_part_that_the_model_does_not_have_is_refused(name):
    message = f"^{name} has a rate of head, but this model trains student, teacher, student_head$"
    with pytest.raises(ValueError, match=message):
        merge_rates(START, {name: {"head": 0.1, "student": 0.2}}, PARTS)


def test_a_part_without_a_rate_has_that_of_the_student():
    assert rate_of("teacher", 0.3) == 0.3
    assert rate_of("teacher", {"student": 0.3}) == 0.3
    assert rate_of("teacher", {"student": 0.3, "teacher": 0.0}) == 0
    message = "there is neither a rate of 'encoder' nor one of 'student', which others fall back on, in {'teacher': 1}"
    with pytest.raises(ValueError, match=message):
        rate_of("encoder", {"teacher": 1})


def test_each_part_is_annealed_along_its_own_cosine():
    lr = {"student": 0.5, "teacher": 0.2, "student_head": 0.01, "teacher_head": 0.0, "student_proxy": 0.5}
    least = {"student": 0.1, "teacher": 1e-6, "student_head": 0.3, "teacher_head": 0.1}
    plan = DistillationPlan(
        module("c2kd", teacher_hidden=[]), max_epochs=8, lr=lr, min_lr={**least, "student_proxy": 0.5}
    )
    built = plan.configure_optimizers()
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(9):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()

    def cosine(start, end):
        return [end + (start - end) * (1 + math.cos(math.pi * epoch / 8)) / 2 for epoch in range(9)]

    constant = [np.full(9, rate) for rate in (0.01, 0.0, 0.5)]  # where the least is higher, the rate stays
    # the teacher's proxy has no rate of its own, and is the student's to the least
    expected = [cosine(0.5, 0.1), cosine(0.2, 1e-6), *constant, cosine(0.5, 0.1)]
    np.testing.assert_allclose(np.transpose(rates), expected, atol=1e-12)


@pytest.mark.parametrize("least", [0.0, 1e-3, 0.1, 7.0])
def test_a_least_rate_never_raises_one(least):
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weights], "lr": 0.1}])
    scheduler = anneal(optimizer, [least], 5)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(min(least, 0.1), abs=1e-15)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_optimiser_has_what_is_learned_once_and_nothing_that_is_frozen(name):
    made = module(name, teacher_hidden=[2])
    frozen = {"kd": {"teacher", "teacher_head"}, "shake": {"teacher", "teacher_head"}}.get(name, set())
    parts = {part: parameters for part, parameters in made.parts().items() if part not in frozen}
    assert frozen < set(made.parts())
    plan = DistillationPlan(made, max_epochs=3, weight_decay=0.3)
    groups = plan.configure_optimizers()["optimizer"].param_groups
    assert [group["params"] for group in groups] == list(parts.values())
    assert [group["weight_decay"] for group in groups] == [0.0 if part == "objective" else 0.3 for part in parts]
    for part, parameters in made.parts().items():
        assert {parameter.requires_grad for parameter in parameters} == {part not in frozen}


def test_pretraining_learns_adapters_and_heads_and_distillation_takes_over():
    made = module("c2kd", teacher_hidden=[])
    assert PretrainingPlan(made, max_epochs=3).learned == ["student", "teacher", "student_head", "teacher_head"]
    assert not made.objective.heads["student_proxy"].weight.requires_grad
    assert DistillationPlan(made, max_epochs=3).learned == list(made.parts())
    assert all(parameter.requires_grad for parameter in made.parameters())
    shake = module("shake", teacher_hidden=[])
    assert DistillationPlan(shake, max_epochs=3).learned == ["student", "student_head", "shadow"]
    assert PretrainingPlan(shake, max_epochs=3).learned == ["student", "teacher", "student_head", "teacher_head"]


def test_trained_parts_are_known_before_there_are_heads():
    made = SemiClipModule(4, [], 3, objective="shake", teacher_hidden=[])
    names = made.trained_parts
    assert list(made.parts()) == ["student", "teacher"]
    made.set_classes(5)
    assert list(made.parts()) == ["student", "teacher", "student_head", "teacher_head", "shadow"]
    assert names == made.trained_parts == ["student", "student_head", "shadow"]


@pytest.fixture
def model(mdata, setup):
    SemiClip.setup_mudata(mdata, **setup)
    torch.manual_seed(0)
    return SemiClip(mdata, objective="kd", n_hidden=[16])


def test_training_takes_rates_by_part_and_says_which(model, quiet):
    seen = []

    class Spy(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.extend(group["lr"] for group in trainer.optimizers[0].param_groups)

    rates = {"lr": {"student_head": 0.05}, "min_lr": {"student_head": 1e-3}}
    model.train(2, pretrain_epochs=1, callbacks=[Spy()], plan_kwargs=rates, **quiet)
    usual = PRESETS[model.module.objective_name]["default"]["lr"]
    assert seen == [usual, 0.05]
    assert model.train_params_["lr"] == {"student": usual, "student_head": 0.05}
    assert model.train_params_["min_lr"] == {"student": MIN_LR, "student_head": 1e-3}


def test_an_unknown_part_is_refused_before_anything_is_made(model, quiet):
    for part in ("shadow", "teacher"):  # the teacher's adapter is there, but frozen
        message = f"lr has a rate of {part}, but this model trains student, student_head$"
        with pytest.raises(ValueError, match=message):
            model.train(1, plan_kwargs={"lr": {part: 0.1}}, **quiet)
    assert model.classes_ is None
    assert not model.module.objective.heads


@pytest.mark.parametrize("name", ["lr", "min_lr"])
@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, "0.1", None])
def test_a_rate_that_would_not_descend_is_refused(model, quiet, name, rate):
    message = f"^{name}={re.escape(repr(rate))} of the part 'student_head' must be a finite number of at least 0$"
    with pytest.raises(ValueError, match=message):
        model.train(1, plan_kwargs={name: {"student_head": rate}}, **quiet)
    with pytest.raises(ValueError, match=f"^{name}={re.escape(repr(rate))} of the part 'student' must be"):
        model.train(1, plan_kwargs={name: rate}, **quiet)
    assert model.classes_ is None


def test_a_part_at_rate_zero_is_not_changed(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)
    clip = SemiClip(mdata, objective="clip", n_hidden=[16])
    before = {name: weights.clone() for name, weights in clip.module.state_dict().items()}
    clip.train(2, plan_kwargs={"lr": {"teacher": 0.0}}, **quiet)
    for name, weights in clip.module.state_dict().items():
        assert torch.equal(weights, before[name]) == name.startswith("teacher_adapter")
