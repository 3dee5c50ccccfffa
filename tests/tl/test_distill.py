"""One call for every objective and every baseline, what it records, and what is refused at the door."""

from __future__ import annotations

import numpy as np
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.baselines import BASELINES
from semiclip.model import Baseline, SemiClip
from semiclip.objectives import OBJECTIVES, PRESETS


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 2, "rng": 0}


@pytest.mark.parametrize("objective", [*OBJECTIVES, *BASELINES])
def test_one_call_for_every_objective_and_baseline(mdata, small_study, arguments, through_h5mu, objective):
    is_baseline, kwargs = objective in BASELINES, {"n_components": 8} if objective == "dcca" else {}
    arguments |= {"objective": objective, "train_size": 0.75, "model_kwargs": kwargs}
    model = scl.tl.distill(mdata, **arguments)
    assert type(model) is (Baseline if is_baseline else SemiClip)
    key = f"X_{objective}"
    written = mdata["rna"].obsm[key].copy()
    width = 8 if objective in ("dcca", "unimodal", "cca") else 16
    assert (written.dtype, written.shape) == (np.float32, (mdata["rna"].n_obs, width))
    np.testing.assert_array_equal(written, model.get_latent_representation())
    stored = through_h5mu(mdata)["rna"]
    np.testing.assert_array_equal(stored.obsm[key], written)
    params = stored.uns["semiclip"][key]["params"]
    assert (params["model"], float(params["train_size"])) == (type(model).__name__, 0.75)
    assert params["method" if is_baseline else "objective"] == objective
    for name, value in model.init_params_["kwargs"].get("objective_kwargs", {}).items():
        assert params.get(name) == value
    knockouts = small_study.knockouts.copy()
    scl.tl.embed(knockouts, model)  # under the same key
    assert np.isfinite(knockouts["rna"].obsm[key]).all()
    if is_baseline:  # which has no epochs
        scl.tl.distill(mdata, **{**arguments, "max_epochs": 99, "pea": False})
        np.testing.assert_array_equal(mdata["rna"].obsm[key], written)


def test_one_seed_holds_the_same_samples_out_whatever_the_method(mdata, arguments):
    def held_out(objective, rng):
        usual = {**arguments, "max_epochs": 1, "train_size": 0.75, "rng": rng}
        return scl.tl.distill(mdata, objective=objective, **usual).validation_indices.tolist()

    kept = [held_out(objective, 5) for objective in ("semiclip", "clip", "kd", "ridge", "random")]
    assert kept[0]
    assert kept == [kept[0]] * 5
    assert held_out("ridge", 6) != kept[0]


def test_labels_of_a_call(mdata, arguments, through_h5mu):
    more = {"label_key": "perturbation", "split_key": "batch", "pretrain_epochs": 1}
    plan = {"lr": {"student_head": 0.01}, "min_lr": {"student": 1e-4}}
    model = scl.tl.distill(mdata, objective="shake", plan_kwargs=plan, **more, **arguments)
    assert len(model.classes_) == 24
    n_epochs = {"train_loss": 2, "validation_loss": 2, "pretrain_loss": 1}
    assert {name: len(curve) for name, curve in model.history.items()} == n_epochs
    params = through_h5mu(mdata)["rna"].uns["semiclip"]["X_shake"]["params"]
    assert (params["label_key"], int(params["pretrain_epochs"])) == ("perturbation", 1)
    usual = PRESETS["shake"]["default"]["lr"]
    assert {name: float(rate) for name, rate in params["lr"].items()} == {**usual, "student_head": 0.01}
    assert float(params["min_lr"]["student"]) == 1e-4


@pytest.mark.parametrize("objective", ["semiclip", "ridge"])
@pytest.mark.parametrize(
    ("rng", "stored"), [(3, 3), (np.int64(3), 3), (np.random.default_rng(3), "Generator"), (None, None)]
)
def test_seed_and_shared_keys_are_recorded(mdata, arguments, through_h5mu, tmp_path, objective, rng, stored):
    obs = mdata["image"].obs
    obs["perturbation"] = obs["perturbation"].astype(str).replace(obs["perturbation"].iloc[0], "stranger")
    model = scl.tl.distill(mdata, objective=objective, **arguments | {"rng": rng})
    params = through_h5mu(mdata)["rna"].uns["semiclip"][f"X_{objective}"]["params"]
    assert params.get("rng") == stored
    assert params["shared_keys"] == 69
    model.save(tmp_path / "model")
    assert type(model).load(tmp_path / "model", mdata).train_params_ == model.train_params_


@pytest.mark.parametrize(
    ("objective", "changes", "error", "data"),
    [
        ("simclr", {}, errors.UnknownChoice, {"name": "objective", "choices": [*OBJECTIVES, *BASELINES]}),
        ("siglip", {"model_kwargs": {"temperature": 1}}, errors.UnexpectedArgument, {"names": ["temperature"]}),
        ("dcca", {"model_kwargs": {"objective": "clip"}}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ("ridge", {"model_kwargs": {"method": "cca"}}, errors.UnexpectedArgument, {"names": ["method"]}),
        ("ridge", {"model_kwargs": {"n_neighbors": 3}}, TypeError, {}),
        ("knn", {"model_kwargs": {"n_neighbors": 999}}, ValueError, {}),
        *(("ridge", {"pea": pea}, errors.Conflict, {"first": "pea"}) for pea in (True, {"methods": ["center"]})),
    ],
)
def test_what_is_not_known_writes_nothing(mdata, arguments, refuses, objective, changes, error, data):
    with refuses(error, **data):
        scl.tl.distill(mdata, objective=objective, **arguments | changes)
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert not mdata.uns


@pytest.mark.parametrize(
    ("objective", "unknown", "way_out"),
    [
        ("semiclip", {"temperature": 0.2}, "model_kwargs={'temperature': …}"),
        ("semiclip", {"fallback": "pooled"}, "model_kwargs={'fallback': …}"),
        ("semiclip", {"seed": 5}, "'rng'"),
        ("semiclip", {"batchkey": "x"}, "'batch_key'"),
        ("dcca", {"n_components": 3}, "model_kwargs={'n_components': …}"),
        ("ridge", {"temperature": 3}, "max_epochs, "),
    ],
)
def test_unknown_arguments_are_refused_at_the_door(mdata, arguments, refuses, objective, unknown, way_out):
    arguments |= {"student_rep": "none such", **unknown}  # which is not looked at
    with refuses(errors.UnexpectedArgument, taker="training", names=list(unknown)) as caught:
        scl.tl.distill(mdata, objective=objective, **arguments)
    assert way_out in caught.value.way_out
    assert not mdata.uns
