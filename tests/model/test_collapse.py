"""Training after which all rows are embedded alike is refused, and one that learns is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip import errors
from semiclip._numerics import point_apart
from semiclip.model import SemiClip
from semiclip.model._plan import DistillationPlan, PretrainingPlan
from semiclip.objectives import OBJECTIVES


def kill(module, side="student", offset=1.0):
    """Leave no hidden unit of an adapter above 0, as too large a step does, and only what is added at the end."""
    layers = module.adapter if side == "student" else module.teacher_adapter
    layers[0].bias.data.fill_(-1e6)
    layers[-1].bias.data.fill_(offset)


class Shift(Callback):
    """Adds the same to all embedded rows, so that they differ by little beside it."""

    def __init__(self, offset):
        self.offset = offset

    def on_train_end(self, trainer, pl_module):
        pl_module.module.adapter[-1].bias.data.add_(self.offset)


@pytest.fixture
def make(mdata, setup):
    def of(objective="semiclip", **options):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        return SemiClip(mdata, objective=objective, **options)

    return of


@pytest.mark.parametrize("pea", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_by_default_and_its_rows_differ(make, quiet, objective, pea):
    model = make(objective, **({"n_components": 4} if objective == "dcca" else {}))
    model.train(3, pea=pea, **quiet)
    embedded = model.get_latent_representation().astype(np.float64)
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    assert (unit @ unit.T).min() < 0.9


@pytest.mark.parametrize(
    ("objective", "side", "plan"),
    [
        ("semiclip", "student", DistillationPlan),
        ("vicreg", "student", DistillationPlan),
        ("kd", "student", DistillationPlan),
        ("clip", "teacher", DistillationPlan),
        ("kd", "teacher", PretrainingPlan),
        ("shake", "student", PretrainingPlan),
    ],
)
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e-20])  # the size of what is left does not matter
def test_rows_that_are_all_alike_are_refused_and_the_model_stays_as_it_was(
    make, quiet, refuses, monkeypatch, objective, side, plan, offset
):
    model = make(objective)
    if plan is DistillationPlan:  # pretraining is of a new model
        model.train(2, **quiet)
    state = {name: weights.clone() for name, weights in model.module.state_dict().items()}
    trained, params, history = model.is_trained, model.train_params_, model.history and dict(model.history)
    with monkeypatch.context() as patched:
        patched.setattr(plan, "on_train_end", lambda self: kill(self.module, side, offset))
        with refuses(errors.NoVariation, what=f"the embedded rows of the {side} after {plan.stage}") as caught:
            model.train(2, **quiet)
    assert ("plan_kwargs" if plan is DistillationPlan else "pretrain_kwargs") in caught.value.way_out
    assert (model.is_trained, model.train_params_) == (trained, params)
    after = model.module.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], weights) for name, weights in state.items())
    assert list(model.history or {}) == list(history or {})
    model.train(2, **quiet)  # and can be trained on
    assert len(model.history["train_loss"]) == (4 if trained else 2)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_rows_that_differ_by_little_are_not_refused(make, quiet, precision):
    """Also where training is in a precision that would not show it."""
    model = make()
    model.train(2, callbacks=[Shift(100.0)], matmul_precision=precision, **quiet)
    embedded = model.get_latent_representation().astype(np.float64)
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    assert 1 - (unit @ unit.T).min() < 1e-3
    assert np.abs(embedded - embedded.mean(0)).max() > 0.01


def test_the_weights_that_are_kept_are_judged_not_the_last_ones(make, quiet, scores):
    class KillLast(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                kill(pl_module.module)

    callbacks = [KillLast(), scores(1.0, 0.5, 2.0)]
    model = make()
    model.train(3, select="best", monitor="validation_score", callbacks=callbacks, **quiet)
    assert model.is_trained


def test_rows_whose_input_is_the_same_are_not_the_adapter_s_fault(mdata, setup, quiet):
    mdata["rna"].obsm["X_ones"] = np.ones((mdata["rna"].n_obs, 3))
    SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_ones"})
    model = SemiClip(mdata, student_correction=None)
    model.train(1, pea=False, **quiet)
    assert np.ptp(model.get_latent_representation(), axis=0).max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(
    ("rows", "apart"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], False),
        ([[1.0, 2.0], [3.0, 6.0]], False),  # the same direction, so that all cosines are 1
        ([[1.0, 2.0], [-1.0, -2.0]], True),
        ([[1.0, 2.0], [1.0, 2.0 + 1e-6]], False),  # what rounding does
        ([[1.0, 2.0], [1.0, 2.0 + 1e-4]], True),
        ([[0.0, 0.0], [0.0, 0.0]], False),
        ([[0.0, 0.0], [1.0, 0.0]], True),
        ([[1.0, 2.0]], False),
        ([[1.0], [2.0]], True),  # of one dimension only the value counts
        ([[2.0], [2.0]], False),
        ([[0.0], [0.0]], False),
    ],
)
def test_what_points_apart(rows, apart, scale):
    assert point_apart(scale * np.array(rows)) == apart
