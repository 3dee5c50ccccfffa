"""Optimisation: rates by part, schedules, what validation ranks, and which epoch is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.metrics import retrieval
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES, PRESETS

MIN_LR = 1e-6


class Watch(Callback):
    """Keeps optimiser and data of a training, the rates in each epoch and after the last, and logs scores."""

    def __init__(self, name="", scores=()):
        self.name, self.scores, self.rates = name, scores, []

    def on_train_start(self, trainer, pl_module):
        self.optimizer, self.data = trainer.optimizers[0], trainer.datamodule
        self.mode = getattr(trainer.early_stopping_callback, "mode", None)

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])

    def on_validation_epoch_end(self, trainer, pl_module):
        if self.scores:
            pl_module.log(self.name, float(self.scores[trainer.current_epoch]))

    def on_train_end(self, trainer, pl_module):
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])


@pytest.fixture
def train(mdata, setup, quiet):
    def run(epochs=1, objective="semiclip", watch=None, n_hidden=(16,), **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        options = {"n_components": 8} if objective == "dcca" else {}
        model, watch = SemiClip(mdata, objective=objective, n_hidden=n_hidden, **options), watch or Watch()
        model.train(epochs, callbacks=[watch], pretrain_epochs=0, **quiet, **kwargs)
        return model, watch

    return run


def cosine(start, end, n_epochs):
    return [end + (start - end) * (1 + math.cos(math.pi * epoch / n_epochs)) / 2 for epoch in range(n_epochs + 1)]


def test_the_default_is_sgd_with_momentum_and_a_cosine_per_epoch(train):
    _, watch = train(10, plan_kwargs={"lr": 0.5, "min_lr": 0.1})
    assert isinstance(watch.optimizer, torch.optim.SGD)
    assert (watch.optimizer.defaults["momentum"], watch.optimizer.defaults["weight_decay"]) == (0.95, 1e-4)
    np.testing.assert_allclose(np.ravel(watch.rates), cosine(0.5, 0.1, 10), atol=1e-12)


def test_adamw_and_a_constant_rate_are_choices(train):
    choices = {"optimizer": "adamw", "schedule": "constant", "lr": 0.002, "weight_decay": 0.3}
    model, watch = train(3, plan_kwargs=choices)
    assert isinstance(watch.optimizer, torch.optim.AdamW)
    assert watch.optimizer.defaults["weight_decay"] == 0.3
    assert watch.rates == [[0.002]] * 4
    assert {name: model.train_params_[name] for name in choices} == choices


def test_each_part_is_annealed_along_its_own_cosine_and_never_up(train):
    lr = {"student": 0.05, "teacher": 0.02, "student_head": 0.01, "teacher_head": 0.0, "student_proxy": 0.05}
    least = {"student": 0.01, "teacher": 1e-6, "student_head": 0.3, "teacher_head": 0.1, "student_proxy": 0.05}
    _, watch = train(8, "c2kd", plan_kwargs={"lr": lr, "min_lr": least})
    constant = [np.full(9, rate) for rate in (0.01, 0.0, 0.05)]  # where the least is higher, the rate stays
    # the teacher's proxy has no rate of its own, and is the student's to the least
    expected = [cosine(0.05, 0.01, 8), cosine(0.02, 1e-6, 8), *constant, cosine(0.05, 0.01, 8)]
    np.testing.assert_allclose(np.transpose(watch.rates), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("objective", "preset", "changes", "lr", "min_lr"),
    [
        ("c2kd", "default", {}, {"student": 0.003, "teacher": 3e-4}, MIN_LR),
        ("c2kd", "default", {"lr": 0.5}, 0.5, MIN_LR),
        ("clip", "default", {"lr": {"teacher": 0.5}}, {"student": 0.1, "teacher": 0.5}, MIN_LR),
        ("semiclip", "paper", {"lr": 0.5}, 0.5, MIN_LR),
        ("kd", "default", {"lr": {"student_head": 0.05}}, {"student": 0.001, "student_head": 0.05}, MIN_LR),
        ("kd", "paper", {"lr": {"student": 1}, "min_lr": {"student_head": 0.1}},
         {"student": 1, "student_head": 1e-4}, {"student": 1e-10, "student_head": 0.1}),
        ("kd", "default", {"momentum": 0.5}, 0.001, MIN_LR),
    ],
)  # fmt: skip
def test_rates_by_part_go_over_those_of_the_preset(train, objective, preset, changes, lr, min_lr):
    start = repr(PRESETS)
    model, watch = train(objective=objective, preset=preset, plan_kwargs=changes)
    assert (model.train_params_["lr"], model.train_params_["min_lr"]) == (lr, min_lr)
    by_part = lr if isinstance(lr, dict) else {"student": lr}
    assert watch.rates[0] == [by_part.get(part, by_part["student"]) for part in model.module.trained_parts]
    assert repr(PRESETS) == start


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_optimiser_has_what_is_learned_once_at_the_rates_of_the_paper(train, name):
    model, watch = train(objective=name, preset="paper", plan_kwargs={"weight_decay": 0.3})
    paper = {
        "semiclip": [1e-3],
        "clip": [1e-3, 1e-3],
        "siglip": [0.1, 0.1],
        "vicreg": [0.1],
        "dcca": [1e-6],
        "kd": [0.1, 1e-4],
        "shake": [0.1, 1e-4, 1e-7],
        "c2kd": [0.1, 1e-6, 1e-5, 1e-3, 1e-5, 1e-3],
    }
    assert watch.rates[0] == paper[name]
    assert model.train_params_["optimizer"] == "sgd"
    assert model.train_params_["min_lr"] == {"semiclip": 1e-6, "clip": 1e-6, "c2kd": 1e-7}.get(name, 1e-10)
    frozen = {"kd": {"teacher", "teacher_head"}, "shake": {"teacher", "teacher_head"}}.get(name, set())
    parts = model.module.parts()
    assert frozen < set(parts)
    groups, learned = watch.optimizer.param_groups, [part for part in parts if part not in frozen]
    assert [group["params"] for group in groups] == [parts[part] for part in learned]
    # what the objective learns, such as a scale, is not decayed
    assert [group["weight_decay"] for group in groups] == [0.0 if part == "objective" else 0.3 for part in learned]
    for part, parameters in parts.items():
        assert {parameter.requires_grad for parameter in parameters} == {part not in frozen}


def test_a_part_at_rate_zero_is_not_changed(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)
    clip = SemiClip(mdata, objective="clip", n_hidden=[16])
    before = {name: weights.clone() for name, weights in clip.module.state_dict().items()}
    clip.train(2, plan_kwargs={"lr": {"teacher": 0.0}}, **quiet)
    for name, weights in clip.module.state_dict().items():
        assert torch.equal(weights, before[name]) == name.startswith("teacher_adapter")


@pytest.mark.parametrize("objective", ["semiclip", "clip"])
def test_history_has_the_loss_and_the_retrieval_of_held_out_groups(train, objective):
    model, watch = train(3, objective, train_size=0.75)
    scores = ["mean_rank_percentile", *(f"recall_at_{k}" for k in (1, 5, 10))]
    curves = ["train_loss", "validation_loss", *(f"validation_{name}" for name in scores)]
    assert {name: len(curve) for name, curve in model.history.items()} == dict.fromkeys(curves, 3)
    # the last entries, computed anew from the trained model
    data, module = watch.data, model.module
    key = data.tensors.key[torch.as_tensor(model.validation_indices)]
    held_out, target = torch.unique(key, return_inverse=True)
    with torch.no_grad():  # the teacher is ranked as it is adapted
        embedded, taught = module.adapter(data.validation.student), module.teach(data.tensors.teacher)
        starts, counts = data.tensors.start[held_out], data.tensors.count[held_out]
        means = [
            torch.nn.functional.normalize(taught[start : start + count], dim=1).mean(dim=0)
            for start, count in zip(starts, counts, strict=True)
        ]
    torch.testing.assert_close(data.centroids(module.teach).detach(), torch.stack(means), atol=1e-6, rtol=1e-5)
    assert torch.allclose(torch.stack(means), data.centroids(), atol=0.1) == (objective == "semiclip")
    for name, value in retrieval(embedded, torch.stack(means), target).items():
        assert model.history[f"validation_{name}"].iloc[-1, 0] == pytest.approx(float(value), abs=1e-6)


@pytest.mark.parametrize(
    ("monitor", "scores", "epochs"),
    [("validation_loss", (), 25), ("validation_score", (0.3, 0.1, 0.2), 3), ("validation_recall", (0.1, 0.9, 0.2), 3)],
)
def test_the_best_epoch_is_kept_on_request(train, monitor, scores, epochs):
    options = {"plan_kwargs": {"lr": 0.3, "schedule": "constant"}, "n_hidden": [64]}
    last, _ = train(epochs, **options)
    best, _ = train(epochs, watch=Watch(monitor, scores), select="best", monitor=monitor, **options)
    losses = best.history["validation_loss"].to_numpy(float).ravel()
    np.testing.assert_array_equal(losses, last.history["validation_loss"].to_numpy(float).ravel())
    kept = 1 if scores else int(losses.argmin())  # recall is best where it is largest
    assert kept < epochs - 1, "the test needs a run that gets worse"
    short, _ = train(kept + 1, **options)
    for name, weights in short.module.state_dict().items():
        assert torch.equal(best.module.state_dict()[name], weights)
        assert not torch.equal(last.module.state_dict()[name], weights)


def test_early_stopping_watches_the_validation_loss_or_for_the_largest_recall(train, capsys):
    options = {"early_stopping": True, "early_stopping_patience": 2, "early_stopping_min_delta": 100}
    model, watch = train(60, **options)
    assert len(model.history["validation_loss"]) == 3
    assert "validation_loss" in capsys.readouterr().out
    assert watch.mode == "min"
    assert train(monitor="validation_recall_at_5", **options)[1].mode == "max"
