import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

LOWS = np.array([0.2, 0.05, 0.1])  # not in order


@pytest.fixture
def table():
    rows = []
    for i, reference in enumerate(["X_scvi", "X_image"]):
        null = 800 * LOWS**2
        columns = {"overlap": 200 * LOWS + 20 * i, "null_low": null * 0.7, "null_median": null, "null_high": null * 1.4}
        thresholds = {"threshold_low": LOWS, "threshold_high": 1 - LOWS, "n_recalled": 600 * LOWS}
        rows.append(
            pd.DataFrame({"reference": reference, "p_value": [0.01, 0.2 * (1 - i), 0.03]} | columns | thresholds)
        )
    return pd.concat(rows, ignore_index=True).assign(representation="X_semiclip", n_reference=70, n_permutations=100)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_overlaps_nulls_and_marks(table):
    ax = pl.null_overlap(table)
    for i, name in enumerate(["X_scvi", "X_image"]):
        rows = table[table["reference"] == name].sort_values("threshold_low")
        null, overlap, full, hollow = ax.lines[4 * i : 4 * i + 4]
        for line, values in ((null, rows["null_median"]), (overlap, rows["overlap"])):
            np.testing.assert_allclose(line.get_data(), [[0.1, 0.2, 0.4], values])
            assert same_color(line.get_color(), OKABE_ITO[i])
        assert null.get_linestyle() == "--"
        np.testing.assert_allclose(full.get_xdata(), [0.2, 0.4] if i == 0 else [0.1, 0.2, 0.4])
        np.testing.assert_allclose(hollow.get_xdata(), [0.1] if i == 0 else [])
        assert same_color(hollow.get_markerfacecolor(), "white")
        corners = ax.collections[i].get_paths()[0].vertices
        for share, low, high in zip([0.1, 0.2, 0.4], rows["null_low"], rows["null_high"], strict=True):
            at = corners[np.isclose(corners[:, 0], share), 1]
            np.testing.assert_allclose([at.min(), at.max()], [low, high])
    assert legend(ax) == ["X_scvi", "X_image", "p > 0.05", "chance, 95% band"]
    assert ax.get_xlabel() == "Share of all pairs in the tails"
    assert " ".join(ax.get_ylabel().split()) == "Pairs that X_semiclip and the reference recall"
    assert "p > 0.05" not in legend(pl.null_overlap(table.assign(p_value=0.01)))


def test_all_that_is_recalled(table):
    ax = pl.null_overlap(table, recalled=True)
    np.testing.assert_allclose(ax.lines[-1].get_data(), [[0.1, 0.2, 0.4], [30, 60, 120]])
    assert legend(ax)[-1] == "all of X_semiclip"


def test_a_single_threshold(table):
    rows = table[table["threshold_low"] == 0.05]
    ax = pl.null_overlap(rows, recalled=True)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["X_scvi", "X_image"]
    assert ax.get_xlabel() == "10% of all pairs in the tails"
    for i in range(2):
        row = rows.iloc[i]
        ((low, high),) = (segment[:, 1] for segment in ax.collections[i].get_segments())
        np.testing.assert_allclose([low, high], row[["null_low", "null_high"]].astype(float))
        np.testing.assert_allclose(ax.lines[4 * i + 1].get_data(), [[i], [row["overlap"]]])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 30)


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
@pytest.mark.parametrize("alone", [False, True])
def test_nothing_is_cut_or_hidden(table, size, alone, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pl.null_overlap(table[table["threshold_low"] == 0.05] if alone else table, ax=ax, recalled=True)
    assert_legible(ax)
    drawn = max(line.get_ydata().max(initial=0) for line in ax.lines)
    assert ax.get_legend().get_window_extent().y0 > ax.transData.transform((0, drawn))[1]


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(table):
    before = table.copy()
    figure, ax = plt.subplots()
    assert pl.null_overlap(table, ax=ax, palette={"X_image": "red", "X_scvi": "blue"}) is ax
    assert [line.get_color() for line in ax.lines[::4]] == ["blue", "red"]
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="draw what scl.tl.null_overlap returns"):
        pl.null_overlap([])
    with pytest.raises(KeyError, match="no column null_low, null_high; draw what scl.tl.null_overlap returns"):
        pl.null_overlap(table.drop(columns=["null_low", "null_high"]))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.null_overlap(table.iloc[:0])
    with pytest.raises(ValueError, match="several names as representation, X_semiclip, X_kd; draw one at a time"):
        pl.null_overlap(pd.concat([table, table.assign(representation="X_kd")]))
    with pytest.raises(ValueError, match="several values for X_scvi of 10%"):
        pl.null_overlap(pd.concat([table, table.iloc[[1]]]))
    with pytest.raises(ValueError, match="column 'overlap' has no value"):
        pl.null_overlap(table.assign(overlap=np.nan))
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.null_overlap(table, palette=["red"])
    assert plt.get_fignums() == []
