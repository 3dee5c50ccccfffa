"""A model with each objective: made, trained, saved, loaded, and refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.model import SemiClip
from semiclip.model._module import SemiClipModule
from semiclip.model._plan import DistillationPlan
from semiclip.model._tensors import reduce_components
from semiclip.objectives import OBJECTIVES, SemiClipped, Vicreg

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
    assert model.train_params_["lr"] == OBJECTIVES[name].profiles["default"]["lr"]
    again = make(name)
    again.train(n, batch_size=64, train_size=0.75, pea=pea, **quiet)
    for part, weights in model.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[part], weights)

    embedded = model.get_latent_representation()
    assert embedded.shape == (mdata["rna"].n_obs, 8 if name == "dcca" else 16)
    model.save(str(tmp_path / "model"))
    for data in (mdata.copy(), False):
        loaded = SemiClip.load(str(tmp_path / "model"), data, accelerator="cpu")
        np.testing.assert_array_equal(loaded.get_latent_representation(mdata), embedded)
        assert loaded.init_params_ == model.init_params_
        assert type(loaded.module.objective) is OBJECTIVES[name]
    for part, weights in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[part], weights)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_a_gpu_steps_are_captured_unless_the_objective_waits_for_the_device(make, quiet, monkeypatch, name):
    captures = []

    def record(self, step):
        captures.append(torch.zeros(()))
        return lambda: captures[-1].copy_(step()), captures[-1]

    plain = make(name)
    plain.train(3, batch_size=32, **quiet)
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: True)
    monkeypatch.setattr("semiclip.model._graph.GraphedStep._capture", record)
    graphed = make(name)
    graphed.train(3, batch_size=32, **quiet)
    epochs = 0 if name == "dcca" else 6 if name in LABELS else 3  # as many are spent on pretraining
    assert len(captures) == epochs
    for part, weights in plain.module.state_dict().items():
        assert torch.equal(graphed.module.state_dict()[part], weights)


def test_arguments_are_those_of_the_objective_and_recorded_with_its_defaults(make):
    model = make("vicreg", covariance=2)
    assert (model.module.objective.invariance, model.module.objective.covariance) == (25, 2)
    assert model.init_params_["kwargs"] == {
        "objective_kwargs": {"invariance": 25, "variance": 25, "covariance": 2},
    }
    assert "objective: vicreg, invariance: 25.0, variance: 25.0, covariance: 2, student correction: tvn" in (
        model._model_summary_string
    )
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
    given = saved["attr_dict"]["init_params_"]
    given["non_kwargs"].pop("objective")
    given["non_kwargs"] |= given["kwargs"].pop("objective_kwargs")
    torch.save(saved, path)
    loaded = SemiClip.load(str(tmp_path / "model"), mdata, accelerator="cpu")
    assert (type(loaded.module.objective), loaded.module.objective.temperature) == (SemiClipped, 0.2)
    assert loaded.module.objective.symmetric
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())


def test_an_unknown_objective_or_argument_is_refused(make):
    with pytest.raises(ValueError, match=f"objective='simclr' is not one of {', '.join(OBJECTIVES)}$"):
        make("simclr")
    message = (
        "temperature is neither an argument of SemiClip nor of objective='vicreg', which takes "
        "invariance, variance, covariance$"
    )
    with pytest.raises(TypeError, match=message):
        make("vicreg", temperature=0.1)
    with pytest.raises(TypeError, match="n_hiden is neither an argument of SemiClip nor of objective='semiclip'"):
        make("semiclip", n_hiden=[3])


def test_what_the_objective_learns_is_not_decayed():
    plan = DistillationPlan(SemiClipModule(4, [], 3, objective="siglip"), max_epochs=3, weight_decay=0.3)
    adapter, learned = plan.configure_optimizers()["optimizer"].param_groups
    assert (len(adapter["params"]), adapter["weight_decay"]) == (2, 0.3)
    assert learned["params"] == [plan.module.objective.log_scale, plan.module.objective.bias]
    assert learned["weight_decay"] == 0
    only = DistillationPlan(SemiClipModule(4, [], 3), max_epochs=3, optimizer="adamw").configure_optimizers()
    assert len(only["optimizer"].param_groups) == 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_paper_s_profile_depends_on_the_objective(make, quiet, name):
    model, seen = make(name), []

    class Spy(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.extend(group["lr"] for group in trainer.optimizers[0].param_groups)
            trainer.should_stop = True

    model.train(1, preset="paper", batch_size=64, callbacks=[Spy()], pretrain_epochs=0, **quiet)
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
    assert seen == paper[name]
    least = {"semiclip": 1e-6, "clip": 1e-6, "c2kd": 1e-7}
    assert model.train_params_["min_lr"] == least.get(name, 1e-10)


def test_mini_batches_that_are_too_small_are_refused_before_training(make, quiet):
    message = (
        "objective='dcca' needs mini-batches of at least 34 rows for an embedding of 16 dimensions, but batch_size=33 "
        "and 264 training rows make 33: with fewer than both widths and 2 more, canonical correlations are 1"
    )
    model = make("dcca", n_components=30)  # of a teacher of 16
    with pytest.raises(ValueError, match=message):
        model.train(1, batch_size=33, **quiet)
    assert not model.is_trained
    with pytest.raises(ValueError, match=r"batch_size=1024 and 24 training rows make 24"):
        model.train(1, train_size=0.1, **quiet)
    model.train(1, batch_size=34, **quiet)


def test_too_few_held_out_rows_have_no_loss(make, quiet):
    model = make("dcca", n_components=16)
    model.train(2, train_size=0.75, **quiet)  # holds out 72 rows
    assert set(model.history) == {"train_loss", "validation_loss"}
    model = make("dcca", n_components=16)
    rows = np.flatnonzero((model.adata["rna"].obs["perturbation"] != "control").to_numpy())
    split = {"datasplitter_kwargs": {"external_indexing": [rows[:200], rows[200:233]]}}
    model.train(2, **split, **quiet)
    assert set(model.history) == {"train_loss"}
    message = (
        "monitor='validation_loss' is not defined: objective='dcca' needs 34 rows and validation has mini-batches of "
        "33; lower train_size"
    )
    for asked in ({"early_stopping": True}, {"select": "best"}):
        with pytest.raises(ValueError, match=message):
            model.train(2, **asked, **split, **quiet)
    vicreg = make("vicreg")
    vicreg.train(1, datasplitter_kwargs={"external_indexing": [rows[:200], rows[200:201]]}, **quiet)
    assert set(vicreg.history) == {"train_loss"}


@pytest.mark.parametrize("monitor", sorted(RETRIEVAL))
def test_a_space_of_its_own_has_no_retrieval_to_watch(make, quiet, monitor):
    message = f"monitor='{monitor}' is not defined: objective='dcca' does not embed in the teacher's space; use valid"
    with pytest.raises(ValueError, match=message):
        make("dcca").train(1, select="best", monitor=monitor, **quiet)
    make("vicreg").train(1, select="best", monitor=monitor, **quiet)


def test_the_best_epoch_of_any_objective_can_be_kept(make, quiet):
    model = make("dcca")
    model.train(4, batch_size=64, train_size=0.75, select="best", early_stopping=True, **quiet)
    assert np.isfinite(model.get_latent_representation()).all()


def test_the_teacher_is_reduced_to_its_leading_components(make):
    model = make("dcca")
    full, reduced = (make(name)._pair_data(None, []).host.teacher.numpy() for name in ("vicreg", "dcca"))
    assert (full.shape[1], reduced.shape[1]) == (16, 8)
    centred = full - full.mean(axis=0)
    u, s, _ = np.linalg.svd(centred.astype(float), full_matrices=False)
    np.testing.assert_allclose(np.abs(reduced), np.abs(u * s)[:, :8], atol=1e-4)
    assert model.module.n_output == 8


def test_as_many_components_as_columns_leave_the_teacher_as_it_is():
    values = np.random.default_rng(0).normal(size=(20, 4))
    assert reduce_components(values, 4) is values
    assert reduce_components(values, 5) is values


def test_half_precision(make, quiet):
    for name in OBJECTIVES:
        model = make(name)
        model.train(1, batch_size=64, precision="bf16-mixed", **quiet)
        assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
        assert all(weights.dtype == torch.float32 for weights in model.module.parameters())


def test_a_module_knows_the_width_of_its_objective():
    module = SemiClipModule(4, [3], 50, objective="dcca", n_components=5)
    assert (module.n_output, module.min_batch_size) == (5, 12)
    assert module(torch.zeros(2, 4)).shape == (2, 5)
    assert isinstance(SemiClipModule(4, [], 3, objective="vicreg").objective, Vicreg)
