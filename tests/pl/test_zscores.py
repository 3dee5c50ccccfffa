import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.container import ErrorbarContainer

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

METHODS = ["X_scvi", "X_kd", "X_shake", "X_semiclip"]
FIGURES = [("relationship_recall", "mean"), ("preservation", "unseen perturbations")]


@pytest.fixture
def table():
    """What tl.zscores returns."""
    rng = np.random.default_rng(0)
    rows = [
        (metric, key, dataset, method, rng.normal(), rng.uniform(0.1, 0.3), 5)
        for dataset in ("HUVEC-KO", "LINCS")
        for metric, key in FIGURES
        for method in METHODS
    ]
    return pd.DataFrame(rows, columns=["metric", "key", "dataset", "representation", "mean", "sd", "n_seeds"])


def bars(ax):
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_means_deviations_and_labels(table):
    axes = pl.zscores(table)
    assert [ax.get_title() for ax in axes] == ["HUVEC-KO", "LINCS"]
    for ax, (_, rows) in zip(axes, table.groupby("dataset"), strict=True):
        assert len(bars(ax)) == 2
        for i, (bar, (metric, _)) in enumerate(zip(bars(ax), FIGURES, strict=True)):
            drawn = rows[rows["metric"] == metric]
            np.testing.assert_allclose(bar.lines[0].get_xdata(), drawn["mean"])
            ends = np.array([segment[:, 0] for segment in bar.lines[2][0].get_segments()])
            np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * drawn["sd"])
            np.testing.assert_allclose(ends.mean(axis=1), drawn["mean"])
            np.testing.assert_array_equal(bar.lines[0].get_ydata().round(), range(4))
            assert bar.lines[0].get_color() == OKABE_ITO[i]
        assert ax.get_xlabel() == "z-score\n(mean ± sd, 5 seeds)"
        low, high = ax.get_ylim()
        assert low == 3.5
        assert high < -0.5
    first, second = (bars(axes[0])[i].lines[0] for i in (0, 1))
    assert (first.get_ydata() < second.get_ydata()).all()
    assert first.get_marker() != second.get_marker()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == METHODS
    assert [label.get_text() for label in axes[1].get_yticklabels()] == [""] * 4
    assert legend(axes[0]) == ["relationship recall", "preservation"]
    assert axes[1].get_legend() is None
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    for ax in axes:
        assert all(ax.get_xlim()[0] < end < ax.get_xlim()[1] for end in (table["mean"].min(), table["mean"].max()))


def test_keys_are_named_where_metrics_do_not_suffice(table):
    other = table.assign(key=table["key"].replace("mean", "CORUM"))
    keys = pd.concat([other[other["metric"] == "relationship_recall"], table])
    (ax, _) = pl.zscores(keys)
    assert legend(ax) == [
        "relationship recall · CORUM",
        "relationship recall · mean",
        "preservation · unseen perturbations",
    ]


def test_what_all_figures_share_is_not_named(table):
    recall = table[table["metric"] == "relationship_recall"]
    keys = pd.concat([recall, recall.assign(key="CORUM")])
    for drawn in (keys, keys[keys["dataset"] == "LINCS"].drop(columns="dataset")):
        assert legend(pl.zscores(drawn)[0]) == ["mean", "CORUM"]
    assert legend(pl.zscores(recall)[0]) == ["relationship recall"]


def test_one_panel_one_figure_and_one_seed(table):
    one = table[(table["dataset"] == "LINCS") & (table["metric"] == "preservation")]
    one = one[["representation", "mean"]].assign(sd=np.nan, n_seeds=1)
    (ax,) = pl.zscores(one)
    assert ax.get_legend() is None
    assert (ax.get_title(), ax.get_xlabel()) == ("", "z-score (1 seed)")
    np.testing.assert_allclose(bars(ax)[0].lines[0].get_ydata(), range(4))
    (ax,) = pl.zscores(one.assign(n_seeds=[5, 5, 6, 6], sd=0.1))
    assert ax.get_xlabel() == "z-score\n(mean ± sd over seeds)"


def test_panels_by_another_column(table):
    axes = pl.zscores(table, panel="metric")
    assert [ax.get_title() for ax in axes] == ["relationship recall", "preservation"]
    assert legend(axes[0]) == ["HUVEC-KO", "LINCS"]


def test_a_figure_that_a_panel_lacks(table):
    axes = pl.zscores(table[(table["metric"] == "preservation") | (table["dataset"] == "LINCS")])
    assert legend(axes[0]) == ["preservation", "relationship recall"]
    assert [len(bar.lines[0].get_xdata()) for ax in axes for bar in bars(ax)] == [4, 0, 4, 4]
    assert [bar.lines[0].get_color() for ax in axes for bar in bars(ax)] == [*OKABE_ITO[:2]] * 2


def test_a_method_that_a_panel_lacks_leaves_its_place_empty(table):
    axes = pl.zscores(
        table.drop(index=table.index[(table["representation"] == "X_kd") & (table["dataset"] == "LINCS")])
    )
    np.testing.assert_array_equal(bars(axes[1])[0].lines[0].get_ydata().round(), [0, 2, 3])


@pytest.mark.parametrize("size", [None, (3.2, 2.8), (9, 5)])
@pytest.mark.parametrize("datasets", [["LINCS"], ["HUVEC-KO", "LINCS"]])
def test_nothing_is_cut_or_hidden(table, size, datasets):
    table = table[table["dataset"].isin(datasets)]
    ax = None
    if size is not None:
        figure, ax = plt.subplots(1, len(datasets), figsize=(size[0] * len(datasets), size[1]), layout="constrained")
    axes = pl.zscores(table, ax=ax)
    figure = axes[0].figure
    figure.canvas.draw()
    box = axes[0].get_legend().get_window_extent()
    highest = axes[0].transData.transform((0, -0.5))[1]
    assert box.y0 >= highest - 1
    for text in [axes[0].get_legend(), *axes[0].get_yticklabels(), *(ax.xaxis.label for ax in axes)]:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(table):
    before = table.copy()
    figure, given = plt.subplots(1, 2)
    palette = {"preservation": "red", "relationship recall": "blue"}
    axes = pl.zscores(table, ax=given, palette=palette)
    assert [ax is one for ax, one in zip(axes, given, strict=True)] == [True, True]
    assert plt.get_fignums() == [figure.number]
    colours = [bar.lines[0].get_color() for bar in bars(axes[1])]
    assert [matplotlib.colors.same_color(*pair) for pair in zip(colours, ("blue", "red"), strict=True)] == [True, True]
    pd.testing.assert_frame_equal(table, before)
    figure, ax = plt.subplots(2, 1)
    for one in pl.zscores(table.set_index(table["representation"]), ax=ax):
        assert [label.get_text() for label in one.get_yticklabels()] == METHODS, "each begins its row"
    free = plt.figure().add_axes((0.2, 0.2, 0.6, 0.6))
    (ax,) = pl.zscores(table[table["dataset"] == "LINCS"], ax=free)
    assert [label.get_text() for label in ax.get_yticklabels()] == METHODS


def test_refuses(table):
    with pytest.raises(TypeError, match=r"table is a dict, not a DataFrame; draw what scl\.tl\.zscores returns"):
        pl.zscores({})
    with pytest.raises(KeyError, match=r"the table has no column mean, sd; draw what scl\.tl\.zscores returns"):
        pl.zscores(table.drop(columns=["mean", "sd"]))
    with pytest.raises(KeyError, match="the table has no column method;"):
        pl.zscores(table, by="method")
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to draw"):
        pl.zscores(table.iloc[:0])
    with pytest.raises(TypeError, match="column 'mean' holds object values, not numbers"):
        pl.zscores(table.astype({"mean": object}))
    with pytest.raises(ValueError, match=r"column 'mean' has no value in 8 row\(s\): 0, 1, 2, 3, 4, "):
        pl.zscores(table.assign(mean=table["mean"].where(table["dataset"] == "LINCS")))
    with pytest.raises(ValueError, match="several values for X_scvi of relationship_recall of mean of HUVEC-KO"):
        pl.zscores(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.zscores(table, palette=["red"])
    with pytest.raises(KeyError, match="palette has no colour for preservation"):
        pl.zscores(table, palette={"relationship recall": "red"})
    with pytest.raises(
        ValueError, match=r"is one of scl.tl.compare, whose means are no z-scores; draw what scl.tl.zsc"
    ):
        pl.zscores(table.assign(difference=0.1, difference_sd=0.1, p_value=1.0, p_min=1.0))
    assert plt.get_fignums() == []
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="ax holds 1 axes; 2 are needed, one for each of HUVEC-KO, LINCS"):
        pl.zscores(table, ax=ax)
    assert not ax.containers
