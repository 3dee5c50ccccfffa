from __future__ import annotations

import numpy as np
import pytest
import torch

import semiclip as scl


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


def test_embed_writes_into_the_student_modality_or_a_copy(mdata, knockouts, arguments, tmp_path):
    model = scl.tl.semiclip(mdata, **arguments, rng=0)
    copied = scl.tl.embed(knockouts, model, key_added="X_new", copy=True)
    assert "X_new" not in knockouts["rna"].obsm
    assert "semiclip" not in knockouts["rna"].uns or "X_new" not in knockouts["rna"].uns["semiclip"]
    assert scl.tl.embed(knockouts["rna"], model, key_added="X_new") is None
    np.testing.assert_array_equal(copied["rna"].obsm["X_new"], knockouts["rna"].obsm["X_new"])
    knockouts["rna"].write_zarr(tmp_path / "knockouts.zarr")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key_added": "a/b"}, ValueError),
        ({"control": "DMSO"}, ValueError),
        ({"model_kwargs": {"temperature": 0.0}}, ValueError),
        ({"model_kwargs": {"duplicates": "ignore"}}, ValueError),
        ({"train_size": 1.5}, ValueError),
        ({"modalities": {"student": "protein"}}, KeyError),
        ({"key_added": "X_pca"}, ValueError),
        ({"optimiser": "sgd"}, TypeError),
    ],
)
def test_a_call_that_fails_writes_no_embedding(mdata, arguments, changes, error):
    with pytest.raises(error):
        scl.tl.semiclip(mdata, **(arguments | changes))
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert list(mdata["rna"].uns["semiclip"]) == ["X_pca"]
    assert not mdata.uns


def test_embed_refuses_what_it_cannot_write_to(mdata, knockouts, arguments):
    model = scl.tl.semiclip(mdata, **arguments, rng=0)
    with pytest.raises(ValueError, match="cannot write into a view"):
        scl.tl.embed(knockouts["rna"][:20], model)
    with pytest.raises(ValueError, match="key_added='X_pca' would overwrite the representation that the model reads"):
        scl.tl.embed(knockouts, model, key_added="X_pca")
    with pytest.raises(KeyError, match="no modality 'rna', only image"):
        del knockouts.mod["rna"]
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


def test_the_record_has_the_names_that_the_samples_use(mdata, knockouts, arguments):
    model = scl.tl.semiclip(mdata, **arguments, rng=0)
    rna = knockouts["rna"]
    rna.obs["plate"] = rna.obs["batch"]
    scl.tl.embed(rna, model, batch_key="plate")
    params = rna.uns["semiclip"]["X_semiclip"]["params"]
    assert (params["batch_key"], params["control"]) == ("plate", "control")
