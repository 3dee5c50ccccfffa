from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from lightning import Callback
from scvi.train import SaveCheckpoint

import semiclip as scl
from semiclip.correction import PEA
from semiclip.correction._augmentation import Augmentation
from semiclip.model import SemiClip


@pytest.fixture
def train(mdata, setup, quiet):
    def run(max_epochs=2, **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model = SemiClip(mdata, n_hidden=[16])
        model.train(max_epochs, **{"batch_size": 32, **quiet, **kwargs})
        return model

    return run


class Spy(Callback):
    """Calls a function with trainer and plan when training begins."""

    def __init__(self, look):
        self.look = look

    def on_train_start(self, trainer, pl_module):
        self.look(trainer, pl_module)


def weights(model):
    return torch.cat([value.flatten() for value in model.module.state_dict().values()])


def test_the_precision_of_matrix_products_is_set_for_training_alone(train):
    before, seen = torch.get_float32_matmul_precision(), []
    look = Spy(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    for precision in ("medium", "high"):
        train(1, matmul_precision=precision, callbacks=[look])
        assert torch.get_float32_matmul_precision() == before
    train(1, callbacks=[look])
    assert seen == ["medium", "high", "highest"]

    def fail(*_):
        seen.append(torch.get_float32_matmul_precision())
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(1, matmul_precision="medium", callbacks=[Spy(fail)])
    assert seen[-1] == "medium"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("preset", "preset='fast' is not one of default, paper$"),
        ("select", "select='fast' is not one of last, best$"),
        ("matmul_precision", "matmul_precision='fast' is not one of highest, high, medium$"),
    ],
)
def test_unknown_choices(train, name, message):
    with pytest.raises(ValueError, match=message):
        train(**{name: "fast"})


def test_the_paper_has_a_small_learning_rate_which_arguments_outdo(train):
    seen = []

    def look(trainer, plan):
        group = trainer.optimizers[0].param_groups[0]
        seen.append((type(trainer.optimizers[0]).__name__, group["lr"], group["momentum"], group["weight_decay"]))

    spy = Spy(look)
    paper = train(1, preset="paper", callbacks=[spy])
    train(1, preset="paper", plan_kwargs={"lr": 0.5}, callbacks=[spy])
    assert seen == [("SGD", 1e-3, 0.95, 1e-4), ("SGD", 0.5, 0.95, 1e-4)]
    assert (paper.train_params_["optimizer"], paper.train_params_["lr"]) == ("sgd", 1e-3)


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
    with pytest.raises(ValueError, match="chunk_rows=31 must be at least batch_size=32"):
        train(datasplitter_kwargs={"chunk_rows": 31})


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
def test_checkpoints_of_scvi_tools(train, scores, tmp_path, monkeypatch, captured):
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: captured)
    monkeypatch.setattr("semiclip.model._graph.WARM_UP", 10**6)
    keep = SaveCheckpoint(str(tmp_path / "kept"), monitor="validation_score", load_best_on_end=True)
    model = train(3, callbacks=[scores(3, 1, 2), keep], plan_kwargs={"schedule": "constant"})
    loaded = SemiClip.load(keep.best_model_path, model.adata, accelerator="cpu")
    assert torch.equal(weights(loaded), weights(model))
    assert torch.equal(weights(train(2, plan_kwargs={"schedule": "constant"})), weights(model))


def test_callbacks_given_are_left_as_they_were(train):
    callbacks = [Spy(lambda *_: None)]
    train(1, callbacks=callbacks, select="best", early_stopping=True)
    assert len(callbacks) == 1


def test_weights_that_the_last_step_breaks_are_not_passed_on(untrained, quiet):
    class Break(Callback):
        def on_train_end(self, trainer, pl_module):
            pl_module.module.adapter[0].weight.data[0, 0] = torch.nan

    with pytest.raises(ValueError, match="training diverged in epoch 1: lower the learning rate"):
        untrained.train(2, train_size=1.0, callbacks=[Break()], **quiet)
    assert not untrained.is_trained
