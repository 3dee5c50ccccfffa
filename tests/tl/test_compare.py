import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from semiclip import errors
from semiclip.tl import compare, zscores

METHODS, SEEDS = ["X_scvi", "X_semiclip", "X_pea"], [42, 45, 66, 88, 129, 7]
FIGURES = [("relationship_recall", "CORUM"), ("relationship_recall", "mean"), ("preservation", "unseen perturbations")]


def runs(methods=METHODS, seeds=SEEDS, figures=FIGURES):
    """Make what tl.recall and tl.preservation return for each seed, stacked."""
    rng = np.random.default_rng(0)
    rows = [(*figure, method, seed) for seed in seeds for figure in figures for method in methods]
    table = pd.DataFrame(rows, columns=["metric", "key", "representation", "seed"])
    return table.assign(value=[rng.normal(methods.index(row[2]), 0.5) for row in rows], n_pairs=400)


@pytest.fixture
def table():
    return runs()


def scores(table, metric, key):
    """Return the scores of each method in the order of the seeds."""
    rows = table[(table["metric"] == metric) & (table["key"] == key)].sort_values("seed")
    return {method: rows.loc[rows["representation"] == method, "value"].to_numpy() for method in METHODS}


def compare_with_base(table, **options):
    return compare(table, base="X_scvi", **options)


BOTH = pytest.mark.parametrize("function", [compare_with_base, zscores])


def test_means_differences_and_p(table):
    result = compare(table, base="X_scvi")
    summary = ["sd", "n_seeds", "difference_sd", "p_min", "mean", "difference", "p_value"]
    assert list(result.columns) == ["representation", "metric", "key", *summary]
    assert isinstance(result.index, pd.RangeIndex)
    assert list(result["representation"]) == METHODS * 3
    assert list(zip(result["metric"], result["key"], strict=True))[::3] == FIGURES
    for _, row in result.iterrows():
        figure = scores(table, row["metric"], row["key"])
        values, base = figure[row["representation"]], figure["X_scvi"]
        difference = (values - base).mean(), (values - base).std(ddof=1)
        p_value = 1 if row["representation"] == "X_scvi" else wilcoxon(values, base).pvalue
        expected = [values.std(ddof=1), 6, difference[1], 0.03125, values.mean(), difference[0], p_value]
        assert row[summary].tolist() == pytest.approx(expected)
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


@BOTH
def test_seeds_are_paired_whatever_the_order_of_rows_and_nothing_is_changed(table, function):
    before = table.copy()
    key = ["metric", "key", "representation"]
    one, other = (function(rows).set_index(key).sort_index() for rows in (table, table.sample(frac=1, random_state=0)))
    pd.testing.assert_frame_equal(one, other, rtol=1e-12)
    pd.testing.assert_frame_equal(table, before)


def test_zscores_equal_a_naive_loop(table):
    z = {}
    for metric, key in FIGURES:
        for values in zip(*scores(table, metric, key).values(), strict=True):  # of one seed
            mean = sum(values) / len(values)
            sd = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
            for method, value in zip(METHODS, values, strict=True):
                z.setdefault((metric, key, method), []).append((value - mean) / sd)
    result = zscores(table)
    assert list(result.columns) == ["representation", "metric", "key", "mean", "sd", "n_seeds"]
    assert isinstance(result.index, pd.RangeIndex)
    for row, (name, values) in zip(result.itertuples(index=False), z.items(), strict=True):
        assert (*row[1:3], row[0]) == name
        assert row[3:] == pytest.approx((np.mean(values), np.std(values, ddof=1), 6))


def test_zscores_have_mean_0_and_forget_what_a_seed_or_a_scale_does_to_all(table):
    result = zscores(table)
    np.testing.assert_allclose(result.groupby(["metric", "key"])["mean"].sum(), 0, atol=1e-12)
    shifted = table.assign(value=100 * table["value"] + 3 * table["seed"])
    pd.testing.assert_frame_equal(zscores(shifted), result, rtol=1e-9, atol=1e-12)


def test_zscores_of_equal_scores_are_0(table):
    assert (zscores(table.assign(value=0.1 * 3))[["mean", "sd"]] == 0).all(axis=None)
    table.loc[table["seed"] == 42, "value"] = [0.3, 0.1 * 3, 0.1 + 0.2] * 3  # equal but for rounding
    others = zscores(table[table["seed"] != 42])
    np.testing.assert_allclose(zscores(table)["mean"], others["mean"] * 5 / 6)


def test_one_seed_has_no_deviation(table):
    table = table[table["seed"] == 42]
    result = compare(table, base="X_scvi")
    assert result[["sd", "difference_sd"]].isna().all(axis=None)
    assert (result[["p_value", "p_min"]] == 1).all(axis=None)
    assert zscores(table)["sd"].isna().all()


@BOTH
def test_columns_by_other_names(table, function):
    names = {"representation": "method", "seed": "run", "value": "score", "key": "test"}
    options = {"by": "method", "seed": "run", "value": "score", "within": ("metric", "test")}
    renamed = function(table.rename(columns=names), **options)
    pd.testing.assert_frame_equal(renamed, function(table).rename(columns=names))


def test_within_by_default_by_name_and_not_at_all(table):
    both = compare(pd.concat([table.assign(dataset="LINCS"), table.assign(dataset="SC-RPE1")]), base="X_scvi")
    assert (len(both), list(both)[:4]) == (18, ["representation", "metric", "key", "dataset"])
    one = table[(table["metric"] == "relationship_recall") & (table["key"] == "mean")]
    assert list(compare(one, base="X_scvi", within="metric").columns[:2]) == ["representation", "metric"]
    bare = compare(one[["representation", "seed", "value"]], base="X_scvi")
    assert [*bare.columns[:1], *bare.columns[-3:]] == ["representation", "mean", "difference", "p_value"]
    pd.testing.assert_frame_equal(compare(one, base="X_scvi", within=()), bare)
    by_key = compare(table[table["metric"] == "relationship_recall"], base="mean", by="key", within="representation")
    assert list(by_key["key"]) == ["CORUM", "mean"] * 3


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_types_of_names(table, dtype):
    typed = table.astype({"representation": dtype, "metric": dtype, "key": dtype, "seed": "category"})
    typed["value"] = typed["value"].astype("Float64")
    names = {"metric": object, "key": object, "representation": object}
    result, expected = (compare(runs, base="X_scvi").astype(names) for runs in (typed, table))
    pd.testing.assert_frame_equal(result, expected)


@BOTH
def test_several_thresholds_are_figures_of_their_own_beside_those_without(table, function, refuses):
    recall, others = (rows for _, rows in table.groupby(table["metric"] == "preservation"))
    levels = [recall.assign(value=recall["value"] + i, threshold_low=i / 10, threshold_high=1 - i / 10) for i in (0, 1)]
    result = function(pd.concat([*levels, others], ignore_index=True))
    assert list(result.columns[:5]) == ["representation", "metric", "key", "threshold_low", "threshold_high"]
    assert len(result) == 15
    expected = pd.concat([function(part) for part in (*levels, others)], ignore_index=True)
    pd.testing.assert_frame_equal(result, expected[result.columns])
    with refuses(errors.MissingColumn, key="threshold_low", name="within"):
        function(table, within=["metric", "key", "threshold_low"])


def with_gaps(table, column, gap):
    table = table.copy()
    table.loc[[3, 7], column] = gap
    return table


GAPS = [("value", np.nan), ("value", np.inf), ("key", None), ("representation", None)]
NAMES = ["by", "value", "seed", "within"]
TWICE = {"within": ("metric", "key", "seed")}
TAKEN = {"within": ("metric", "key", "mean", "sd")}
RUN = "representation=X_scvi seed=42"


@BOTH
@pytest.mark.parametrize(
    ("change", "options", "error", "data"),
    [
        (lambda _: {}, {}, errors.WrongType, {"name": "table", "got": dict}),
        *((lambda t: t, {name: "wrong"}, errors.MissingColumn, {"key": "wrong", "name": name}) for name in NAMES),
        (lambda t: t.iloc[:0], {}, errors.Empty, {}),
        (lambda t: t.astype({"value": object}), {}, errors.WrongDtype, {"needed": "numbers"}),
        *((lambda t, gap=gap: with_gaps(t, *gap), {}, errors.MissingValues, {"rows": [3, 7]}) for gap in GAPS),
        (lambda t: t.drop(index=0), {}, errors.MissingValues, {"rows": [RUN]}),
        (lambda t: pd.concat([t, t.iloc[:1]]), {}, errors.Repeated, {"items": [RUN]}),
        (lambda t: t[t["representation"] == "X_scvi"], {}, errors.TooFew, {"number": 1, "needed": 2}),
        (lambda t: t, TWICE, errors.Repeated, {"items": ["seed"]}),
        (lambda t: t.assign(mean="a", sd="b"), TAKEN, errors.NameTaken, {"items": ["mean", "sd"]}),
    ],
)
def test_refuses(table, function, refuses, change, options, error, data):
    with refuses(error, **data):
        function(change(table), **options)


def test_refuses_a_base_that_does_not_exist(table, refuses):
    with refuses(errors.UnknownChoice, name="base", value="X_none", choices=METHODS):
        compare(table, base="X_none")
    absent = (table["metric"] == "preservation") & (table["representation"] == "X_scvi")
    with refuses(errors.UnknownChoice, name="base", value="X_scvi", choices=METHODS[1:]):
        compare(table[~absent], base="X_scvi")
