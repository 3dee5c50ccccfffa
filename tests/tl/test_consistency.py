import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from semiclip import metrics
from semiclip.correction import correct
from semiclip.tl import _consistency
from semiclip.tl._consistency import consistency

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
SIZES = {"LONE": 1, "PAIR": 2, "WEAK": 6, "GOOD": 6, "MUCH": 12} | {f"IDLE{i}": 6 for i in range(5)}


@pytest.fixture
def adata():
    """Perturbations with and without an effect, and two control labels, in two batches that differ by an offset."""
    rng = np.random.default_rng(0)
    genes = np.repeat([*SIZES, "EGFP", "LACZ"], [*SIZES.values(), 30, 30])
    effect = pd.Series({"GOOD": 3.0, "MUCH": 3.0, "WEAK": 0.3}).reindex(genes).fillna(0).to_numpy()
    order = rng.permutation(len(genes))
    genes, effect = genes[order], effect[order]
    plate = rng.integers(0, 2, len(genes))
    x = rng.normal(size=(len(genes), 8)) + 4 * plate[:, None]
    x[:, 0] += effect
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    return anndata.AnnData(obs=obs, obsm={"signal": x, "noise": rng.normal(size=(len(obs), 5)).astype(np.float32)})


def corrected(adata, key, method, profile="clean"):
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    if method is None:
        return adata.obsm[key], control
    plate = adata.obs["plate"].astype(int).to_numpy()
    return correct(adata.obsm[key], plate, control, method=method, profile=profile), control


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_equals_the_steps_by_hand(adata, method, profile):
    keys = KEYS | {"method": method, "profile": profile}
    table = consistency(adata, use_rep=["signal", "noise"], n_permutations=5, rng=0, **keys)
    assert list(table) == ["metric", "representation", "key", "value", "n_obs", "p_value"]
    assert set(table["metric"]) == {"consistency"}
    assert isinstance(table.index, pd.RangeIndex)
    for name in ("signal", "noise"):
        x, _ = corrected(adata, name, method, profile)
        part = table[table["representation"] == name].set_index("key")
        assert list(part.index) == sorted(SIZES)
        for gene, n in SIZES.items():
            rows = (adata.obs["gene"] == gene).to_numpy()
            expected = np.mean(1 - pdist(x[rows].astype(float), "cosine")) if n > 1 else np.nan
            np.testing.assert_allclose(part.loc[gene, "value"], expected, atol=1e-11)
            assert part.loc[gene, "n_obs"] == n


def test_inactive_perturbations_are_the_null(adata):
    null = [f"IDLE{i}" for i in range(5)]
    table = consistency(adata, use_rep="signal", null=null, **KEYS).set_index("key")
    values = table.loc[null, "value"]
    assert table.loc[[*null, "LONE"], "p_value"].isna().all()
    for gene in ("PAIR", "WEAK", "GOOD", "MUCH"):
        assert table.loc[gene, "p_value"] == (values >= table.loc[gene, "value"]).mean()
    assert table.loc["MUCH", "p_value"] == 0


def test_random_sets_of_the_same_size_are_the_null(adata):
    table = consistency(adata, use_rep="signal", n_permutations=300, rng=0, **KEYS).set_index("key")
    assert table.loc["MUCH", "p_value"] == 1 / 301
    assert table.loc["GOOD", "p_value"] < 0.05
    assert np.isnan(table.loc["LONE", "p_value"])
    assert table.drop(index="LONE")["p_value"].between(1 / 301, 1).all()
    x, control = corrected(adata, "signal", "tvn")
    rng = np.random.default_rng(1)
    for gene in ("PAIR", "WEAK"):
        sets = [rng.choice(x[~control], SIZES[gene], replace=False) for _ in range(1000)]
        share = np.mean([np.mean(1 - pdist(rows, "cosine")) >= table.loc[gene, "value"] for rows in sets])
        assert table.loc[gene, "p_value"] == pytest.approx(share, abs=5 * np.sqrt(0.25 / 300 + 0.25 / 1000))


def test_p_values_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    genes = np.repeat([f"G{i:03}" for i in range(400)], rng.integers(2, 6, 400))
    adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=np.arange(len(genes)).astype(str)))
    adata.obsm["noise"] = rng.normal(size=(len(genes), 10))
    found = consistency(
        adata, use_rep="noise", perturbation_key="gene", control=None, method=None, n_permutations=400, rng=0
    )
    for alpha in (0.05, 0.5):
        share = (found["p_value"] <= alpha).mean()
        assert share == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 400))


def test_equal_replicates_stand_out_with_the_value_one(adata):
    rows = (adata.obs["gene"] == "PAIR").to_numpy()
    adata.obsm["noise"][rows] = adata.obsm["noise"][rows][0]
    table = consistency(adata, use_rep="noise", method=None, n_permutations=99, rng=0, **KEYS).set_index("key")
    assert table.loc["PAIR", "value"] == 1
    assert table.loc["PAIR", "p_value"] == 0.01


def test_large_perturbations_meet_smaller_sets(adata, monkeypatch):
    asked = []

    def watched(x, sizes, n_draws, rng):
        asked.append(sizes.tolist())
        return np.zeros((len(sizes), n_draws))

    monkeypatch.setattr(_consistency, "random_consistency", watched)
    consistency(adata, use_rep="signal", **KEYS)
    monkeypatch.setattr(_consistency, "MAX_DRAWN", 5)
    consistency(adata, use_rep="signal", **KEYS)
    assert asked == [[2, 6, 12], [2, 5]]


def test_without_controls_all_rows_count(adata):
    table = consistency(adata, use_rep="signal", method=None, n_permutations=9, rng=0, **KEYS | {"control": None})
    assert {"EGFP", "LACZ"} < set(table["key"])


def test_the_draws_are_determined_by_an_integer(adata):
    adata.obsm["again"] = adata.obsm["signal"]
    table = consistency(adata, use_rep=["signal", "again"], n_permutations=50, rng=3, **KEYS)
    first, second = (part.drop(columns="representation") for _, part in table.groupby("representation", sort=False))
    pd.testing.assert_frame_equal(first, second.reset_index(drop=True))
    other = consistency(adata, use_rep="signal", n_permutations=50, rng=4, **KEYS)
    assert not other["p_value"].equals(first["p_value"])


def test_nothing_is_changed_and_a_view_does(adata):
    before = adata.copy()
    view = adata[adata.obs["gene"] != "WEAK"]
    found = consistency(view, use_rep="signal", n_permutations=9, rng=0, **KEYS)
    pd.testing.assert_frame_equal(found, consistency(view.copy(), use_rep="signal", n_permutations=9, rng=0, **KEYS))
    assert view.is_view
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.obsm["signal"], before.obsm["signal"])


def test_says_how_many_have_no_value(adata, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        consistency(adata, use_rep="signal", n_permutations=9, rng=0, **KEYS)
    assert "1 of 10 perturbations have fewer than 2 rows and no value" in caplog.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": []}, ValueError, "use_rep names no representation"),
        ({"use_rep": "X_none"}, KeyError, "use_rep='X_none' is not in obsm"),
        ({"perturbation_key": "guide"}, KeyError, "perturbation_key='guide' is not a column of obs"),
        ({"control": "DMSO"}, ValueError, r"control label\(s\) DMSO match no row"),
        ({"control": ["0", "1"], "perturbation_key": "plate"}, ValueError, "all 117 rows are controls"),
        ({"method": "combat"}, ValueError, "no correction method='combat'"),
        ({"n_permutations": 0}, ValueError, "n_permutations=0, but null=None draws the null distribution"),
        ({"null": ["GOOD", "EGFP", "absent"]}, ValueError, "null names EGFP, absent, which no treated row has"),
        ({"null": "IDLE0"}, TypeError, "null='IDLE0' is one label; pass a list"),
        ({"null": ["LONE"]}, ValueError, r"none of the 1 perturbation\(s\) in null has 2 rows"),
        ({"null": []}, ValueError, r"none of the 0 perturbation\(s\) in null"),
    ],
)
def test_refuses(adata, change, error, message):
    with pytest.raises(error, match=message):
        consistency(adata, **{"use_rep": "signal", **KEYS, **change})


def test_refuses_data_without_replicates(adata):
    single = adata[adata.obs["gene"].isin(["LONE", "EGFP", "LACZ"])]
    with pytest.raises(ValueError, match="no perturbation has 2 rows or more; the largest has 1"):
        consistency(single, use_rep="signal", **KEYS)


def test_the_value_is_that_of_the_metric(adata):
    x, control = corrected(adata, "signal", "center")
    codes, _ = pd.factorize(adata.obs["gene"].astype(str)[~control], sort=True)
    table = consistency(adata, use_rep="signal", method="center", n_permutations=1, rng=0, **KEYS)
    np.testing.assert_array_equal(table["value"], metrics.consistency(x[~control], codes, len(SIZES)))
