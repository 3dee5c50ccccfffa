import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

NAMES, KEYS = ["X_scvi", "X_semiclip"], ["CORUM", "SIGNOR", "mean"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([NAMES, KEYS], names=["representation", "key"])
    columns = {"value": rng.uniform(0.1, 0.4, 6), "error": rng.uniform(0.01, 0.03, 6), "chance": 0.1, "n_pairs": 400}
    return pd.DataFrame({"metric": "relationship_recall", **columns}, index=index).reset_index()


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
    for i, container in enumerate(ax.containers[1::2]):  # after the error bars of each representation come its bars
        rows = table.iloc[3 * i : 3 * i + 3]
        assert {bar.get_facecolor() for bar in container} == {matplotlib.colors.to_rgba(OKABE_ITO[i])}
        ends = np.array([segment[:, 1] for segment in container.errorbar.lines[2][0].get_segments()])
        np.testing.assert_allclose(ends, np.stack([rows["value"] - rows["error"], rows["value"] + rows["error"]], 1))
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches]).reshape(2, 3)
    np.testing.assert_allclose(centres.mean(axis=0), [0, 1, 2], atol=1e-12)

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
    table.loc[empty, ["value", "error"]] = np.nan
    table.loc[empty, "n_pairs"] = 0
    ax = pl.recall(table)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["CORUM"], "its mean says nothing new"
    assert len(ax.patches) == 2


def test_a_database_that_one_representation_lacks_leaves_a_gap(table):
    ax = pl.recall(table.drop(index=1))
    assert np.isnan([bar.get_height() for bar in ax.patches]).tolist() == [False, False, True, False, False, False]


def test_the_table_is_not_changed(table):
    before = table.copy()
    pl.recall(table)
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(KeyError, match="the table has no column representation, error; draw what scl.tl.recall"):
        pl.recall(table.drop(columns=["representation", "error"]))
    with pytest.raises(ValueError, match="several values for X_scvi of CORUM, X_scvi of SIGNOR; average"):
        pl.recall(pd.concat([table, table.iloc[:2]]))
    with pytest.raises(ValueError, match="no row with an annotated pair"):
        pl.recall(table.assign(n_pairs=0))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.recall(table, palette=["red"])
    assert plt.get_fignums() == []


def test_what_is_no_table():
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; draw what scl.tl.recall returns"):
        pl.recall({})
