"""Optimisation: rates by part, schedules, which epoch is kept, what is recorded, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning import Callback
from scvi.train import SaveCheckpoint

import semiclip as scl
from semiclip import errors
from semiclip.correction import PEA, Augmentation
from semiclip.metrics import retrieval
from semiclip.model import SemiClip
from semiclip.model._data import PairedDataModule
from semiclip.objectives import OBJECTIVES, PRESETS

MIN_LR = 1e-6


class Watch(Callback):
    """Keeps what a training has and its rates in each epoch and after the last, and logs scores."""

    def __init__(self, name="", scores=(), fail=False):
        self.name, self.scores, self.fail, self.rates = name, scores, fail, []

    def on_train_start(self, trainer, pl_module):
        self.optimizer, self.data = trainer.optimizers[0], trainer.datamodule
        self.precision = torch.get_float32_matmul_precision()
        self.mode = getattr(trainer.early_stopping_callback, "mode", None)
        self.before = [group["params"][0].clone() for group in self.optimizer.param_groups]
        if self.fail:
            raise RuntimeError("power cut")

    def on_train_epoch_start(self, trainer, pl_module):
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])

    def on_validation_epoch_end(self, trainer, pl_module):
        if self.scores:
            pl_module.log(self.name, float(self.scores[trainer.current_epoch]))

    def on_train_end(self, trainer, pl_module):
        self.on_train_epoch_start(trainer, pl_module)


@pytest.fixture
def train(mdata, setup, quiet):
    def run(epochs=1, objective="semiclip", watch=None, n_hidden=(16,), callbacks=(), **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        options = {"n_components": 8} if objective == "dcca" else {}
        model, watch = SemiClip(mdata, objective=objective, n_hidden=n_hidden, **options), watch or Watch()
        model.train(epochs, callbacks=[watch, *callbacks], pretrain_epochs=0, **quiet, **kwargs)
        return model, watch

    return run


def weights(model):
    return torch.cat([value.flatten() for value in model.module.state_dict().values()])


# ---- the optimiser


def test_each_part_is_annealed_along_its_own_cosine_and_never_up(train):
    lr = {"student": 0.05, "teacher": 0.02, "student_head": 0.01, "teacher_head": 0.0, "student_proxy": 0.05}
    least = {"student": 0.01, "teacher": 1e-6, "student_head": 0.3, "teacher_head": 0.1, "student_proxy": 0.05}
    _, watch = train(8, "c2kd", plan_kwargs={"lr": lr, "min_lr": least})
    assert isinstance(watch.optimizer, torch.optim.SGD)
    assert (watch.optimizer.defaults["momentum"], watch.optimizer.defaults["weight_decay"]) == (0.95, 1e-4)

    def cosine(start, end):
        return [end + (start - end) * (1 + math.cos(math.pi * epoch / 8)) / 2 for epoch in range(9)]

    constant = [np.full(9, rate) for rate in (0.01, 0.0, 0.05)]  # where the least is higher, the rate stays
    # the teacher's proxy has no rate of its own, and is the student's to the least
    expected = [cosine(0.05, 0.01), cosine(0.02, 1e-6), *constant, cosine(0.05, 0.01)]
    np.testing.assert_allclose(np.transpose(watch.rates), expected, atol=1e-12)
    after = [group["params"][0] for group in watch.optimizer.param_groups]
    unchanged = [torch.equal(*pair) for pair in zip(watch.before, after, strict=True)]
    assert unchanged == [False, False, False, True, False, False], "a part at rate zero is not changed"


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
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
        ("semiclip", "default", {"optimizer": "adamw", "lr": 0.002, "schedule": "constant"}, 0.002, MIN_LR),
    ],
)  # fmt: skip
def test_rates_by_part_go_over_those_of_the_preset(train, objective, preset, changes, lr, min_lr):
    start = repr(PRESETS)
    model, watch = train(objective=objective, preset=preset, plan_kwargs=changes)
    assert (model.train_params_["lr"], model.train_params_["min_lr"]) == (lr, min_lr)
    by_part = lr if isinstance(lr, dict) else {"student": lr}
    assert watch.rates[0] == [by_part.get(part, by_part["student"]) for part in model.module.trained_parts]
    assert (watch.rates[0] == watch.rates[-1]) == ("schedule" in changes)
    assert type(watch.optimizer).__name__.lower() == model.train_params_["optimizer"] == changes.get("optimizer", "sgd")
    assert repr(PRESETS) == start


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_optimiser_has_what_is_learned_once_at_the_rates_of_the_paper(train, name):
    model, watch = train(objective=name, preset="paper", plan_kwargs={"weight_decay": 0.3}, precision="bf16-mixed")
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
    assert all(value.dtype == torch.float32 for value in model.module.parameters())
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
    assert model.train_params_["min_lr"] == {"semiclip": 1e-6, "clip": 1e-6, "c2kd": 1e-7}.get(name, 1e-10)
    frozen = {"teacher", "teacher_head"} if name in ("kd", "shake") else set()
    parts = model.module.parts()
    assert frozen < set(parts)
    assert sorted(map(id, sum(parts.values(), []))) == sorted(map(id, model.module.parameters()))
    groups, learned = watch.optimizer.param_groups, [part for part in parts if part not in frozen]
    assert model.module.trained_parts == learned
    assert [group["params"] for group in groups] == [parts[part] for part in learned]
    # what the objective learns, such as a scale, is not decayed
    assert [group["weight_decay"] for group in groups] == [0.0 if part == "objective" else 0.3 for part in learned]
    for part, parameters in parts.items():
        assert {parameter.requires_grad for parameter in parameters} == {part not in frozen}


# ---- precision


def test_the_precision_of_matrix_products_is_set_for_training_alone(train):
    before = torch.get_float32_matmul_precision()
    for precision in ("medium", "high", "highest"):
        assert train(matmul_precision=precision)[1].precision == precision
        assert torch.get_float32_matmul_precision() == before
    assert train()[1].precision == "highest"
    watch = Watch(fail=True)
    with pytest.raises(RuntimeError, match="power cut"):
        train(matmul_precision="medium", watch=watch)
    assert (watch.precision, torch.get_float32_matmul_precision()) == ("medium", before)


@pytest.mark.parametrize("ahead", [True, False])
def test_half_precision_leaves_pea_and_weights_in_float32(train, monkeypatch, ahead):
    seen, augment = [], Augmentation.__call__
    monkeypatch.setattr(PairedDataModule, "augments_ahead", property(lambda _: ahead, lambda *_: None))

    def watched(self, x, *rest):
        out = augment(self, x, *rest)
        seen.append((out.dtype, (out @ out.T).dtype, torch.is_autocast_enabled("cpu")))
        return out

    monkeypatch.setattr(Augmentation, "__call__", watched)
    full, half = (train(3, batch_size=32, precision=precision)[0] for precision in ("32-true", "bf16-mixed"))
    assert seen == 2 * 3 * (1 if ahead else 8) * [(torch.float32, torch.float32, False)]
    assert all(value.dtype == torch.float32 for value in half.module.parameters())
    for name in ("train_loss", "validation_loss"):
        curves = [model.history[name].to_numpy(float) for model in (half, full)]
        assert np.isfinite(curves[0]).all()
        np.testing.assert_allclose(*curves, rtol=0.1)
    assert not torch.equal(weights(half), weights(full)), "the test needs products in half precision"
    assert half.get_latent_representation().dtype == np.float32


# ---- validation


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
    ends = (data.tensors.start + data.tensors.count)[held_out]
    means = [
        torch.nn.functional.normalize(taught[start:end], dim=1).mean(dim=0)
        for start, end in zip(data.tensors.start[held_out], ends, strict=True)
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
    assert torch.equal(weights(best), weights(train(kept + 1, **options)[0]))
    assert not torch.equal(weights(best), weights(last))


def test_early_stopping_watches_the_validation_loss_or_for_the_largest_recall(train, capsys):
    options = {"early_stopping": True, "early_stopping_patience": 2, "early_stopping_min_delta": 100}
    model, watch = train(60, **options)
    assert len(model.history["validation_loss"]) == 3
    assert "validation_loss" in capsys.readouterr().out
    assert watch.mode == "min"
    assert train(monitor="validation_recall_at_5", **options)[1].mode == "max"


@pytest.mark.parametrize("captured", [False, True])
def test_checkpoints_of_scvi_tools(train, scores, tmp_path, monkeypatch, captured):
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: captured)
    monkeypatch.setattr("semiclip.model._graph.WARM_UP", 10**6)
    keep = SaveCheckpoint(str(tmp_path / "kept"), monitor="validation_score", load_best_on_end=True)
    model, _ = train(3, callbacks=[scores(3, 1, 2), keep], plan_kwargs={"schedule": "constant"})
    loaded = SemiClip.load(keep.best_model_path, model.adata, accelerator="cpu")
    assert torch.equal(weights(loaded), weights(model))
    assert torch.equal(weights(train(2, plan_kwargs={"schedule": "constant"})[0]), weights(model))


# ---- what is recorded, and refused


@pytest.mark.parametrize("pea", [True, False, {"methods": ["center", "tvn"], "clip": None, "bank_size": 3}])
def test_options_survive_saving_and_are_recorded_with_the_embedding(train, tmp_path, through_h5mu, pea):
    callbacks = []
    with pytest.warns(FutureWarning):  # the preset's name before 0.2
        model, _ = train(pea=pea, profile="paper", callbacks=callbacks, select="best", early_stopping=True)
    assert not callbacks
    expected = PEA.of(pea).params if pea else False
    assert model.train_params_["pea"] == expected
    assert PEA.of(model.train_params_["pea"]) == PEA.of(pea)
    model.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), adata=False, accelerator="cpu")
    assert loaded.train_params_ == model.train_params_

    mdata = model.adata.copy()
    scl.tl.embed(mdata, loaded)
    stored = through_h5mu(mdata)["rna"].uns["semiclip"]["X_semiclip"]["params"]
    assert float(stored["lr"]) == 1e-3
    if not pea:
        assert not stored["pea"]
        return
    assert list(stored["pea"].pop("methods")) == expected["methods"]
    values = {name: value for name, value in expected.items() if name != "methods" and value is not None}
    assert {name: type(values[name])(value) for name, value in stored["pea"].items()} == values


def test_what_training_finds_wrong_leaves_the_model_untrained(untrained, quiet, refuses):
    class Break(Callback):
        def on_train_end(self, trainer, pl_module):
            pl_module.module.adapter[0].weight.data[0, 0] = torch.nan

    with refuses(errors.UnknownChoice, name="monitor", value="validation_elbo"):
        untrained.train(1, select="best", monitor="validation_elbo", **quiet)
    with refuses(errors.Diverged, stage="training", epoch=1):
        untrained.train(2, train_size=1.0, callbacks=[Break()], **quiet)
    assert not untrained.is_trained


@pytest.mark.parametrize(
    ("arguments", "error", "data"),
    [
        ({"preset": "fast"}, errors.UnknownChoice, {"name": "preset", "choices": ["default", "paper"]}),
        ({"select": "first"}, errors.UnknownChoice, {"name": "select", "choices": ["last", "best"]}),
        ({"matmul_precision": "fast"}, errors.UnknownChoice, {"choices": ["highest", "high", "medium"]}),
        ({"plan_kwargs": {"optimizer": "lion"}}, errors.UnknownChoice, {"choices": ["sgd", "adamw"]}),
        ({"plan_kwargs": {"schedule": "lion"}}, errors.UnknownChoice, {"choices": ["cosine", "constant"]}),
        ({"max_epochs": 0}, errors.BadValue, {"name": "max_epochs", "value": 0}),
        ({"batch_size": 1}, errors.BadValue, {"name": "batch_size", "value": 1}),
        ({"datasplitter_kwargs": {"chunk_rows": 31}}, errors.BadValue, {"name": "chunk_rows", "value": 31}),
        *(({"train_size": size}, errors.BadValue, {"name": "train_size", "value": size}) for size in (0, 1.5)),
        ({"validation_size": 0.3}, errors.BadValue, {"name": "validation_size", "value": 0.3}),
        *(({"datasplitter_kwargs": {"external_indexing": split}}, error, data) for split, error, data in (
            ([[0, 1], [-1]], errors.Refused, {"items": [-1]}),
            ([[40, 41, 42], [42]], errors.Repeated, {"items": [42]}),
            ([[40], [41]], errors.TooFew, {"number": 1, "needed": 2}),
        )),
        ({"train_size": 1.0, "select": "best"}, errors.TooFew, {"number": 0}),
        ({"train_size": 1.0, "early_stopping": True}, errors.TooFew, {"number": 0}),
        *(({"plan_kwargs": {name: {part: 0.1}}}, errors.UnknownChoice,
           {"value": part, "choices": ["student", "student_head"]})  # the teacher's adapter is there, but frozen
          for name in ("lr", "min_lr") for part in ("teacher", "shadow")),
        *(({"plan_kwargs": {name: rate}}, errors.BadValue, {"name": f"{name} of student"})
          for name in ("lr", "min_lr") for rate in (-0.1, math.nan, math.inf, "0.1", None)),
        *(({"plan_kwargs": {name: {"student_head": -0.1}}}, errors.BadValue, {"name": f"{name} of student_head"})
          for name in ("lr", "min_lr")),
    ],
)  # fmt: skip
def test_what_training_cannot_take_is_refused_before_anything_is_made(
    mdata, setup, quiet, refuses, arguments, error, data
):
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata, objective="kd", n_hidden=[16])
    with refuses(error, **data):
        model.train(**{"max_epochs": 1, "batch_size": 32, **quiet, **arguments})
    assert not model.is_trained
    assert model.classes_ is None
    assert not model.module.objective.heads
