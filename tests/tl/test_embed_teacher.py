"""The teacher as a model compares the student with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import semiclip as scl
from semiclip import errors
from semiclip.metrics import shared_directions
from semiclip.model import SemiClip


@pytest.fixture
def train(mdata, setup, quiet):
    def train(**arguments):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model = SemiClip(mdata, **arguments)
        model.train(1, **quiet)
        return model

    return train


def correct(image):
    batch, control = pd.factorize(image.obs["batch"], sort=True)[0], (image.obs["perturbation"] == "control").to_numpy()
    return scl.correction.correct(image.obsm["X_image"], batch, control, ridge=0.5)


def test_a_whole_teacher_is_corrected(train, mdata):
    scl.tl.embed_teacher(mdata, train())
    expected = correct(mdata["image"])
    np.testing.assert_allclose(mdata["image"].obsm["X_taught"], expected, atol=1e-5)


def test_a_shared_one_is_projected_by_training_keys(train, mdata, knockouts, tmp_path):
    model = train(n_shared=3)
    copied = scl.tl.embed_teacher(mdata, model, copy=True)
    assert "X_taught" not in mdata["image"].obsm
    names = [
        adata.obs["perturbation"].astype(str) + " " + adata.obs["dose"].astype(str) for adata in mdata.mod.values()
    ]
    seen = model.get_latent_representation  # the student as inference sees it is not at hand: corrected here
    assert seen is not None
    rna = mdata["rna"]
    batch, control = pd.factorize(rna.obs["batch"], sort=True)[0], (rna.obs["perturbation"] == "control").to_numpy()
    student = scl.correction.correct(rna.obsm["X_pca"], batch, control, profile="batch", ridge=0.5)
    means = [
        pd.DataFrame(values[rows]).groupby(name.to_numpy()[rows]).mean()
        for values, name, rows in (
            (student, names[0], model.train_indices),
            (correct(mdata["image"]), names[1], np.flatnonzero(mdata["image"].obs["perturbation"] != "control")),
        )
    ]
    both = means[0].index.intersection(means[1].index)
    shared = shared_directions(*(frame.loc[both].to_numpy() for frame in means), n_folds=0)
    weight = shared.correlations[:3] * np.sqrt(3 / (shared.correlations[:3] ** 2).sum())
    expected = (correct(mdata["image"]) - shared.teacher_mean) @ (shared.teacher[:, :3] * weight)
    signs = np.sign((copied["image"].obsm["X_taught"] * expected).sum(axis=0))
    np.testing.assert_allclose(copied["image"].obsm["X_taught"] * signs, expected, atol=1e-3)
    model.save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", adata=False)
    scl.tl.embed_teacher(knockouts, model)
    again = scl.tl.embed_teacher(knockouts, loaded, copy=True)
    np.testing.assert_array_equal(again.obsm["X_taught"], knockouts.obsm["X_taught"])


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["image"].copy()


def test_an_adapted_teacher_is_adapted(train, mdata):
    model = train(objective="clip")
    scl.tl.embed_teacher(mdata["image"], model)
    with torch.inference_mode():
        expected = model.module.teach(torch.as_tensor(correct(mdata["image"]).astype(np.float32)))
    np.testing.assert_allclose(mdata["image"].obsm["X_taught"], expected.numpy(), atol=1e-4)


def test_what_cannot_be_compared_is_refused(train, mdata, refuses, setup):
    with refuses(errors.Refused):
        scl.tl.embed_teacher(mdata, train(objective="dcca", n_components=2))
    with refuses(errors.NameTaken, items="X_image"):
        scl.tl.embed_teacher(mdata, train(), key_added="X_image")
    SemiClip.setup_mudata(mdata, **setup)
    with pytest.raises(RuntimeError):
        scl.tl.embed_teacher(mdata, SemiClip(mdata))
