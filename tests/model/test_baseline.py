"""Closed-form baselines as models: set up, trained, saved, loaded and queried like the distilled ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import semiclip as scl
from semiclip import errors
from semiclip.baselines import BASELINES
from semiclip.model import Baseline, SemiClip

WIDTHS = {"unimodal": 8, "cca": 8}  # of a student of 8 dimensions; others are as wide as the teacher


@pytest.fixture
def make(mdata, setup):
    def of(method, **kwargs):
        Baseline.setup_mudata(mdata, **setup)
        return Baseline(mdata, method=method, **kwargs)

    return of


def by_hand(mdata, rows):
    """All corrected student rows, and of some the mean teacher row of their key and its code, in plain loops."""
    corrected = []
    for adata, rep, profile in ((mdata["rna"], "X_pca", "batch"), (mdata["image"], "X_image", "clean")):
        batch, control = pd.factorize(adata.obs["batch"], sort=True)[0], adata.obs["perturbation"] == "control"
        options = {"method": "tvn", "profile": profile, "ridge": 0.5}
        corrected.append(scl.correction.correct(adata.obsm[rep], batch, control.to_numpy(), **options))
    obs = pd.concat([mdata["rna"].obs, mdata["image"].obs])[["perturbation", "dose"]]
    student, teacher = np.split(obs.groupby(list(obs), observed=True).ngroup().to_numpy(), [mdata["rna"].n_obs])
    targets = np.stack([corrected[1][teacher == key].mean(axis=0) for key in student[rows]])
    return corrected[0], targets, student[rows]


@pytest.mark.parametrize("method", BASELINES)
def test_same_as_fitting_it_by_hand(make, mdata, method):
    model = make(method)
    torch.manual_seed(3)
    model.train(train_size=0.75)
    rows = np.asarray(model.train_indices)
    student, targets, key = by_hand(mdata, rows)
    baseline = BASELINES[method]()
    torch.manual_seed(3)
    seed = int(torch.randint(2**31, ()))
    baseline.fit(student[rows], targets, key, rng=np.random.default_rng(seed))
    embedded = model.get_latent_representation()
    assert (embedded.shape, embedded.dtype) == ((mdata["rna"].n_obs, WIDTHS.get(method, 16)), np.float32)
    if method == "random":  # the last bit of a corrected row may differ, and with it all of its values
        assert np.abs(embedded.mean()) < 0.05
        assert embedded.std() == pytest.approx(1, abs=0.05)
        for name, values in baseline.fitted.items():
            np.testing.assert_array_equal(model.module.baseline.fitted[name], values)
        return
    expected = baseline.transform(student)
    sign = np.sign((expected * embedded).sum(axis=0)) if method == "cca" else 1  # variates have no sign of their own
    np.testing.assert_allclose(embedded, expected * sign, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", BASELINES)
def test_saved_loaded_queried_and_written(make, mdata, small_study, refuses, through_h5mu, tmp_path, method):
    model = make(method)
    model.train()
    assert (model.is_trained, model.history, model.device) == (True, {}, torch.device("cpu"))
    model.save(str(tmp_path / "model"))
    query = small_study.knockouts["rna"].copy()
    embedded = model.get_latent_representation(query)
    assert embedded.shape == (query.n_obs, WIDTHS.get(method, 16))
    for data in (mdata, False):
        loaded = Baseline.load(str(tmp_path / "model"), data, accelerator="cpu")
        np.testing.assert_array_equal(loaded.get_latent_representation(query), embedded)
        np.testing.assert_array_equal(loaded.get_latent_representation(mdata), model.get_latent_representation())
        assert loaded.init_params_ == model.init_params_
        for name, values in model.module.baseline.fitted.items():
            np.testing.assert_array_equal(loaded.module.baseline.fitted[name], values)
    for use in (loaded.train, loaded.get_latent_representation):  # of data that it was loaded without
        with refuses(errors.NoData):
            use()
    if method != "random":  # which depends on the last bit of a corrected row
        np.testing.assert_allclose(model.get_latent_representation(query, batch_size=50), embedded, atol=1e-4)
    np.testing.assert_array_equal(model.get_latent_representation(query, indices=np.arange(0)), embedded[:0])

    scl.tl.embed(mdata, model)
    stored = through_h5mu(mdata)["rna"]
    np.testing.assert_array_equal(stored.obsm[f"X_{method}"], model.get_latent_representation())
    params = stored.uns["semiclip"][f"X_{method}"]["params"]
    assert (params["model"], params["method"], params["student_correction"]) == ("Baseline", method, "tvn")
    assert (float(params["ridge"]), float(params["train_size"])) == (0.5, 0.9)


@pytest.mark.parametrize("method", ["ridge", "cca", "procrustes", "knn"])
def test_what_is_held_out_does_not_matter(make, mdata, method):
    rows = np.flatnonzero((mdata["rna"].obs["perturbation"] != "control").to_numpy())
    compounds = mdata["rna"].obs["perturbation"].astype(str).to_numpy()[rows]
    held_out = np.isin(compounds, np.unique(compounds)[:6])
    split = [rows[~held_out], rows[held_out]]

    def fit():
        model = make(method)
        model.train(datasplitter_kwargs={"external_indexing": split})
        assert model.train_indices.tolist() == split[0].tolist()
        assert model.validation_indices.tolist() == split[1].tolist()
        return model.module.baseline.fitted

    before = fit()
    mdata["rna"].obsm["X_pca"][split[1]] += 100
    del mdata["rna"].uns["semiclip"]["X_pca"]  # which describes the values before
    image = mdata["image"].obs["perturbation"].astype(str).isin(np.unique(compounds)[:6]).to_numpy()
    mdata["image"].obsm["X_image"][image] -= 100
    after = fit()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    mdata["rna"].obsm["X_pca"][split[0][:40]] += 100
    after = fit()
    assert any(not np.array_equal(after[name], values) for name, values in before.items())


def test_options_of_the_method_and_of_corrections(make, mdata):
    model = make("knn", n_neighbors=3, weights="distance", student_correction=None, teacher_correction="center")
    model.train()
    assert (model.module.baseline.n_neighbors, model.module.baseline.weights) == (3, "distance")
    assert model.init_params_["kwargs"] == {"method_kwargs": {"n_neighbors": 3, "weights": "distance"}}
    plain = make("unimodal", student_correction=None)
    plain.train()
    np.testing.assert_array_equal(plain.get_latent_representation(), mdata["rna"].obsm["X_pca"].astype(np.float32))


@pytest.mark.parametrize(
    ("made", "trained", "error", "data"),
    [
        ({"method": "lasso"}, {}, errors.UnknownChoice, {"name": "method", "choices": list(BASELINES)}),
        ({"alpha": 3}, {}, TypeError, {}),
        ({"student_correction": "sphere"}, {}, errors.UnknownChoice, {"name": "student_correction"}),
        ({}, {"train_sise": 0.5}, errors.UnexpectedArgument, {"names": ["train_sise"]}),
        ({}, {"pea": True}, errors.Conflict, {"first": "pea"}),
        ({}, {"train_size": 1.5}, errors.BadValue, {"name": "train_size", "value": 1.5}),
        ({}, {"datasplitter_kwargs": {"external_indexing": [[10**6]]}}, errors.Refused, {"items": [10**6]}),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(make, refuses, made, trained, error, data):
    with refuses(error, **data):
        make(**{"method": "ridge", **made}).train(**trained)
    with pytest.raises(RuntimeError):  # it is not trained
        make("ridge").get_latent_representation()


def test_strong_pairs_in_one_anndata():
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((60, 1), dtype=np.float32))
    adata.obs["drug"] = np.repeat(["dmso", "a", "b", "c", "d", "e"], 10)
    student = rng.normal(size=(60, 4)).astype(np.float32)
    adata.obsm = {"X_s": student, "X_t": student @ rng.normal(size=(4, 3)).astype(np.float32)}
    keys = {"student_rep": "X_s", "teacher_rep": "X_t", "control": "dmso", "perturbation_key": "drug"}
    for cls in (Baseline, SemiClip):
        cls.setup_anndata(adata, **keys)
    model = Baseline(adata, method="ridge", student_correction=None, teacher_correction=None)
    model.train(train_size=0.8)
    np.testing.assert_allclose(model.get_latent_representation(), adata.obsm["X_t"], atol=1e-2)
