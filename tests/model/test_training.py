"""Arguments of training: what they change, what they leave alone, and what is refused."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from lightning import Callback
from scvi.train import SaveCheckpoint

import semiclip as scl
from semiclip import errors
from semiclip.correction import PEA, Augmentation
from semiclip.model import SemiClip


@pytest.fixture
def train(mdata, setup, quiet):
    def run(max_epochs=2, objective="semiclip", **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model = SemiClip(mdata, n_hidden=[16], objective=objective)
        model.train(max_epochs, **{"batch_size": 32, **quiet, **kwargs})
        return model

    return run


class Spy(Callback):
    """Calls a function when training begins."""

    def __init__(self, look):
        self.look = look

    def on_train_start(self, trainer, pl_module):
        self.look()


def weights(model):
    return torch.cat([value.flatten() for value in model.module.state_dict().values()])


def test_the_precision_of_matrix_products_is_set_for_training_alone(train):
    before, seen = torch.get_float32_matmul_precision(), []
    look = Spy(lambda: seen.append(torch.get_float32_matmul_precision()))
    for precision in ("medium", "high"):
        train(1, matmul_precision=precision, callbacks=[look])
        assert torch.get_float32_matmul_precision() == before
    train(1, callbacks=[look])
    assert seen == ["medium", "high", "highest"]

    def fail():
        seen.append(torch.get_float32_matmul_precision())
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(1, matmul_precision="medium", callbacks=[Spy(fail)])
    assert seen[-1] == "medium"
    assert torch.get_float32_matmul_precision() == before


def test_the_preset_has_an_older_name(train):
    with pytest.warns(FutureWarning):
        older = train(1, profile="paper")
    assert older.train_params_ == train(1, preset="paper").train_params_


@pytest.mark.parametrize("pea", [True, False, {"methods": ["center", "tvn"], "clip": None, "bank_size": 3}])
def test_the_options_of_pea_survive_saving_and_are_recorded_with_the_embedding(train, tmp_path, through_h5mu, pea):
    model = train(1, pea=pea, preset="paper")
    expected = PEA.of(pea).params if pea else False
    assert model.train_params_["pea"] == expected
    assert PEA.of(model.train_params_["pea"]) == PEA.of(pea)
    model.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), adata=False, accelerator="cpu")
    assert loaded.train_params_ == model.train_params_

    mdata = model.adata.copy()
    scl.tl.embed(mdata, loaded)
    mdata = through_h5mu(mdata)
    stored = mdata["rna"].uns["semiclip"]["X_semiclip"]["params"]
    assert float(stored["lr"]) == 1e-3
    if not pea:
        assert not stored["pea"]
        return
    assert list(stored["pea"].pop("methods")) == expected["methods"]
    values = {name: value for name, value in expected.items() if name != "methods" and value is not None}
    assert {name: type(values[name])(value) for name, value in stored["pea"].items()} == values


@pytest.mark.parametrize("pea", [True, False])
def test_data_in_main_memory_give_the_same_weights(train, caplog, pea):
    resident = train(pea=pea)
    with caplog.at_level(logging.WARNING, "semiclip"):
        for chunk_rows in (32, 100):
            chunked = train(pea=pea, datasplitter_kwargs={"chunk_rows": chunk_rows})
            assert torch.equal(weights(chunked), weights(resident))
            for name, curve in resident.history.items():
                np.testing.assert_array_equal(chunked.history[name].to_numpy(float), curve.to_numpy(float))
    said = [record.args[1:] for record in caplog.records if record.name.startswith("semiclip")]
    assert said == [(32, torch.device("cpu")), (100, torch.device("cpu"))]


def test_half_precision_leaves_pea_and_weights_in_float32(train, monkeypatch):
    seen = []
    augment = Augmentation.__call__

    def watched(self, x, *rest):
        out = augment(self, x, *rest)
        seen.append((out.dtype, (out @ out.T).dtype, torch.is_autocast_enabled("cpu")))
        return out

    monkeypatch.setattr(Augmentation, "__call__", watched)
    full = train(3)
    assert set(seen) == {(torch.float32, torch.float32, False)}
    half = train(3, precision="bf16-mixed")
    assert set(seen) == {(torch.float32, torch.float32, False)}
    assert len(seen) == 2 * 3 * 8
    assert all(value.dtype == torch.float32 for value in half.module.parameters())
    for name in ("train_loss", "validation_loss"):
        curves = [model.history[name].to_numpy(float) for model in (half, full)]
        assert np.isfinite(curves[0]).all()
        np.testing.assert_allclose(*curves, rtol=0.1)
    assert not torch.equal(weights(half), weights(full)), "the test needs products in half precision"
    assert half.get_latent_representation().dtype == np.float32


@pytest.mark.parametrize("captured", [False, True])
def test_checkpoints_of_scvi_tools_and_callbacks_that_are_left_as_they_were(
    train, scores, tmp_path, monkeypatch, captured
):
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: captured)
    monkeypatch.setattr("semiclip.model._graph.WARM_UP", 10**6)
    keep = SaveCheckpoint(str(tmp_path / "kept"), monitor="validation_score", load_best_on_end=True)
    callbacks = [scores(3, 1, 2), keep]
    model = train(3, callbacks=callbacks, early_stopping=True, plan_kwargs={"schedule": "constant"})
    assert len(callbacks) == 2
    loaded = SemiClip.load(keep.best_model_path, model.adata, accelerator="cpu")
    assert torch.equal(weights(loaded), weights(model))
    assert torch.equal(weights(train(2, plan_kwargs={"schedule": "constant"})), weights(model))


def test_weights_that_the_last_step_breaks_are_not_passed_on(untrained, quiet, refuses):
    class Break(Callback):
        def on_train_end(self, trainer, pl_module):
            pl_module.module.adapter[0].weight.data[0, 0] = torch.nan

    with refuses(errors.Diverged, stage="training", epoch=1):
        untrained.train(2, train_size=1.0, callbacks=[Break()], **quiet)
    assert not untrained.is_trained


RATES = [
    (
        {"plan_kwargs": {name: {"student_head": rate} if part == "student_head" else rate}},
        errors.BadValue,
        {"name": f"{name} of {part}", **({"value": rate} if rate == rate else {})},
    )
    for name in ("lr", "min_lr")
    for part in ("student", "student_head")
    for rate in (-0.1, math.nan, math.inf, "0.1", None)
]


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
        ({"train_size": 1.0, "select": "best"}, errors.TooFew, {"number": 0}),
        ({"train_size": 1.0, "early_stopping": True}, errors.TooFew, {"number": 0}),
        # the teacher's adapter is there, but frozen
        *(
            ({"plan_kwargs": {name: {part: 0.1}}}, errors.UnknownChoice,
             {"name": f"part of {name}", "value": part, "choices": ["student", "student_head"]})
            for name in ("lr", "min_lr")
            for part in ("teacher", "shadow")
        ),
        *RATES,
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


def test_a_curve_that_is_not_there_cannot_be_watched(untrained, quiet, refuses):
    with refuses(errors.UnknownChoice, name="monitor", value="validation_elbo"):
        untrained.train(1, select="best", monitor="validation_elbo", **quiet)
    assert not untrained.is_trained
