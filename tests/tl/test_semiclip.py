"""The whole way in one call, and the embedding of other samples with the model that it returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mudata import MuData

import semiclip as scl
from semiclip import errors


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts.copy()


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"recipe": "whole", "max_epochs": 2, "rng": 0}


def recorded(adata, key="X_semiclip"):
    return adata.uns["semiclip"][key]["params"]


def called(adata, label):
    """Call the controls something else, and leave out their dose."""
    obs = adata.obs
    obs["perturbation"] = obs["perturbation"].astype(str).replace("control", label)
    obs["dose"] = obs["dose"].where(obs["perturbation"] != label)
    return adata


def bare(adata):
    """Leave the controls of the first batch out."""
    first = sorted(adata.obs["batch"].unique())[0]
    return adata[~((adata.obs["batch"] == first) & (adata.obs["perturbation"] == "control")).to_numpy()].copy()


def test_one_call_sets_up_trains_and_writes_the_embedding(mdata, arguments, through_h5mu):
    model = scl.tl.semiclip(mdata, **arguments)
    written = mdata["rna"].obsm["X_semiclip"]
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, model.get_latent_representation())
    params = recorded(mdata["rna"])
    assert (params["student_rep"], params["temperature"], params["max_epochs"]) == ("X_pca", 0.1, 2)
    assert list(params["pair_on"]) == ["perturbation", "dose"]
    again = through_h5mu(mdata)["rna"]
    np.testing.assert_array_equal(again.obsm["X_semiclip"], written)
    assert recorded(again)["student_correction"] == "tvn"


def test_rng_decides_everything_and_distill_does_the_same(mdata, arguments):
    def run(rng, call=scl.tl.semiclip, **kwargs):
        options = arguments | {"rng": rng}
        if call is scl.tl.distill:
            options.pop("recipe")
        call(mdata, **options, **kwargs, model_kwargs={"n_hidden": [8]})
        return mdata["rna"].obsm["X_semiclip"], str(recorded(mdata["rna"]))

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, params = run(0)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(run(np.random.default_rng(0))[0], first)
    assert np.abs(run(1)[0] - first).max() > 1e-3
    again, other_params = run(0, scl.tl.distill, objective="semiclip")
    np.testing.assert_array_equal(again, first)
    assert other_params == params


@pytest.mark.parametrize(
    ("changes", "error", "data"),
    [
        ({"key_added": "a/b"}, errors.CannotWrite, {}),
        ({"key_added": "X_pca"}, errors.NameTaken, {"items": "X_pca"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"objective": "clip"}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ({"label_key": "perturbation"}, errors.UnexpectedArgument, {"names": ["label_key"]}),
        ({"model_kwargs": {"objective": "clip"}}, errors.UnexpectedArgument, {"names": ["objective"]}),
        ({"model_kwargs": {"temperature": 0.0}}, errors.BadValue, {"name": "temperature", "value": 0.0}),
        ({"train_size": 1.5}, errors.BadValue, {"name": "train_size", "value": 1.5}),
    ],
)
def test_a_call_that_fails_writes_no_embedding(mdata, arguments, refuses, changes, error, data):
    with refuses(error, **data):
        scl.tl.semiclip(mdata, **(arguments | changes))
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert list(mdata["rna"].uns["semiclip"]) == ["X_pca"]
    assert not mdata.uns


def test_embed_writes_into_the_student_modality_or_a_copy(mdata, knockouts, arguments, refuses, tmp_path):
    model, rna = scl.tl.semiclip(mdata, **arguments), knockouts["rna"]
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
    assert (recorded(rna)["batch_key"], list(recorded(rna)["control"])) == ("plate", ["control"])
    rna.write_zarr(tmp_path / "knockouts.zarr")


def test_batches_without_controls_can_fall_back_on_those_of_all_batches(mdata, knockouts, arguments, refuses):
    whole, query = scl.tl.semiclip(mdata.copy(), **arguments), bare(knockouts["rna"])
    mdata = MuData({"rna": bare(mdata["rna"]), "image": mdata["image"]})
    with refuses(errors.TooFewControls, needed=2):
        scl.tl.semiclip(mdata, **arguments)
    pooled = scl.tl.semiclip(mdata, **arguments, model_kwargs={"fallback": "pooled"})
    assert recorded(mdata["rna"])["fallback"] == "pooled"
    for model, refused, fallback in ((pooled, "raise", None), (whole, None, "pooled")):
        with refuses(errors.TooFewControls, needed=2):
            scl.tl.embed(query, model, fallback=refused)
        scl.tl.embed(query, model, fallback=fallback)
        expected = model.get_latent_representation(query, fallback="pooled")
        np.testing.assert_array_equal(query.obsm["X_semiclip"], expected)
        assert recorded(query)["fallback"] == "pooled"


def test_modalities_may_name_their_controls_differently(mdata, knockouts, arguments, setup, refuses):
    keys = {name: setup[name] for name in ("pair_on", "perturbation_key", "control")}
    pairs = scl.pp.pair(mdata, **keys)
    expected = scl.tl.semiclip(mdata.copy(), **arguments).get_latent_representation()
    called(mdata["rna"], "DMSO"), called(mdata["image"], "negcon")
    both = {"control": ["DMSO", "negcon"]}
    assert scl.pp.pair(mdata, **keys | both).equals(pairs)
    model = scl.tl.semiclip(mdata, **arguments | both)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], expected)
    ranked = scl.tl.cross_modal_retrieval(
        mdata, student_rep="X_semiclip", teacher_rep="X_image", **keys | both, batch_key="batch", ridge=0.5
    )
    assert set(ranked["n_obs"]) == {72}
    # a query needs one of the labels, all that are named for it, and of two modalities each its own
    query = called(knockouts["rna"].copy(), "negcon")
    scl.tl.embed(query, model)
    two = MuData({"rna": query, "image": called(knockouts["image"].copy(), "DMSO")})
    np.testing.assert_array_equal(query.obsm["X_semiclip"], model.get_latent_representation(two, **both))
    for adata, labels, absent in ((query, both, ["DMSO"]), (knockouts["rna"], {}, ["DMSO", "negcon"])):
        with refuses(errors.UnknownControl, labels=absent):
            scl.tl.embed(adata, model, **labels)


def test_a_query_without_the_modality_of_the_model(mdata, knockouts, arguments, refuses):
    mdata = MuData({"gex": mdata["rna"], "image": mdata["image"]})
    model = scl.tl.semiclip(mdata, modalities={"student": "gex"}, **arguments)
    with refuses(errors.MissingEntry, key="gex", there=["rna", "image"]):
        scl.tl.embed(knockouts, model)
    scl.tl.embed(knockouts["rna"], model)  # the way out
    renamed = MuData({"gex": knockouts["rna"].copy()})
    scl.tl.embed(renamed, model, key_added="X_named")
    np.testing.assert_array_equal(renamed["gex"].obsm["X_named"], knockouts["rna"].obsm["X_semiclip"])


def test_distillation_raises_recall_on_unseen_knockouts(arguments):
    study = scl.datasets.simulate(rng=1)  # of four, gains are 0.10, 0.24, 0.12 and 0.26; rounding moves them by 0.03
    knockouts = study.knockouts["rna"]
    scl.pp.encode(knockouts, encoder=scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64))
    scl.tl.embed(knockouts, scl.tl.semiclip(study.mdata, **(arguments | {"max_epochs": 30})))
    keys = {name: arguments[name] for name in ("perturbation_key", "control", "batch_key")}
    table = scl.tl.recall(
        knockouts, use_rep=["X_pca", "X_semiclip"], **keys, relationships=study.relationships, n_permutations=50, rng=0
    )
    mean = table[table["key"] == "mean"].set_index("representation")
    assert 0.25 < mean.loc["X_pca", "value"] < 0.55
    assert mean.loc["X_semiclip", "value"] > mean.loc["X_pca", "value"] + 0.1
    assert abs(mean.loc["X_pca", "chance_mean"] - 0.1) < 0.03
