"""How the teacher is corrected, by name: also as the paper's text and its released code do."""

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.correction import correct
from semiclip.model import Baseline, SemiClip

WAYS = {
    "default": ("tvn", {"profile": "clean", "ridge": 0.5, "coral_reg": 0.5}),
    "code": ({"profile": "global", "ridge": 0}, {"profile": "global", "ridge": 0, "coral_reg": 0.5}),
    "text": (
        {"profile": "global", "coral_reg": None, "ridge": 0},
        {"profile": "global", "coral_reg": None, "ridge": 0},
    ),
    "center": ({"method": "center"}, {"method": "center"}),
}


def correct_teacher(mdata, **options):
    images = mdata["image"]
    batch = pd.factorize(images.obs["batch"].astype(str), sort=True)[0]
    return correct(images.obsm["X_image"], batch, (images.obs["perturbation"] == "control").to_numpy(), **options)


@pytest.mark.parametrize(("way", "options"), WAYS.values(), ids=WAYS)
def test_the_teacher_in_training_is_the_corrected_one(mdata, setup, quiet, spy, way, options):
    SemiClip.setup_mudata(mdata, **setup)
    model, watch = SemiClip(mdata, n_hidden=[8], teacher_correction=way), spy()
    model.train(1, callbacks=[watch], pea=False, **quiet)
    taught = watch.data.tensors.teacher.numpy()
    expected = correct_teacher(mdata, **options)
    treated = expected[(mdata["image"].obs["perturbation"] != "control").to_numpy()]
    assert taught.shape == treated.shape
    # rows are sorted by their key
    one, other = (rows[np.lexsort(rows.T.round(3))] for rows in (taught, treated))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    # and is what new images are compared with
    scl.tl.embed_teacher(mdata, model, key_added="X_taught")
    np.testing.assert_allclose(mdata["image"].obsm["X_taught"], expected, rtol=1e-4, atol=1e-4)


def test_coral_is_what_sets_the_code_apart_from_the_text(mdata):
    with_coral, without = (correct_teacher(mdata, **WAYS[name][1]) for name in ("code", "text"))
    control = (mdata["image"].obs["perturbation"] == "control").to_numpy()
    np.testing.assert_allclose(np.cov(without[control], rowvar=False, ddof=0), np.eye(16), atol=1e-3)
    for batch in mdata["image"].obs["batch"].unique():
        rows = (mdata["image"].obs["batch"] == batch).to_numpy()
        values, vectors = np.linalg.eigh(np.cov(without[rows & control], rowvar=False) + 0.5 * np.eye(16))
        np.testing.assert_allclose(with_coral[rows], without[rows] @ (vectors / np.sqrt(values)) @ vectors.T, atol=1e-3)


def test_a_saved_model_and_its_record_know_the_correction(mdata, setup, quiet, tmp_path, through_h5mu):
    way, options = WAYS["text"]
    model = scl.tl.distill(
        mdata, **setup, objective="semiclip", max_epochs=1, rng=0, model_kwargs={"teacher_correction": way}, **quiet
    )
    model.save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", mdata)
    scl.tl.embed_teacher(mdata, loaded, key_added="X_taught")
    np.testing.assert_allclose(mdata["image"].obsm["X_taught"], correct_teacher(mdata, **options), rtol=1e-4, atol=1e-4)
    (key,) = (key for key in mdata["rna"].uns["semiclip"] if key != "X_pca")
    params = through_h5mu(mdata)["rna"].uns["semiclip"][key]["params"]
    assert params["teacher_correction"]["profile"] == "global"


@pytest.mark.parametrize("kind", [SemiClip, Baseline])
def test_refuses(mdata, setup, refuses, kind):
    kind.setup_mudata(mdata, **setup)
    for way, error, data in (
        ("sphere", errors.UnknownChoice, {"name": "teacher_correction"}),
        ({"method": "sphere"}, errors.UnknownChoice, {"name": "method"}),
        ({"profile": "public"}, errors.BadValue, {"name": "teacher_correction"}),
        ({"coral": None}, errors.UnexpectedArgument, {"taker": "teacher_correction", "names": ["coral"]}),
    ):
        with refuses(error, **data):
            kind(mdata, teacher_correction=way)


def test_a_baseline_takes_the_same(mdata, setup):
    Baseline.setup_mudata(mdata, **setup)
    one, other = (Baseline(mdata, teacher_correction=WAYS[name][0]) for name in ("code", "text"))
    for model in (one, other):
        model.train()
    assert np.abs(one.get_latent_representation() - other.get_latent_representation()).max() > 0.01
