"""The paper's settings in one call: what they record, what goes before them, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
from lightning import Callback

import semiclip as scl
from semiclip import errors
from semiclip._seed import seeded
from semiclip.baselines import BASELINES
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES, PAPER, Dcca

SGD = {"optimizer": "sgd", "momentum": 0.95, "weight_decay": 1e-4, "schedule": "cosine"}
# what training uses: a rate for each part that is trained
RATES = {
    "semiclip": (1e-3, 1e-6),
    "clip": ({"student": 1e-3, "teacher": 1e-3}, 1e-6),
    "siglip": ({"student": 0.1, "teacher": 1e-8}, 1e-10),
    "vicreg": ({"student": 0.1, "teacher": 1e-8}, 1e-10),
    "dcca": ({"student": 1e-6, "teacher": 1e-8}, 1e-10),
    "kd": ({"student": 0.1, "student_head": 1e-4}, 1e-10),
    "shake": ({"student": 0.1, "student_head": 1e-4, "shadow": 1e-7}, 1e-10),  # the adapter of the teacher is frozen
    "c2kd": ({"student": 0.1, "teacher": 1e-6, "student_head": 1e-5, "teacher_head": 1e-3, "student_proxy": 1e-5,
              "teacher_proxy": 1e-3}, 1e-7),
}  # fmt: skip
OPTIONS = {
    "semiclip": {"temperature": 0.1, "symmetric": False, "duplicates": "negative"},
    "clip": {"temperature": 0.1, "symmetric": True, "duplicates": "negative"},
    "siglip": {"scale": 10.0, "bias": -10.0},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    "dcca": {"n_components": 30, "k": None, "epsilon": 1e-6},
    "kd": {"temperature": 9.0, "alpha": 10.0},
    "shake": {"variant": "paper", "temperature": 9.0, "alpha": 10.0, "beta": 1e-3, "shadow_start": "fresh"},
    "c2kd": {"temperature": 2.0, "threshold": 0.3, "nontarget": "exclude", "average": "kept", "n_pairs": None},
}
SMALL = {"n_hidden": [16], "teacher_adapter": [16]}  # for tests of anything else, which then take no time


class StopSoon(Callback):
    """Ends training with its first epoch, however many were asked for."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"rng": 0, "recipe": "paper"}


def settings(model):
    return model.init_params_["non_kwargs"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_recipe_of_the_paper_for_every_objective(mdata, arguments, through_h5mu, objective):
    epochs = {"semiclip": 150, "clip": 150, "dcca": 50, "c2kd": 30}.get(objective, 10)
    model = scl.tl.distill(mdata, objective=objective, **arguments, callbacks=[StopSoon()])
    params = model.train_params_
    assert {name: params[name] for name in SGD} == SGD
    assert (params["lr"], params["min_lr"]) == RATES[objective]
    rows = 2048 if objective == "dcca" else 1024
    assert (params["max_epochs"], params["epochs"]) == (epochs, 1)
    assert (params["batch_size"], params["select"]) == (rows, "last")
    if objective in ("kd", "shake", "c2kd"):
        assert params["pretrain_epochs"] == epochs
    assert settings(model)["objective"] == objective
    assert list(settings(model)["n_hidden"]) == [512, 1024]
    assert settings(model)["teacher_adapter"] == (False if objective == "semiclip" else [1024, 1024])
    assert settings(model)["n_shared"] is None
    options = model.init_params_["kwargs"]["objective_kwargs"]
    assert {name: options[name] for name in OPTIONS[objective]} == OPTIONS[objective]
    assert {*options} - {*OPTIONS[objective]} <= {"gamma"}
    sides = {"adapter": (model.module.adapter, 8, 512), "teacher_adapter": (model.module.teacher_adapter, 16, 1024)}
    for side, (adapter, n_input, n_first) in sides.items():
        if side == "adapter" or objective != "semiclip":
            widths = [(layer.in_features, layer.out_features) for layer in adapter[::2]]
            assert widths == [(n_input, n_first), (n_first, 1024), (1024, 16)]  # 16 are fewer than DCCA's 30
    stored = through_h5mu(mdata)["rna"].uns["semiclip"][f"X_{objective}"]["params"]
    assert (int(stored["max_epochs"]), int(stored["batch_size"])) == (epochs, rows)


def test_a_mini_batch_is_all_rows_where_there_are_fewer(mdata, arguments, monkeypatch):
    small = {"model_kwargs": SMALL, "max_epochs": 1}
    n_rows, original = [], Dcca.forward

    def forward(self, student, *others):
        n_rows.append(len(student))
        return original(self, student, *others)

    monkeypatch.setattr(Dcca, "forward", forward)
    model = scl.tl.distill(mdata, objective="dcca", **arguments, **small, train_size=1.0)
    assert n_rows == [len(model.train_indices)] == [288]
    assert model.train_params_["batch_size"] == 2048  # as it was asked for


def test_fewer_rows_than_dcca_needs_are_refused(mdata, arguments, refuses):
    with refuses(errors.TooFew, number=24, needed=34):  # twice the 16 columns of the teacher, and 2
        scl.tl.distill(mdata, objective="dcca", **arguments, train_size=0.1)
    assert not mdata.uns
    assert "X_dcca" not in mdata["rna"].obsm


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
def test_what_is_named_goes_before_the_paper(mdata, arguments):
    start = repr(PAPER)
    plan = {"lr": {"teacher": 1e-5}, "momentum": 0.5}
    of_model = {**SMALL, "temperature": 0.5}
    named = {"max_epochs": 2, "batch_size": 64, "pretrain_epochs": 0, "plan_kwargs": plan, "model_kwargs": of_model}
    model = scl.tl.distill(mdata, objective="c2kd", **arguments, **named)
    params = model.train_params_
    assert (params["max_epochs"], params["batch_size"], params["pretrain_epochs"], params["epochs"]) == (2, 64, 0, 2)
    assert (params["momentum"], params["weight_decay"], params["min_lr"]) == (0.5, 1e-4, 1e-7)
    assert params["lr"] == {**RATES["c2kd"][0], "teacher": 1e-5}  # other parts keep the paper's
    assert (settings(model)["n_hidden"], settings(model)["teacher_adapter"]) == ([16], [16])
    options = model.init_params_["kwargs"]["objective_kwargs"]
    assert (options["temperature"], options["threshold"]) == (0.5, 0.3)
    for more, lr in (({"plan_kwargs": {"lr": 0.25}}, 0.25), ({"preset": "default"}, 0.003)):
        model = scl.tl.distill(mdata, objective="vicreg", **arguments, **more, max_epochs=1, model_kwargs=SMALL)
        assert (model.train_params_["lr"], model.train_params_["batch_size"]) == (lr, 1024)
    model = scl.tl.distill(
        mdata, objective="siglip", **arguments, max_epochs=1, model_kwargs={"teacher_adapter": False, "n_hidden": [16]}
    )
    assert model.module.teacher_adapter is None
    assert model.train_params_["lr"] == {"student": 0.1}
    assert repr(PAPER) == start
    assert (plan, of_model) == ({"lr": {"teacher": 1e-5}, "momentum": 0.5}, {**SMALL, "temperature": 0.5})


def test_none_is_what_the_paper_says(mdata, arguments, monkeypatch):
    monkeypatch.setitem(PAPER, "vicreg", PAPER["vicreg"]._replace(training={"max_epochs": 3, "batch_size": 77}))
    none = {"max_epochs": None, "batch_size": None, "plan_kwargs": {"lr": 0.0}, "model_kwargs": SMALL}
    model = scl.tl.distill(mdata, objective="vicreg", **arguments, **none)
    assert (model.train_params_["max_epochs"], model.train_params_["batch_size"]) == (3, 77)


def test_the_recipe_of_semiclip_is_that_of_any_objective(mdata, arguments):
    copied, short = mdata.copy(), {"max_epochs": 2, "model_kwargs": {"n_hidden": [16]}}
    one = scl.tl.semiclip(mdata, **arguments, **short)
    other = scl.tl.distill(copied, objective="semiclip", **arguments, **short)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], copied["rna"].obsm["X_semiclip"])
    assert (one.train_params_, one.init_params_) == (other.train_params_, other.init_params_)


@pytest.mark.parametrize("objective", ["clip", "kd"])
def test_the_recipe_of_the_whole_teacher_is_the_model_s_own_defaults_bit_by_bit(mdata, setup, quiet, objective):
    arguments, copied = setup | quiet | {"rng": 7, "max_epochs": 3}, mdata.copy()
    scl.tl.distill(mdata, objective=objective, **arguments)
    written = mdata["rna"].obsm.pop(f"X_{objective}")
    scl.tl.distill(mdata, objective=objective, recipe="whole", **arguments)
    np.testing.assert_array_equal(mdata["rna"].obsm[f"X_{objective}"], written)
    SemiClip.setup_mudata(copied, **setup)
    with seeded(7):
        model = SemiClip(copied, objective=objective)
        model.train(3, **quiet)
    np.testing.assert_array_equal(model.get_latent_representation(), written)


def test_the_whole_teacher_is_taught_for_50_epochs(mdata, setup, quiet):
    model = scl.tl.distill(mdata, objective="semiclip", **setup, **quiet, callbacks=[StopSoon()])
    params = model.train_params_
    assert (params["max_epochs"], params["batch_size"], params["lr"], params["epochs"]) == (50, 1024, 0.1, 1)
    assert settings(model)["n_hidden"] == [64]


@pytest.mark.parametrize("baseline", BASELINES)
def test_baselines_have_no_recipe_of_the_paper(mdata, arguments, refuses, baseline):
    with refuses(errors.Conflict, first="recipe='paper'", way_out="leave out recipe"):
        scl.tl.distill(mdata, objective=baseline, **arguments)
    assert not mdata.uns
    scl.tl.distill(mdata, objective=baseline, **arguments | {"recipe": "whole"})


def test_unknown_recipes_are_refused(mdata, arguments, refuses):
    for recipe in ("shared", "best", None):
        with refuses(errors.UnknownChoice, name="recipe", value=recipe, choices=["whole", "paper"]):
            scl.tl.distill(mdata, objective="semiclip", **arguments | {"recipe": recipe})
    assert not mdata.uns
