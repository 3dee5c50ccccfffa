"""Closed-form baselines as models: set up, trained, saved, loaded and queried like the distilled ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData

import semiclip as scl
from semiclip._sides import pair_sides
from semiclip.baselines import BASELINES
from semiclip.model import Baseline, SemiClip

WIDTHS = {"unimodal": 8, "cca": 8}  # of a student of 8 dimensions; others are as wide as the teacher


@pytest.fixture
def make(mdata, setup):
    def of(method, **kwargs):
        Baseline.setup_mudata(mdata, **setup)
        return Baseline(mdata, method=method, **kwargs)

    return of


def by_hand(model, **options):
    """Corrected rows of both sides, each student row with the mean teacher row of its key, in plain loops."""
    adata = model.adata
    rna, image = (model._read(adata, side) for side in ("student", "teacher"))
    pairing = pair_sides(adata, model.design)
    student, teacher = (
        scl.correction.correct(
            side.values, side.batch, side.reference, method="tvn", profile=profile, ridge=0.5, **options
        )
        for side, profile in ((rna, "batch"), (image, "clean"))
    )
    rows = np.asarray(model.train_indices)
    key = pairing.student[rows]
    targets = np.stack([teacher[pairing.teacher == k].mean(axis=0) for k in key])
    return student, rows, targets, key


@pytest.mark.parametrize("method", BASELINES)
def test_same_as_fitting_it_by_hand(make, mdata, method):
    model = make(method)
    torch.manual_seed(3)
    model.train(train_size=0.75)
    student, rows, targets, key = by_hand(model)
    baseline = BASELINES[method]()
    torch.manual_seed(3)
    seed = int(torch.randint(2**31, ()))
    baseline.fit(student[rows], targets, key, rng=np.random.default_rng(seed))
    embedded = model.get_latent_representation()
    assert embedded.dtype == np.float32
    assert embedded.shape == (mdata["rna"].n_obs, WIDTHS.get(method, 16))
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
def test_saved_loaded_and_queried_in_new_batches(make, mdata, small_study, tmp_path, method):
    model = make(method)
    model.train()
    assert model.is_trained
    assert model.history == {}
    assert model.device == torch.device("cpu")
    model.save(str(tmp_path / "model"))
    query = small_study.knockouts["rna"].copy()
    assert not set(query.obs["batch"]) & set(mdata["rna"].obs["batch"])
    embedded = model.get_latent_representation(query)
    assert embedded.shape == (query.n_obs, WIDTHS.get(method, 16))
    for data in (mdata, False):
        loaded = Baseline.load(str(tmp_path / "model"), data, accelerator="cpu")
        np.testing.assert_array_equal(loaded.get_latent_representation(query), embedded)
        np.testing.assert_array_equal(loaded.get_latent_representation(mdata), model.get_latent_representation())
        assert loaded.init_params_ == model.init_params_
        for name, values in model.module.baseline.fitted.items():
            np.testing.assert_array_equal(loaded.module.baseline.fitted[name], values)
    if method != "random":  # which depends on the last bit of a corrected row
        np.testing.assert_allclose(model.get_latent_representation(query, batch_size=50), embedded, atol=1e-4)
    np.testing.assert_array_equal(model.get_latent_representation(query, indices=np.arange(0)), embedded[:0])


@pytest.mark.parametrize("method", ["ridge", "cca", "procrustes", "knn"])
def test_what_is_held_out_does_not_matter(make, mdata, method):
    rows = np.flatnonzero((mdata["rna"].obs["perturbation"] != "control").to_numpy())
    compounds = mdata["rna"].obs["perturbation"].astype(str).to_numpy()[rows]
    held_out = np.isin(compounds, np.unique(compounds)[:6])
    split = [rows[~held_out], rows[held_out]]
    model = make(method)
    model.train(datasplitter_kwargs={"external_indexing": split})
    assert model.train_indices.tolist() == split[0].tolist()
    assert model.validation_indices.tolist() == split[1].tolist()
    before = model.module.baseline.fitted
    mdata["rna"].obsm["X_pca"][split[1]] += 100
    image = mdata["image"].obs["perturbation"].astype(str).isin(np.unique(compounds)[:6]).to_numpy()
    mdata["image"].obsm["X_image"][image] -= 100
    changed = make(method)
    changed.train(datasplitter_kwargs={"external_indexing": split})
    for name, values in before.items():
        np.testing.assert_array_equal(changed.module.baseline.fitted[name], values)
    mdata["rna"].obsm["X_pca"][split[0][:40]] += 100
    changed = make(method)
    changed.train(datasplitter_kwargs={"external_indexing": split})
    assert any(not np.array_equal(changed.module.baseline.fitted[name], values) for name, values in before.items())


def test_whole_groups_are_held_out_and_the_seed_says_which(make, mdata):
    splits = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = make("ridge")
        model.train(train_size=0.5, validation_size=0.25)
        splits.append([set(part) for part in (model.train_indices, model.validation_indices, model.test_indices)])
    assert splits[0] == splits[1] != splits[2]
    compounds = mdata["rna"].obs["perturbation"].to_numpy()
    sides = [set(compounds[list(part)]) for part in splits[0]]
    assert [len(side) for side in sides] == [12, 6, 6]
    assert len(set.union(*sides)) == 24


def test_options_of_the_method_and_of_corrections(make, mdata, quiet):
    model = make("knn", n_neighbors=3, weights="distance", student_correction=None, teacher_correction="center")
    model.train()
    assert (model.module.baseline.n_neighbors, model.module.baseline.weights) == (3, "distance")
    assert model.init_params_["kwargs"] == {"method_kwargs": {"n_neighbors": 3, "weights": "distance"}}
    assert model._model_summary_string == (
        "Baseline knn, student correction: None, teacher correction: center, n_neighbors: 3, weights: distance."
    )
    plain = make("unimodal", student_correction=None)
    plain.train()
    np.testing.assert_array_equal(plain.get_latent_representation(), mdata["rna"].obsm["X_pca"].astype(np.float32))


def test_an_unknown_method_or_option_is_refused(make):
    with pytest.raises(ValueError, match=f"method='lasso' is not one of {', '.join(BASELINES)}$"):
        make("lasso")
    with pytest.raises(TypeError, match="argument 'train_sise'; did you mean 'train_size'\\?$"):
        make("ridge").train(train_sise=0.5)
    with pytest.raises(ValueError, match="a baseline in closed form is not augmented; leave out pea"):
        make("ridge").train(pea=True)
    with pytest.raises(TypeError, match="alpha"):
        make("ridge", alpha=3)
    with pytest.raises(ValueError, match="student_correction='sphere' is not one of"):
        make("ridge", student_correction="sphere")


def test_what_is_not_trained_or_has_no_data_says_so(make, tmp_path):
    model = make("ridge")
    with pytest.raises(RuntimeError):
        model.get_latent_representation()
    model.train()
    model.save(str(tmp_path / "model"))
    loaded = Baseline.load(str(tmp_path / "model"), False, accelerator="cpu")
    with pytest.raises(ValueError, match=r"loaded without data; load it with Baseline.load\(folder, mdata\) to train"):
        loaded.train()
    with pytest.raises(ValueError, match="the model was loaded without data; pass the samples to embed"):
        loaded.get_latent_representation()


def test_a_split_that_is_not_there_is_refused(make):
    with pytest.raises(ValueError, match="external_indexing has rows that are controls, unpaired or not there"):
        make("ridge").train(datasplitter_kwargs={"external_indexing": [np.arange(10**6, 10**6 + 3)]})
    with pytest.raises(ValueError, match="must be fractions that add up to 1 at most"):
        make("ridge").train(train_size=1.5)


def test_strong_pairs_in_one_anndata(quiet):
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


@pytest.mark.parametrize("method", BASELINES)
def test_the_embedding_is_written_under_its_name(make, mdata, through_h5mu, method):
    model = make(method)
    model.train()
    scl.tl.embed(mdata, model)
    again = through_h5mu(mdata)["rna"]
    np.testing.assert_array_equal(again.obsm[f"X_{method}"], model.get_latent_representation())
    params = again.uns["semiclip"][f"X_{method}"]["params"]
    assert (params["model"], params["method"], params["student_correction"]) == ("Baseline", method, "tvn")
    assert (float(params["ridge"]), float(params["train_size"])) == (0.5, 0.9)
