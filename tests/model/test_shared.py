"""A teacher that is projected on the directions that both sides share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import semiclip as scl
from semiclip import errors
from semiclip.metrics import shared_directions
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES


@pytest.fixture
def make(mdata, setup):
    def make(n_shared="auto", **arguments):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)  # of the orders of keys, the split and the weights
        return SemiClip(mdata, n_shared=n_shared, **arguments)

    return make


def key_means(mdata, rows=None):
    """Return the mean corrected rows of the keys that both sides have, in the order of the keys."""
    means = {}
    for side, rep, profile in (("rna", "X_pca", "batch"), ("image", "X_image", "clean")):
        adata = mdata[side]
        batch, control = pd.factorize(adata.obs["batch"], sort=True)[0], adata.obs["perturbation"] == "control"
        values = scl.correction.correct(adata.obsm[rep], batch, control.to_numpy(), profile=profile, ridge=0.5)
        names = adata.obs["perturbation"].astype(str) + " " + adata.obs["dose"].astype(str)
        kept = ~control.to_numpy()
        if side == "rna" and rows is not None:
            kept &= np.isin(np.arange(adata.n_obs), rows)
        means[side] = pd.DataFrame(np.asarray(values)[kept]).groupby(names.to_numpy()[kept]).mean()
    both = means["rna"].index.intersection(means["image"].index)
    return [frame.loc[both].to_numpy() for frame in means.values()]


def test_the_number_is_that_of_the_key_means_and_settled_once(make, mdata):
    model = make()
    expected = shared_directions(*key_means(mdata), rng=model.split_seed_)
    n_shared = model.init_params_["non_kwargs"]["n_shared"]
    assert n_shared == expected.n
    assert 0 < n_shared < 8
    assert model.module.n_output == n_shared
    assert model.init_params_["non_kwargs"]["n_hidden"] == []
    assert make(n_hidden=[3]).init_params_["non_kwargs"]["n_hidden"] == [3]


def test_the_teacher_is_projected_by_training_keys_alone(make, mdata, quiet, spy):
    model, watch = make(3), spy()
    model.train(1, callbacks=[watch], **quiet)
    means = key_means(mdata, model.train_indices)
    shared = shared_directions(*means, n_permutations=0)
    expected = (means[1] - shared.teacher_mean) @ shared.teacher[:, :3]
    taught = watch.data.host.teacher.numpy()
    assert taught.shape[1] == 3
    # rows lie in the order of their keys, three images of each
    sizes = pd.Series(np.arange(len(taught))).groupby(np.repeat(np.arange(len(taught) // 3), 3)).indices
    averages = np.array([taught[rows].mean(axis=0) for rows in sizes.values()])
    distance = np.linalg.norm(averages[:, None] - expected[None], axis=2).min(axis=0)
    assert distance.max() < 1e-3 * np.linalg.norm(expected, axis=1).mean()


def test_it_embeds_saves_loads_and_trains_on(make, mdata, knockouts, quiet, tmp_path):
    model = make()
    model.train(2, **quiet)
    n_shared = model.init_params_["non_kwargs"]["n_shared"]
    expected = model.get_latent_representation(knockouts)
    assert expected.shape == (knockouts.n_obs, n_shared)
    model.save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", mdata.copy(), accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    np.testing.assert_array_equal(
        SemiClip.load(tmp_path / "model", adata=False).get_latent_representation(knockouts), expected
    )
    for trained in (model, loaded):
        scl.tl.embed(mdata, trained)
        trained.train(1, **quiet)
    np.testing.assert_array_equal(loaded.validation_indices, model.validation_indices)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_learns_from_it(make, quiet, objective):
    more = {"n_components": 2} if objective == "dcca" else {}
    model = make(3, objective=objective, **more)
    model.train(1, batch_size=64, plan_kwargs={"lr": 1e-4}, **quiet)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize(
    "options", [{"pea": False}, {"train_size": 1.0}, {"datasplitter_kwargs": {"chunk_rows": 1024}}]
)
def test_with_any_training(make, quiet, options):
    model = make(2)
    model.train(1, **options, **quiet)
    assert np.isfinite(model.history["train_loss"].to_numpy(dtype=float)).all()


def test_nothing_shared_and_too_many_are_refused(make, mdata, quiet, refuses):
    for value in (0, 1.5, "all"):
        with refuses(errors.BadValue, name="n_shared", value=value):
            make(value)
    with refuses(errors.TooMany, number=9, limit=8):
        make(9).train(1, **quiet)
    rng = np.random.default_rng(0)
    image = mdata["image"]
    treated = np.flatnonzero((image.obs["perturbation"] != "control").to_numpy())
    image.obsm["X_image"][treated] = rng.normal(size=(len(treated), image.obsm["X_image"].shape[1]))
    with refuses(errors.TooFew, number=0, needed=1):
        make()


@pytest.mark.slow
def test_it_recalls_more_than_the_whole_teacher():
    study = scl.datasets.simulate(rng=5)
    knockouts = study.knockouts["rna"]
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64, rng=5)
    scl.pp.encode(knockouts, encoder=encoder)
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    pairs = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
    options = {"max_epochs": 50, "rng": 5, "accelerator": "cpu", "enable_progress_bar": False}
    model = scl.tl.semiclip(study.mdata, **pairs, **columns, model_kwargs={"n_shared": "auto"}, **options)
    assert abs(model.module.n_output - 30) <= 6  # pathways
    scl.tl.embed(knockouts, model)
    table = scl.tl.recall(
        knockouts, use_rep=["X_pca", "X_semiclip"], **columns, relationships=study.relationships, n_permutations=0
    )
    mean = table[table["key"] == "mean"].set_index("representation")["value"]
    assert mean["X_semiclip"] > mean["X_pca"] + 0.3
