"""A model with each objective: made, trained, saved, loaded, and refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semiclip import errors
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES, PRESETS, SemiClipped

RETRIEVAL = {"validation_mean_rank_percentile", *(f"validation_recall_at_{k}" for k in (1, 5, 10))}
LABELS = {name for name, objective in OBJECTIVES.items() if objective.spec.needs_labels}
# what a study of 16 image features leaves: 72 keys, 288 treated profiles, mini-batches of 64
OPTIONS = {"dcca": {"n_components": 8}}


@pytest.fixture
def make(mdata, setup):
    def of(objective, **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        return SemiClip(mdata, objective=objective, **{"n_hidden": [16], **OPTIONS.get(objective, {}), **kwargs})

    return of


def same(model, other):
    weights, others = model.module.state_dict(), other.module.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("pea", [True, False])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_trains_embeds_saves_and_loads(make, mdata, quiet, tmp_path, name, pea):
    model = make(name)
    before = {part: weights.clone() for part, weights in model.module.state_dict().items()}
    frozen = mdata["image"].obsm["X_image"].copy()
    n = 30 if name in LABELS else 8  # heads and proxies are at odds first
    model.train(n, batch_size=64, train_size=0.75, pea=pea, **quiet)
    assert all(not torch.equal(weights, model.module.state_dict()[part]) for part, weights in before.items())
    np.testing.assert_array_equal(mdata["image"].obsm["X_image"], frozen)
    # by default no perturbation is on both sides of the split, so that held-out rows have no class
    curves = {"train_loss", "pretrain_loss"} if name in LABELS else {"train_loss", "validation_loss"}
    assert set(model.history) == curves | (RETRIEVAL if OBJECTIVES[name].spec.same_space else set())
    assert all(np.isfinite(curve.to_numpy(float)).all() for curve in model.history.values())
    losses = model.history["train_loss"].to_numpy(float).ravel()
    assert losses[-1] < losses[0]
    assert (model.train_params_["optimizer"], model.train_params_["min_lr"]) == ("sgd", 1e-6)
    assert model.train_params_["lr"] == PRESETS[name]["default"]["lr"]
    again = make(name)
    again.train(n, batch_size=64, train_size=0.75, pea=pea, **quiet)
    assert same(again, model)

    embedded = model.get_latent_representation()
    assert embedded.shape == (mdata["rna"].n_obs, 8 if name == "dcca" else 16)
    model.save(str(tmp_path / "model"))
    for data in (mdata.copy(), False):
        loaded = SemiClip.load(str(tmp_path / "model"), data, accelerator="cpu")
        np.testing.assert_array_equal(loaded.get_latent_representation(mdata), embedded)
        assert loaded.init_params_ == model.init_params_
        assert type(loaded.module.objective) is OBJECTIVES[name]
    assert same(loaded, model)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_a_gpu_steps_are_captured_unless_the_objective_waits_for_the_device(make, quiet, monkeypatch, name):
    captures = []

    def record(self, step):
        captures.append(torch.zeros(()))
        return lambda: captures[-1].copy_(step()), captures[-1]

    plain, graphed = make(name), make(name)
    for model in (plain, graphed):
        torch.manual_seed(1)
        model.train(3, batch_size=32, **quiet)
        monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: True)
        monkeypatch.setattr("semiclip.model._graph.GraphedStep._capture", record)
    epochs = 0 if name == "dcca" else 6 if name in LABELS else 3  # as many are spent on pretraining
    assert len(captures) == epochs
    assert same(graphed, plain)


def test_arguments_are_those_of_the_objective_and_recorded_with_its_defaults(make, capsys):
    model = make("vicreg", covariance=2)
    assert (model.module.objective.invariance, model.module.objective.covariance) == (25, 2)
    assert model.init_params_["kwargs"] == {
        "objective_kwargs": {"invariance": 25, "variance": 25, "covariance": 2},
    }
    repr(model)
    shown = " ".join(capsys.readouterr().out.split())
    assert "objective: vicreg, invariance: 25.0, variance: 25.0, covariance: 2, student correction: tvn" in shown
    clip = make("semiclip", temperature=0.2)
    assert clip.init_params_["kwargs"]["objective_kwargs"] == {
        "temperature": 0.2,
        "symmetric": False,
        "duplicates": "negative",
    }
    assert clip.init_params_["non_kwargs"]["objective"] == "semiclip"


def test_a_model_that_was_saved_before_there_was_a_choice_loads(make, mdata, quiet, tmp_path):
    model = make("semiclip", temperature=0.2, symmetric=True)
    model.train(1, **quiet)
    model.save(str(tmp_path / "model"))
    path = tmp_path / "model" / "model.pt"
    saved = torch.load(path, weights_only=False)
    params = saved["attr_dict"]["init_params_"]
    params["non_kwargs"].pop("objective")
    params["non_kwargs"] |= params["kwargs"].pop("objective_kwargs")
    torch.save(saved, path)
    loaded = SemiClip.load(str(tmp_path / "model"), mdata, accelerator="cpu")
    assert (type(loaded.module.objective), loaded.module.objective.temperature) == (SemiClipped, 0.2)
    assert loaded.module.objective.symmetric
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


@pytest.mark.parametrize(
    ("objective", "arguments", "error", "data"),
    [
        ("simclr", {}, errors.UnknownChoice, {"name": "objective", "value": "simclr", "choices": [*OBJECTIVES]}),
        ("vicreg", {"temperature": 0.1}, errors.UnexpectedArgument, {"names": ["temperature"]}),
        ("semiclip", {"n_hiden": [3], "tau": 1}, errors.UnexpectedArgument, {"names": ["n_hiden", "tau"]}),
    ],
)
def test_an_unknown_objective_or_argument_is_refused(make, refuses, objective, arguments, error, data):
    with refuses(error, **data):
        make(objective, **arguments)


def test_too_few_rows_are_refused_in_training_and_have_no_loss_in_validation(make, quiet, refuses):
    model = make("dcca", n_components=30)  # of a teacher of 16, so that 34 rows are needed
    for arguments, number in (({"batch_size": 33}, 33), ({"train_size": 0.1}, 24)):
        with refuses(errors.TooFew, number=number, needed=34):
            model.train(1, **arguments, **quiet)
    assert not model.is_trained
    model.train(1, batch_size=34, **quiet)
    assert "validation_loss" not in model.history  # of 24 rows
    model = make("dcca", n_components=16)
    model.train(1, train_size=0.75, **quiet)  # holds out 72 rows
    assert set(model.history) == {"train_loss", "validation_loss"}

    rows = np.flatnonzero((model.adata["rna"].obs["perturbation"] != "control").to_numpy())
    split = {"datasplitter_kwargs": {"external_indexing": [rows[:200], rows[200:233]]}}
    model = make("dcca", n_components=16)
    for watched in ({"early_stopping": True}, {"select": "best"}):
        with refuses(errors.TooFew, number=33, needed=34):
            model.train(2, **watched, **split, **quiet)
    model.train(1, **split, **quiet)
    assert set(model.history) == {"train_loss"}
    vicreg = make("vicreg")
    vicreg.train(1, datasplitter_kwargs={"external_indexing": [rows[:200], rows[200:201]]}, **quiet)
    assert set(vicreg.history) == {"train_loss"}


def test_a_space_of_its_own_has_a_loss_but_no_retrieval_to_watch(make, quiet, refuses):
    for monitor in RETRIEVAL:
        with refuses(errors.Conflict, first=f"monitor={monitor!r}"):
            make("dcca").train(1, select="best", monitor=monitor, **quiet)
    make("vicreg").train(1, select="best", monitor=monitor, **quiet)
    model = make("dcca")
    model.train(4, batch_size=64, train_size=0.75, select="best", early_stopping=True, **quiet)
    assert np.isfinite(model.get_latent_representation()).all()


def test_half_precision(make, quiet):
    for name in OBJECTIVES:
        model = make(name)
        model.train(1, batch_size=64, precision="bf16-mixed", **quiet)
        assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
        assert all(weights.dtype == torch.float32 for weights in model.module.parameters())
