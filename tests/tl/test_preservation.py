import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from semiclip import errors, metrics
from semiclip.tl import preservation
from semiclip.tl._decoder import fit_decoder, predict

KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
QUIET = {"max_epochs": 3, "batch_size": 64, "device": "cpu", "progress_bar": False}
MEASURES = ["structural_integrity", "spearman_gene", "spearman_sample", "preservation"]
WRONG = {"control": None, "train_fraction": 1.5, "max_epochs": 0, "batch_size": 0, "lr": -1}
SEEN, UNSEEN = "seen perturbations", "unseen perturbations"


@pytest.fixture(scope="module")
def study():
    """Counts of 12 perturbations and controls in six batches, the latent state that made them, and noise."""
    rng = np.random.default_rng(0)
    state, batch = np.tile([*range(13), *[0] * 5], 18), np.repeat(np.arange(6), 54)
    profiles = np.concatenate([np.zeros((1, 3)), rng.normal(size=(12, 3))])
    latent = profiles[state] + 0.4 * rng.normal(size=(len(state), 3)) + 0.2 * rng.normal(size=(6, 3))[batch]
    rate = np.exp(0.5 * latent @ rng.normal(size=(3, 40)) + rng.normal(size=40) + 2)
    names = np.array(["control", *(f"p{i}" for i in range(12))])
    obs = pd.DataFrame({"perturbation": pd.Categorical(names[state]), "batch": batch.astype(str)})
    obs.index = [f"cell{i}" for i in range(len(obs))]
    obsm = {"latent": latent.astype(np.float32), "noise": rng.normal(size=(len(obs), 3))}
    return anndata.AnnData(X=rng.poisson(rate).astype(np.float32), obs=obs, obsm=obsm)


@pytest.fixture
def adata(study):
    return study.copy()


def value(table, name, key=UNSEEN):
    return table.set_index(["representation", "key", "metric"]).loc[(name, key, "preservation"), "value"]


def test_equals_the_steps_by_hand(adata):
    table = preservation(adata, use_rep=["noise", "latent", "noise"], rng=7, **KEYS, **QUIET)
    counts = ["n_obs", "n_batches", "n_dropped_batches", "n_constant_genes"]
    assert list(table) == ["metric", "representation", *counts, "key", "value"]
    names = ["noise", "latent", "random", "constant", "PCA"]
    rows = pd.MultiIndex.from_product([names, [SEEN, UNSEEN], MEASURES])
    assert pd.MultiIndex.from_frame(table[["representation", "key", "metric"]]).equals(rows)
    assert isinstance(table.index, pd.RangeIndex)

    batch, labels = adata.obs["batch"].to_numpy(), adata.obs["perturbation"].to_numpy()
    control = labels == "control"
    y = np.log1p(1e4 * adata.X / adata.X.sum(axis=1, keepdims=True))
    rng = np.random.default_rng(7)
    split = metrics.preservation_split(batch, labels, control, rng=rng)
    seed = int(rng.integers(2**31))
    for name in names[:4]:
        x = adata.obsm[name] if name in adata.obsm else np.random.default_rng(seed).normal(size=(adata.n_obs, 3))
        for key, rows in ((SEEN, split.seen), (UNSEEN, split.unseen)):
            predicted = np.tile(y[split.train].mean(axis=0), (len(rows), 1))
            if name != "constant":
                predicted = predict(fit_decoder(x[split.train], y[split.train], rng=seed, **QUIET), x[rows])
            expected = metrics.preservation(predicted, y[rows], batch[rows], control[rows])
            part = table[(table["representation"] == name) & (table["key"] == key)].reset_index(drop=True)
            pd.testing.assert_frame_equal(part[expected.columns], expected, rtol=1e-3, atol=1e-5)


def test_what_knows_expression_preserves_it_better_than_baselines(adata):
    options = QUIET | {"max_epochs": 60, "batch_size": 32, "lr": 5e-3}
    adata.obsm["flat"] = np.full((adata.n_obs, 5), 0.3, dtype=np.float32)
    table = preservation(adata, use_rep=["latent", "noise", "flat"], rng=0, **KEYS, **options)
    assert set(table.loc[table["representation"].isin(["constant", "flat"]), "n_constant_genes"]) == {40}
    for key in (SEEN, UNSEEN):
        assert value(table, "flat", key) == pytest.approx(25, abs=1e-4)
        assert value(table, "constant", key) == pytest.approx(25, abs=1e-12)
        assert value(table, "latent", key) > 35
        assert value(table, "PCA", key) > 40
        for name in ("noise", "random"):
            assert value(table, name, key) == pytest.approx(25, abs=4)


def test_the_seed_decides_and_representations_meet_the_same(adata):
    adata.obsm["again"] = adata.obsm["latent"]
    state, names = torch.get_rng_state(), ["noise", "again", "latent"]
    first, same, other = (preservation(adata, use_rep=names, rng=seed, **KEYS, **QUIET) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, same)
    assert not first["value"].equals(other["value"])
    again, latent = (first.loc[first["representation"] == name, "value"].tolist() for name in ("again", "latent"))
    assert again == latent
    assert torch.equal(torch.get_rng_state(), state)


def test_sparse_whole_and_normalised_expression_give_the_same(adata):
    options = {"use_rep": "latent", "rng": 0, "baselines": ["constant"], **KEYS, **QUIET}
    expected = preservation(adata, **options)
    for form in (sparse.csr_matrix, sparse.csc_matrix, lambda x: x.astype(int)):
        adata.layers["counts"] = form(adata.X)
        pd.testing.assert_frame_equal(preservation(adata, layer="counts", **options), expected, rtol=1e-4)
    adata.X = np.log1p(1e4 * adata.X / adata.X.sum(axis=1, keepdims=True))
    pd.testing.assert_frame_equal(preservation(adata, normalize=False, **options), expected, rtol=1e-4)
    adata.X = adata.X - adata.X.mean(axis=0)
    assert value(preservation(adata, normalize=False, **options), "constant") == pytest.approx(25, abs=1e-12)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_the_principal_components_are_as_many_as_can_be_and_a_sample_may_be_empty(adata, form):
    adata.obsm["wide"] = np.random.default_rng(0).normal(size=(adata.n_obs, 60))
    adata.X[:5] = 0
    adata.X = form(adata.X)
    table = preservation(adata, use_rep="wide", rng=0, baselines=["PCA"], **KEYS, **QUIET)
    assert np.isfinite(table["value"]).all()


def test_the_released_evaluation_is_available(adata):
    # few of a batch's rows, and rarely its controls, are in a subset
    rng = np.random.default_rng(0)
    gene, batch = rng.integers(0, 30, 6000).astype(str), rng.integers(0, 400, 6000)
    obs = pd.DataFrame({"perturbation": np.where(rng.random(6000) < 0.1, "control", gene), "batch": batch})
    x, obsm = rng.poisson(20, size=(6000, 15)).astype(np.float32), {"latent": rng.normal(size=(6000, 2))}
    many = anndata.AnnData(X=x, obs=obs.set_index(obs.index.astype(str)), obsm=obsm)
    options = {"use_rep": "latent", "rng": 0, "baselines": ["constant"], **KEYS, **QUIET, "max_epochs": 1}
    full, legacy = (preservation(many, legacy_subsample=flag, **options) for flag in (False, True))
    assert value(full, "constant") == pytest.approx(25, abs=1e-12)
    assert value(legacy, "constant", SEEN) > 40
    assert set(legacy.loc[legacy["key"] == SEEN, "n_obs"]) == {512}


def test_without_seen_perturbations_in_new_batches_there_is_no_value():
    labels = np.repeat(["control", "p", "control", "q"], 2)
    obs = pd.DataFrame({"batch": list("aaaabbbb"), "perturbation": labels}, index=[f"cell{i}" for i in range(8)])
    x = np.random.default_rng(0).poisson(5, size=(8, 4)).astype(np.float32)
    adata = anndata.AnnData(X=x, obs=obs, obsm={"latent": x})
    table = preservation(adata, use_rep="latent", rng=0, baselines=["constant"], **KEYS, **QUIET)
    part = table[table["key"] == SEEN]
    counts = part.drop(columns=["metric", "representation", "key", "value"])
    assert (counts == 0).all(axis=None)
    assert counts.dtypes.map(str).eq("int64").all()
    assert (table["value"].isna() == (table["key"] == SEEN)).all()


def test_nothing_is_changed_and_bars_are_named_and_can_be_silenced(adata, study, capsys):
    preservation(adata, use_rep="latent", rng=0, **KEYS, **QUIET)
    assert capsys.readouterr().err == ""
    preservation(adata, use_rep="latent", rng=0, **KEYS, **{**QUIET, "progress_bar": True})
    shown = capsys.readouterr().err
    for name in ("latent", "random", "PCA"):
        assert f"decoder of {name}" in shown
    np.testing.assert_array_equal(adata.X, study.X)
    np.testing.assert_array_equal(adata.obsm["latent"], study.obsm["latent"])
    pd.testing.assert_frame_equal(adata.obs, study.obs)
    assert not {*adata.uns, *adata.layers} - {None}  # where anndata 0.13 keeps X


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"use_rep": []}, errors.BadValue, {"name": "use_rep"}),
        ({"use_rep": ["latent", "X_none"]}, errors.MissingEntry, {"key": "X_none"}),
        ({"perturbation_key": "guide"}, errors.MissingColumn, {"key": "guide"}),
        ({"batch_key": "run"}, errors.MissingColumn, {"key": "run"}),
        ({"batch_key": None}, ValueError, {}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"layer": "raw"}, KeyError, {}),
        *(({name: wrong}, errors.BadValue, {"name": name, "value": wrong}) for name, wrong in WRONG.items()),
        ({"device": "abacus"}, ValueError, {}),
        ({"baselines": ["PCA", "ridge"]}, errors.UnknownChoice, {"name": "baselines", "value": "ridge"}),
        ({"baselines": "PCA"}, errors.UnknownChoice, {"name": "baselines"}),
        ({"use_rep": "PCA"}, errors.NameTaken, {"items": ["PCA"]}),
    ],
)
def test_refuses(adata, refuses, change, error, data):
    with refuses(error, **data):
        preservation(adata, **{"use_rep": "latent", **KEYS, **QUIET, **change})


def test_refuses_data(adata, refuses):
    adata.obsm["huge"] = 1e30 * adata.obsm["latent"]
    with refuses(errors.Diverged, epoch=0):
        preservation(adata, use_rep="huge", **KEYS, **QUIET)
    for wrong in (-1, np.nan):
        adata.X[3, 1] = wrong
        with pytest.raises(ValueError, match="cell3"):
            preservation(adata, use_rep="latent", **KEYS, **QUIET)
    with pytest.raises(errors.Empty):
        preservation(adata[:0], use_rep="latent", **KEYS, **QUIET)
