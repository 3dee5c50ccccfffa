import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from semiclip.tl import compare, zscores

METHODS, SEEDS = ["X_scvi", "X_semiclip", "X_pea"], [42, 45, 66, 88, 129, 7]
FIGURES = [("relationship_recall", "CORUM"), ("relationship_recall", "mean"), ("preservation", "unseen perturbations")]


def runs(methods=METHODS, seeds=SEEDS, figures=FIGURES):
    """Make what tl.recall and tl.preservation return for each seed, stacked."""
    rng = np.random.default_rng(0)
    rows = [
        (metric, method, key, rng.normal(i, 0.5), 400, seed)
        for seed in seeds
        for metric, key in figures
        for i, method in enumerate(methods)
    ]
    return pd.DataFrame(rows, columns=["metric", "representation", "key", "value", "n_pairs", "seed"])


@pytest.fixture
def table():
    return runs()


def scores(table, metric, key, method):
    rows = table[(table["metric"] == metric) & (table["key"] == key) & (table["representation"] == method)]
    return rows.sort_values("seed")["value"].to_numpy()


def test_means_differences_and_p(table):
    result = compare(table, base="X_scvi")
    summary = ["mean", "sd", "n_seeds", "difference", "difference_sd", "p_value", "p_min"]
    assert list(result.columns) == ["metric", "key", "representation", *summary]
    assert isinstance(result.index, pd.RangeIndex)
    assert list(result["representation"]) == METHODS * 3
    assert list(zip(result["metric"], result["key"], strict=True))[::3] == FIGURES
    for _, row in result.iterrows():
        values = scores(table, row["metric"], row["key"], row["representation"])
        base = scores(table, row["metric"], row["key"], "X_scvi")
        assert row["mean"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std(ddof=1))
        assert row["n_seeds"] == 6
        assert row["difference"] == pytest.approx((values - base).mean())
        assert row["difference_sd"] == pytest.approx((values - base).std(ddof=1))
        assert row["p_min"] == 0.03125
        expected = 1 if row["representation"] == "X_scvi" else wilcoxon(values, base).pvalue
        assert row["p_value"] == pytest.approx(expected)
    assert (result.loc[result["representation"] == "X_scvi", ["difference", "difference_sd"]] == 0).all(axis=None)


@pytest.mark.parametrize(("n", "p_min"), [(5, 0.0625), (6, 0.03125), (15, 2 / 2**15)])
def test_a_gain_in_every_seed_reaches_the_smallest_p(n, p_min):
    table = runs(METHODS[:2], range(n), FIGURES[:1])
    table["value"] += 10 * (table["representation"] == "X_semiclip")
    assert list(compare(table, base="X_scvi")["p_value"]) == [1, p_min]
    greater = compare(table, base="X_scvi", alternative="greater")
    assert list(greater["p_value"]) == [1, p_min / 2]
    assert (greater["p_min"] == p_min / 2).all()
    assert list(compare(table, base="X_scvi", alternative="less")["p_value"]) == [1, 1]


def test_seeds_are_paired_whatever_the_order_of_rows(table):
    shuffled = table.sample(frac=1, random_state=0)
    key = ["metric", "key", "representation"]
    for function in (lambda rows: compare(rows, base="X_pea"), zscores):
        one, other = (function(rows).set_index(key).sort_index() for rows in (table, shuffled))
        pd.testing.assert_frame_equal(one, other, rtol=1e-12)


def naive_zscores(table):
    """Standardise over the methods at each seed, one number at a time."""
    z = {}
    for metric, key in FIGURES:
        for seed in SEEDS:
            rows = table[(table["metric"] == metric) & (table["key"] == key) & (table["seed"] == seed)]
            values = [float(rows.loc[rows["representation"] == method, "value"].iloc[0]) for method in METHODS]
            mean = sum(values) / len(values)
            sd = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
            for method, value in zip(METHODS, values, strict=True):
                z.setdefault((metric, key, method), []).append((value - mean) / sd)
    return z


def test_zscores_equal_a_naive_loop(table):
    result = zscores(table)
    assert list(result.columns) == ["metric", "key", "representation", "mean", "sd", "n_seeds"]
    assert isinstance(result.index, pd.RangeIndex)
    for (*figure, mean, sd, n_seeds), (name, z) in zip(
        result.itertuples(index=False), naive_zscores(table).items(), strict=True
    ):
        assert tuple(figure) == name
        assert mean == pytest.approx(np.mean(z))
        assert sd == pytest.approx(np.std(z, ddof=1))
        assert n_seeds == 6


def test_zscores_have_mean_0_and_forget_what_a_seed_or_a_scale_does_to_all(table):
    result = zscores(table)
    sums = result.groupby(["metric", "key"], sort=False)["mean"].sum()
    np.testing.assert_allclose(sums, 0, atol=1e-12)
    shifted = table.assign(value=100 * table["value"] + 3 * table["seed"])
    pd.testing.assert_frame_equal(zscores(shifted), result, rtol=1e-9, atol=1e-12)


def test_zscores_of_equal_scores_are_0(table):
    equal = zscores(table.assign(value=0.1 * 3))
    assert (equal[["mean", "sd"]] == 0).all(axis=None)
    table.loc[table["seed"] == 42, "value"] = [0.3, 0.1 * 3, 0.1 + 0.2] * 3  # equal but for rounding
    others = zscores(table[table["seed"] != 42])
    np.testing.assert_allclose(zscores(table)["mean"], others["mean"] * 5 / 6)


def test_one_seed_has_no_deviation(table):
    table = table[table["seed"] == 42]
    result = compare(table, base="X_scvi")
    assert result[["sd", "difference_sd"]].isna().all(axis=None)
    assert (result[["p_value", "p_min"]] == 1).all(axis=None)
    assert zscores(table)["sd"].isna().all()


def test_columns_by_other_names(table):
    names = {"representation": "method", "seed": "run", "value": "score", "key": "test"}
    renamed = table.rename(columns=names)
    how = {"by": "method", "seed": "run", "value": "score", "within": ("metric", "test")}
    expected = compare(table, base="X_scvi").rename(columns=names)
    pd.testing.assert_frame_equal(compare(renamed, base="X_scvi", **how), expected)
    pd.testing.assert_frame_equal(zscores(renamed, **how), zscores(table).rename(columns=names))


def test_within_by_default_by_name_and_not_at_all(table):
    both = pd.concat([table.assign(dataset="LINCS"), table.assign(dataset="SC-RPE1")])
    result = compare(both, base="X_scvi")
    assert list(result.columns[:4]) == ["metric", "key", "dataset", "representation"]
    assert len(result) == 18
    one = table[(table["metric"] == "relationship_recall") & (table["key"] == "mean")]
    assert list(compare(one, base="X_scvi", within="metric").columns[:2]) == ["metric", "representation"]
    bare = compare(one[["representation", "seed", "value"]], base="X_scvi")
    assert list(bare.columns[:2]) == ["representation", "mean"]
    pd.testing.assert_frame_equal(compare(one, base="X_scvi", within=()), bare)
    by_key = compare(table[table["metric"] == "relationship_recall"], base="mean", by="key", within="representation")
    assert list(by_key["key"]) == ["CORUM", "mean"] * 3


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_types_of_names(table, dtype):
    typed = table.astype({"representation": dtype, "metric": dtype, "key": dtype, "seed": "category"})
    typed["value"] = typed["value"].astype("Float64")
    result = compare(typed, base="X_scvi").astype({"metric": object, "key": object, "representation": object})
    expected = compare(table, base="X_scvi").astype({"metric": object, "key": object, "representation": object})
    pd.testing.assert_frame_equal(result, expected)


def test_nothing_is_changed(table):
    before = table.copy()
    compare(table, base="X_scvi")
    zscores(table)
    pd.testing.assert_frame_equal(table, before)


def with_base(table, **how):
    return compare(table, base="X_scvi", **how)


@pytest.mark.parametrize("function", [with_base, zscores])
def test_refuses(table, function):
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; pass one with a row per run"):
        function({})
    for parameter in ("by", "value", "seed", "within"):
        with pytest.raises(KeyError, match=f"{parameter}='wrong' is not a column of the table, which has metric"):
            function(table, **{parameter: "wrong"})
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to compare"):
        function(table.iloc[:0])
    with pytest.raises(TypeError, match="column 'value' holds object values, not numbers"):
        function(table.astype({"value": object}))
    for column, gap in [("value", np.nan), ("value", np.inf), ("key", None), ("representation", None)]:
        gappy = table.copy()
        gappy.loc[[3, 7], column] = gap
        with pytest.raises(ValueError, match=rf"column '{column}' has no value in 2 row\(s\): 3, 7; fill them"):
            function(gappy)
    with pytest.raises(
        ValueError,
        match=r"none for representation=X_scvi seed=42 \(metric=relationship_recall key=CORUM\); add it, or drop its",
    ):
        function(table.drop(index=0))
    with pytest.raises(
        ValueError,
        match=r"several values for representation=X_scvi seed=42 \(metric=relationship_recall key=CORUM\); average",
    ):
        function(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="metric=preservation key=unseen perturbations has a single representation"):
        function(table[(table["metric"] != "preservation") | (table["representation"] == "X_scvi")])
    bare = table.loc[table["representation"] == "X_scvi", ["representation", "seed", "value"]].drop_duplicates("seed")
    with pytest.raises(ValueError, match="the table has a single representation, X_scvi; add another one"):
        function(bare)
    with pytest.raises(ValueError, match="column seed is named twice among by, seed, value and within"):
        function(table, within=("metric", "key", "seed"))
    with pytest.raises(ValueError, match="the result has a column mean, sd of its own; rename that of the table"):
        function(table.assign(mean="a", sd="b"), within=("metric", "key", "mean", "sd"))


def test_refuses_a_base_that_is_not_there(table):
    with pytest.raises(ValueError, match="base='X_none' is no representation of the table, which has X_scvi, X_semi"):
        compare(table, base="X_none")
    absent = (table["metric"] == "preservation") & (table["representation"] == "X_scvi")
    with pytest.raises(
        ValueError, match="base='X_scvi' has no score for metric=preservation key=unseen perturbations; run it, or"
    ):
        compare(table[~absent], base="X_scvi")
    with pytest.raises(ValueError, match="alternative='both' is none of"):
        compare(table, base="X_scvi", alternative="both")


def test_several_thresholds_are_figures_of_their_own_beside_those_without(table):
    recall = table[table["metric"] == "relationship_recall"]
    limits = [(0.05, 0.95), (0.1, 0.9)]
    levels = [
        recall.assign(value=recall["value"] + i, threshold_low=low, threshold_high=high)
        for i, (low, high) in enumerate(limits)
    ]
    both = pd.concat([*levels, table[table["metric"] == "preservation"]], ignore_index=True)
    for function in (with_base, zscores):
        result = function(both)
        assert list(result.columns[:5]) == ["metric", "key", "threshold_low", "threshold_high", "representation"]
        assert len(result) == 15
        parts = [*levels, table[table["metric"] == "preservation"]]
        expected = pd.concat([function(part) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(result, expected[result.columns])
    by_level = compare(both, base="X_scvi").dropna().groupby("threshold_low")["mean"].mean()
    assert by_level[0.1] == pytest.approx(by_level[0.05] + 1)
    with pytest.raises(KeyError, match="within='threshold_low' is not a column of the table"):
        compare(table, base="X_scvi", within=["metric", "key", "threshold_low"])


@pytest.mark.parametrize("function", [with_base, zscores])
def test_databases_without_a_pair_are_left_out_as_the_message_says(table, function):
    empty = table[table["key"] == "CORUM"].assign(key="SIGNOR", value=np.nan)
    with pytest.raises(ValueError, match=r"drop these rows, such as by table.dropna\(subset='value'\)"):
        function(pd.concat([table, empty], ignore_index=True))
    full = pd.concat([table, empty], ignore_index=True).dropna(subset="value")
    pd.testing.assert_frame_equal(function(full), function(table))
