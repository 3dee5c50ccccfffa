import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import kstest

from semiclip import errors, metrics
from semiclip.correction import correct
from semiclip.metrics import energy_distance
from semiclip.tl import consistency, magnitude, significant

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
QUIET = {**KEYS, "progress_bar": False}
COLUMNS = ["metric", "representation", "key", "value", "n_obs", "p_value"]
IDLE = [f"IDLE{i}" for i in range(5)]
SIZES = {"LONE": 1, "PAIR": 2, "FEW": 4, "WEAK": 6, "GOOD": 6, "MUCH": 40, **dict.fromkeys(IDLE, 6)}


def assemble(genes, plate, x):
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    return anndata.AnnData(obs=obs, obsm={"signal": x})


@pytest.fixture
def adata():
    """Perturbations with and without an effect, and two control labels, in two batches that differ by an offset."""
    rng, genes = np.random.default_rng(0), np.repeat([*SIZES, "EGFP", "LACZ"], [*SIZES.values(), 30, 30])
    plate = rng.integers(0, 2, len(genes))
    x = rng.normal(size=(len(genes), 8)) + 4 * plate[:, None]
    x[:, 0] += pd.Series({"WEAK": 0.3, "GOOD": 3, "MUCH": 3}).reindex(genes).fillna(0).to_numpy()
    order = rng.permutation(len(genes))
    return assemble(genes[order], plate[order], x[order])


def correct_by_hand(adata, method, **options):
    control, plate = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy(), adata.obs["plate"].astype(int).to_numpy()
    x = adata.obsm["signal"]
    return (x if method is None else correct(x, plate, control, method=method, **options)), control


def half_by_hand(adata, method, seed, n_held=None):
    """Fit on half of each plate's controls; return all rows corrected, and the mask of the other half."""
    control, plate = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy(), adata.obs["plate"].astype(int).to_numpy()
    rng, held = np.random.default_rng(seed), np.zeros(len(control), dtype=bool)
    for code in np.unique(plate):
        rows = np.flatnonzero(control & (plate == code))
        held[rng.permutation(rows)[: len(rows) // 2 if n_held is None else n_held]] = True
    return correct(adata.obsm["signal"], plate, control & ~held, method=method), held


# ---- consistency


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_consistency_equals_the_steps_by_hand(adata, method, profile, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        table = consistency(adata, use_rep="signal", n_permutations=5, rng=0, method=method, profile=profile, **KEYS)
    assert "1 of 11 perturbations have fewer than 2 rows and no value" in caplog.text
    assert list(table) == COLUMNS
    assert set(table["metric"]) == {"consistency"}
    assert list(table["key"]) == sorted(SIZES)
    x, _ = correct_by_hand(adata, method, profile=profile)
    for gene, value, n_obs in table[["key", "value", "n_obs"]].itertuples(index=False):
        rows = (adata.obs["gene"] == gene).to_numpy()
        expected = np.mean(1 - pdist(x[rows].astype(float), "cosine")) if SIZES[gene] > 1 else np.nan
        np.testing.assert_allclose(value, expected, atol=1e-11)
        assert n_obs == SIZES[gene]


def test_random_sets_of_the_same_size_are_the_null_of_consistency(adata):
    table = consistency(adata, use_rep="signal", n_permutations=300, rng=0, **KEYS).set_index("key")
    assert table.loc["MUCH", "p_value"] == 1 / 301
    assert table.loc["GOOD", "p_value"] < 0.05
    assert np.isnan(table.loc["LONE", "p_value"])
    assert table.drop(index="LONE")["p_value"].between(1 / 301, 1).all()
    x, control = correct_by_hand(adata, "tvn")
    rng = np.random.default_rng(1)
    for gene in ("PAIR", "WEAK"):
        sets = [rng.choice(x[~control], SIZES[gene], replace=False) for _ in range(1000)]
        share = np.mean([np.mean(1 - pdist(rows, "cosine")) >= table.loc[gene, "value"] for rows in sets])
        assert table.loc[gene, "p_value"] == pytest.approx(share, abs=5 * np.sqrt(0.25 / 300 + 0.25 / 1000))


def test_large_perturbations_meet_sets_of_1000():
    x = np.random.default_rng(0).normal(size=(2700, 2))
    adata = assemble(np.repeat(["A", "B"], [1500, 1200]), np.zeros(2700), x)
    keys = {"use_rep": "signal", "perturbation_key": "gene", "control": None, "method": None}
    table = consistency(adata, n_permutations=200, rng=3, **keys)
    rng, null = np.random.default_rng(3), []
    for _ in range(200):  # both sizes meet the same sets
        null.append(metrics.consistency(x[rng.choice(2700, 1000, replace=False)], np.zeros(1000, dtype=int), 1)[0])
    np.testing.assert_array_equal(table["p_value"], metrics.rank_p_value(table["value"], null, drawn=True))


def test_p_values_of_consistency_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    genes = np.repeat([f"G{i}" for i in range(400)], rng.integers(2, 6, 400))
    adata = assemble(genes, np.zeros(len(genes)), rng.normal(size=(len(genes), 10)))
    keys = {"use_rep": "signal", "perturbation_key": "gene", "control": None, "method": None}
    p_values = consistency(adata, n_permutations=1000, rng=0, **keys)["p_value"]
    assert kstest(p_values, "uniform").pvalue > 0.001


# ---- magnitude


@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_magnitude_equals_the_steps_by_hand(adata, method):
    # where inactive perturbations are the null, all controls are fitted on and compared with
    null = None if method is None else ["IDLE0"]
    table = magnitude(adata, use_rep="signal", method=method, null=null, n_permutations=5, rng=0, **QUIET)
    assert list(table) == COLUMNS
    assert set(table["metric"]) == {"magnitude"}
    assert list(table["key"]) == sorted(SIZES)
    x, control = correct_by_hand(adata, method)
    for gene, value, n_obs, p_value in table[COLUMNS[2:]].itertuples(index=False):
        expected = energy_distance(x[adata.obs["gene"] == gene], x[control]) if SIZES[gene] >= 5 else np.nan
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert n_obs == SIZES[gene]
        assert np.isnan(p_value) == (SIZES[gene] < 5 or gene in (null or []))


def mocks(rng, n_controls, *, d, spread):
    """Return 20 perturbations that do nothing, of six wells each, in six batches that differ by an offset."""
    batch = np.repeat(np.arange(6), n_controls)
    labels, where = ["EGFP"] * len(batch), [batch]
    for i in range(20):
        where.append(rng.permutation(6) if spread else np.full(6, i % 6))
        labels += [f"mock {i}"] * 6
    batch = np.concatenate(where)
    return assemble(labels, batch, rng.normal(size=(len(batch), d)) + rng.normal(size=(6, d))[batch])


@pytest.mark.parametrize("spread", [True, False], ids=["in all batches", "in one batch each"])
@pytest.mark.parametrize("n_controls", [[20] * 6, [4, 40] * 3], ids=["as many controls", "more in some batches"])
@pytest.mark.parametrize("method", ["tvn", "center"])
def test_what_does_nothing_is_not_significant_too_often(method, n_controls, spread):
    shares = []
    for seed in range(40):
        adata = mocks(np.random.default_rng(seed), n_controls, d=10, spread=spread)
        options = {"use_rep": "signal", "method": method, "n_permutations": 99, "rng": seed, **QUIET, "control": "EGFP"}
        shares.append(significant(magnitude(adata, **options))["value"][0])
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)  # a standard error of 0.01


def noise(sizes, n_controls, d, seed):
    """Return perturbations that do nothing in two batches that differ by an offset."""
    genes = np.repeat([*[f"G{i}" for i in range(len(sizes))], "EGFP", "LACZ"], [*sizes, *[n_controls // 2] * 2])
    rng = np.random.default_rng(seed)
    plate = rng.integers(0, 2, len(genes))
    return assemble(genes, plate, rng.normal(size=(len(genes), d)) + 4 * plate[:, None])


def test_p_values_of_magnitude_of_noise_are_uniform_where_controls_abound():
    adata = noise([5 + i % 3 for i in range(300)], 800, 4, 0)
    table = magnitude(adata, use_rep="signal", method="center", n_permutations=300, rng=0, **QUIET)
    assert kstest(table["p_value"], "uniform").pvalue > 0.001


@pytest.mark.parametrize(("method", "n_controls", "d"), [("tvn", 400, 40), ("center", 200, 8)])
def test_noise_is_as_often_significant_as_it_should_be(method, n_controls, d):
    shares = []
    for seed in range(12):
        options = {"use_rep": "signal", "method": method, "n_permutations": 100, "rng": seed, **QUIET}
        shares.append(significant(magnitude(noise([6] * 40, n_controls, d, seed), **options))["value"][0])
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)


def test_without_controls_of_its_batch_a_perturbation_is_never_significant():
    adata = mocks(np.random.default_rng(0), [2] + [20] * 5, d=4, spread=False)
    adata.obsm["signal"][adata.obs["gene"] == "mock 0"] += 50
    options = {"method": "center", "n_permutations": 99, "rng": 0, **QUIET, "control": "EGFP"}
    assert magnitude(adata, use_rep="signal", **options).set_index("key").loc["mock 0", "p_value"] == 1


@pytest.mark.parametrize(("n", "held"), [(2, 0), (3, 1), (4, 2), (5, 2), (20, 10)])
def test_two_controls_of_each_batch_are_left_to_fit_on(n, held, refuses):
    genes = np.repeat(["FAR", "EGFP"], [4, 2 * n])
    adata = assemble(genes, np.arange(len(genes)) % 2, np.random.default_rng(0).normal(size=(len(genes), 2)))
    options = {"use_rep": "signal", "method": "center", "min_obs": 2, "n_permutations": 1, **QUIET, "control": "EGFP"}
    if not held:
        with refuses(errors.TooFew, number=0, needed=2):
            magnitude(adata, rng=0, **options)
        return
    x, marked = half_by_hand(adata, "center", 0, held)
    value = magnitude(adata, rng=0, **options)["value"][0]
    assert value == pytest.approx(energy_distance(x[genes == "FAR"], x[marked]), rel=1e-12)


def test_min_obs_says_what_is_measured(adata):
    for min_obs, keys in ((1, sorted(SIZES)), (7, ["MUCH"])):
        table = magnitude(adata, use_rep="signal", min_obs=min_obs, n_permutations=5, rng=0, **QUIET)
        assert table.dropna()["key"].tolist() == keys


def test_rows_are_exchanged_with_those_of_the_controls(adata):
    table = magnitude(adata, use_rep="signal", n_permutations=200, rng=0, **QUIET).set_index("key")
    assert table.loc["GOOD", "p_value"] == table.loc["MUCH", "p_value"] == 1 / 201
    x, held = half_by_hand(adata, "tvn", 0)
    rng, plate = np.random.default_rng(1), adata.obs["plate"].to_numpy()
    for gene in ("WEAK", "IDLE0"):
        treated = (adata.obs["gene"] == gene).to_numpy()
        null = []
        for _ in range(500):
            drawn = np.zeros(len(treated), dtype=bool)
            for code in ("0", "1"):
                pool = np.flatnonzero((treated | held) & (plate == code))
                drawn[rng.choice(pool, (treated & (plate == code)).sum(), replace=False)] = True
            null.append(energy_distance(x[drawn], x[(treated | held) & ~drawn]))
        share = np.mean(np.array(null) >= table.loc[gene, "value"])
        assert table.loc[gene, "p_value"] == pytest.approx(share, abs=5 * np.sqrt(0.25 / 200 + 0.25 / 500))


def test_many_rows_are_sampled(adata):
    options = {"use_rep": "signal", "max_controls": 20, "n_permutations": 50, **QUIET}
    few = magnitude(adata, method="center", rng=0, **options).set_index("key")
    assert few.loc["MUCH", "n_obs"] == 40
    assert few.loc["MUCH", "p_value"] == 1 / 51
    x, control = correct_by_hand(adata, None)
    rows = np.sort(np.random.default_rng(5).choice(np.flatnonzero(control), 20, replace=False))
    table = magnitude(adata, method=None, rng=5, **options).set_index("key")
    expected = energy_distance(x[adata.obs["gene"] == "GOOD"], x[rows])
    assert table.loc["GOOD", "value"] == pytest.approx(expected, rel=1e-12)


def test_a_perturbation_like_the_controls_is_at_least_as_far_in_every_exchange():
    adata = assemble(["A"] * 6 + ["EGFP"] * 12, np.zeros(18), np.ones((18, 3)) / 3)
    options = QUIET | {"control": "EGFP", "batch_key": None, "method": None, "n_permutations": 9}
    table = magnitude(adata, use_rep="signal", **options)
    assert (table["value"][0], table["p_value"][0]) == (0, 1)


# ---- both


@pytest.mark.parametrize(("measure", "keys"), [(consistency, KEYS), (magnitude, QUIET)])
def test_inactive_perturbations_are_the_null(adata, measure, keys):
    table = measure(adata, use_rep="signal", null=IDLE, **keys).set_index("key")
    values = table.loc[IDLE, "value"]
    assert table.loc[[*IDLE, "LONE"], "p_value"].isna().all()
    for gene in ("WEAK", "GOOD", "MUCH"):
        assert table.loc[gene, "p_value"] == (values >= table.loc[gene, "value"]).mean()
    assert table.loc["MUCH", "p_value"] == 0


@pytest.mark.parametrize(("measure", "keys", "least"), [(consistency, KEYS, 2), (magnitude, QUIET, 5)])
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"n_permutations": 0}, errors.BadValue, {"name": "n_permutations", "value": 0}),
        ({"null": ["GOOD", "EGFP", "absent"]}, errors.UnknownChoice, {"name": "null", "value": ["EGFP", "absent"]}),
        ({"null": "IDLE0"}, errors.WrongType, {"name": "null", "got": str}),
        ({"null": ["LONE"]}, errors.TooFew, {"number": 1}),
        ({"null": []}, errors.TooFew, {"number": 0}),
    ],
)
def test_refuses_a_null(adata, refuses, measure, keys, least, change, error, data):
    needed = {"needed": least} if error is errors.TooFew else {}
    with refuses(error, **data, **needed):
        measure(adata, use_rep="signal", **{**keys, **change})


def test_refuses_what_cannot_be_measured(adata, refuses):
    single = adata[adata.obs["gene"].isin(["LONE", "EGFP", "LACZ"])]
    with refuses(errors.TooFew, number=1, needed=2):
        consistency(single, use_rep="signal", **KEYS)
    one = adata[(adata.obs["gene"] != "EGFP") | (np.cumsum(adata.obs["gene"] == "EGFP") == 1)]
    with refuses(errors.TooFew, number=1, needed=2):
        magnitude(one, use_rep="signal", method=None, **QUIET | {"control": "EGFP"})
    for change, error, data in (
        ({"control": None}, errors.BadValue, {"name": "control", "value": None}),
        ({"max_controls": 1}, errors.BadValue, {"name": "max_controls", "value": 1}),
        ({"min_obs": 0}, errors.BadValue, {"name": "min_obs", "value": 0}),
        ({"min_obs": 50}, errors.TooFew, {"number": 40, "needed": 50}),
    ):
        with refuses(error, **data):
            magnitude(adata, use_rep="signal", **QUIET | change)


# ---- significant


@pytest.fixture
def table():
    table = pd.DataFrame({"metric": ["magnitude"] * 3 + ["consistency"] * 5, "representation": list("bbbbaacc")})
    return table.assign(key=list("stuvwxyz"), p_value=[0.05, 0.0500001, np.nan, 0.001, np.nan, np.nan, 0.2, 0.01])


def test_counts_what_stands_out(table):
    before = table.copy()
    expected = pd.DataFrame({"metric": ["magnitude"] + ["consistency"] * 3, "representation": ["b", "b", "a", "c"]})
    expected = expected.assign(value=[0.5, 1.0, np.nan, 0.5], n=[2, 1, 0, 2], n_significant=[1, 1, 0, 1])
    pd.testing.assert_frame_equal(significant(table), expected)
    assert significant(table, alpha=0.2)["n_significant"].tolist() == [2, 1, 0, 2]
    pd.testing.assert_frame_equal(significant(table.astype({"metric": "category"}))[["n"]], expected[["n"]])
    pd.testing.assert_frame_equal(table, before)


def test_significant_refuses(table, refuses):
    with refuses(errors.MissingColumn, key=["representation", "p_value"], there=["metric", "key"]):
        significant(table[["metric", "key"]])
    with pytest.raises(errors.Empty):
        significant(table[:0])
    for alpha in (0, 1, np.nan):
        with refuses(errors.BadValue, name="alpha"):
            significant(table, alpha=alpha)
