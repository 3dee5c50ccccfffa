"""A model with each objective: its adapters, how it trains, is saved and loaded, and is refused with a reason."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from torch import nn

from semiclip import errors
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES, PRESETS

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


def widths(adapter):
    if adapter is None:
        return None
    assert [type(layer) for layer in adapter[1::2]] == [nn.ReLU] * (len(adapter) // 2)
    return [adapter[0].in_features, *(layer.out_features for layer in adapter[::2])]


def test_with_many_pairs_the_adapters_are_those_of_the_paper_and_with_few_small(tmp_path):
    def of(n_pairs, **kwargs):
        values = np.random.default_rng(0).normal(size=(n_pairs, 768))
        adata = anndata.AnnData(obsm={"X_rna": values[:, :256], "X_image": values})
        SemiClip.setup_anndata(adata, student_rep="X_rna", teacher_rep="X_image", control=None)
        return SemiClip(adata, objective="clip", student_correction=None, teacher_correction=None, **kwargs)

    def count(adapter):
        return sum(parameter.numel() for parameter in adapter.parameters())

    many, few = of(500), of(499)
    assert widths(many.module.adapter) == [256, 512, 1024, 768]
    assert widths(many.module.teacher_adapter) == [768, 1024, 1024, 768]
    assert widths(few.module.adapter) == [256, 64, 768]
    # the paper's counts: the student's adapter, the image adapter, and the student's as it was released
    assert (count(many.module.adapter), count(many.module.teacher_adapter)) == (1_444_096, 2_624_256)
    assert count(of(9, n_hidden=[1024, 1024]).module.adapter) == 2_099_968
    few.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), many.adata, accelerator="cpu")
    assert widths(loaded.module.teacher_adapter) == [768, 64, 768], "what was settled is not asked again"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_says_whether_the_teacher_has_an_adapter_and_arguments_outdo_it(make, objective):
    module = make(objective).module
    assert (module.teacher_adapter is not None) == (objective in ("clip", "kd", "shake", "c2kd"))
    for asked, hidden in ((True, [64]), ([8, 4], [8, 4]), ((5,), [5]), ([], []), (False, None)):
        built = widths(make(objective, teacher_adapter=asked).module.teacher_adapter)
        assert built == (None if hidden is None else [16, *hidden, module.n_output])


def test_modules_compute_the_products_written_out(make):
    architecture = {"n_input": 8, "n_hidden": [], "n_output": 4}
    module = make("clip", encoder=architecture, n_hidden=[3], teacher_adapter=[]).module
    student, teacher = torch.randn(5, 8), torch.randn(5, 16)
    encoder, first, last, other = module.encoder[0], module.adapter[0], module.adapter[2], module.teacher_adapter[0]
    hidden = ((student @ encoder.weight.T + encoder.bias) @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(module(student), hidden @ last.weight.T + last.bias)
    torch.testing.assert_close(module.teach(teacher), teacher @ other.weight.T + other.bias)
    linear = make("semiclip", n_hidden=[]).module
    torch.testing.assert_close(linear(student), student @ linear.adapter[0].weight.T + linear.adapter[0].bias)
    assert linear.teach(teacher) is teacher


def test_without_adapter_of_the_teacher_and_in_one_direction_clip_is_semiclip(make, quiet):
    one, other = make("clip", teacher_adapter=False, symmetric=False), make("semiclip")
    for model in (one, other):
        torch.manual_seed(1)
        model.train(3, batch_size=64, **quiet)
    assert same(one, other)
    assert one.train_params_ | {"lr": 0.1} == other.train_params_
    assert one.train_params_["lr"] == {"student": 0.1}  # the teacher's is dropped


def test_dcca_reads_the_leading_components_of_the_teacher_unless_that_has_an_adapter(make, quiet, spy):
    seen = {}
    for n_components, teacher_adapter in ((16, False), (8, False), (8, True)):
        model, watch = make("dcca", n_components=n_components, teacher_adapter=teacher_adapter), spy()
        assert (model.module.n_output, model.module.min_batch_size) == (n_components, 2 * n_components + 2)
        model.train(1, callbacks=[watch], **quiet)
        seen[n_components, teacher_adapter] = watch.data.tensors.teacher.numpy()
        assert model.get_latent_representation().shape[1] == n_components
    full = seen[16, False]
    np.testing.assert_array_equal(seen[8, True], full)
    u, s, _ = np.linalg.svd((full - full.mean(axis=0)).astype(float), full_matrices=False)
    np.testing.assert_allclose(np.abs(seen[8, False]), np.abs(u * s)[:, :8], atol=1e-4)


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
    assert losses[1:].min() < losses[0]  # few rows and random views: not every epoch lowers it
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
        assert widths(loaded.module.teacher_adapter) == widths(model.module.teacher_adapter)
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
    assert len(captures) == (0 if name == "dcca" else 6 if name in LABELS else 3)  # as many are spent on pretraining
    assert same(graphed, plain)


@pytest.mark.parametrize("steps", [(16, 0), (0, 16)])
def test_of_pretraining_and_distillation_either_may_take_steps_in_graphs(make, quiet, monkeypatch, steps):
    captures = []
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: True)
    monkeypatch.setattr(
        "semiclip.model._graph.GraphedStep._capture",
        lambda self, step: captures.append(step) or (step, torch.zeros(())),
    )
    plans = {name: {"steps_per_call": n} for name, n in zip(("pretrain_kwargs", "plan_kwargs"), steps, strict=True)}
    make("c2kd").train(2, batch_size=32, pea=True, **plans, **quiet)
    assert len(captures) == 2  # one of each epoch


def test_arguments_are_those_of_the_objective_and_recorded_with_its_defaults(make, capsys):
    model = make("vicreg", covariance=2)
    assert (model.module.objective.invariance, model.module.objective.covariance) == (25, 2)
    assert model.init_params_["kwargs"]["objective_kwargs"] == {"invariance": 25, "variance": 25, "covariance": 2}
    repr(model)
    shown = " ".join(capsys.readouterr().out.split())
    assert "objective: vicreg, invariance: 25.0, variance: 25.0, covariance: 2, student correction: tvn" in shown


def test_too_few_rows_are_refused_in_training_and_have_no_loss_in_validation(make, quiet, refuses):
    model = make("dcca", n_components=16)  # so that 34 rows are needed
    rows = np.flatnonzero((model.adata["rna"].obs["perturbation"] != "control").to_numpy())
    split = {"datasplitter_kwargs": {"external_indexing": [rows[:200], rows[200:233]]}}
    for arguments, number in (
        ({"batch_size": 33}, 33),
        ({"train_size": 0.1}, 24),
        ({"early_stopping": True, **split}, 33),
        ({"select": "best", **split}, 33),
    ):
        with refuses(errors.TooFew, number=number, needed=34):
            model.train(1, **arguments, **quiet)
    assert not model.is_trained
    for name, held_out, batch_size in (("dcca", 34, 34), ("dcca", 33, 34), ("vicreg", 1, 64)):
        model = make(name, **({"n_components": 16} if name == "dcca" else {}))
        mask = np.isin(np.arange(model.adata["rna"].n_obs), rows[200 : 200 + held_out])
        split = {"external_indexing": [rows[:200], mask]}
        model.train(1, batch_size=batch_size, datasplitter_kwargs=split, **quiet)
        assert ("validation_loss" in model.history) == (held_out == 34)


def test_a_space_of_its_own_has_a_loss_but_no_retrieval_to_watch(make, quiet, refuses):
    for monitor in RETRIEVAL:
        with refuses(errors.Conflict, first=f"monitor={monitor!r}"):
            make("dcca").train(1, select="best", monitor=monitor, **quiet)
    make("vicreg").train(1, select="best", monitor=monitor, **quiet)
    model = make("dcca")
    model.train(4, batch_size=64, train_size=0.75, select="best", early_stopping=True, **quiet)
    assert np.isfinite(model.get_latent_representation()).all()
