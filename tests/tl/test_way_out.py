"""What calls name as the way out is one, and what they did is recorded."""

from __future__ import annotations

import numpy as np
import pytest
from mudata import MuData

import semiclip as scl
from semiclip import errors


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 1, "rng": 0}


@pytest.fixture
def keys(setup):
    return {name: setup[name] for name in ("pair_on", "perturbation_key", "control")}


def bare(adata):
    """Leave the controls of the first batch out."""
    first = sorted(adata.obs["batch"].unique())[0]
    return adata[~((adata.obs["batch"] == first) & (adata.obs["perturbation"] == "control")).to_numpy()].copy()


def called(adata, label):
    """Call the controls something else."""
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace("control", label)
    return adata


def recorded(adata, key="X_semiclip"):
    return adata.uns["semiclip"][key]["params"]


def test_batches_without_controls(mdata, small_study, arguments, refuses):
    whole = scl.tl.semiclip(mdata.copy(), **arguments)
    mdata = MuData({"rna": bare(mdata["rna"]), "image": mdata["image"]})
    with refuses(errors.TooFewControls, needed=2):
        scl.tl.semiclip(mdata, **arguments)
    pooled = scl.tl.semiclip(mdata, **arguments, model_kwargs={"fallback": "pooled"})
    assert np.isfinite(mdata["rna"].obsm["X_semiclip"]).all()
    assert recorded(mdata["rna"])["fallback"] == "pooled"
    query = bare(small_study.knockouts["rna"].copy())
    scl.tl.embed(query, pooled)
    scl.tl.embed(query, pooled, fallback="pooled", key_added="X_same")
    np.testing.assert_array_equal(query.obsm["X_semiclip"], query.obsm["X_same"])
    for model, fallback in ((pooled, "raise"), (whole, None)):
        with refuses(errors.TooFewControls, needed=2):
            scl.tl.embed(query, model, fallback=fallback, key_added="X_other")
    assert "X_other" not in query.obsm
    scl.tl.embed(query, whole, fallback="pooled")
    np.testing.assert_array_equal(query.obsm["X_semiclip"], whole.get_latent_representation(query, fallback="pooled"))
    assert recorded(query)["fallback"] == "pooled"


@pytest.mark.parametrize(
    ("objective", "arguments_of", "way_out"),
    [
        ("semiclip", {"n_hidden": (3,)}, "model_kwargs={'n_hidden': …}"),
        ("semiclip", {"temperature": 0.2}, "model_kwargs={'temperature': …}"),
        ("semiclip", {"fallback": "pooled"}, "model_kwargs={'fallback': …}"),
        ("semiclip", {"momentum": 0.2}, "plan_kwargs={'momentum': …}"),
        ("semiclip", {"bach_size": 5}, "'batch_size'"),
        ("semiclip", {"n_epochs": 5}, "'max_epochs'"),
        ("semiclip", {"seed": 5}, "'rng'"),
        ("semiclip", {"modality": 5}, "'modalities'"),
        ("semiclip", {"batchkey": "x"}, "'batch_key'"),
        ("dcca", {"n_components": 3}, "model_kwargs={'n_components': …}"),
        ("cca", {"n_components": 3}, "model_kwargs={'n_components': …}"),
        ("ridge", {"temperature": 3}, "max_epochs, "),
    ],
)
def test_unknown_arguments_are_refused_at_the_door(mdata, arguments, refuses, objective, arguments_of, way_out):
    arguments |= {"student_rep": "none such", **arguments_of}  # which is not looked at
    calls = [lambda **kwargs: scl.tl.distill(mdata, objective=objective, **kwargs)]
    if objective == "semiclip":
        calls.append(lambda **kwargs: scl.tl.semiclip(mdata, **kwargs))
    for call in calls:
        with refuses(errors.UnexpectedArgument, taker="training", names=list(arguments_of)) as caught:
            call(**arguments)
        assert way_out in caught.value.way_out
    assert not mdata.uns


def test_controls_of_two_names(mdata, small_study, arguments, keys, refuses):
    plain = scl.pp.pair(mdata, **keys)
    expected = scl.tl.semiclip(mdata.copy(), **arguments).get_latent_representation()
    called(mdata["rna"], "DMSO"), called(mdata["image"], "negcon")
    both = {"control": ["DMSO", "negcon"]}
    assert scl.pp.pair(mdata, **keys | both).equals(plain)
    model = scl.tl.semiclip(mdata, **arguments | both)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], expected)
    ranked = scl.tl.cross_modal_retrieval(
        mdata, student_rep="X_semiclip", teacher_rep="X_image", **keys | both, batch_key="batch", ridge=0.5
    )
    assert set(ranked["n_obs"]) == {72}
    knockouts = small_study.knockouts["rna"]
    query = called(knockouts.copy(), "negcon")
    scl.tl.embed(query, model)
    assert np.isfinite(query.obsm["X_semiclip"]).all()
    with refuses(errors.UnknownControl, labels=["DMSO"]):
        scl.tl.embed(query, model, **both)
    with refuses(errors.UnknownControl, labels=["DMSO", "negcon"]):
        scl.tl.embed(knockouts.copy(), model)


def test_a_query_without_the_modality_of_the_model(mdata, small_study, arguments, refuses):
    mdata = MuData({"gex": mdata["rna"], "image": mdata["image"]})
    model = scl.tl.semiclip(mdata, modalities={"student": "gex"}, **arguments)
    query = MuData({"rna": small_study.knockouts["rna"].copy()})
    with refuses(errors.MissingEntry, key="gex", there=["rna"]):
        scl.tl.embed(query, model)
    scl.tl.embed(query["rna"], model)  # the way out
    named = MuData({"gex": query["rna"].copy()})
    scl.tl.embed(named, model, key_added="X_named")
    np.testing.assert_array_equal(named["gex"].obsm["X_named"], query["rna"].obsm["X_semiclip"])


def test_views_of_controls_without_a_dose(mdata, keys, refuses):
    rna = mdata["rna"]
    encoder = scl.pp.encode(rna, encoder="pca", n_components=8)
    options = {"encoder": encoder, "batch_key": "batch", "rng": 0, "progress_bar": False, **keys}
    scl.pp.augment(rna, "mwo", key_added="X_with", **options)
    rna.obs["dose"] = rna.obs["dose"].where(rna.obs["perturbation"] != "control")
    scl.pp.augment(rna, "mwo", key_added="X_without", **options)
    np.testing.assert_array_equal(rna.obsm["X_with"], rna.obsm["X_without"])
    rna.obs.iloc[0, rna.obs.columns.get_loc("dose")] = np.nan
    with refuses(errors.MissingValues, rows=[rna.obs_names[0]]):
        scl.pp.augment(rna, "mwo", **options)


@pytest.mark.parametrize("objective", ["semiclip", "ridge"])
@pytest.mark.parametrize(
    ("rng", "stored"), [(3, 3), (np.int64(3), 3), (np.random.default_rng(3), "Generator"), (None, None)]
)
def test_seed_and_shared_keys_are_recorded(mdata, arguments, through_h5mu, tmp_path, objective, rng, stored):
    obs = mdata["image"].obs
    obs["perturbation"] = obs["perturbation"].astype(str).replace(obs["perturbation"].iloc[0], "stranger")
    model = scl.tl.distill(mdata, objective=objective, **arguments | {"rng": rng})
    params = recorded(through_h5mu(mdata)["rna"], f"X_{objective}")
    assert params.get("rng") == stored
    assert params["shared_keys"] == 69
    model.save(tmp_path / "model")
    assert type(model).load(tmp_path / "model", mdata).train_params_ == model.train_params_
