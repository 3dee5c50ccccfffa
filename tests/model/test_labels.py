"""Training from labels: each side alone first, then distillation, and what is frozen, kept and watched in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from semiclip.model import SemiClip
from semiclip.model._data import PARTNER
from semiclip.objectives import OBJECTIVES

LABELS = [name for name, objective in OBJECTIVES.items() if objective.spec.needs_labels]
SHARED = {"split_key": "batch", "label_key": "perturbation"}  # classes on both sides of the split

TEACHER = ("teacher_adapter", "objective.heads.teacher_head")


class Spy(Callback):
    """Keeps the data, and the weights with which distillation began."""

    def on_train_start(self, trainer, pl_module):
        self.data, self.weights = trainer.datamodule, copied(pl_module.module)


def copied(module):
    return {name: weights.clone() for name, weights in module.state_dict().items()}


def differs(weights, others):
    """Names of what is not the same, bit for bit."""
    assert list(weights) == list(others)
    return {name for name in weights if not torch.equal(weights[name], others[name])}


@pytest.fixture
def make(mdata, setup):
    def of(objective="kd", *, seed=0, data=None, keys=None, **kwargs):
        data = mdata if data is None else data
        SemiClip.setup_mudata(data, **setup, **(keys or {}))
        torch.manual_seed(seed)
        return SemiClip(data, objective=objective, n_hidden=[16], **kwargs)

    return of


@pytest.fixture
def train(quiet):
    """Train and return what was seen."""

    def run(model, max_epochs=2, *, seed=0, **kwargs):
        spy = Spy()
        torch.manual_seed(seed)
        callbacks = [spy, *kwargs.pop("callbacks", [])]
        model.train(max_epochs, callbacks=callbacks, **{"batch_size": 64, **quiet, **kwargs})
        return spy

    return run


@pytest.fixture
def treated(mdata):
    """Rows of each compound."""
    obs = mdata["rna"].obs["perturbation"].astype(str).to_numpy()
    return {name: np.flatnonzero(obs == name) for name in np.unique(obs) if name != "control"}


def test_pretraining_comes_first_and_has_a_curve(make, train):
    model = make()
    spy = train(model, 2, pretrain_epochs=5)
    assert {name: len(curve) for name, curve in model.history.items()} == {"train_loss": 2, "pretrain_loss": 5}
    losses = model.history["pretrain_loss"].to_numpy(float).ravel()
    assert losses[-1] < losses[0] == pytest.approx(2 * math.log(len(model.classes_)), rel=0.2)  # chance on both sides
    untrained = make()
    at_once = train(untrained, 2, pretrain_epochs=0)
    assert set(untrained.history) == {"train_loss"}
    assert differs(spy.weights, at_once.weights) == set(spy.weights)
    assert model.train_params_["pretrain_epochs"] == 5
    assert model.is_trained
    by_default = make()
    train(by_default, 3)
    assert len(by_default.history["pretrain_loss"]) == 3
    with pytest.raises(ValueError, match="pretrain_epochs=-1 must not be negative; 0 leaves pretraining out"):
        train(make(), pretrain_epochs=-1)


def test_pretraining_is_what_each_side_would_learn_alone(make, train):
    # of a mini-batch of all rows the order does not matter, so that a loop can do the same
    options = {"pea": False, "batch_size": 1024}
    model = make("shake")
    start = train(make("shake"), 1, pretrain_epochs=0, **options).weights
    spy = train(model, 1, pretrain_epochs=6, **options)
    tensors, rows = spy.data.tensors, torch.as_tensor(spy.data.train_idx)
    label = spy.data.class_of_key[tensors.key[rows]]

    def alone(adapter, head, inputs):
        names = [name for name in start if name.startswith(adapter)] + [f"{head}.weight", f"{head}.bias"]
        weights = [start[name].clone().requires_grad_() for name in names]
        optimizer = torch.optim.SGD(weights, 0.1, momentum=0.95, weight_decay=1e-4)
        for epoch in range(6):
            optimizer.param_groups[0]["lr"] = 1e-6 + (0.1 - 1e-6) * (1 + math.cos(math.pi * epoch / 6)) / 2
            first, second, logits = zip(weights[::2], weights[1::2], strict=True)
            hidden = (inputs(epoch) @ first[0].T + first[1]).clamp(min=0)
            loss = cross_entropy((hidden @ second[0].T + second[1]) @ logits[0].T + logits[1], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, values in zip(names, weights, strict=True):
            torch.testing.assert_close(spy.weights[name], values.detach(), atol=1e-4, rtol=1e-3)
            assert not torch.allclose(spy.weights[name], start[name], atol=1e-4, rtol=1e-3)
        return loss.item()

    def partners(epoch):
        return tensors.teacher[tensors.pair(rows, rows, spy.data.seed, epoch, PARTNER).teacher]

    loss = alone("adapter", "objective.heads.student_head", lambda epoch: tensors.student[rows])
    loss += alone("teacher_adapter", "objective.heads.teacher_head", partners)
    assert model.history["pretrain_loss"].iloc[-1, 0] == pytest.approx(loss, rel=1e-4)


def test_sides_do_not_see_each_other_in_pretraining(make, mdata, train):
    other = mdata.copy()
    other["image"].obsm["X_image"] = np.random.default_rng(1).normal(size=(other["image"].n_obs, 16))
    spies = [train(make("c2kd", data=data), 1, pretrain_epochs=2) for data in (mdata, other)]
    assert differs(*(spy.weights for spy in spies)) == {name for name in spies[0].weights if name.startswith(TEACHER)}


@pytest.mark.parametrize("name", LABELS)
def test_distillation_leaves_alone_what_it_freezes(make, train, name):
    model = make(name)
    spy = train(model)
    changed = differs(copied(model.module), spy.weights)
    frozen = {part for part in spy.weights if part.startswith(TEACHER)}
    assert changed == (set(spy.weights) - frozen if name != "c2kd" else set(spy.weights))


@pytest.mark.parametrize("epochs", [0, 2])
def test_the_shadow_starts_as_the_head_of_the_teacher(make, train, epochs):
    model = make("shake")
    started, heads = train(model, pretrain_epochs=epochs).weights, "objective.heads"
    for kind in ("weight", "bias"):
        assert torch.equal(started[f"{heads}.shadow.{kind}"], started[f"{heads}.teacher_head.{kind}"])
        assert not torch.equal(model.module.state_dict()[f"{heads}.shadow.{kind}"], started[f"{heads}.shadow.{kind}"])


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("loaded", [False, True])
def test_training_further_keeps_heads_and_pretrains_no_more(make, mdata, train, tmp_path, name, loaded):
    model = make(name)
    train(model, 2, pretrain_epochs=3)
    if loaded:
        model.save(str(tmp_path / "model"))
        model = SemiClip.load(str(tmp_path / "model"), mdata, accelerator="cpu")
    before = copied(model.module)
    spy = train(model, 4)
    assert not differs(before, spy.weights)
    assert {name: len(curve) for name, curve in model.history.items()} == {"train_loss": 6, "pretrain_loss": 3}


def test_other_classes_make_new_heads_and_start_anew(make, train, treated):
    compounds = list(treated)
    rows = [np.concatenate([treated[name] for name in part]) for part in (compounds[:12], compounds[4:])]
    model = make(keys={"label_key": "perturbation"})
    train(model, 2, pretrain_epochs=3, datasplitter_kwargs={"external_indexing": [rows[0]]})
    assert model.classes_.tolist() == compounds[:12]
    adapter = copied(model.module.adapter)
    spy = train(model, 4, pretrain_epochs=1, datasplitter_kwargs={"external_indexing": [rows[1]]})
    assert model.classes_.tolist() == compounds[4:]
    assert spy.weights["objective.heads.student_head.weight"].shape == (20, 16)
    assert {name: len(curve) for name, curve in model.history.items()} == {"train_loss": 4, "pretrain_loss": 1}
    # the same rows again: nothing is new
    spy = train(model, 1, datasplitter_kwargs={"external_indexing": [rows[1]]})
    assert {name: len(curve) for name, curve in model.history.items()} == {"train_loss": 5, "pretrain_loss": 1}
    assert differs(adapter, copied(model.module.adapter)) == set(adapter)


def test_what_was_refused_or_failed_is_pretrained_when_it_is_trained(make, train):
    class Fail(Callback):
        def on_train_start(self, trainer, pl_module):
            raise RuntimeError("power cut")

    whole, model = make(), make()
    train(whole)
    for error, kwargs in {
        ValueError: {"early_stopping": True},  # there is no validation loss
        RuntimeError: {"callbacks": [Fail()]},
    }.items():
        with pytest.raises(error):
            train(model, **kwargs)
        assert not model.is_trained
    train(model)
    assert {name: len(curve) for name, curve in model.history.items()} == {"train_loss": 2, "pretrain_loss": 2}


def test_a_refusal_leaves_a_trained_model_as_it_was(make, train, treated):
    compounds = list(treated)
    rows = [np.concatenate([treated[name] for name in part]) for part in (compounds[:12], compounds[12:])]
    model = make()
    train(model, datasplitter_kwargs={"external_indexing": [rows[0]]})
    before, classes = copied(model.module), model.classes_
    with pytest.raises(ValueError, match="monitor='validation_loss' is not defined"):
        train(model, select="best", datasplitter_kwargs={"external_indexing": [rows[1], rows[0]]})
    assert model.is_trained
    assert model.classes_ is classes
    assert not differs(before, model.module.state_dict())


@pytest.mark.parametrize("some", [False, True])
def test_the_validation_loss_is_that_of_rows_with_a_known_class(make, train, treated, some):
    keys = SHARED if not some else {"label_key": "perturbation"}
    split = {}
    if some:  # half of what is held out belongs to compounds that training has not
        compounds = [treated[name] for name in treated]
        train_rows = np.concatenate([rows[:6] for rows in compounds[:12]])
        split = {"external_indexing": [train_rows, np.concatenate([rows[6:] for rows in compounds])]}
    model = make(keys=keys)
    spy = train(model, 3, datasplitter_kwargs=split)
    data, module = spy.data, model.module
    label = data.class_of_key[data.validation.key]
    assert data.n_val_known == int((label >= 0).sum())
    assert (data.n_val_known < data.n_val) == some
    losses, weights = [], []
    with torch.no_grad():
        for batch in data._draw_validation():
            known = label[batch.student] >= 0
            if not known.any():
                continue
            student = module.adapter(data.validation.student[batch.student][known])
            teacher = module.teacher_adapter(data.tensors.teacher[batch.teacher][known])
            heads = module.objective.heads
            own, other = heads["student_head"](student), heads["teacher_head"](teacher)
            soft = kl_div(log_softmax(own / 9, 1), log_softmax(other / 9, 1), reduction="none", log_target=True).sum(1)
            losses.append(cross_entropy(own, label[batch.student][known]) + 10 * 81 * soft.mean())
            weights.append(int(known.sum()))
    expected = np.average([float(loss) for loss in losses], weights=weights)
    assert model.history["validation_loss"].iloc[-1, 0] == pytest.approx(expected, rel=1e-4)
    assert len(model.history["validation_loss"]) == 3


def test_early_stopping_and_the_best_epoch_need_known_classes(make, train):
    message = (
        "monitor='validation_loss' is not defined: training has none of the classes of the samples held out; name an "
        "obs column such as the experiment as split_key, so that each class is on both sides"
    )
    for asked in ({"early_stopping": True}, {"select": "best"}):
        with pytest.raises(ValueError, match=message):
            train(make(), **asked)
    with pytest.raises(ValueError, match="monitor='validation_recall_at_1' is not defined: objective='kd' does not"):
        train(make(), select="best", monitor="validation_recall_at_1")
    constant = {"plan_kwargs": {"schedule": "constant"}, "pretrain_epochs": 2}
    best = make("shake", keys=SHARED)
    train(best, 6, select="best", early_stopping=True, early_stopping_patience=10, **constant)
    losses = best.history["validation_loss"].to_numpy(float).ravel()
    short = make("shake", keys=SHARED)
    train(short, int(losses.argmin()) + 1, **constant)
    assert not differs(best.module.state_dict(), short.module.state_dict())


# Lightning remarks that a resumed run writes where the interrupted one did
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("name", LABELS)
def test_a_resumed_run_ends_where_it_would_have_ended(make, train, tmp_path, name):
    class Interrupt(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise RuntimeError("power cut")

    options = {"train_size": 0.5, "validation_size": 0.25}
    whole = make(name)
    train(whole, 4, pretrain_epochs=2, **options)
    keep = ModelCheckpoint(tmp_path, save_last=True)
    with pytest.raises(RuntimeError, match="power cut"):
        train(make(name), 4, pretrain_epochs=2, callbacks=[keep, Interrupt()], **options)
    # torch's random numbers are elsewhere, and so is the split that another number of classes comes from
    again = make(name, seed=99)
    keep = ModelCheckpoint(tmp_path, save_last=True)
    train(again, 4, seed=99, ckpt_path=str(tmp_path / "last.ckpt"), callbacks=[keep], train_size=0.75)
    assert "pretrain_loss" not in again.history
    assert not differs(again.module.state_dict(), whole.module.state_dict())
    assert again.classes_.tolist() == whole.classes_.tolist()
    assert again.module.teacher_adapter[0].weight.requires_grad == (name == "c2kd")


@pytest.mark.parametrize("name", [*LABELS, "clip"])
@pytest.mark.parametrize("pea", [True, False])
def test_data_in_main_memory_give_the_same_weights(make, train, name, pea):
    resident, chunked = make(name, keys=SHARED), make(name, keys=SHARED)
    train(resident, pea=pea)
    train(chunked, pea=pea, datasplitter_kwargs={"chunk_rows": 100})
    assert not differs(resident.module.state_dict(), chunked.module.state_dict())
    assert set(resident.history) > {"train_loss", "validation_loss"}
    for curve, values in resident.history.items():
        np.testing.assert_array_equal(chunked.history[curve].to_numpy(float), values.to_numpy(float))


def test_pretraining_that_diverges_says_so(make, train):
    class Break(torch.nn.Module):
        def forward(self, x):
            return x * torch.nan

    model = make("kd")
    model.module.adapter.append(Break())
    with pytest.raises(ValueError, match="pretraining diverged in epoch 0: lower its learning rate, pretrain_kwargs="):
        train(model)
    with pytest.raises(ValueError, match="^training diverged in epoch 0: lower the learning rate, plan_kwargs="):
        train(model, pretrain_epochs=0)


def test_a_teacher_that_was_never_trained_is_pointed_out(make, train, caplog):
    train(make("c2kd"), 1, pretrain_epochs=0)  # which trains it
    assert "pretrain_epochs" not in caplog.text
    train(make("kd"), 1, pretrain_epochs=0)
    assert "pretrain_epochs=0: the teacher's head is frozen as it was drawn at random" in caplog.text


def test_what_has_no_effect_is_refused(make, train):
    for given in ({"pretrain_epochs": 2}, {"pretrain_kwargs": {"lr": 0.1}}):
        with pytest.raises(ValueError, match="objective='vicreg' needs no labels, and nothing is pretrained on them"):
            train(make("vicreg"), 1, **given)
    train(make("vicreg"), 1, pretrain_epochs=0)


def test_a_wrong_argument_is_refused_before_pretraining(make, train):
    model = make("kd")
    before = copied(model.module)
    with pytest.raises(TypeError, match="learning_rate"):
        train(model, 1, plan_kwargs={"learning_rate": 1})
    with pytest.raises(TypeError, match="learning_rate"):
        train(model, 1, pretrain_kwargs={"learning_rate": 1})
    assert not differs(copied(model.module), before)


def test_pretraining_has_options_of_its_own(make, train, monkeypatch):
    from semiclip.model._plan import PretrainingPlan

    seen, build = [], PretrainingPlan.configure_optimizers
    monkeypatch.setattr(PretrainingPlan, "configure_optimizers", lambda plan: seen.append(build(plan)) or seen[-1])
    own = {"optimizer": "adamw", "weight_decay": 0.3, "lr": {"teacher_head": 0.7}, "schedule": "constant"}
    train(make(), 1, pretrain_kwargs=own)
    train(make(), 1, plan_kwargs={"optimizer": "adamw", "lr": 1e-3})
    assert [type(each).__name__ for each in (seen[0], seen[1]["optimizer"])] == ["AdamW", "SGD"]
    rates = [(group["lr"], group["weight_decay"]) for group in seen[0].param_groups]
    assert rates == [(0.1, 0.3), (0.1, 0.3), (0.1, 0.3), (0.7, 0.3)]
    assert [group["initial_lr"] for group in seen[1]["optimizer"].param_groups] == [0.1] * 4
    with pytest.raises(ValueError, match="lr has a rate of shadow, but this model trains encoder, student, teac"):
        train(make("shake"), 1, pretrain_kwargs={"lr": {"shadow": 0.1}})
