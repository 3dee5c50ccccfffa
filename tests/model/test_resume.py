"""A run that is interrupted and resumed ends where it would have ended, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from semiclip.model import SemiClip

# Lightning remarks that a resumed run writes where the interrupted one did
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


class Interrupt(Callback):
    """Raises an error at a step of an epoch, or when the epoch's validation ends."""

    def __init__(self, epoch, step=None, error=RuntimeError):
        self.error, self.epoch, self.step = error("power cut"), epoch, step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.step):
            raise self.error

    def on_validation_end(self, trainer, pl_module):
        if (trainer.current_epoch, None) == (self.epoch, self.step):
            raise self.error


@pytest.fixture
def train(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)

    def run(max_epochs, *, seed=0, callbacks=(), **kwargs):
        torch.manual_seed(seed)
        model = SemiClip(mdata, n_hidden=[32])
        model.train(max_epochs, callbacks=[*callbacks], **{"batch_size": 64, **quiet, **kwargs})
        return model

    return run


@pytest.fixture
def resumed(train, tmp_path):
    """Interrupt a run and resume it in a new model, where torch's random numbers are elsewhere."""

    def run(max_epochs, interrupt, checkpoint=None, **kwargs):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        keep = {"dirpath": folder, "save_last": True, **(checkpoint or {})}
        others = kwargs.pop("callbacks", [])
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            train(max_epochs, callbacks=[*others, ModelCheckpoint(**keep), interrupt], **kwargs)
        kwargs["callbacks"] = [*others, ModelCheckpoint(**keep)]
        return train(max_epochs, seed=99, ckpt_path=str(folder / "last.ckpt"), **kwargs)

    return run


def same(model, other):
    weights, others = model.module.state_dict(), other.module.state_dict()
    return all(torch.equal(weights[name], others[name]) for name in weights)


def curves(model, last):
    return {name: curve.to_numpy(float)[-last:].ravel().tolist() for name, curve in model.history.items()}


CHECKPOINTS = {
    "at the end of an epoch": {},
    "after validation": {"save_on_train_epoch_end": False},
    "within an epoch": {"every_n_train_steps": 3},
    "at the last step of an epoch": {"every_n_train_steps": 4},
    "when interrupted": {"save_on_exception": True},
}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_same_weights_wherever_it_was_interrupted_and_saved(train, resumed, checkpoint):
    whole = train(3)
    assert whole.history["train_loss"].index.tolist() == [0, 1, 2]
    for interrupt in (Interrupt(1, 1), Interrupt(1), Interrupt(1, 2, KeyboardInterrupt)):
        again = resumed(3, interrupt, checkpoint)
        assert same(whole, again)
        assert curves(again, 1) == curves(whole, 1)
        assert again.history["train_loss"].index.tolist() in ([0, 1, 2], [1, 2], [2])


# Lightning would rather save the weights before a step than those after it
@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
@pytest.mark.parametrize(
    ("when", "step"), [("at the end of an epoch", 0), ("when interrupted", 0), ("at the last step of an epoch", None)]
)
def test_same_weights_where_steps_are_graphs(train, resumed, monkeypatch, when, step):
    """Several steps in a call of the trainer, with what stands for a CUDA graph."""

    def capture(self, step):
        loss = torch.zeros(())
        return lambda: loss.copy_(step()), loss

    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: True)
    monkeypatch.setattr("semiclip.model._graph.GraphedStep._capture", capture)
    options = {"plan_kwargs": {"steps_per_call": 2}}
    again = resumed(3, Interrupt(1, step), CHECKPOINTS[when], **options)
    assert same(train(3, **options), again)


@pytest.mark.parametrize(
    "options",
    [
        {"pea": False},
        {"pea": {"bank_refresh": 2, "granularity": "batch"}},
        {"plan_kwargs": {"optimizer": "adamw", "lr": 1e-3}},
        {"train_size": 0.5, "validation_size": 0.25},
        {"train_size": 1.0},
        {"early_stopping": True, "early_stopping_patience": 2, "early_stopping_min_delta": 100.0},
    ],
    ids=str,
)
def test_same_curve_and_split_with_any_options(train, resumed, options):
    n_epochs = 30 if "early_stopping" in options else 3  # which stops after as many
    whole, again = train(n_epochs, **options), resumed(n_epochs, Interrupt(1, 1), **options)
    assert len(whole.history["train_loss"]) == 3
    assert same(whole, again)
    assert curves(again, 2) == curves(whole, 2)
    assert again.split_seed_ == whole.split_seed_
    for part in ("train_indices", "validation_indices", "test_indices"):
        np.testing.assert_array_equal(getattr(again, part), getattr(whole, part))
    np.testing.assert_array_equal(again.get_latent_representation(), whole.get_latent_representation())


def test_the_best_epoch_may_lie_before_the_interruption(train, resumed, scores, tmp_path):
    options = {"select": "best", "monitor": "validation_score", "callbacks": [scores(3, 1, 4, 2, 5)]}
    whole = train(5, **options)
    again = resumed(5, Interrupt(3, 1), **options)
    assert again.history["validation_score"]["validation_score"].astype(float).tolist() == [2, 5]
    assert same(whole, again)
    assert not same(whole, train(5))
    assert same(whole, resumed(5, Interrupt(0, 3), CHECKPOINTS["within an epoch"], **options)), "no epoch was best yet"

    # a checkpoint of a finished run leaves nothing to train, and still gives its best epoch
    path = tmp_path / "0" / "last.ckpt"
    options["callbacks"].append(ModelCheckpoint(path.parent))
    assert same(whole, train(5, ckpt_path=str(path), **options))
    # what is kept is plain enough for torch to read it without running code
    assert torch.load(path, weights_only=True)["callbacks"]["KeepBest"]["best"] == 1


def test_checkpoints_of_lightning_need_no_switch(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep = ModelCheckpoint(dirpath=tmp_path / "kept", monitor="validation_loss", save_top_k=2, filename="{epoch}")
    model = train(3, callbacks=[keep])
    losses = model.history["validation_loss"]["validation_loss"].astype(float)
    best = losses.nsmallest(2).index
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {f"epoch={epoch}.ckpt" for epoch in best}
    assert float(keep.best_model_score) == pytest.approx(losses.min())
    assert [path.name for path in tmp_path.iterdir()] == ["kept"], "nothing else is written"
