from __future__ import annotations

import numpy as np
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.baselines import BASELINES
from semiclip.model import Baseline
from semiclip.objectives import OBJECTIVES, PRESETS


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 2, "rng": 0}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_call_for_every_objective(mdata, small_study, arguments, through_h5mu, objective):
    kwargs = {"n_components": 8} if objective == "dcca" else {}
    model = scl.tl.distill(mdata, objective=objective, model_kwargs=kwargs, **arguments)
    key, width = f"X_{objective}", 8 if kwargs else 16
    written = mdata["rna"].obsm[key]
    assert (written.dtype, written.shape) == (np.float32, (mdata["rna"].n_obs, width))
    np.testing.assert_array_equal(written, model.get_latent_representation())
    again = through_h5mu(mdata)
    params = again["rna"].uns["semiclip"][key]["params"]
    assert params["objective"] == objective
    for name, value in model.init_params_["kwargs"]["objective_kwargs"].items():
        if value is None:
            assert name not in params
        else:
            assert params[name] == value
    knockouts = small_study.knockouts.copy()
    scl.tl.embed(knockouts, model)  # under the same key
    assert np.isfinite(knockouts["rna"].obsm[key]).all()


def test_semiclip_is_the_short_way_to_one_of_them(mdata, arguments):
    scl.tl.semiclip(mdata, **arguments, model_kwargs={"temperature": 0.2})
    scl.tl.distill(mdata, objective="semiclip", key_added="X_long", **arguments, model_kwargs={"temperature": 0.2})
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], mdata["rna"].obsm["X_long"])
    stored = mdata["rna"].uns["semiclip"]
    assert str(stored["X_semiclip"]) == str(stored["X_long"])


@pytest.mark.parametrize(
    ("objective", "changes", "error", "data"),
    [
        ("simclr", {}, errors.UnknownChoice, {"name": "objective", "choices": [*OBJECTIVES, *BASELINES]}),
        ("siglip", {"model_kwargs": {"temperature": 1}}, errors.UnexpectedArgument, {"names": ["temperature"]}),
        ("dcca", {"model_kwargs": {"objective": "clip"}}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ("ridge", {"model_kwargs": {"method": "cca"}}, errors.UnexpectedArgument, {"names": ["method"]}),
        ("ridge", {"model_kwargs": {"n_neighbors": 3}}, TypeError, {}),
        ("knn", {"model_kwargs": {"n_neighbors": 999}}, ValueError, {}),
        ("ridge", {"pea": True}, errors.Conflict, {"first": "pea"}),
        ("ridge", {"pea": {"methods": ["center"]}}, errors.Conflict, {"first": "pea"}),
    ],
)
def test_what_is_not_known_writes_nothing(mdata, arguments, refuses, objective, changes, error, data):
    with refuses(error, **data):
        scl.tl.distill(mdata, objective=objective, **arguments | changes)
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert not mdata.uns


@pytest.mark.parametrize("objective", BASELINES)
def test_one_call_for_every_baseline(mdata, small_study, arguments, through_h5mu, objective):
    model = scl.tl.distill(mdata, objective=objective, train_size=0.75, pea=False, **arguments)
    assert type(model) is Baseline
    key = f"X_{objective}"
    written = mdata["rna"].obsm[key].copy()
    assert written.shape == (mdata["rna"].n_obs, 8 if objective in ("unimodal", "cca") else 16)
    np.testing.assert_array_equal(written, model.get_latent_representation())
    again = through_h5mu(mdata)["rna"]
    np.testing.assert_array_equal(again.obsm[key], written)
    params = again.uns["semiclip"][key]["params"]
    assert (params["model"], params["method"], float(params["train_size"])) == ("Baseline", objective, 0.75)
    knockouts = small_study.knockouts.copy()
    scl.tl.embed(knockouts, model)
    assert np.isfinite(knockouts["rna"].obsm[key]).all()
    # there are no epochs
    scl.tl.distill(mdata, objective=objective, train_size=0.75, **{**arguments, "max_epochs": 99})
    np.testing.assert_array_equal(mdata["rna"].obsm[key], written)


def test_one_seed_holds_the_same_samples_out_whatever_the_method(mdata, arguments):
    usual = {**arguments, "max_epochs": 1, "train_size": 0.75, "rng": 5}
    kept = [
        scl.tl.distill(mdata, objective=objective, **usual).validation_indices.tolist()
        for objective in ("semiclip", "clip", "kd", "ridge", "random")
    ]
    assert kept[0]
    assert kept == [kept[0]] * 5
    other = scl.tl.distill(mdata, objective="ridge", **{**usual, "rng": 6})
    assert other.validation_indices.tolist() != kept[0]


def test_labels_of_a_call(mdata, arguments, through_h5mu):
    more = {"label_key": "perturbation", "split_key": "batch", "pretrain_epochs": 1}
    plan = {"lr": {"student_head": 0.01}, "min_lr": {"student": 1e-4}}
    model = scl.tl.distill(mdata, objective="shake", plan_kwargs=plan, **more, **arguments)
    assert len(model.classes_) == 24
    assert {name: len(curve) for name, curve in model.history.items()} == {
        "train_loss": 2,
        "validation_loss": 2,
        "pretrain_loss": 1,
    }
    params = through_h5mu(mdata)["rna"].uns["semiclip"]["X_shake"]["params"]
    assert (params["label_key"], int(params["pretrain_epochs"])) == ("perturbation", 1)
    usual = PRESETS["shake"]["default"]["lr"]
    assert {name: float(rate) for name, rate in params["lr"].items()} == {"student": usual, "student_head": 0.01}
    assert float(params["min_lr"]["student"]) == 1e-4


def test_the_same_seed_gives_the_same_embedding(mdata, arguments):
    embeddings = []
    for rng in (0, 0, 1):
        scl.tl.distill(mdata, objective="c2kd", **{**arguments, "rng": rng})
        embeddings.append(mdata["rna"].obsm["X_c2kd"].copy())
    np.testing.assert_array_equal(embeddings[0], embeddings[1])
    assert not np.array_equal(embeddings[0], embeddings[2])
