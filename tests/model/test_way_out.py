"""Calls that cannot go on are refused with what is wrong, and the way out works."""

from __future__ import annotations

import numpy as np
import pytest
from mudata import MuData

from semiclip import errors
from semiclip.model import Baseline, SemiClip


def bare(adata):
    """Leave the controls of the first batch out, and say what that is refused with."""
    first = sorted(adata.obs["batch"].unique())[0]
    kept = ~((adata.obs["batch"] == first) & (adata.obs["perturbation"] == "control")).to_numpy()
    adata = adata[kept].copy()
    return adata, {"batches": {first: 0}, "needed": 2, "total": (adata.obs["perturbation"] == "control").sum()}


def test_a_query_is_embedded_on_the_pooled_controls(model, knockouts, refuses):
    query, data = bare(knockouts)
    (first,) = data["batches"]
    for fallback in (None, "raise"):
        with refuses(errors.TooFewControls, **data):
            model.get_latent_representation(query, fallback=fallback)
    embedded = model.get_latent_representation(query, fallback="pooled")
    mine = (query.obs["batch"] == first).to_numpy()
    # batches with controls have what they had
    whole = model.get_latent_representation(knockouts)[knockouts.obs_names.isin(query.obs_names)]
    np.testing.assert_allclose(embedded[~mine], whole[~mine], atol=1e-6)
    # and the other is as if it were one batch with all controls
    together = query[mine | (query.obs["perturbation"] == "control").to_numpy()].copy()
    expected = model.get_latent_representation(together, batch_key=None)
    expected = expected[(together.obs["batch"] == first).to_numpy()]
    np.testing.assert_allclose(embedded[mine], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["rna", "image"])
@pytest.mark.parametrize("model_cls", [SemiClip, Baseline])
@pytest.mark.parametrize("pea", [None, False])
def test_batches_without_controls_are_refused_in_training_and_can_fall_back(
    mdata, setup, knockouts, refuses, model_cls, side, pea
):
    sides = dict(mdata.mod)
    sides[side], data = bare(sides[side])
    mdata = MuData(sides)
    model_cls.setup_mudata(mdata, **setup)
    model = model_cls(mdata)
    with refuses(errors.TooFewControls, **data):
        model.train(1, pea=pea)
    assert not model.is_trained
    pooled = model_cls(mdata, fallback="pooled")
    pooled.train(1, pea=pea, accelerator="cpu", enable_progress_bar=False)
    # the model's own fallback is that of its queries
    query, data = bare(knockouts)
    embedded = pooled.get_latent_representation(query)
    np.testing.assert_array_equal(embedded, pooled.get_latent_representation(query, fallback="pooled"))
    with refuses(errors.TooFewControls, **data):
        pooled.get_latent_representation(query, fallback="raise")
    with refuses(errors.UnknownChoice, name="fallback", value="skip"):
        pooled.get_latent_representation(query, fallback="skip")


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        ({"n_hidden": (3,)}, "SemiClip(mdata, n_hidden=…)"),
        ({"temperature": 0.2}, "SemiClip(mdata, temperature=…)"),
        ({"lr": 0.1}, "plan_kwargs={'lr': …}"),
        ({"learning_rate": 0.1}, "plan_kwargs={'lr': …}"),
        ({"min_controls": 3}, "pea={'min_controls': …}"),
        ({"chunk_rows": 3}, "datasplitter_kwargs={'chunk_rows': …}"),
        ({"bach_size": 5}, "'batch_size'"),
        ({"n_epochs": 5}, "'max_epochs'"),
        ({"gradient_clip": 1.0}, "'gradient_clip_val'"),
        ({"xyz": 1}, "max_epochs, pea, views"),
        ({"plan_kwargs": {"learning_rate": 1}}, "'lr'"),
        ({"plan_kwargs": {"momentun": 1}}, "'momentum'"),
        ({"datasplitter_kwargs": {"chunk": 1}}, "chunk_rows"),
    ],
)
def test_what_training_does_not_take_is_refused_first(untrained, refuses, arguments, way_out):
    ((name, value),) = arguments.items()
    taker, names = (name, list(value)) if name.endswith("kwargs") else ("training", [name])
    with refuses(errors.UnexpectedArgument, taker=taker, names=names) as caught:
        untrained.train(2, accelerator="none such", **arguments)
    assert way_out in caught.value.way_out
    assert not untrained.is_trained


@pytest.mark.parametrize("model_cls", [SemiClip, Baseline])
def test_arguments_of_the_trainer_pass_and_those_of_the_model_do_not(mdata, setup, quiet, refuses, model_cls):
    model_cls.setup_mudata(mdata, **setup)
    model = model_cls(mdata)
    more = {"gradient_clip_val": 1.0, "num_sanity_val_steps": 0, "log_save_dir": None, "deterministic": False}
    model.train(1, early_stopping_patience=3, min_epochs=1, **more, **quiet)
    assert model.is_trained
    with refuses(errors.UnexpectedArgument, names=["fallback"]) as caught:
        model.train(1, fallback="pooled")
    assert f"{model_cls.__name__}(mdata, fallback=…)" in caught.value.way_out
