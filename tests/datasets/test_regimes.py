"""Simulated studies that are hard in different ways: each part of the formula of images and batches by itself."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.datasets import REGIMES, simulate

FEW = {"n_compounds": 20, "n_knockouts": 24, "n_pathways": 6, "n_genes": 50, "n_image_features": 16}
FEW |= {"n_batches": 4, "n_knockout_batches": 3, "n_controls": 10}
STRENGTH = 3.0  # of the default difficulty
# of the study of seed 3, before its regimes could be chosen
PINNED = {
    ("mdata", "rna"): "e08d2daf758788152319955fefaa3c2d64245d18663c7eafba743a6e984cb7af",
    ("mdata", "image"): "d11724693d67c501d4ffb0320236fe61b71ef94680e202dd9e01e8c645de0a36",
    ("knockouts", "rna"): "664676de0b1fc691fab69582c524c1d6438e41f4c8906c0eb1040c2ceeff3b09",
    ("knockouts", "image"): "1bcb9fa2542ffab5f756fd36e2ed03cd54b60758cc254269cf35f1b600791418",
}


def draw(part="mdata", seed=0, **arguments):
    """Return the images of a small study, in double precision, and their obs."""
    image = getattr(simulate(**FEW | {"rng": seed} | arguments), part)["image"]
    return image.obsm["X_image"].astype(float), image.obs


def treated(obs):
    return (obs["perturbation"] != "control").to_numpy()


def replay(seed=0):
    """Return the loadings of pathways on image features and on each other, drawn as the study of a seed draws them."""
    rng = np.random.default_rng(seed)
    rare = rng.spawn(2)[1]
    rng.normal(size=FEW["n_genes"])
    for n in (FEW["n_pathways"], 10, 6, 5):
        rng.normal(size=(n, FEW["n_genes"]))
        rng.random((n, FEW["n_genes"]))
    return rng.normal(size=(FEW["n_pathways"], FEW["n_image_features"])), rare.normal(size=(FEW["n_pathways"],) * 2)


def test_the_default_study_is_what_it_was():
    study = simulate(rng=3, **REGIMES["medium"])
    for (part, modality), expected in PINNED.items():
        adata = getattr(study, part)[modality]
        values = adata.X if modality == "rna" else adata.obsm["X_image"]
        assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest() == expected, (part, modality)


@pytest.mark.parametrize("name", REGIMES)
def test_every_regime_can_be_made(name):
    regime = REGIMES[name]
    n_pathways = regime.get("n_pathways", 30)
    assert (n_pathways == 30) == (name == "medium")  # a method must not be tuned to one number
    n_knockouts = 2 * n_pathways
    small = {"n_compounds": 20, "n_genes": n_knockouts, "n_knockouts": n_knockouts, "n_image_features": 16}
    study = simulate(**{**regime, **small}, n_controls=4, rng=0)
    for mdata in (study.mdata, study.knockouts):
        assert np.isfinite(mdata["image"].obsm["X_image"]).all()
        assert (mdata["rna"].X.sum(axis=1) > 100).all()
    assert len(set(study.knockouts["rna"].obs["pathway"])) == n_pathways + 1  # and that of controls
    assert len(study.relationships) == n_pathways


def test_regimes_have_as_many_keys_as_their_names_say():
    for name, n_keys in {"keys_100": 100, "keys_10000": 10_000}.items():
        assert REGIMES[name]["n_compounds"] * len(REGIMES[name]["doses"]) == n_keys
    obs = simulate(**REGIMES["keys_100"], n_genes=150, n_image_features=2, rng=0).mdata["image"].obs
    assert len(obs[treated(obs)][["perturbation", "dose"]].drop_duplicates()) == 100


@pytest.mark.parametrize("part", ["mdata", "knockouts"])
def test_responses_are_those_of_the_formula(part):
    """Studies of one seed differ in the response alone, and without batch effects it is their difference."""
    loadings, mixing = replay()
    nothing, obs = draw(part, batch_effect=0, image_response="none")
    shown = {
        response: draw(part, batch_effect=0, image_response=response)[0] - nothing
        for response in ("linear", "saturated", "interacting")
    }
    activity = shown["linear"] @ np.linalg.pinv(loadings)
    np.testing.assert_allclose(activity @ loadings, shown["linear"], atol=1e-4)
    assert np.abs(activity[~treated(obs)]).max() < 1e-5
    if part == "mdata":  # each compound moves one to three pathways
        n_moved = (np.abs(activity[treated(obs)]) > 1e-4).sum(axis=1)
        assert (n_moved.min(), n_moved.max()) == (1, 3)
    expected = STRENGTH * np.tanh(2 * activity / STRENGTH)
    np.testing.assert_allclose(shown["saturated"], expected @ loadings, atol=1e-4)
    assert np.abs(shown["saturated"] @ np.linalg.pinv(loadings)).max() < STRENGTH < np.abs(activity).max()
    expected = 2 * STRENGTH / np.sqrt(6) * np.tanh(activity @ mixing / STRENGTH)
    np.testing.assert_allclose(shown["interacting"], expected @ loadings, atol=1e-4)


def test_without_a_response_pathways_cannot_be_told_from_images():
    options = {"n_knockouts": 48, "batch_effect": 0, "image_private": 0, "seed": 1}
    distances = {}
    for response in ("none", "linear"):
        values, obs = draw("knockouts", image_response=response, **options)
        values, pathway = values[treated(obs)], obs["pathway"][treated(obs)].astype(str)
        means = np.array([values[(pathway == name).to_numpy()].mean(axis=0) for name in sorted(set(pathway))])
        distances[response] = means.var(axis=0, ddof=1).mean() / (3.2**2 / 48)  # by the error of a mean of 48 images
    assert distances["none"] == pytest.approx(1, abs=0.4)
    assert distances["linear"] > 20


@pytest.mark.parametrize(
    ("name", "n_dimensions", "acts_on_controls"), [("image_private", 10, False), ("image_state", 6, True)]
)
def test_what_images_keep_to_themselves_is_linear_in_its_size(name, n_dimensions, acts_on_controls):
    images, obs = zip(*(draw(batch_effect=0, **{name: size}) for size in (0.0, 1.0, 3.0)), strict=True)
    one, three = images[1] - images[0], images[2] - images[0]
    np.testing.assert_allclose(three, 3 * one, atol=1e-4)
    sizes = np.linalg.svd(one, compute_uv=False)
    assert sizes[n_dimensions] < 1e-4 * sizes[n_dimensions - 1]
    controls = one[~treated(obs[0])]
    assert bool(np.abs(controls).max() > 1e-4) == acts_on_controls
    if acts_on_controls:  # each feature has a variance of 6 more, on average
        values = simulate(**FEW | {"n_image_features": 300, "n_controls": 400, "rng": 0, "batch_effect": 0, name: 3.0})
        image = values.mdata["image"]
        variance = image.X[~treated(image.obs)].var(axis=0, dtype=float).mean()
        assert variance == pytest.approx(3.2**2 + 9 * 6, rel=0.1)
    else:  # images of one compound and dose have the same effect
        keys = obs[0]["perturbation"].astype(str) + obs[0]["dose"].astype(str)
        first = keys.drop_duplicates().index
        of_key = dict(zip(keys[first], one[obs[0].index.get_indexer(first)], strict=True))
        np.testing.assert_allclose(one, np.array([of_key[key] for key in keys]), atol=1e-4)


def test_expression_has_the_private_effects_of_its_difficulty_unless_told():
    for difficulty, size in {"easy": 0.8, "medium": 1.0, "hard": 1.2}.items():
        default, told = (
            simulate(**FEW, difficulty=difficulty, rng=0, **more) for more in ({}, {"expression_private": size})
        )
        np.testing.assert_array_equal(told.mdata["rna"].X, default.mdata["rna"].X)
    spread = []
    for size in (0.0, 1.0, 3.0):
        study = simulate(**FEW, batch_effect=0, expression_private=size, rng=0)
        np.testing.assert_array_equal(  # images know nothing of it
            study.mdata["image"].X, simulate(**FEW, batch_effect=0, rng=0).mdata["image"].X
        )
        rna = study.mdata["rna"][treated(study.mdata["rna"].obs)]
        logs = np.log1p(1e4 * rna.X / rna.X.sum(axis=1, keepdims=True))
        spread.append(logs.var(axis=0).mean())
    assert spread[0] < spread[1] < spread[2]


def test_batches_are_scaled_and_shifted_by_the_size_of_their_effect():
    plain, obs = draw(batch_effect=0)
    changes = {}
    for size in (1.0, 2.0):
        values = draw(batch_effect=size)[0]
        for batch in sorted(set(obs["batch"])):
            rows = (obs["batch"] == batch).to_numpy()
            scale = np.linalg.norm(np.diff(values[rows], axis=0)) / np.linalg.norm(np.diff(plain[rows], axis=0))
            offset = (values[rows] - scale * plain[rows]).mean(axis=0)
            np.testing.assert_allclose(values[rows], scale * plain[rows] + offset, atol=1e-4)
            changes[size, batch] = np.log(scale), offset
    for batch in sorted(set(obs["batch"])):
        np.testing.assert_allclose(changes[2.0, batch][0], 2 * changes[1.0, batch][0], atol=1e-5)
        np.testing.assert_allclose(changes[2.0, batch][1], 2 * changes[1.0, batch][1], atol=1e-4)
        assert changes[1.0, batch][0] != pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("modality", ["rna", "image"])
def test_without_batch_effects_batches_share_their_mean(modality):
    """By the F statistic of controls, whose expectation without differences between batches is about 1."""
    statistics = {}
    for size in (0.0, 0.3, 1.0):
        adata = simulate(**FEW | {"n_batches": 40, "n_controls": 30, "rng": 0, "batch_effect": size}).mdata[modality]
        adata = adata[~treated(adata.obs)]
        values = adata.X.astype(float)
        if modality == "rna":
            values = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))
        batches = [values[(adata.obs["batch"] == batch).to_numpy()] for batch in sorted(set(adata.obs["batch"]))]
        between = 30 * np.var([rows.mean(axis=0) for rows in batches], axis=0, ddof=1)
        statistics[size] = (between / np.mean([rows.var(axis=0, ddof=1) for rows in batches], axis=0)).mean()
    assert statistics[0.0] == pytest.approx(1, abs=0.25)
    assert statistics[0.3] > 1.4
    assert statistics[1.0] > 3 * statistics[0.3]


@pytest.mark.parametrize("name", ["image_private", "image_state", "expression_private", "batch_effect"])
@pytest.mark.parametrize("value", [-0.1, np.inf, "large", True])
def test_refuses_sizes(refuses, name, value):
    with refuses(errors.BadValue, name=name, value=value):
        simulate(**FEW, **{name: value})


def test_refuses_a_response(refuses):
    choices = ["linear", "saturated", "interacting", "none"]
    with refuses(errors.UnknownChoice, name="image_response", value="square", choices=choices):
        scl.datasets.simulate(**FEW, image_response="square")
