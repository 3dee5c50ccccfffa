import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

NAMES = ["X_scvi", "X_semiclip"]


@pytest.fixture
def table():
    rng, edges, parts = np.random.default_rng(0), np.linspace(-1, 1, 41), []
    for name in NAMES:
        everything, known = np.tanh(rng.normal(0, 0.3, 2000)), np.tanh(rng.normal(0.2, 0.4, 150))
        counts = {"n_all": np.histogram(everything, edges)[0], "n_annotated": np.histogram(known, edges)[0]}
        part = pd.DataFrame({"representation": name, "low": edges[:-1], "high": edges[1:]} | counts)
        cuts = np.quantile(everything, [0.05, 0.95])
        densities = {"all": part["n_all"] / 2000 / 0.05, "annotated": part["n_annotated"] / 150 / 0.05}
        parts.append(part.assign(**densities, cut_low=cuts[0], cut_high=cuts[1]))
    return pd.concat(parts, ignore_index=True)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def assert_drawn(ax, rows, colour):
    everything, known, *tails = ax.patches
    for steps, column in ((everything, "all"), (known, "annotated")):
        np.testing.assert_allclose(steps.get_data().values, rows[column])
        np.testing.assert_allclose(steps.get_data().edges, [*rows["low"], 1])
    assert same_color(known.get_edgecolor(), colour)
    shown = rows[rows["n_all"] > 0]
    left, right = shown["low"].min(), shown["high"].max()
    ends = [(tail.get_x(), tail.get_x() + tail.get_width()) for tail in tails]
    np.testing.assert_allclose(ends, [(left, rows["cut_low"].iloc[0]), (rows["cut_high"].iloc[0], right)])
    np.testing.assert_allclose(ax.get_xlim(), (left, right))


def test_one_representation(table):
    ax = pl.similarity(table.sample(frac=1, random_state=0), representation="X_semiclip")
    assert_drawn(ax, table[table["representation"] == "X_semiclip"], OKABE_ITO[0])
    assert legend(ax) == ["2,000 pairs", "150 annotated", "recalled"]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("X_semiclip", "Cosine", "Density")


def test_a_panel_per_representation(table):
    axes = pl.similarity(table)
    assert isinstance(axes, np.ndarray)
    assert [ax.get_title() for ax in axes] == NAMES
    for ax, (_, rows), colour in zip(axes, table.groupby("representation"), OKABE_ITO, strict=False):
        assert_drawn(ax, rows, colour)
    axes = pl.similarity(table, representation=NAMES[::-1])
    assert [ax.get_title() for ax in axes] == NAMES[::-1]
    assert pl.similarity(table[table["representation"] == "X_scvi"]).get_title() == "X_scvi"


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
def test_nothing_is_cut_or_hidden(table, size, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pl.similarity(table, representation="X_scvi", ax=ax)
    assert_legible(ax)
    highest = ax.transData.transform(
        (0, table.loc[table["representation"] == "X_scvi", ["all", "annotated"]].max().max())
    )
    assert ax.get_legend().get_window_extent().y0 > highest[1]


def test_panels_are_legible(table, assert_legible):
    for ax in pl.similarity(table):
        assert_legible(ax)


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(table):
    before = table.copy()
    figure, axes = plt.subplots(1, 2)
    drawn = pl.similarity(table, ax=axes, palette={"X_semiclip": "red", "X_scvi": "blue"})
    assert all(one is other for one, other in zip(drawn, axes, strict=True))
    assert [same_color(ax.patches[1].get_edgecolor(), c) for ax, c in zip(axes, ["blue", "red"], strict=True)] == [
        True
    ] * 2
    axes[0].clear()
    assert pl.similarity(table, representation="X_scvi", ax=axes[0]) is axes[0]
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="draw what scl.tl.similarity returns"):
        pl.similarity({})
    with pytest.raises(KeyError, match="no column cut_low; draw what scl.tl.similarity returns"):
        pl.similarity(table.drop(columns="cut_low"))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.similarity(table.iloc[:0])
    with pytest.raises(KeyError, match="representation=X_kd is not in the table, which has X_scvi, X_semiclip"):
        pl.similarity(table, representation=["X_scvi", "X_kd"])
    with pytest.raises(ValueError, match="representation names none; choose among X_scvi, X_semiclip"):
        pl.similarity(table, representation=[])
    with pytest.raises(ValueError, match="column 'all' has no value"):
        pl.similarity(table.assign(all=np.nan))
    with pytest.raises(
        ValueError, match="the bins of X_scvi overlap or leave gaps; draw what scl.tl.similarity returns"
    ):
        pl.similarity(table.drop(index=3))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.similarity(table, palette=["red"])
    assert plt.get_fignums() == []
    ax = plt.subplots()[1]
    with pytest.raises(ValueError, match="ax holds 1 axes; 2 are needed, one for each of X_scvi, X_semiclip"):
        pl.similarity(table, ax=ax)
    assert not ax.patches
