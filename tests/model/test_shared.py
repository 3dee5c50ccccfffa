"""A teacher that is projected on the directions that both sides share, and an embedding that keeps the student."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.covariance import LedoitWolf

import semiclip as scl
from semiclip import errors
from semiclip.metrics import choose_weight, shared_directions
from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES

CENTRED = {"student_correction": "center", "teacher_correction": "center"}


@pytest.fixture
def mdata(shared_study):
    return shared_study.mdata.copy()


@pytest.fixture
def knockouts(shared_study):
    return shared_study.knockouts["rna"].copy()


@pytest.fixture
def make(mdata, setup):
    def make(n_shared="auto", control="control", **arguments):
        SemiClip.setup_mudata(mdata, **{**setup, "control": control})
        torch.manual_seed(0)  # of the folds of keys, the split and the weights
        return SemiClip(mdata, n_shared=n_shared, **arguments)

    return make


@pytest.fixture
def unrelated(mdata):
    """Replace the images of treated samples by noise."""
    image = mdata["image"]
    treated = np.flatnonzero((image.obs["perturbation"] != "control").to_numpy())
    noise = np.random.default_rng(0).normal(size=(len(treated), image.obsm["X_image"].shape[1]))
    image.obsm["X_image"][treated] = noise
    return mdata


def corrected(adata, rep, control="control"):
    """Return what a model sees of a side: by its own batch's controls for the student, by all for the teacher."""
    batch = pd.factorize(adata.obs["batch"], sort=True)[0]
    if control is None:
        return scl.correction.correct(adata.obsm[rep], batch, np.full(adata.n_obs, True), method="center")
    reference = (adata.obs["perturbation"] == control).to_numpy()
    profile = "batch" if rep == "X_pca" else "clean"
    return scl.correction.correct(adata.obsm[rep], batch, reference, profile=profile, ridge=0.5)


def key_means(mdata, rows=None, control="control"):
    """Return the mean corrected rows of the keys that both sides have, and the perturbations of these keys."""
    means = {}
    for side, rep in (("rna", "X_pca"), ("image", "X_image")):
        adata = mdata[side]
        obs = adata.obs[["perturbation", "dose"]].astype({"perturbation": str})
        kept = (obs["perturbation"] != control).to_numpy()
        if side == "rna" and rows is not None:
            kept = kept & np.isin(np.arange(adata.n_obs), rows)
        values = pd.DataFrame(np.asarray(corrected(adata, rep, control), dtype=float), index=adata.obs_names)
        means[side] = values[kept].groupby([obs["perturbation"][kept], obs["dose"][kept]]).mean()
    both = means["rna"].index.intersection(means["image"].index)
    return *(frame.loc[both].to_numpy() for frame in means.values()), both.get_level_values(0).to_numpy()


def weights_of(shared, n):
    """Return the correlations so that their mean square is 1."""
    return shared.correlations[:n] / np.sqrt(np.mean(shared.correlations[:n] ** 2))


def distil_by_hand(model, seen):
    layer = model.module.adapter[0]
    return seen @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def n_shared_of(model):
    return model.init_params_["non_kwargs"]["n_shared"]


def test_the_number_is_that_of_the_key_means_and_settled_once(make, mdata):
    model = make()
    student, teacher, perturbation = key_means(mdata)
    expected = shared_directions(student, teacher, groups=perturbation, rng=0)
    assert n_shared_of(model) == expected.n
    assert 3 <= expected.n <= 6  # pathways
    assert model.module.n_output == expected.n
    assert model.init_params_["non_kwargs"]["n_hidden"] == []
    alone = shared_directions(student, teacher, rng=0)
    assert (alone.held_out != expected.held_out).any()  # so that the test tells doses that are held together
    assert make(n_hidden=[3]).init_params_["non_kwargs"]["n_hidden"] == [3]
    torch.manual_seed(7)
    assert n_shared_of(SemiClip(mdata, n_shared="auto")) == expected.n


def test_the_teacher_is_projected_by_training_keys_alone(make, mdata, quiet, spy):
    model, watch = make(3), spy()
    model.train(1, callbacks=[watch], **quiet)
    student, teacher, perturbation = key_means(mdata, model.train_indices)
    assert len(student) < 300  # some are held out
    np.testing.assert_allclose(watch.data.key_means.student, student, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(watch.data.key_means.teacher, teacher, rtol=1e-4, atol=1e-4)
    code = watch.data.key_means.group
    assert pd.Series(code).groupby(perturbation).nunique().eq(1).all()
    assert len(set(code)) == len(set(perturbation))
    shared = shared_directions(student, teacher, n_folds=0)
    taught = watch.data.host.teacher.numpy()
    # its rows are in the order of their keys, first those without any
    image = mdata["image"]
    values = corrected(image, "X_image")
    treated = image.obs["perturbation"] != "control"
    obs = image.obs[treated]
    order = np.argsort(
        (obs["perturbation"].astype(str) + " " + obs["dose"].map("{:05}".format)).to_numpy(), kind="stable"
    )
    expected = ((values[treated.to_numpy()] - shared.teacher_mean) @ shared.teacher[:, :3] * weights_of(shared, 3))[
        order
    ]
    for column in range(3):
        one, other = taught[-len(expected) :, column], expected[:, column]
        sign = np.sign(one @ other)
        np.testing.assert_allclose(one, sign * other, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_an_adapter_starts_from_the_regression(make, mdata, quiet, spy):
    model, watch = make(3), spy()
    before = model.module.adapter[0].weight.clone()
    model.train(1, callbacks=[watch], plan_kwargs={"lr": 1e-12}, **quiet)
    student, teacher, _ = key_means(mdata, model.train_indices)
    shared = shared_directions(student, teacher, n_folds=0)
    target = (teacher - teacher.mean(axis=0)) @ shared.teacher[:, :3] * weights_of(shared, 3)
    centred = student - student.mean(axis=0)
    # regression with the covariance that Ledoit and Wolf shrink
    expected = np.linalg.solve(LedoitWolf().fit(student).covariance_, centred.T @ target / len(student)).T
    bias = -expected @ student.mean(axis=0)
    for weight, offset in (
        (watch.weights["adapter.0.weight"], watch.weights["adapter.0.bias"]),
        (model.module.adapter[0].weight.detach(), model.module.adapter[0].bias.detach()),
    ):
        sign = np.sign((weight.numpy() * expected).sum(axis=1))
        np.testing.assert_allclose(weight.numpy() * sign[:, None], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(offset.numpy() * sign, bias, rtol=1e-3, atol=1e-4)
    assert not torch.equal(before, watch.weights["adapter.0.weight"])


@pytest.mark.parametrize("correction", ["center", None])
def test_an_adapter_of_rows_in_a_scale_of_their_own_starts_in_it(
    make, mdata, knockouts, quiet, spy, tmp_path, correction
):
    """They are divided by the standard deviation of key means, and the function is that of the regression as before."""
    for adata in (mdata["rna"], knockouts):
        adata.obsm["X_pca"] *= 30
        del adata.uns["semiclip"]  # which tells of the encoder's values
    model, watch = make(3, student_correction=correction), spy()
    model.train(1, callbacks=[watch], plan_kwargs={"lr": 1e-12}, pea=False, **quiet)
    student, teacher = watch.data.key_means.student, watch.data.key_means.teacher
    assert model.input_scale_ == model.module.input_scale == pytest.approx(1 / student.std())
    shared = shared_directions(student, teacher, n_folds=0)
    target = (teacher - teacher.mean(axis=0)) @ shared.teacher[:, :3] * weights_of(shared, 3)
    centred = student - student.mean(axis=0)
    expected = np.linalg.solve(LedoitWolf().fit(student).covariance_, centred.T @ target / len(student))
    rows = watch.data.host.student.numpy()
    np.testing.assert_allclose(
        model.module.embed_distilled(rows), (rows - student.mean(axis=0)) @ expected, rtol=1e-3, atol=1e-3
    )
    before = model.get_latent_representation(knockouts)
    model.save(tmp_path / "model")
    for other in (SemiClip.load(tmp_path / "model", adata=False), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.get_latent_representation(knockouts), before)
    scale = model.input_scale_
    model.train(1, pea=False, train_size=0.5, plan_kwargs={"lr": 0.01}, **quiet)
    assert model.input_scale_ == model.module.input_scale == scale  # that of its weights


def test_rows_that_a_correction_scales_are_as_large_as_they_are(make, quiet):
    for correction in ("tvn", "center_scale"):
        model = make(3, student_correction=correction)
        model.train(1, plan_kwargs={"lr": 0.01}, **quiet)
        assert model.input_scale_ == model.module.input_scale == 1.0


def test_only_a_fresh_linear_adapter_starts_from_the_regression(make, quiet, spy):
    model, watch = make(3), spy()
    model.train(1, plan_kwargs={"lr": 0.1}, **quiet)
    trained = model.module.adapter[0].weight.clone()
    model.train(1, callbacks=[watch], **quiet)
    assert torch.equal(watch.weights["adapter.0.weight"], trained)
    for deep, watch in ((make(3, n_hidden=[4]), spy()), (make(None, n_hidden=[]), spy())):
        before = deep.module.adapter[0].weight.clone()
        deep.train(1, callbacks=[watch], **quiet)
        assert torch.equal(watch.weights["adapter.0.weight"], before)


@pytest.mark.parametrize("n_shared", [3, None])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_parts_have_their_share_of_the_embedding(make, mdata, knockouts, quiet, n_shared, weight):
    model = make(n_shared, distilled_weight=weight, n_hidden=[])
    model.train(2, plan_kwargs={"lr": 0.01}, **quiet)
    n_output = 16 if n_shared is None else 3
    seen = corrected(mdata["rna"], "X_pca")
    parts, squares = [distil_by_hand(model, seen), seen], []
    for part in parts:
        squares.append(np.square(part[model.train_indices], dtype=float).sum(axis=1).mean())
    width = n_output * (weight > 0) + 8 * (weight < 1)
    scales = [np.sqrt(share * width / square) for share, square in zip((weight, 1 - weight), squares, strict=True)]
    if (n_shared, weight) == (None, 1.0):  # as it always was
        scales = [1.0, 0.0]
    np.testing.assert_allclose(model.part_scales_, scales, rtol=1e-4)
    assert model.module.part_scales == model.part_scales_
    embedding = model.get_latent_representation()
    assert embedding.dtype == np.float32
    assert embedding.shape == (len(seen), width)
    expected = np.hstack([part * scale for part, scale in zip(parts, scales, strict=True) if scale])
    np.testing.assert_allclose(embedding, expected, atol=1e-4 * np.abs(expected).max())
    if (n_shared, weight) != (None, 1.0):
        trained = np.square(embedding[model.train_indices], dtype=float)
        assert trained.mean() == pytest.approx(1, rel=1e-4)
        assert trained[:, : n_output * (weight > 0)].sum() / trained.sum() == pytest.approx(weight, abs=1e-5)
    assert model.train_params_["distilled_weight"] == weight
    query = model.get_latent_representation(knockouts)  # the scales are those of training
    seen = corrected(knockouts, "X_pca")
    parts = [distil_by_hand(model, seen), seen]
    expected = np.hstack([part * scale for part, scale in zip(parts, scales, strict=True) if scale])
    np.testing.assert_allclose(query, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_it_saves_loads_copies_and_trains_on(make, mdata, knockouts, quiet, tmp_path, weight):
    model = make(distilled_weight=weight)
    model.train(2, **quiet)
    expected = model.get_latent_representation(knockouts)
    assert expected.shape == (knockouts.n_obs, n_shared_of(model) + 8 * (weight < 1))
    model.save(tmp_path / "model")
    loaded = SemiClip.load(tmp_path / "model", mdata.copy(), accelerator="cpu")
    copied = copy.deepcopy(model)
    for other in (loaded, copied, SemiClip.load(tmp_path / "model", adata=False)):
        np.testing.assert_array_equal(other.get_latent_representation(knockouts), expected)
        assert tuple(other.part_scales_) == model.part_scales_ == other.module.part_scales
        assert n_shared_of(other) == n_shared_of(model)
    for trained in (model, loaded, copied):
        scl.tl.embed(mdata, trained)
        torch.manual_seed(1)
        trained.train(1, **quiet)
        np.testing.assert_array_equal(trained.validation_indices, model.validation_indices)
        again = trained.get_latent_representation()
        assert np.square(again[trained.train_indices], dtype=float).mean() == pytest.approx(1, rel=1e-4)
        np.testing.assert_array_equal(
            trained.get_latent_representation(knockouts), model.get_latent_representation(knockouts)
        )
    assert model.train_params_["epochs"] == 3


def test_a_student_may_be_left_alone(make, mdata, quiet, warned):
    model = make(0, distilled_weight=1.0)
    model.train(3, **quiet)
    assert len(warned()) == 1
    assert model.train_params_["epochs"] == 0
    seen = corrected(mdata["rna"], "X_pca")
    scale = 1 / np.sqrt(np.square(seen[model.train_indices], dtype=float).mean())
    np.testing.assert_allclose(model.get_latent_representation(), seen * scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", ["auto", 0.5, 1.0])
def test_where_nothing_is_shared_the_embedding_is_the_student(
    make, unrelated, knockouts, quiet, tmp_path, warned, weight
):
    model = make(distilled_weight=weight)
    assert n_shared_of(model) == 0
    assert not warned()
    model.train(5, **quiet)
    messages = warned()
    assert len(messages) == 1
    assert "share no direction" in messages[0]
    assert model.train_params_["epochs"] == 0
    assert model.train_params_["distilled_weight"] == 0
    seen = corrected(unrelated["rna"], "X_pca")
    scale = 1 / np.sqrt(np.square(seen[model.train_indices], dtype=float).mean())
    np.testing.assert_allclose(model.get_latent_representation(), seen * scale, rtol=1e-4, atol=1e-5)
    expected = model.get_latent_representation(knockouts)
    np.testing.assert_allclose(expected, corrected(knockouts, "X_pca") * scale, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model")
    for data in (unrelated.copy(), False):
        loaded = SemiClip.load(tmp_path / "model", adata=data)
        assert n_shared_of(loaded) == 0
        np.testing.assert_array_equal(loaded.get_latent_representation(knockouts), expected)
    np.testing.assert_array_equal(copy.deepcopy(model).get_latent_representation(knockouts), expected)
    model.train(2, **quiet)
    assert len(warned()) == 1
    assert model.train_params_["epochs"] == 0
    np.testing.assert_array_equal(model.get_latent_representation(knockouts), expected)


def test_automatic_weight_is_one_with_controls(make, quiet):
    model = make(3, distilled_weight="auto")
    model.train(1, **quiet)
    assert model.train_params_["distilled_weight"] == 1.0
    assert model.part_scales_[1] == 0


def test_automatic_weight_without_controls_is_that_of_the_key_means(make, mdata, quiet, spy):
    chosen = []
    for n_shared in (1, 4):
        model, watch = make(n_shared, control=None, distilled_weight="auto", **CENTRED), spy()
        model.train(1, callbacks=[watch], plan_kwargs={"lr": 0.01}, **quiet)
        student, teacher, perturbation = key_means(mdata, model.train_indices, control=None)
        expected = choose_weight(student, teacher, n_shared, groups=perturbation, rng=watch.data.seed)
        assert model.train_params_["distilled_weight"] == expected.weight
        squares = np.square(model.get_latent_representation()[model.train_indices], dtype=float)
        if 0 < expected.weight < 1:
            assert squares[:, :n_shared].sum() / squares.sum() == pytest.approx(expected.weight, abs=1e-4)
        chosen.append(expected.weight)
    assert min(chosen) < 1


def test_automatic_weight_of_the_whole_teacher_is_one(make, quiet):
    model = make(None, control=None, distilled_weight="auto", **CENTRED)
    model.train(1, **quiet)
    assert model.train_params_["distilled_weight"] == 1.0
    assert model.part_scales_ == (1.0, 0.0)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_learns_from_it(make, quiet, objective):
    more = {"n_components": 2} if objective == "dcca" else {}
    model = make(3, objective=objective, distilled_weight=0.5, **more)
    before = {name: values.clone() for name, values in model.module.adapter.state_dict().items()}
    model.train(1, batch_size=64, plan_kwargs={"lr": 1e-4}, **quiet)
    embedding = model.get_latent_representation()
    assert embedding.shape[1] == 8 + (2 if objective == "dcca" else 3)
    assert np.isfinite(embedding).all()
    assert np.square(embedding[model.train_indices], dtype=float).mean() == pytest.approx(1, rel=1e-4)
    assert any(not torch.equal(values, before[name]) for name, values in model.module.adapter.state_dict().items())


@pytest.mark.parametrize(
    "options", [{"pea": False}, {"train_size": 1.0}, {"datasplitter_kwargs": {"chunk_rows": 1024}}]
)
def test_with_any_training(make, quiet, options):
    model = make(2, distilled_weight=0.5)
    model.train(1, **options, **quiet)
    assert np.isfinite(model.history["train_loss"].to_numpy(dtype=float)).all()
    embedding = model.get_latent_representation()[model.train_indices]
    assert np.square(embedding, dtype=float).mean() == pytest.approx(1, rel=1e-4)


def test_bad_numbers_and_weights_are_refused(make, quiet, refuses):
    for value in (-1, 1.5, "all", True):
        with refuses(errors.BadValue, name="n_shared", value=value):
            make(value)
    for weight in (-0.1, 1.5, "all", np.inf, True, None):
        with refuses(errors.BadValue, name="distilled_weight", value=weight):
            make(2, distilled_weight=weight)
    with refuses(errors.TooMany, number=9, limit=8):
        make(9).train(1, **quiet)


def test_the_input_of_an_encoder_has_no_directions_and_no_part(mdata, setup, refuses):
    encoder = scl.encoders.MLPEncoder(n_hidden=(12,), n_latent=8).fit(mdata["rna"])
    scl.pp.expression(mdata["rna"], encoder=encoder)
    SemiClip.setup_mudata(mdata, **{**setup, "student_rep": "X_expression"})
    for arguments, first in (
        ({"n_shared": "auto"}, "n_shared"),
        ({"n_shared": 3}, "n_shared"),
        ({"distilled_weight": 0.5}, "distilled_weight"),
    ):
        with refuses(errors.Conflict, first=first):
            SemiClip(mdata, encoder=encoder, **arguments)
    for weight in ("auto", 1.0):
        assert SemiClip(mdata, encoder=encoder, distilled_weight=weight).module.part_scales == (1.0, 0.0)
