from __future__ import annotations

import numpy as np
import pytest
import torch

import semiclip as scl
from semiclip import errors


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts.copy()


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 2}


def test_one_call_sets_up_trains_and_writes_the_embedding(mdata, arguments, through_h5mu):
    model = scl.tl.semiclip(mdata, **arguments, rng=0)
    written = mdata["rna"].obsm["X_semiclip"]
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, model.get_latent_representation())
    params = mdata["rna"].uns["semiclip"]["X_semiclip"]["params"]
    assert (params["student_rep"], params["temperature"], params["max_epochs"]) == ("X_pca", 0.1, 2)
    assert list(params["pair_on"]) == ["perturbation", "dose"]
    again = through_h5mu(mdata)
    np.testing.assert_array_equal(again["rna"].obsm["X_semiclip"], written)
    assert again["rna"].uns["semiclip"]["X_semiclip"]["params"]["student_correction"] == "tvn"


def test_rng_decides_everything_and_leaves_torch_alone(mdata, arguments):
    def run(rng):
        scl.tl.semiclip(mdata, **arguments, rng=rng, model_kwargs={"n_hidden": [8]})
        return mdata["rna"].obsm["X_semiclip"]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(run(np.random.default_rng(0)), first)
    assert np.abs(run(1) - first).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "error", "data"),
    [
        ({"key_added": "a/b"}, errors.CannotWrite, {}),
        ({"key_added": "X_pca"}, errors.NameTaken, {"items": "X_pca"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"modalities": {"student": "protein"}}, errors.MissingEntry, {"key": "protein"}),
        ({"objective": "clip"}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ({"model_kwargs": {"objective": "clip"}}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ({"model_kwargs": {"temperature": 0.0}}, errors.BadValue, {"name": "temperature", "value": 0.0}),
        ({"model_kwargs": {"duplicates": "ignore"}}, errors.UnknownChoice, {"name": "duplicates"}),
        ({"train_size": 1.5}, errors.BadValue, {"name": "train_size", "value": 1.5}),
        ({"optimiser": "sgd"}, errors.UnexpectedArgument, {"names": ["optimiser"]}),
    ],
)
def test_a_call_that_fails_writes_no_embedding(mdata, arguments, refuses, changes, error, data):
    with refuses(error, **data):
        scl.tl.semiclip(mdata, **(arguments | changes))
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert list(mdata["rna"].uns["semiclip"]) == ["X_pca"]
    assert not mdata.uns


def test_embed_writes_into_the_student_modality_or_a_copy(mdata, knockouts, arguments, refuses, tmp_path):
    model = scl.tl.semiclip(mdata, **arguments, rng=0)
    rna = knockouts["rna"]
    with refuses(errors.CannotWrite):
        scl.tl.embed(rna[:20], model)
    with refuses(errors.NameTaken, items="X_pca"):
        scl.tl.embed(knockouts, model, key_added="X_pca")
    copied = scl.tl.embed(knockouts, model, key_added="X_new", copy=True)
    assert "X_new" not in rna.obsm
    assert "X_new" not in rna.uns["semiclip"]
    assert scl.tl.embed(rna, model, key_added="X_new") is None
    np.testing.assert_array_equal(copied["rna"].obsm["X_new"], rna.obsm["X_new"])
    # the record has the names that the samples use
    rna.obs["plate"] = rna.obs["batch"]
    scl.tl.embed(rna, model, batch_key="plate")
    params = rna.uns["semiclip"]["X_semiclip"]["params"]
    assert (params["batch_key"], params["control"]) == ("plate", ["control"])
    rna.write_zarr(tmp_path / "knockouts.zarr")
    del knockouts.mod["rna"]
    with refuses(errors.MissingEntry, key="rna", there=["image"]):
        scl.tl.embed(knockouts, model)


def test_distillation_raises_recall_on_unseen_knockouts(arguments):
    study = scl.datasets.simulate(rng=1)  # of four, gains are 0.10, 0.24, 0.12 and 0.26; rounding moves them by 0.03
    knockouts = study.knockouts["rna"]
    scl.pp.encode(knockouts, encoder=scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64))
    model = scl.tl.semiclip(study.mdata, **(arguments | {"max_epochs": 30}), rng=0)
    scl.tl.embed(knockouts, model)
    keys = {name: arguments[name] for name in ("perturbation_key", "control", "batch_key")}
    table = scl.tl.recall(
        knockouts, use_rep=["X_pca", "X_semiclip"], **keys, relationships=study.relationships, n_permutations=50, rng=0
    )
    mean = table[table["key"] == "mean"].set_index("representation")
    assert 0.25 < mean.loc["X_pca", "value"] < 0.55
    assert mean.loc["X_semiclip", "value"] > mean.loc["X_pca", "value"] + 0.1
    assert abs(mean.loc["X_pca", "chance_mean"] - 0.1) < 0.03
