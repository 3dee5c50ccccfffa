"""What calls name as the way out is one, and what they did is recorded."""

from __future__ import annotations

import re

import numpy as np
import pytest
from mudata import MuData

import semiclip as scl


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 1, "rng": 0}


@pytest.fixture
def keys(setup):
    return {name: setup[name] for name in ("pair_on", "perturbation_key", "control")}


def bare(adata):
    """Leave the controls of the first batch out."""
    first = sorted(adata.obs["batch"].unique())[0]
    there = ~((adata.obs["batch"] == first) & (adata.obs["perturbation"] == "control"))
    return adata[there.to_numpy()].copy()


def called(adata, label):
    """Call the controls something else."""
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace("control", label)
    return adata


def test_batches_without_controls(mdata, small_study, arguments):
    rna = bare(mdata["rna"])
    mdata = MuData({"rna": rna, "image": mdata["image"]})
    with pytest.raises(ValueError, match=re.escape('(model_kwargs={"fallback": "pooled"} of scl.tl.semiclip)')):
        scl.tl.semiclip(mdata, **arguments)
    message = "'fallback'; it is an argument of the model: model_kwargs={'fallback': …}"
    with pytest.raises(TypeError, match=f"{re.escape(message)}$"):
        scl.tl.semiclip(mdata, **arguments, fallback="pooled")
    pooled = scl.tl.semiclip(mdata, **arguments, model_kwargs={"fallback": "pooled"})
    assert np.isfinite(rna.obsm["X_semiclip"]).all()
    assert rna.uns["semiclip"]["X_semiclip"]["params"]["fallback"] == "pooled"
    query = bare(small_study.knockouts["rna"].copy())
    scl.tl.embed(query, pooled)
    scl.tl.embed(query, pooled, fallback="pooled", key_added="X_same")
    np.testing.assert_array_equal(query.obsm["X_semiclip"], query.obsm["X_same"])
    with pytest.raises(ValueError, match='with the controls of all batches by fallback="pooled"$'):
        scl.tl.embed(query, pooled, fallback="raise", key_added="X_other")
    assert "X_other" not in query.obsm


def test_a_model_embeds_a_query_with_a_batch_without_controls(mdata, small_study, arguments):
    model = scl.tl.semiclip(mdata, **arguments)
    query = bare(small_study.knockouts["rna"].copy())
    with pytest.raises(ValueError, match='with the controls of all batches by fallback="pooled"$'):
        scl.tl.embed(query, model)
    scl.tl.embed(query, model, fallback="pooled")
    np.testing.assert_array_equal(query.obsm["X_semiclip"], model.get_latent_representation(query, fallback="pooled"))
    assert query.uns["semiclip"]["X_semiclip"]["params"]["fallback"] == "pooled"
    assert mdata["rna"].uns["semiclip"]["X_semiclip"]["params"]["fallback"] == "raise"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"n_hidden": (3,)}, "it is an argument of the model: model_kwargs={'n_hidden': …}"),
        ({"temperature": 0.2}, "it is an argument of the model: model_kwargs={'temperature': …}"),
        ({"momentum": 0.2}, "it is an argument of the training plan: plan_kwargs={'momentum': …}"),
        ({"bach_size": 5}, "did you mean 'batch_size'?"),
        ({"n_epochs": 5}, "did you mean 'max_epochs'?"),
        ({"seed": 5}, "did you mean 'rng'?"),
        ({"modality": 5}, "did you mean 'modalities'?"),
        ({"batchkey": "x"}, "did you mean 'batch_key'?"),
    ],
)
def test_unknown_arguments_are_refused_at_the_door(mdata, arguments, given, hint):
    message = f"training: got an unexpected keyword argument {next(iter(given))!r}; {hint}"
    for call in (scl.tl.semiclip, lambda *data, **how: scl.tl.distill(*data, objective="semiclip", **how)):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            call(mdata, **arguments | {"student_rep": "none such"}, **given)  # which is not looked at
    assert not mdata.uns


def test_arguments_of_baselines_and_of_other_objectives(mdata, arguments):
    message = "'n_components'; it is an argument of the model: model_kwargs={'n_components': …}"
    for objective in ("dcca", "cca"):
        with pytest.raises(TypeError, match=re.escape(message)):
            scl.tl.distill(mdata, objective=objective, n_components=3, **arguments)
    with pytest.raises(TypeError, match="'temperature'; train takes max_epochs, "):
        scl.tl.distill(mdata, objective="ridge", temperature=3, **arguments)
    message = (
        "scl.tl.semiclip has the objective 'semiclip'; call scl.tl.distill(mdata, objective='clip', …) for another"
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        scl.tl.semiclip(mdata, objective="clip", **arguments)


def test_controls_of_two_names(mdata, small_study, arguments, keys):
    plain = scl.pp.pair(mdata, **keys)
    expected = scl.tl.semiclip(mdata.copy(), **arguments).get_latent_representation()
    called(mdata["rna"], "DMSO"), called(mdata["image"], "negcon")
    both = {"control": ["DMSO", "negcon"]}
    report = scl.pp.pair(mdata, **keys | both)
    assert report.equals(plain)
    model = scl.tl.semiclip(mdata, **arguments | both)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], expected)
    ranked = scl.tl.cross_modal_retrieval(
        mdata, student_rep="X_semiclip", teacher_rep="X_image", **keys | both, batch_key="batch", ridge=0.5
    )
    assert set(ranked["n_obs"]) == {72}
    query = called(small_study.knockouts["rna"].copy(), "negcon")
    scl.tl.embed(query, model)
    assert np.isfinite(query.obsm["X_semiclip"]).all()
    with pytest.raises(ValueError, match=r"control label\(s\) DMSO match no row"):
        scl.tl.embed(query, model, **both)
    with pytest.raises(ValueError, match=r"control label\(s\) DMSO, negcon match no row of obs\['perturbation'\]; its"):
        scl.tl.embed(small_study.knockouts["rna"].copy(), model)
    with pytest.raises(ValueError, match=r"control label\(s\) DMSO match no row"):
        scl.tl.recall(
            small_study.knockouts["rna"], use_rep="X_pca", perturbation_key="perturbation",
            control=["control", "DMSO"], batch_key="batch", relationships=small_study.relationships,
        )  # fmt: skip


def test_a_query_without_the_modality_of_the_model(mdata, small_study, arguments):
    mdata = MuData({"gex": mdata["rna"], "image": mdata["image"]})
    model = scl.tl.semiclip(mdata, modalities={"student": "gex"}, **arguments)
    query = MuData({"rna": small_study.knockouts["rna"].copy()})
    message = "the MuData has no modality 'gex', only rna; pass the AnnData itself, such as mdata['rna']"
    with pytest.raises(KeyError, match=re.escape(message)):
        scl.tl.embed(query, model)
    scl.tl.embed(query["rna"], model)  # which it is
    named = MuData({"gex": query["rna"].copy()})
    scl.tl.embed(named, model, key_added="X_named")
    np.testing.assert_array_equal(named["gex"].obsm["X_named"], query["rna"].obsm["X_semiclip"])


def test_views_of_controls_without_a_dose(mdata, small_study, keys):
    encoder = scl.pp.encode(mdata["rna"], encoder="pca", n_components=8)
    rna = mdata["rna"]
    how = {"encoder": encoder, "batch_key": "batch", "rng": 0, "progress_bar": False, **keys}
    scl.pp.augment(rna, "mwo", key_added="X_with", **how)
    rna.obs["dose"] = rna.obs["dose"].where(rna.obs["perturbation"] != "control")
    scl.pp.augment(rna, "mwo", key_added="X_without", **how)
    np.testing.assert_array_equal(rna.obsm["X_with"], rna.obsm["X_without"])
    rna.obs.iloc[0, rna.obs.columns.get_loc("dose")] = np.nan
    with pytest.raises(ValueError, match=rf"has no value in 1 row\(s\): {rna.obs_names[0]}; fill or drop them"):
        scl.pp.augment(rna, "mwo", **how)


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
