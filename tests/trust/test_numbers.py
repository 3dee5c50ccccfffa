"""Right numbers at the edges: half precision, rank, large ids, rows, keys, threads, memory, signs and divergence."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import semiclip as scl
from semiclip import errors
from semiclip._design import Design
from semiclip._pairing import pair_rows
from semiclip.correction import PEA, STEPS, augment, correct, fit_correction
from semiclip.correction._augmentation import Augmentation
from semiclip.model import Baseline, SemiClip

same = np.testing.assert_array_equal
BIG = 2**60  # where float64 holds every 256th whole number


# ---- half precision


@pytest.mark.parametrize("encoder", ["pca", "mlp"])
def test_counts_in_half_precision_are_normalised_as_in_single(encoder):
    counts = np.random.default_rng(0).poisson(60, (30, 2000)).astype(np.float16)  # 120,000 in a sample
    single, half = (anndata.AnnData(counts.astype(dtype)) for dtype in (np.float32, np.float16))
    classes = {"pca": lambda: scl.encoders.PCAEncoder(n_components=4, rng=0), "mlp": scl.encoders.MLPEncoder}
    one, other = (classes[encoder]().fit(adata).features(adata) for adata in (single, half))
    assert np.abs(other).sum() > 0
    same(one, other)


# ---- the rank of what whitening sees


def plant(kind, rng, n=400, rank=20, dtype=np.float32):
    z = (rng.normal(size=(n, rank)) * np.geomspace(1, 0.05, rank) + rng.normal(size=rank)).astype(dtype)
    one = dtype(1.8)
    if kind == "units":
        return np.hstack([z, z * dtype(2.54), (z - dtype(32)) / one])
    if kind == "scales":
        return np.hstack([z, z * dtype(1e-6), z * dtype(1000) + dtype(273.15)])
    mixed = z @ rng.normal(size=(rank, 60)).astype(dtype)
    return mixed if kind == "mixed" else mixed * np.geomspace(1e-4, 1e4, 60).astype(dtype)


def rank_of(values):
    sizes = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    return int((sizes > 1e-3 * sizes[0]).sum())


@pytest.mark.parametrize("kind", ["units", "scales", "mixed", "mixed scales"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("widened", [False, True])
def test_whitening_keeps_the_directions_that_there_are(kind, dtype, widened):
    rng = np.random.default_rng(0)
    x, batch, control = plant(kind, rng, dtype=dtype), np.arange(400) % 4, rng.random(400) < 0.6
    x = x.astype(np.float64) if widened else x
    for profile in ("clean", "public", "batch"):
        codes = batch if profile != "batch" else np.zeros_like(batch)
        fitted = fit_correction(x, codes, control, profile=profile, ridge=0, coral_reg=None)
        assert rank_of(fitted(x, codes)[control].astype(float)) == 20
    pea = {
        "ridge": 0,
        "drop_probability": 0,
        "methods": ["tvn"],
        "control_law": "all",
        "max_controls": None,
        "clip": None,
    }
    views = augment(x, batch * 0, control, pea=pea, rng=0)
    assert rank_of(views.values[0][control].astype(float)) == 20


def test_parts_of_a_whole_have_one_direction_less():
    rng = np.random.default_rng(0)
    for n in (60, 1000):
        parts = rng.dirichlet([300, 200, 400, 500], size=n).astype(np.float32)
        x, batch = np.hstack([parts, rng.normal(size=(n, 4)).astype(np.float32)]), np.zeros(n, dtype=int)
        for profile in ("clean", "batch", "public"):
            assert rank_of(correct(x, batch, batch == 0, profile=profile, ridge=0, coral_reg=None)) == 7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_a_thousand_times_smaller_are_kept(dtype):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    x = (rng.normal(size=(500, 40)) * np.geomspace(1, 1e-3, 40) @ turn + 10).astype(dtype)
    batch = np.zeros(500, dtype=int)
    assert rank_of(correct(x, batch, batch == 0, ridge=0, coral_reg=None)) == 40


def test_whole_numbers_are_exact():
    rng = np.random.default_rng(0)
    x, batch = 1000.0 + rng.integers(0, 2, (300, 6)), np.zeros(300, dtype=int)
    assert rank_of(correct(x, batch, batch == 0, ridge=0, coral_reg=None)) == 6


# ---- ids above 2**53


def as_column(kind, ids):
    return {
        "int64": lambda: pd.Series(ids, dtype="int64"),
        "uint64": lambda: pd.Series(ids, dtype="uint64"),
        "Int64": lambda: pd.Series([*ids[:-1], None], dtype="Int64"),
        "category": lambda: pd.Series(pd.Categorical([*ids[:-1], None])),
    }[kind]()


def make_side(column, n_dims=3):
    n = len(column)
    obs = pd.DataFrame({"id": column.array,
                        "gene": [*["a"] * (n - 1), "control"]}, index=[f"c{i}" for i in range(n)])  # fmt: skip
    return anndata.AnnData(np.zeros((n, 1), np.float32), obs, obsm={"X_r": np.zeros((n, n_dims))})


@pytest.mark.parametrize("kind", ["int64", "uint64", "Int64", "category"])
@pytest.mark.parametrize("other", ["int64", "Int64", "uint64"])
def test_large_ids_pair_with_themselves(kind, other):
    ids = [BIG + i for i in range(73)]
    student, teacher = (make_side(as_column(name, ids)) for name in (kind, other))
    design = Design.of(perturbation_key="gene", control="control", pair_on="id")
    pairing = pair_rows(student, teacher, design)
    assert pairing.n_keys == 72
    same(pairing.student[:-1], pairing.teacher[:-1])
    assert len(set(pairing.student[:-1])) == 72


def test_large_ids_do_not_pair_with_small_ones_or_with_floats():
    design = Design.of(perturbation_key="gene", control="control", pair_on="id")
    student, small = make_side(pd.Series([BIG + 1, 5, 6, 7])), make_side(pd.Series([5, 6, 8, 7]))
    assert pair_rows(student, small, design).n_keys == 2
    with pytest.warns(errors.SemiclipWarning):
        assert pair_rows(student, make_side(pd.Series([float(BIG), 5.0, 6.0, 7.0])), design).n_keys == 2


def test_large_ids_are_perturbations_controls_and_batches():
    obs = pd.DataFrame({"gene": [BIG, BIG + 1, BIG + 2, BIG + 2], "plate": [BIG + 7, BIG + 8, BIG + 7, BIG + 9]})
    adata = anndata.AnnData(np.zeros((4, 1), np.float32), obs.set_index(pd.Index(list("abcd"))))
    for control in (BIG + 1, (BIG + 1, 2**63 + 5)):
        design = Design.of(perturbation_key="gene", control=control, batch_key="plate")
        design = design.within(adata) if isinstance(control, int) else design
        if isinstance(control, int):
            same(design.controls(adata), [False, True, False, False])
        assert len(design.batches(adata)[1]) == 3
    obs["gene"] = obs["gene"].astype("uint64")
    obs.loc[3, "gene"] = np.uint64(2**63 + 5)
    adata = anndata.AnnData(np.zeros((4, 1), np.float32), obs.set_index(pd.Index(list("abcd"))))
    same(Design.of(perturbation_key="gene", control=(BIG, 2**63 + 5)).controls(adata), [True, False, False, True])


# ---- rows


def test_rows_to_embed(models, refuses):
    def close(one, other):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    for model in (models[0], models[2]):
        whole = model.get_latent_representation()
        n = len(whole)
        for size in (-1, 0, 2.5):
            with refuses(errors.BadValue, name="batch_size", value=size):
                model.get_latent_representation(batch_size=size)
        for none in ([], np.array([]), np.zeros(n, dtype=bool)):
            assert model.get_latent_representation(indices=none).shape == (0, whole.shape[1])
        mask = np.arange(n) % 3 == 0
        for rows in (mask, mask.tolist(), pd.Series(mask, dtype="boolean")):
            close(model.get_latent_representation(indices=rows), whole[mask])
        np.testing.assert_allclose(
            model.get_latent_representation(indices=[2, -1]), whole[[2, -1]], rtol=1e-5, atol=1e-6
        )
        for wrong in (mask[:-1], np.append(mask, True), mask[:1]):
            with refuses(errors.WrongShape, where="indices", shape=wrong.shape):
                model.get_latent_representation(indices=wrong)
        with refuses(errors.WrongDtype, where="indices"):
            model.get_latent_representation(indices=[0.0, 1.0])


@pytest.mark.parametrize("kind", [SemiClip, Baseline])
def test_a_split_that_is_given(mdata, setup, quiet, refuses, kind):
    kind.setup_mudata(mdata, **setup)
    paired = np.flatnonzero((mdata["rna"].obs["perturbation"] != "control").to_numpy())
    n = mdata["rna"].n_obs

    def train(*parts):
        model = kind(mdata)
        model.train(1, datasplitter_kwargs={"external_indexing": parts}, **quiet)
        return model

    mask = np.isin(np.arange(n), paired[:40])
    for parts in ((paired[:40], []), (mask, np.zeros(n, dtype=bool)), (paired[:40].tolist(), [], [])):
        model = train(*parts)
        same(model.train_indices, paired[:40])
        assert len(model.validation_indices) == len(model.test_indices) == 0
    for wrong in (mask[:-1], np.append(mask, False)):
        with refuses(errors.WrongShape, shape=wrong.shape):
            train(wrong, [])
    with refuses(errors.TooMany, number=4, limit=3):
        train(paired[:40], [], [], [])
    with refuses(errors.WrongDtype):
        train(paired[:40].astype(float), [])


# ---- keys that a model reads


def test_what_a_model_reads_is_not_overwritten(mdata, setup, quiet, refuses):
    rna = mdata["rna"]
    rna.obsm["X_image"] = np.random.default_rng(0).normal(size=(rna.n_obs, 5)).astype(np.float32)
    rna.obsm["X_views"] = rna.obsm["X_pca"].copy()
    before = {key: values.copy() for key, values in rna.obsm.items()}
    options = {**setup, **quiet, "recipe": "whole", "max_epochs": 1}
    for key in ("X_pca", "X_views"):
        with refuses(errors.NameTaken, items=key):
            scl.tl.semiclip(mdata, **options, views="X_views", key_added=key)
    columns = {name: setup[name] for name in ("perturbation_key", "control", "batch_key")}
    Baseline.setup_anndata(rna, student_rep="X_pca", teacher_rep="X_image", **columns)
    model = Baseline(rna)
    model.train()
    for key in ("X_pca", "X_image"):
        with refuses(errors.NameTaken, items=key):
            scl.tl.embed(rna, model, key_added=key)
    assert rna.obsm.keys() == before.keys()
    for key, values in before.items():
        same(rna.obsm[key], values)


# ---- training


def test_threads_draw_what_one_thread_draws(small_study, setup, quiet):
    def train(seed):
        mdata = small_study.mdata.copy()
        scl.tl.semiclip(mdata, **setup, recipe="whole", rng=seed, max_epochs=2, batch_size=64, **quiet)
        return mdata["rna"].obsm["X_semiclip"]

    alone = [train(seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for one, other in zip(alone, pool.map(train, range(2)), strict=True):
            same(one, other)


def test_epochs_of_all_trainings_are_counted(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)
    model = SemiClip(mdata)
    for n_epochs, total in ((3, 3), (2, 5)):
        model.train(n_epochs, **quiet)
        assert (model.train_params_["max_epochs"], model.train_params_["epochs"]) == (n_epochs, total)
    model.train(50, early_stopping=True, early_stopping_patience=1, plan_kwargs={"lr": 0.0}, **quiet)
    assert 5 < model.train_params_["epochs"] < 55


def test_a_loss_of_validation_that_overflows_is_a_divergence(mdata, setup, quiet, refuses):
    """Squared covariances overflow while the embedding is finite, after the last step."""
    options = {**setup, **quiet, "objective": "vicreg", "rng": 3, "plan_kwargs": {"lr": 10**-1.5}}
    n_diverged = 0
    for max_epochs in range(1, 6):
        data = mdata.copy()
        try:
            model = scl.tl.distill(data, max_epochs=max_epochs, **options)
        except errors.Diverged:
            n_diverged += 1
            assert "X_vicreg" not in data["rna"].obsm
            continue
        assert n_diverged == 0
        assert all(np.isfinite(curve.to_numpy(float)).all() for curve in model.history.values())
    assert n_diverged > 0


# ---- memory and signs


@pytest.mark.parametrize("profile", ["clean", "batch", "public", "pea"])
def test_short_batches_share_one_pool(profile):
    rng, n, d = np.random.default_rng(0), 40_000, 60
    x = rng.normal(size=(n, d)).astype(np.float32)
    batch = np.concatenate([np.arange(n // 2) % 4, 4 + np.arange(n // 2) % 200])
    control = (batch < 4) & (rng.random(n) < 0.5)
    tracemalloc.start()
    try:
        if profile == "pea":
            Augmentation(PEA(methods="center_scale", max_controls=None), x, batch, control, fallback="pooled")
        else:
            fitted = fit_correction(x, batch, control, profile=profile, fallback="pooled")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (3 if profile == "pea" else 2) * x.nbytes
    if profile != "pea":
        alone = fit_correction(x, np.minimum(batch, 4), control, profile=profile, fallback="pooled")
        same(fitted(x, batch), alone(x, np.minimum(batch, 4)))


def test_signs_do_not_follow_the_order_of_rows():
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(12, 30))
    for array in (np.asarray, torch.as_tensor):
        one = STEPS["whiten_pca"](array(controls)).weight
        for _ in range(10):
            other = STEPS["whiten_pca"](array(controls[rng.permutation(12)])).weight
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    batch, order = np.zeros(12, dtype=int), rng.permutation(12)
    one, other = (correct(x, batch, batch == 0, profile="public") for x in (controls, controls[order]))
    np.testing.assert_allclose(one[order], other, rtol=1e-6, atol=1e-8)
