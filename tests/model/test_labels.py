"""Training from labels: each side alone first, then distillation, and what is frozen, kept and watched in it."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from semiclip import errors
from semiclip.model import SemiClip
from semiclip.model._data import PARTNER
from semiclip.model._plan import PretrainingPlan
from semiclip.objectives import OBJECTIVES

LABELS = [name for name, objective in OBJECTIVES.items() if objective.spec.needs_labels]
SHARED = {"split_key": "batch", "label_key": "perturbation"}  # classes on both sides of the split
TEACHER = ("teacher_adapter", "objective.heads.teacher_head")


def cut_power(epoch):
    def fail(trainer, pl_module):
        if trainer.current_epoch == epoch:
            raise RuntimeError("power cut")

    return LambdaCallback(on_train_epoch_start=fail)


def copied(module):
    return {name: weights.clone() for name, weights in module.state_dict().items()}


def differs(weights, others):
    """Names of what is not the same, bit for bit."""
    assert list(weights) == list(others)
    return {name for name in weights if not torch.equal(weights[name], others[name])}


def epochs(model):
    return {name: len(curve) for name, curve in model.history.items()}


@pytest.fixture
def make(mdata, setup):
    def of(objective="kd", *, seed=0, data=mdata, shadow_start=None, **changes):
        SemiClip.setup_mudata(data, **setup, **changes)
        torch.manual_seed(seed)
        options = {} if shadow_start is None else {"shadow_start": shadow_start}
        return SemiClip(data, objective=objective, n_hidden=[16], **options)

    return of


@pytest.fixture
def train(quiet, spy):
    """Train and return what was seen."""

    def run(model, max_epochs=2, *, seed=0, callbacks=(), **kwargs):
        seen = spy()
        torch.manual_seed(seed)
        model.train(max_epochs, callbacks=[seen, *callbacks], **{"batch_size": 64, **quiet, **kwargs})
        return seen

    return run


@pytest.fixture
def treated(mdata):
    """Rows of each compound."""
    obs = mdata["rna"].obs["perturbation"].astype(str).to_numpy()
    return {name: np.flatnonzero(obs == name) for name in np.unique(obs) if name != "control"}


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
def test_pretraining_comes_first_and_has_a_curve(make, train):
    model, at_once = make(), make()
    seen = train(model, 2, pretrain_epochs=5)
    assert epochs(model) == {"train_loss": 2, "pretrain_loss": 5}
    losses = model.history["pretrain_loss"].to_numpy(float).ravel()
    assert losses[-1] < losses[0] == pytest.approx(2 * math.log(len(model.classes_)), rel=0.2)  # chance on both sides
    assert model.train_params_["pretrain_epochs"] == 5
    assert model.is_trained
    start = train(at_once, 2, pretrain_epochs=0).weights
    assert epochs(at_once) == {"train_loss": 2}
    assert differs(seen.weights, start) == set(start)


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
def test_pretraining_is_what_each_side_would_learn_alone(make, train):
    # of a mini-batch of all rows the order does not matter, so that a loop can do the same
    options = {"pea": False, "batch_size": 1024}
    model = make("shake")
    start = train(make("shake"), 1, pretrain_epochs=0, **options).weights
    seen = train(model, 1, pretrain_epochs=6, **options)
    tensors, rows = seen.data.tensors, torch.as_tensor(seen.data.train_idx)
    label = seen.data.class_of_key[tensors.key[rows]]
    module, total = deepcopy(model.module).requires_grad_(), 0.0  # the loop's own
    module.load_state_dict(start)
    heads = module.objective.heads
    for adapter, head in ((module.adapter, "student_head"), (module.teacher_adapter, "teacher_head")):
        network = torch.nn.Sequential(adapter, heads[head])
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.95, weight_decay=1e-4)
        for epoch in range(6):
            optimizer.param_groups[0]["lr"] = 1e-6 + (0.1 - 1e-6) * (1 + math.cos(math.pi * epoch / 6)) / 2
            partner = tensors.pair(rows, rows, seen.data.seed, epoch, PARTNER).teacher
            inputs = tensors.student[rows] if head == "student_head" else tensors.teacher[partner]
            loss = cross_entropy(network(inputs), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item()
    assert model.history["pretrain_loss"].iloc[-1, 0] == pytest.approx(total, rel=1e-4)
    for name, values in module.state_dict().items():
        if "shadow" not in name:  # which starts afterwards
            torch.testing.assert_close(seen.weights[name], values, atol=1e-4, rtol=1e-3)
            assert not torch.allclose(seen.weights[name], start[name], atol=1e-4, rtol=1e-3)


def test_sides_do_not_see_each_other_in_pretraining(make, mdata, train):
    other = mdata.copy()
    other["image"].obsm["X_image"] = np.random.default_rng(1).normal(size=(other["image"].n_obs, 16))
    one, two = (train(make("c2kd", data=data), 1, pretrain_epochs=2).weights for data in (mdata, other))
    assert differs(one, two) == {name for name in one if name.startswith(TEACHER)}


def test_pretraining_has_options_of_its_own(make, train, monkeypatch, refuses):
    made, build = [], PretrainingPlan.configure_optimizers
    monkeypatch.setattr(PretrainingPlan, "configure_optimizers", lambda plan: made.append(build(plan)) or made[-1])
    options = {"optimizer": "adamw", "weight_decay": 0.3, "lr": {"teacher_head": 0.7}, "schedule": "constant"}
    train(make(), 1, pretrain_kwargs=options)
    train(make(), 1, plan_kwargs={"optimizer": "adamw", "lr": 1e-3})
    asked, usual = made[0], made[1]["optimizer"]
    assert (type(asked), type(usual)) == (torch.optim.AdamW, torch.optim.SGD)
    rates = [(group["lr"], group["weight_decay"]) for group in asked.param_groups]
    assert rates == [(0.1, 0.3), (0.1, 0.3), (0.1, 0.3), (0.7, 0.3)]
    assert [group["initial_lr"] for group in usual.param_groups] == [0.1] * 4
    with refuses(errors.Diverged, stage="pretraining"):
        train(make(), pretrain_kwargs={"lr": 1e30})


@pytest.mark.parametrize("n_first", [0, 2])
@pytest.mark.parametrize("name", LABELS)
def test_distillation_leaves_alone_what_it_freezes(make, train, warned, name, n_first):
    model = make(name)
    started = train(model, pretrain_epochs=n_first).weights
    changed = differs(copied(model.module), started)
    assert changed == {part for part in started if name == "c2kd" or not part.startswith(TEACHER)}
    random_teacher = n_first == 0 and name != "c2kd"  # which is pointed out
    assert ["pretrain_epochs=0" in message for message in warned()] == [True] * random_teacher


def test_the_shadow_starts_where_the_model_says_also_in_a_loaded_one(make, mdata, train, tmp_path):
    def heads(weights):
        return [weights[name] for name in weights if "shadow" in name], [
            weights[name] for name in weights if TEACHER[1] in name
        ]

    models = {start: make("shake", shadow_start=start) for start in ("fresh", "teacher")}
    started = {start: train(model, pretrain_epochs=2).weights for start, model in models.items()}
    assert differs(started["fresh"], started["teacher"]) == {f"objective.heads.shadow.{x}" for x in ("weight", "bias")}
    assert all(torch.equal(*pair) for pair in zip(*heads(started["teacher"]), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(*heads(started["fresh"]), strict=True))
    assert not differs(started["fresh"], train(make("shake"), pretrain_epochs=2).weights)  # as by default
    other = train(make("shake"), seed=1, pretrain_epochs=2).weights
    assert differs(started["fresh"], other) >= {"objective.heads.shadow.weight"}
    for start, model in models.items():
        model.save(str(tmp_path / start))
        loaded = SemiClip.load(str(tmp_path / start), mdata, accelerator="cpu")
        assert loaded.module.objective.shadow_start == start
        assert loaded.init_params_["kwargs"]["objective_kwargs"]["shadow_start"] == start


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("loaded", [False, True])
def test_training_further_keeps_heads_and_pretrains_no_more(make, mdata, train, tmp_path, name, loaded):
    model = make(name)
    train(model, 2, pretrain_epochs=3)
    if loaded:
        model.save(str(tmp_path / "model"))
        model = SemiClip.load(str(tmp_path / "model"), mdata, accelerator="cpu")
    before = copied(model.module)
    assert not differs(before, train(model, 4).weights)
    assert epochs(model) == {"train_loss": 6, "pretrain_loss": 3}


def test_other_classes_make_new_heads_and_start_anew(make, train, treated):
    compounds = list(treated)
    rows = [np.concatenate([treated[name] for name in part]) for part in (compounds[:12], compounds[4:])]
    one, two = ({"datasplitter_kwargs": {"external_indexing": [part]}} for part in rows)
    model = make(label_key="perturbation")
    train(model, 2, pretrain_epochs=3, **one)
    assert model.classes_.tolist() == compounds[:12]
    adapter = copied(model.module.adapter)
    seen = train(model, 4, pretrain_epochs=1, **two)
    assert model.classes_.tolist() == compounds[4:]
    assert seen.weights["objective.heads.student_head.weight"].shape == (20, 16)
    assert epochs(model) == {"train_loss": 4, "pretrain_loss": 1}
    train(model, 1, **two)  # the same rows again: nothing is new
    assert epochs(model) == {"train_loss": 5, "pretrain_loss": 1}
    assert differs(adapter, model.module.adapter.state_dict()) == set(adapter)


@pytest.mark.parametrize("some", [False, True])
def test_the_validation_loss_is_that_of_rows_with_a_known_class(make, train, treated, some):
    split = {}
    if some:  # half of what is held out belongs to compounds that training has not
        compounds = list(treated.values())
        train_rows = np.concatenate([rows[:6] for rows in compounds[:12]])
        split = {"external_indexing": [train_rows, np.concatenate([rows[6:] for rows in compounds])]}
    model = make(label_key="perturbation") if some else make(**SHARED)
    data, module = train(model, 3, datasplitter_kwargs=split).data, model.module
    label = data.class_of_key[data.validation.key]
    assert data.n_val_known == int((label >= 0).sum())
    assert (data.n_val_known < data.n_val) == some
    losses, weights, heads = [], [], module.objective.heads
    with torch.no_grad():
        for batch in data.val_dataloader():
            known = label[batch.student] >= 0
            student = module.adapter(data.validation.student[batch.student][known])
            teacher = module.teacher_adapter(data.tensors.teacher[batch.teacher][known])
            own, other = heads["student_head"](student), heads["teacher_head"](teacher)
            soft = kl_div(log_softmax(own / 9, 1), log_softmax(other / 9, 1), reduction="none", log_target=True).sum(1)
            losses.append(cross_entropy(own, label[batch.student][known], reduction="sum") + 10 * 81 * soft.sum())
            weights.append(int(known.sum()))
    expected = float(sum(losses)) / sum(weights)
    assert model.history["validation_loss"].iloc[-1, 0] == pytest.approx(expected, rel=1e-4)
    assert len(model.history["validation_loss"]) == 3


def test_the_best_epoch_is_kept_where_classes_are_on_both_sides(make, train):
    options = {"plan_kwargs": {"schedule": "constant"}, "pretrain_epochs": 2}
    best, short = make("shake", **SHARED), make("shake", **SHARED)
    train(best, 6, select="best", early_stopping=True, early_stopping_patience=10, **options)
    losses = best.history["validation_loss"].to_numpy(float).ravel()
    train(short, int(losses.argmin()) + 1, **options)
    assert not differs(best.module.state_dict(), short.module.state_dict())


# Lightning remarks that a resumed run writes where the interrupted one did
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("name", LABELS)
def test_a_resumed_run_ends_where_it_would_have_ended_also_from_main_memory(make, train, tmp_path, name):
    options, keep = {"train_size": 0.5, "validation_size": 0.25}, partial(ModelCheckpoint, tmp_path, save_last=True)
    whole = make(name)
    train(whole, 4, pretrain_epochs=2, **options)
    with pytest.raises(RuntimeError, match="power cut"):
        train(make(name), 4, pretrain_epochs=2, callbacks=[keep(), cut_power(2)], **options)
    # torch's random numbers are elsewhere, and so is the split that another number of classes comes from
    again = make(name, seed=99)
    elsewhere = {"train_size": 0.75, "datasplitter_kwargs": {"chunk_rows": 100}}
    train(again, 4, seed=99, ckpt_path=str(tmp_path / "last.ckpt"), callbacks=[keep()], **elsewhere)
    assert "pretrain_loss" not in again.history
    assert not differs(again.module.state_dict(), whole.module.state_dict())
    assert again.classes_.tolist() == whole.classes_.tolist()
    assert again.module.teacher_adapter[0].weight.requires_grad == (name == "c2kd")


@pytest.mark.parametrize(
    ("name", "options", "error", "data"),
    [
        ("vicreg", {"pretrain_epochs": 2}, errors.Conflict, {}),
        ("vicreg", {"pretrain_kwargs": {"lr": 0.1}}, errors.Conflict, {}),
        ("kd", {"pretrain_epochs": -1}, errors.BadValue, {"name": "pretrain_epochs", "value": -1}),
        ("kd", {"plan_kwargs": {"learning_rate": 1}}, errors.UnexpectedArgument, {"names": ["learning_rate"]}),
        ("kd", {"pretrain_kwargs": {"learning_rate": 1}}, errors.UnexpectedArgument, {"names": ["learning_rate"]}),
        ("shake", {"pretrain_kwargs": {"lr": {"shadow": 0.1}}}, errors.UnknownChoice, {"value": "shadow"}),
        ("kd", {"select": "best"}, errors.TooFew, {"number": 0}),  # validation has no class of training
        ("kd", {"select": "best", "monitor": "validation_recall_at_1"}, errors.Conflict, {}),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(make, train, refuses, name, options, error, data):
    model = make(name)
    before = copied(model.module)
    with refuses(error, **data):
        train(model, **options)
    assert not model.is_trained
    assert not differs(copied(model.module), before)


def test_what_was_refused_or_failed_is_pretrained_when_it_is_trained(make, train, treated, refuses):
    rows = [np.concatenate([*treated.values()][part]) for part in (slice(12), slice(12, None))]
    model = make()
    for error, options in ((errors.TooFew, {"early_stopping": True}), (RuntimeError, {"callbacks": [cut_power(0)]})):
        with refuses(error):
            train(model, **options)
        assert not model.is_trained
    train(model, datasplitter_kwargs={"external_indexing": rows[:1]})
    assert epochs(model) == {"train_loss": 2, "pretrain_loss": 2}
    before, classes = copied(model.module), model.classes_
    with refuses(errors.TooFew, number=0):  # which leaves a trained model alone
        train(model, select="best", datasplitter_kwargs={"external_indexing": rows[::-1]})
    assert model.is_trained
    assert model.classes_ is classes
    assert not differs(before, model.module.state_dict())
