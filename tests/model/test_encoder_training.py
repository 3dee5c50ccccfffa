"""Encoders that are trained with the adapter: from a fit, from scratch, saved, loaded, and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import semiclip as scl
from semiclip import errors
from semiclip.model import SemiClip


@pytest.fixture
def pca(mdata):
    return scl.encoders.PCAEncoder(n_components=8).fit(mdata["rna"])


@pytest.fixture
def mlp(mdata):
    return scl.encoders.MLPEncoder(n_hidden=(12,), n_latent=8).fit(mdata["rna"])


@pytest.fixture
def make(mdata, setup):
    """A model of expression as an encoder reads it."""

    def of(encoder, **kwargs):
        scl.pp.expression(mdata["rna"], encoder=encoder)
        SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_expression"})
        torch.manual_seed(0)
        return SemiClip(mdata, encoder=encoder, n_hidden=[16], **kwargs)

    return of


def copied(model):
    return {name: values.clone() for name, values in model.module.state_dict().items()}


def test_fine_tuning_starts_from_the_embedding_of_the_encoder(make, mdata, pca, quiet):
    model = make(pca)
    assert model.init_params_["non_kwargs"]["student_correction"] is None  # since it was fitted on expression as it is
    with torch.no_grad():
        embedded = model.module.encoder(torch.as_tensor(mdata["rna"].obsm["X_expression"])).numpy()
    np.testing.assert_allclose(embedded, pca.encode(mdata["rna"]), atol=1e-4)
    weights, fitted = copied(model), pca.weights()
    assert torch.equal(weights["encoder.0.weight"], fitted["0.weight"])
    model.train(2, plan_kwargs={"lr": 1e-3}, **quiet)
    assert all(not torch.equal(values, weights[name]) for name, values in copied(model).items())
    assert torch.equal(pca.weights()["0.weight"], fitted["0.weight"])  # the encoder itself is as it was


def test_an_encoder_that_does_not_learn_is_a_frozen_one(make, mdata, setup, pca, quiet):
    """Without a correction, what the adapter learns from expression is what it learns from the embedding."""
    options = {"plan_kwargs": {"lr": {"student": 1e-3, "encoder": 0.0}}, "pea": False, **quiet}
    model = make(pca, student_correction=None)
    weights = copied(model)
    start = {name: values.clone() for name, values in model.module.adapter.state_dict().items()}
    torch.manual_seed(1)
    model.train(3, **options)
    for name, values in copied(model).items():
        assert torch.equal(values, weights[name]) == name.startswith("encoder")
    mdata["rna"].obsm["X_frozen"] = pca.encode(mdata["rna"])
    SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_frozen"})
    torch.manual_seed(0)  # the same samples are held out
    frozen = SemiClip(mdata, n_hidden=[16], student_correction=None)
    frozen.module.adapter.load_state_dict(start)
    torch.manual_seed(1)
    frozen.train(3, **{**options, "plan_kwargs": {"lr": 1e-3}})
    expected = frozen.get_latent_representation()
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-3 * np.abs(expected).max())


def test_rate_zero_leaves_linear_weights_of_a_perceptron(make, mlp, quiet):
    model = make(mlp)
    weights = copied(model)
    model.train(2, plan_kwargs={"lr": {"student": 0.01, "encoder": 0.0}}, **quiet)
    changed = {name for name, values in copied(model).items() if not torch.equal(values, weights[name])}
    assert changed.isdisjoint(f"encoder.{layer}.{kind}" for layer in (0, 4) for kind in ("weight", "bias"))
    assert changed > {name for name in weights if name.startswith("adapter")}  # and statistics of batches


@pytest.mark.parametrize("objective", ["semiclip", "kd"])
@pytest.mark.parametrize("kind", ["pca", "mlp"])
def test_saved_and_loaded(make, mdata, small_study, request, quiet, tmp_path, kind, objective):
    encoder = request.getfixturevalue(kind)
    model = make(encoder, objective=objective)
    first = {"pretrain_epochs": 1} if objective == "kd" else {}
    model.train(4, batch_size=64, plan_kwargs={"lr": 0.01}, **first, **quiet)
    losses = model.history["train_loss"].to_numpy(float).ravel()
    assert losses[-1] < losses[0]
    model.save(str(tmp_path / "model"))
    knockouts = small_study.knockouts["rna"].copy()
    scl.pp.expression(knockouts, encoder=encoder)
    for data in (mdata, False):
        loaded = SemiClip.load(str(tmp_path / "model"), data, accelerator="cpu")
        for query in (mdata, knockouts):
            expected = model.get_latent_representation(query)
            np.testing.assert_array_equal(loaded.get_latent_representation(query), expected)
    assert loaded.init_params_["non_kwargs"]["encoder"] == encoder.architecture


def test_embedding_changes_nothing_and_is_recorded_with_the_architecture(make, mlp, quiet, through_h5mu):
    model = make(mlp)
    model.train(1, **quiet)
    before, first = copied(model), model.get_latent_representation()
    # dropout and statistics of a batch are those of training alone
    np.testing.assert_allclose(model.get_latent_representation(batch_size=7), first, atol=1e-5)
    scl.tl.embed(model.adata, model)
    assert all(torch.equal(values, before[name]) for name, values in copied(model).items())
    rna = through_h5mu(model.adata)["rna"]
    np.testing.assert_array_equal(rna.obsm["X_semiclip"], first)
    stored = rna.uns["semiclip"]["X_semiclip"]["params"]["encoder"]
    assert (stored["n_input"], list(stored["n_hidden"]), stored["n_output"]) == (60, [12], 8)


def test_an_architecture_alone_starts_from_scratch(make, pca, mlp):
    model = make(mlp)
    torch.manual_seed(0)
    again = SemiClip(model.adata, encoder=mlp.architecture, n_hidden=[16])
    assert all(torch.equal(values, copied(again)[name]) for name, values in copied(model).items())
    scratch = SemiClip(model.adata, encoder=pca.architecture, n_hidden=[16])
    assert not torch.equal(scratch.module.encoder[0].weight, pca.weights()["0.weight"])


def test_by_default_expression_is_not_augmented(make, mlp, quiet, spy, refuses):
    for pea in (None, True, False):
        model, seen = make(mlp, student_correction="center"), spy()
        model.train(1, pea=pea, callbacks=[seen], **quiet)
        assert (seen.data.augmentation is not None) == (pea is True)
        assert bool(model.train_params_["pea"]) == (pea is True)
    with refuses(errors.Conflict, first="pea"):
        make(mlp).train(1, pea=True, **quiet)


def test_what_cannot_be_trained_or_reads_something_else_is_refused(mdata, setup, refuses, pca):
    SemiClip.setup_mudata(mdata, **setup)
    for encoder in (3, "pca", {"n_input": 60}, object()):
        with refuses(errors.WrongType, name="encoder", got=type(encoder)):
            SemiClip(mdata, encoder=encoder)
    with refuses(errors.Mismatch, got=8, expected=60):
        SemiClip(mdata, encoder=pca)
    with refuses(RuntimeError):
        SemiClip(mdata, encoder=scl.encoders.MLPEncoder())
