import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

NAMES, KEYS = ["X_scvi", "X_semiclip"], ["CORUM", "SIGNOR", "mean"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([NAMES, KEYS], names=["representation", "key"])
    value = rng.uniform(0.1, 0.4, 6)
    interval = {"ci_low": value - rng.uniform(0.01, 0.03, 6), "ci_high": value + rng.uniform(0.02, 0.05, 6)}
    rest = {"threshold_low": 0.05, "threshold_high": 0.95, "n_pairs": 400, "chance": 0.1}
    return pd.DataFrame({"metric": "relationship_recall", "value": value} | interval | rest, index=index).reset_index()


def intervals(ax):
    """Return the ends of the error bars, one array per representation."""
    bars = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    return [np.array([part[:, 1] for part in bar.lines[2][0].get_segments()]) for bar in bars]


def bands(ax):
    """Return low and high ends of the measured chance, one array per representation."""
    found = [part for part in ax.collections if isinstance(part, PolyCollection)]
    return [np.array([path.vertices[:, 1][[0, 2]] for path in part.get_paths()]) for part in found]


def assert_inside(ax):
    """Check that every label and the legend lie within the figure, and that the legend hides no bar."""
    figure = ax.figure
    figure.canvas.draw()
    texts = [*ax.get_xticklabels(), ax.yaxis.label, ax.get_legend()]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    legend = ax.get_legend().get_window_extent()
    assert not any(bar.get_window_extent().overlaps(legend) for bar in ax.patches)
    ticks = [label.get_tightbbox() for label in ax.get_xticklabels() if label.get_rotation() == 0]
    assert not any(left.overlaps(right) for left, right in zip(ticks, ticks[1:], strict=False))


def test_bars_errors_chance_and_labels(table):
    ax = pl.recall(table)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], table["value"])
    bars = [container for container in ax.containers if isinstance(container, BarContainer)]
    for i, (container, ends) in enumerate(zip(bars, intervals(ax), strict=True)):
        rows = table.iloc[3 * i : 3 * i + 3]
        assert {bar.get_facecolor() for bar in container} == {matplotlib.colors.to_rgba(OKABE_ITO[i])}
        np.testing.assert_allclose(ends, rows[["ci_low", "ci_high"]])
    assert bands(ax) == [], "no chance was measured"
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches]).reshape(2, 3)
    np.testing.assert_allclose(centres.mean(axis=0), [0, 1, 2.35], atol=1e-12)
    np.testing.assert_allclose(ax.get_xticks(), [0, 1, 2.35])

    (chance,) = [line for line in ax.lines if line.get_label() == "chance"]
    assert list(chance.get_ydata()) == [0.1, 0.1]
    assert chance.get_linestyle() == "--"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*NAMES, "chance"]
    assert [label.get_text() for label in ax.get_xticklabels()] == KEYS
    assert ax.get_ylabel() == "Known relationships recalled"
    ax.figure.canvas.draw()
    assert "20%" in [label.get_text() for label in ax.get_yticklabels()]
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize("size", [None, (3.2, 2.6), (9, 5)])
def test_nothing_is_cut_or_hidden(table, size):
    long = pd.concat([table.assign(key=table["key"] + suffix) for suffix in ("", "_2")])
    for drawn in (table, long):
        ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
        assert_inside(pl.recall(drawn, ax=ax))


def test_draws_on_given_axes_in_given_colours(table):
    figure, ax = plt.subplots()
    assert pl.recall(table, ax=ax, palette={"X_semiclip": "red", "X_scvi": "blue"}) is ax
    assert plt.get_fignums() == [figure.number]
    assert [ax.patches[i].get_facecolor() for i in (0, 3)] == [matplotlib.colors.to_rgba(c) for c in ("blue", "red")]


def test_a_database_without_pairs_is_left_out(table):
    empty = table["key"] == "SIGNOR"
    table.loc[empty, ["value", "ci_low", "ci_high"]] = np.nan
    table.loc[empty, "n_pairs"] = 0
    ax = pl.recall(table)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["CORUM"], "its mean says nothing new"
    assert len(ax.patches) == 2


def test_a_database_that_one_representation_lacks_leaves_a_gap(table):
    ax = pl.recall(table.drop(index=1))
    assert np.isnan([bar.get_height() for bar in ax.patches]).tolist() == [False, True, False, False, False, False]


def with_union(table):
    return pd.concat([table, table[table["key"] == "mean"].assign(key="union")], ignore_index=True)


def test_mean_and_union_stand_apart_and_last(table):
    drawn = with_union(table).iloc[::-1]
    ax = pl.recall(drawn)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["SIGNOR", "CORUM", "mean", "union"]
    np.testing.assert_allclose(np.diff(ax.get_xticks()), [1, 1.35, 1])


def test_mean_and_union_of_a_single_database_say_nothing_new(table):
    ax = pl.recall(with_union(table[table["key"] != "SIGNOR"]))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["CORUM"]
    ax = pl.recall(with_union(table[table["key"] == "mean"]))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["mean", "union"], "without databases they are all"


def test_measured_chance(table):
    table = table.assign(chance_mean=np.linspace(0.08, 0.13, 6), chance_sd=np.linspace(0.005, 0.06, 6))
    ax = pl.recall(table)
    low = (table["chance_mean"] - 2 * table["chance_sd"]).clip(lower=0)
    ends = np.stack([low, table["chance_mean"] + 2 * table["chance_sd"]], axis=1)
    np.testing.assert_allclose(np.concatenate(bands(ax)), ends)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*NAMES, "chance", "permuted ± 2 sd"]
    ax = pl.recall(table.drop(index=1))
    assert [len(ends) for ends in bands(ax)] == [2, 3]


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
def test_measured_chance_is_legible(table, size, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    assert_legible(pl.recall(with_union(table).assign(chance_mean=0.1, chance_sd=0.02), ax=ax))


def test_an_interval_that_leaves_the_value_out_is_drawn_as_it_is(table):
    table.loc[0, ["ci_low", "ci_high"]] = [table.loc[0, "value"] + 0.01, table.loc[0, "value"] + 0.02]
    np.testing.assert_allclose(intervals(pl.recall(table))[0][0], table.loc[0, ["ci_low", "ci_high"]].astype(float))


def test_the_table_is_not_changed(table):
    before = table.copy()
    pl.recall(table)
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(KeyError, match="the table has no column representation, ci_low; draw what scl.tl.recall"):
        pl.recall(table.drop(columns=["representation", "ci_low"]))
    with pytest.raises(ValueError, match="several values for X_scvi of CORUM, X_scvi of SIGNOR; average"):
        pl.recall(pd.concat([table, table.iloc[:2]]))
    with pytest.raises(ValueError, match="no row with an annotated pair"):
        pl.recall(table.assign(n_pairs=0))
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to draw"):
        pl.recall(table.iloc[:0])
    second = table.assign(threshold_low=0.1, threshold_high=0.9)
    with pytest.raises(ValueError, match=r"thresholds, \(0.05, 0.95\), \(0.1, 0.9\); .* all with scl.pl.recall_curve"):
        pl.recall(pd.concat([table, second]))
    with pytest.raises(ValueError, match=r"column 'ci_low' has no value in 1 row\(s\): 2; drop them first"):
        pl.recall(table.assign(ci_low=table["ci_low"].where(table.index != 2)))
    with pytest.raises(ValueError, match=r"column 'chance_sd' has no value in 6 row\(s\): 0, 1, 2, 3, 4, … \(6"):
        pl.recall(table.assign(chance_mean=0.1, chance_sd=np.nan))
    with pytest.raises(TypeError, match="column 'value' holds object values, not numbers"):
        pl.recall(table.astype({"value": object}))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.recall(table, palette=["red"])
    assert plt.get_fignums() == []


def test_what_is_no_table():
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; draw what scl.tl.recall returns"):
        pl.recall({})
