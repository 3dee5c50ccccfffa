"""Size and direction of each dose, against a loop over perturbations and doses."""

import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.correction import correct
from semiclip.tl import aggregate, dose
from semiclip.tl._effects import hold_out

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate", "dose_key": "dose"}


@pytest.fixture
def dosed(adata):
    """A screen whose every perturbation has up to three doses, in a column in which controls have none."""
    control = adata.obs["gene"].isin(["EGFP", "LACZ"])
    amounts = np.random.default_rng(1).choice([0.1, 1.0, 10.0], adata.n_obs)
    adata.obs["dose"] = pd.Series(amounts, adata.obs_names).mask(control)
    return adata


def cosine(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_rows_are_what_loops_make(dosed, method):
    table = dose(dosed, use_rep=["signal", "noise"], method=method, rng=3, **KEYS)
    assert list(table) == ["representation", "perturbation", "dose", "n_obs", "size", "chance", "direction"]
    control = dosed.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    plate = dosed.obs["plate"].astype(int).to_numpy()
    expected, compared, rng = [], control, np.random.default_rng(3)
    if method is not None:  # the correction is fitted on the other half
        compared = hold_out(plate, control, rng)
        assert 0 < compared.sum() < control.sum()
    halves = np.array_split(rng.permutation(np.flatnonzero(compared)), 2)
    for key in ("signal", "noise"):
        x = dosed.obsm[key].astype(float)
        if method is not None:
            x = correct(dosed.obsm[key], plate, control & ~compared, method=method).astype(float)
        noise = np.trace(np.cov(x[compared].T))
        for gene in sorted(set(dosed.obs["gene"][~control])):
            is_gene = (dosed.obs["gene"] == gene).to_numpy()
            steps = sorted(set(dosed.obs["dose"][is_gene]))
            rows = {step: x[is_gene & (dosed.obs["dose"] == step).to_numpy()] for step in steps}
            means = {step: rows[step].mean(axis=0) for step in steps}
            for step in steps:
                others = [means[other] - x[halves[1]].mean(axis=0) for other in steps if other != step]
                direction = cosine(means[step] - x[halves[0]].mean(axis=0), sum(others)) if others else np.nan
                size, n = np.linalg.norm(means[step] - x[compared].mean(axis=0)), len(rows[step])
                chance = np.sqrt(noise * (1 / n + 1 / compared.sum()))
                expected.append((key, gene, step, n, size, chance, direction))
    # the correction is fitted in the precision of the data
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=list(table)), rtol=1e-5, atol=1e-6)
    assert table["direction"].isna().any()


def test_one_dose_has_the_effect_size_of_the_aggregate(dosed):
    dosed.obs["dose"] = 1
    table = dose(dosed, use_rep="signal", method=None, **KEYS)
    columns = {name: KEYS[name] for name in KEYS if name != "dose_key"}
    genes = aggregate(dosed, use_rep="signal", method=None, **columns)
    assert list(table["perturbation"]) == list(genes.obs_names)
    np.testing.assert_allclose(table["size"], genes.obs["effect_size_signal"], rtol=1e-12)
    assert table["direction"].isna().all()


@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_controls_under_another_name_are_as_large_as_chance(method):
    rng, n = np.random.default_rng(0), 3000
    plate = rng.integers(0, 3, n)
    drug = np.where(rng.random(n) < 0.4, "DMSO", [f"d{i:03}" for i in rng.integers(0, 300, n)])
    x = rng.normal(size=(n, 7)) * np.arange(1, 8) + (plate[:, None] if method else 0)
    obs = pd.DataFrame({"drug": drug, "dose": 1.0, "plate": plate.astype(str)}, index=[f"w{i}" for i in range(n)])
    adata = anndata.AnnData(obs=obs, obsm={"X_noise": x})
    columns = {"perturbation_key": "drug", "control": "DMSO", "dose_key": "dose", "batch_key": "plate"}
    table = dose(adata, use_rep="X_noise", method=method, rng=0, **columns)
    ratio = (table["size"] / table["chance"]) ** 2
    assert ratio.mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", ["center", None])
def test_noise_has_no_direction_where_controls_are_few(method):
    directions = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = ["DMSO"] * 8 + [f"d{i % 6}" for i in range(60)]
        obs = pd.DataFrame({"drug": labels, "dose": np.r_[np.zeros(8), np.repeat([1.0, 2, 3, 4, 5], 12)]})
        adata = anndata.AnnData(obs=obs.set_axis(obs.index.astype(str)), obsm={"X_noise": rng.normal(size=(68, 20))})
        columns = {"perturbation_key": "drug", "control": "DMSO", "dose_key": "dose"}
        directions.append(dose(adata, use_rep="X_noise", method=method, rng=seed, **columns)["direction"].mean())
    error = np.std(directions) / np.sqrt(30)
    assert np.mean(directions) == pytest.approx(0, abs=3 * error)


def test_doses_of_six_equal_digits_are_one(dosed):
    expected = dose(dosed, use_rep="signal", **KEYS)
    dosed.obs["dose"] *= 1 + 1e-12 * np.arange(dosed.n_obs)
    pd.testing.assert_frame_equal(dose(dosed, use_rep="signal", **KEYS), expected)


def test_a_correction_that_takes_all_controls_leaves_none_to_compare_with(dosed, refuses):
    few = dosed[~dosed.obs["gene"].isin(["EGFP", "LACZ"]) | ~dosed.obs.duplicated(["gene", "plate"])].copy()
    with refuses(errors.TooFew, number=0, needed=2):
        dose(few, use_rep="signal", method="center", **KEYS)


def test_doses_the_same_way_and_without_controls(dosed):
    straight = np.outer(np.where(dosed.obs["dose"].isna(), 0, dosed.obs["dose"].fillna(0)), np.ones(4))
    dosed.obsm["straight"] = straight
    treated = dosed[~dosed.obs["dose"].isna()].copy()
    table = dose(treated, use_rep="straight", method=None, **{**KEYS, "control": None})
    several = table["direction"].notna()
    np.testing.assert_allclose(table.loc[several, "direction"], 1)
    np.testing.assert_allclose(table["size"], 2 * table["dose"])
    assert table["chance"].isna().all()


def test_doses_may_be_categories_of_numbers(dosed):
    expected = dose(dosed, use_rep="signal", rng=0, **KEYS)
    dosed.obs["dose"] = dosed.obs["dose"].astype("category")
    pd.testing.assert_frame_equal(dose(dosed, use_rep="signal", rng=0, **KEYS), expected)


def test_refuses_what_is_no_dose(dosed, refuses):
    with refuses(errors.MissingColumn, key="dosage", name="dose_key"):
        dose(dosed, use_rep="signal", **{**KEYS, "dose_key": "dosage"})
    first = dosed.obs_names[~dosed.obs["dose"].isna()][0]
    gap = dosed.copy()
    gap.obs.loc[first, "dose"] = np.nan
    with refuses(errors.MissingValues, rows=[first]):
        dose(gap, use_rep="signal", **KEYS)
    dosed.obs["dose"] = dosed.obs["dose"].astype(str) + " uM"
    with refuses(errors.WrongDtype, where="obs['dose'] (dose_key)"):
        dose(dosed, use_rep="signal", **KEYS)
