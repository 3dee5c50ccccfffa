"""Training arguments as people pass them; copies and pickles of models; models that are loaded with other data."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import anndata
import numpy as np
import pytest
import scvi
import torch
from lightning import Callback

import semiclip as scl
from semiclip import errors
from semiclip.baselines import BASELINES
from semiclip.model import Baseline, SemiClip
from semiclip.objectives import OBJECTIVES

same = np.testing.assert_array_equal
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}


@pytest.fixture
def train(mdata, setup):
    """Train a model from the same seed with some arguments, and return it."""

    def run(objective="semiclip", **arguments):
        scvi.settings.seed = 0
        SemiClip.setup_mudata(mdata, **setup)
        model = SemiClip(mdata, n_hidden=[], objective=objective)
        model.train(**{"max_epochs": 2, **QUIET, **arguments})
        return model

    return run


def embed(model):
    return model.get_latent_representation()


@pytest.mark.parametrize(
    ("passed", "meant"),
    [
        ({"max_epochs": np.int64(2)}, {}),
        ({"max_epochs": 2.0}, {}),
        ({"max_epochs": np.float32(2)}, {}),
        ({"max_epochs": None}, {"max_epochs": 50}),
        ({"batch_size": 128.0}, {"batch_size": 128}),
        ({"batch_size": None}, {"batch_size": 1024}),
        ({"train_size": None}, {"train_size": 0.9}),
        ({"train_size": None, "validation_size": 0.25}, {"train_size": 0.75}),
        ({"callbacks": Callback()}, {"callbacks": [Callback()]}),
        ({"datasplitter_kwargs": {"chunk_rows": 2000.0}}, {"datasplitter_kwargs": {"chunk_rows": 2000}}),
    ],
    ids=lambda given: " ".join(given) or "as meant",
)
def test_what_is_passed_trains_as_what_is_meant(train, passed, meant):
    one, other = train(**passed), train(**meant)
    same(embed(one), embed(other))
    assert one.train_params_ == other.train_params_
    assert [type(value) for value in one.train_params_.values()] == [*map(type, other.train_params_.values())]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_epochs", 2.5, errors.BadValue),
        ("max_epochs", True, errors.BadValue),
        ("max_epochs", "2", errors.BadValue),
        ("max_epochs", np.inf, errors.BadValue),
        ("batch_size", 128.5, errors.BadValue),
        ("precision", "bf16-true", errors.UnknownChoice),
        ("precision", "16-true", errors.UnknownChoice),
        ("precision", "64-true", errors.UnknownChoice),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(train, refuses, name, value, error):
    with refuses(error, name=name, value=value):
        train(**{name: value})


@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_settings_of_the_optimiser_are_numbers(train, refuses, name):
    with refuses(errors.BadValue, name=name, value="a"):
        train(plan_kwargs={name: "a"})


@pytest.mark.parametrize("objective", ["semiclip", "kd"])
def test_a_trial_run_trains_one_mini_batch_with_any_logger(train, objective):
    model = train(objective, fast_dev_run=True, logger=None)
    assert model.is_trained
    assert model.history == {}
    same(embed(model), embed(train(objective, fast_dev_run=True)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_default_type_of_torch_changes_nothing(train, objective):
    expected = embed(train(objective))
    torch.set_default_dtype(torch.float64)
    try:
        model = train(objective)
        found = embed(model)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    same(found, expected)
    assert {weight.dtype for weight in model.module.parameters()} <= {torch.float32}


def test_encoders_do_not_follow_the_default_type_of_torch(mdata):
    options = {"n_latent": 3, "max_epochs": np.int64(1), "rng": 0, "train_kwargs": QUIET}
    expected = scl.encoders.SCVIEncoder(**options).fit(mdata["rna"]).encode(mdata["rna"])
    torch.set_default_dtype(torch.float64)
    try:
        found = scl.encoders.SCVIEncoder(**options).fit(mdata["rna"]).encode(mdata["rna"])
    finally:
        torch.set_default_dtype(torch.float32)
    same(found, expected)


# ---- copies and pickles

COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.fixture(params=[*OBJECTIVES, *BASELINES])
def any_model(request, train, mdata, setup):
    if request.param in OBJECTIVES:
        return train(request.param)
    Baseline.setup_mudata(mdata, **setup)
    model = Baseline(mdata, method=request.param)
    model.train()
    return model


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_embeds_alike_and_is_of_its_own(any_model, name, tmp_path):
    expected, state = embed(any_model), torch.get_rng_state()
    other = COPIES[name](any_model)
    same(torch.get_rng_state(), state)  # nothing was drawn
    same(embed(other), expected)
    assert other.train_params_ == any_model.train_params_
    assert other.adata is not any_model.adata  # the data go along, as with scvi-tools' own models
    assert [*other.adata.mod] == [*any_model.adata.mod]
    other.train(**({"max_epochs": 1, **QUIET} if isinstance(other, SemiClip) else {}))
    other.save(tmp_path / "copy", save_anndata=True)
    same(embed(any_model), expected)
    any_model.save(tmp_path / "model")
    type(any_model)(any_model.adata)  # the data of each are still set up
    type(other)(other.adata)


def test_a_shallow_copy_shares_the_data_and_the_weights(models):
    other = copy.copy(models[0])
    assert other.adata is models[0].adata
    assert other.module is models[0].module
    same(embed(other), embed(models[0]))


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_without_data_has_none(models, mdata, tmp_path, name):
    models[0].save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", adata=False, accelerator="cpu")
    other = COPIES[name](loaded)
    assert other.adata is None
    same(other.get_latent_representation(mdata["rna"]), embed(models[0]))


@pytest.mark.parametrize("name", COPIES)
def test_a_model_of_an_anndata_is_copied_if_its_data_are_in_memory(mdata, setup, tmp_path, refuses, name):
    adata = mdata["rna"].copy()
    adata.obsm["X_image"] = 2 * adata.obsm["X_pca"]
    adata.write(tmp_path / "data.h5ad")
    columns = {key: value for key, value in setup.items() if key != "pair_on"}
    for backed in (None, "r"):
        stored = anndata.read_h5ad(tmp_path / "data.h5ad", backed=backed)
        SemiClip.setup_anndata(stored, **columns)
        model = SemiClip(stored, n_hidden=[])
        model.train(1, **QUIET)
        if backed is None:
            same(embed(COPIES[name](model)), embed(model))
        else:
            with refuses(errors.NotInMemory):
                COPIES[name](model)


def test_another_process_unpickles_a_model(models, tmp_path):
    (tmp_path / "models").write_bytes(pickle.dumps(models))
    np.save(tmp_path / "expected.npy", [embed(model) for model in models])
    code = "import pickle, sys, numpy as np; models = pickle.load(open(sys.argv[1], 'rb')); "
    code += "np.testing.assert_array_equal([m.get_latent_representation() for m in models], np.load(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "models", tmp_path / "expected.npy"], check=True)


# ---- data for a loaded model


def test_load_takes_what_embed_takes(models, mdata, small_study, tmp_path):
    folder = tmp_path / "model"
    models[0].save(folder)
    expected = embed(models[0])
    renamed = mdata["rna"].copy()
    renamed.obs_names = [f"other {i}" for i in range(renamed.n_obs)]
    for data in (mdata, mdata["rna"], renamed, scl._mudata.make_mudata(rna=mdata["rna"].copy())):
        loaded = SemiClip.load(folder, data, accelerator="cpu")
        same(embed(loaded), expected)
        same(loaded.get_latent_representation(data), expected)
    knockouts = small_study.knockouts["rna"].copy()  # other samples, batches and perturbations
    loaded = SemiClip.load(folder, knockouts, accelerator="cpu")
    same(embed(loaded), models[0].get_latent_representation(knockouts))


def test_load_refuses_data_of_another_kind_by_name(models, mdata, tmp_path, refuses):
    models[0].save(tmp_path / "model")
    columns = models[0].adata["rna"].obs
    lacking = mdata["rna"].copy()
    del lacking.obsm["X_pca"]
    with refuses(errors.MissingEntry, key="X_pca"):
        SemiClip.load(tmp_path / "model", lacking, accelerator="cpu")
    unnamed = mdata["rna"].copy()
    del unnamed.obs["batch"]
    with refuses(errors.MissingColumn, key="batch"):
        SemiClip.load(tmp_path / "model", unnamed, accelerator="cpu")
    with refuses(errors.WrongType):
        SemiClip.load(tmp_path / "model", columns, accelerator="cpu")
