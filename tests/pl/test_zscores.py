import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from semiclip import errors, pl

METHODS = ["X_scvi", "X_kd", "X_shake", "X_semiclip"]


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_means_deviations_and_labels(table, shades, legend, errorbars):
    axes = pl.zscores(table)
    assert [ax.get_title() for ax in axes] == ["HUVEC-KO", "LINCS"]
    for ax, (_, rows) in zip(axes, table.groupby("dataset"), strict=True):
        assert len(errorbars(ax)) == 2
        for i, (bar, metric) in enumerate(zip(errorbars(ax), ("relationship_recall", "preservation"), strict=True)):
            drawn = rows[rows["metric"] == metric]
            np.testing.assert_allclose(bar.lines[0].get_xdata(), drawn["mean"])
            ends = np.array([segment[:, 0] for segment in bar.lines[2][0].get_segments()])
            np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * drawn["sd"])
            np.testing.assert_allclose(ends.mean(axis=1), drawn["mean"])
            np.testing.assert_array_equal(bar.lines[0].get_ydata().round(), range(4))
            assert bar.lines[0].get_color() == shades[i]
        assert ax.get_xlabel() == "z-score\n(mean ± sd, 5 seeds)"
        low, high = ax.get_ylim()
        assert low == 3.5
        assert high < -0.5
        assert all(ax.get_xlim()[0] < end < ax.get_xlim()[1] for end in (table["mean"].min(), table["mean"].max()))
    first, second = (errorbars(axes[0])[i].lines[0] for i in (0, 1))
    assert (first.get_ydata() < second.get_ydata()).all()
    assert first.get_marker() != second.get_marker()
    assert [names(ax) for ax in axes] == [METHODS, [""] * 4]
    assert legend(axes[0]) == ["relationship recall", "preservation"]
    assert axes[1].get_legend() is None
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()


def test_figures_are_named_by_what_tells_them_apart(table, legend):
    other = table.assign(key=table["key"].replace("mean", "CORUM"))
    keys = pd.concat([other[other["metric"] == "relationship_recall"], table])
    assert legend(pl.zscores(keys)[0]) == [
        "relationship recall · CORUM",
        "relationship recall · mean",
        "preservation · unseen perturbations",
    ]
    recall = table[table["metric"] == "relationship_recall"]
    keys = pd.concat([recall, recall.assign(key="CORUM")])
    for drawn in (keys, keys[keys["dataset"] == "LINCS"].drop(columns="dataset")):
        assert legend(pl.zscores(drawn)[0]) == ["mean", "CORUM"]
    assert legend(pl.zscores(recall)[0]) == ["relationship recall"]
    axes = pl.zscores(table, panel="metric")
    assert [ax.get_title() for ax in axes] == ["relationship recall", "preservation"]
    assert legend(axes[0]) == ["HUVEC-KO", "LINCS"]


def test_one_panel_one_figure_and_one_seed(table, errorbars):
    one = table[(table["dataset"] == "LINCS") & (table["metric"] == "preservation")]
    one = one[["representation", "mean"]].assign(sd=np.nan, n_seeds=1)
    (ax,) = pl.zscores(one)
    assert ax.get_legend() is None
    assert (ax.get_title(), ax.get_xlabel()) == ("", "z-score (1 seed)")
    np.testing.assert_allclose(errorbars(ax)[0].lines[0].get_ydata(), range(4))
    (ax,) = pl.zscores(one.assign(n_seeds=[5, 5, 6, 6], sd=0.1))
    assert ax.get_xlabel() == "z-score\n(mean ± sd over seeds)"


def test_a_figure_or_a_method_that_a_panel_lacks(table, legend, shades, errorbars):
    axes = pl.zscores(table[(table["metric"] == "preservation") | (table["dataset"] == "LINCS")])
    assert legend(axes[0]) == ["preservation", "relationship recall"]
    assert [len(bar.lines[0].get_xdata()) for ax in axes for bar in errorbars(ax)] == [4, 0, 4, 4]
    assert [bar.lines[0].get_color() for ax in axes for bar in errorbars(ax)] == [*shades[:2]] * 2
    axes = pl.zscores(table[(table["representation"] != "X_kd") | (table["dataset"] != "LINCS")])
    np.testing.assert_array_equal(errorbars(axes[1])[0].lines[0].get_ydata().round(), [0, 2, 3])


def test_methods_are_named_wherever_a_row_of_panels_begins(table):
    for ax in pl.zscores(table.set_index(table["representation"]), ax=plt.subplots(2, 1)[1]):
        assert names(ax) == METHODS
    free = plt.figure().add_axes((0.2, 0.2, 0.6, 0.6))
    assert names(pl.zscores(table[table["dataset"] == "LINCS"], ax=free)[0]) == METHODS


def test_refuses(table, refuses):
    with refuses(errors.MissingColumn, key=["method"]):
        pl.zscores(table, by="method")
    with refuses(errors.Refused):
        pl.zscores(table.assign(difference=0.1, difference_sd=0.1, p_value=1.0, p_min=1.0))


def test_labels_of_panels_keep_apart_in_large_letters(table, assert_apart):
    with plt.rc_context({"font.size": 14}):
        axes = pl.zscores(table)
        axes[0].figure.draw_without_rendering()
        assert_apart([ax.xaxis.label for ax in axes])
