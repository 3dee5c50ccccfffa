from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.metrics import retrieval
from semiclip.model._module import SemiClipModule
from semiclip.model._plan import DistillationPlan, KeepBest


def test_the_default_optimiser_is_sgd_with_momentum_and_a_cosine_per_epoch():
    plan = DistillationPlan(SemiClipModule(4, [], 3), max_epochs=10, lr=0.5, min_lr=0.1)
    built = plan.configure_optimizers()
    optimizer, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (0.95, 1e-4)
    assert built["lr_scheduler"]["interval"] == "epoch"
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [0.1 + 0.4 * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(11)]
    np.testing.assert_allclose(rates, expected)


def test_adamw_and_a_constant_rate_are_choices():
    optimizer = DistillationPlan(
        SemiClipModule(4, [], 3), max_epochs=3, optimizer="adamw", schedule="constant", lr=0.2, weight_decay=0.3
    ).configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.2, 0.3)


@pytest.mark.parametrize(("name", "known"), [("optimizer", "sgd, adamw"), ("schedule", "cosine, constant")])
def test_unknown_choices(name, known):
    with pytest.raises(ValueError, match=f"{name}='lion' is not one of {known}"):
        DistillationPlan(SemiClipModule(4, [], 3), max_epochs=3, **{name: "lion"})


def test_history_has_the_loss_and_the_retrieval_of_held_out_groups(untrained, quiet):
    untrained.train(3, train_size=0.75, **quiet)
    assert {name: len(curve) for name, curve in untrained.history.items()} == dict.fromkeys(
        [
            "train_loss",
            "validation_loss",
            "validation_mean_rank_percentile",
            "validation_recall_at_1",
            "validation_recall_at_5",
            "validation_recall_at_10",
        ],
        3,
    )
    assert not any("elbo" in name for name in untrained.history)

    # the last entries, computed anew from the trained model
    tensors = untrained._pair_data(None, [], train_size=0.75).host
    rows = torch.as_tensor(untrained.validation_indices)
    with torch.no_grad():
        embedded = untrained.module(tensors.student[rows])
    held_out, target = torch.unique(tensors.key[rows], return_inverse=True)
    for name, value in retrieval(embedded, tensors.centroids(held_out), target).items():
        assert untrained.history[f"validation_{name}"].iloc[-1, 0] == pytest.approx(float(value), abs=1e-6)


def test_the_best_epoch_is_kept_on_request(mdata, setup, quiet):
    from semiclip.model import SemiClip

    def trained(**kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model = SemiClip(mdata, n_hidden=[64])
        model.train(25, plan_kwargs={"lr": 0.3, "schedule": "constant"}, **quiet, **kwargs)
        return model

    last, best = trained(), trained(select="best")
    losses = best.history["validation_loss"]["validation_loss"].astype(float)
    np.testing.assert_array_equal(losses, last.history["validation_loss"]["validation_loss"].astype(float))
    epoch = int(losses.argmin())
    assert epoch < 24, "the test needs a run that gets worse"
    torch.manual_seed(0)
    short = SemiClip(mdata, n_hidden=[64])
    short.train(epoch + 1, plan_kwargs={"lr": 0.3, "schedule": "constant"}, **quiet)
    for name, weights in short.module.state_dict().items():
        assert torch.equal(best.module.state_dict()[name], weights)
        assert not torch.equal(last.module.state_dict()[name], weights)


def test_early_stopping_watches_the_validation_loss(untrained, quiet, capsys):
    untrained.train(60, early_stopping=True, early_stopping_patience=2, early_stopping_min_delta=100, **quiet)
    assert len(untrained.history["validation_loss"]) == 3
    assert "validation_loss" in capsys.readouterr().out


def test_early_stopping_on_recall_looks_for_the_largest(untrained, quiet):
    seen = []

    class Spy(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(trainer.early_stopping_callback.mode)

    untrained.train(1, early_stopping=True, monitor="validation_recall_at_5", callbacks=[Spy()], **quiet)
    untrained.train(1, early_stopping=True, callbacks=[Spy()], **quiet)
    assert seen == ["max", "min"]


@pytest.mark.parametrize(("mode", "kept"), [("max", 1), ("min", 0)])
def test_keep_best_keeps_the_largest_or_the_smallest(mode, kept):
    plan = DistillationPlan(SemiClipModule(2, [], 2), max_epochs=3)
    callback, weights = KeepBest("validation_recall_at_5", mode), []
    for value in (0.1, 0.9, 0.2):
        torch.nn.init.constant_(plan.module.adapter[0].weight, value)
        weights.append(plan.module.adapter[0].weight.detach().clone())
        callback.on_validation_end(SimpleNamespace(callback_metrics={"validation_recall_at_5": value}), plan)
    callback.on_fit_end(None, plan)
    assert torch.equal(plan.module.adapter[0].weight, weights[kept])


def test_select_best_by_recall_looks_for_the_largest(untrained, quiet, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "semiclip.model._model.KeepBest", lambda *arguments: seen.append(arguments) or KeepBest(*arguments)
    )
    untrained.train(1, select="best", monitor="validation_recall_at_5", **quiet)
    untrained.train(1, select="best", **quiet)
    assert seen == [("validation_recall_at_5", "max"), ("validation_loss", "min")]


def test_selection_needs_validation_and_a_curve_that_exists(untrained, quiet):
    with pytest.raises(ValueError, match="select=.first. is not one of last, best"):
        untrained.train(1, select="first", **quiet)
    with pytest.raises(ValueError, match="need validation samples; lower train_size"):
        untrained.train(1, train_size=1.0, select="best", **quiet)
    with pytest.raises(ValueError, match="monitor='validation_elbo' is not logged; there is validation_"):
        untrained.train(1, select="best", monitor="validation_elbo", **quiet)
    assert not untrained.is_trained
