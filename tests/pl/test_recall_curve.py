import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

NAMES, LOWS = ["X_scvi", "X_semiclip"], [0.1, 0.025, 0.05]  # not in order


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([NAMES, ["CORUM", "mean"], LOWS], names=["representation", "key", "low"])
    table = index.to_frame(index=False)
    value = 2 * table.pop("low").rename("threshold_low")
    table = table.assign(threshold_low=value / 2, threshold_high=1 - value / 2, value=value + rng.uniform(0, 0.2, 12))
    return table.assign(ci_low=table["value"] - 0.02, ci_high=table["value"] + 0.05, n_pairs=300)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("key", ["mean", "CORUM"])
def test_lines_bands_and_chance(table, key):
    ax = pl.recall_curve(table, key=key)
    for i, name in enumerate(NAMES):
        rows = table[(table["representation"] == name) & (table["key"] == key)].sort_values("threshold_low")
        np.testing.assert_allclose(ax.lines[i].get_xdata(), [0.05, 0.1, 0.2])
        np.testing.assert_allclose(ax.lines[i].get_ydata(), rows["value"])
        assert same_color(ax.lines[i].get_color(), OKABE_ITO[i])
        corners = ax.collections[i].get_paths()[0].vertices
        for share, low, high in zip([0.05, 0.1, 0.2], rows["ci_low"], rows["ci_high"], strict=True):
            at = corners[np.isclose(corners[:, 0], share), 1]
            np.testing.assert_allclose([at.min(), at.max()], [low, high])
    np.testing.assert_allclose(ax.lines[2].get_data(), [[0, 0.2], [0, 0.2]])
    assert ax.lines[2].get_linestyle() == "--"
    assert legend(ax) == [*NAMES, "chance"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "Share of all pairs in the tails",
        f"Known relationships recalled\n({key})",
    )
    ax.figure.canvas.draw()
    assert "20%" in [label.get_text() for label in ax.get_xticklabels()]
    assert max(ax.get_yticks()) <= 1


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
def test_nothing_is_cut_or_hidden(table, size, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pl.recall_curve(table, ax=ax)
    assert_legible(ax)
    bottom = ax.get_legend().get_window_extent().y0
    assert bottom > ax.transData.transform((0, table.loc[table["key"] == "mean", "ci_high"].max()))[1]


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(table):
    before = table.copy()
    figure, ax = plt.subplots()
    assert pl.recall_curve(table, ax=ax, palette={"X_semiclip": "red", "X_scvi": "blue"}) is ax
    assert plt.get_fignums() == [figure.number]
    assert [line.get_color() for line in ax.lines[:2]] == ["blue", "red"]
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="table is a list, not a DataFrame; draw what scl.tl.recall returns"):
        pl.recall_curve([])
    with pytest.raises(KeyError, match="the table has no column threshold_low; draw what scl.tl.recall returns"):
        pl.recall_curve(table.drop(columns="threshold_low"))
    with pytest.raises(KeyError, match="key='union' is not in the table, which has CORUM, mean"):
        pl.recall_curve(table, key="union")
    with pytest.raises(ValueError, match="no annotated pair of mean is in the map, so there is nothing to draw"):
        pl.recall_curve(table.assign(n_pairs=0))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.recall_curve(table.iloc[:0])
    with pytest.raises(ValueError, match="two thresholds or more; pass a list of them .* draw scl.pl.recall"):
        pl.recall_curve(table[table["threshold_low"] == 0.05])
    same = table.assign(threshold_low=table["threshold_low"] + 0.01, threshold_high=table["threshold_high"] + 0.01)
    with pytest.raises(ValueError, match=r"several values for X_scvi of 20%, X_scvi of 5%, X_scvi of 10%, X_semi"):
        pl.recall_curve(pd.concat([table, same], ignore_index=True))
    with pytest.raises(ValueError, match=r"column 'value' has no value in 1 row\(s\): 3"):
        pl.recall_curve(table.assign(value=table["value"].where(table.index != 3)))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.recall_curve(table, palette=["red"])
    assert plt.get_fignums() == []
