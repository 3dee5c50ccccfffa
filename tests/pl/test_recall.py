from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color, to_rgba
from matplotlib.container import BarContainer

from semiclip import errors, pl

NAMES, KEYS = ["X_scvi", "X_semiclip"], ["CORUM", "SIGNOR", "mean"]
SHARES = [0.1, 0.2, 0.4]


@pytest.fixture
def curves(make):
    return make("recall_curve")


@pytest.fixture
def overlaps(make):
    return make("null_overlap")


def with_union(table):
    return pd.concat([table, table[table["key"] == "mean"].assign(key="union")], ignore_index=True)


def labels(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


@pytest.fixture
def intervals(errorbars):
    """Return the ends of the error bars, one array per representation."""
    return lambda ax: [np.array([part[:, 1] for part in bar.lines[2][0].get_segments()]) for bar in errorbars(ax)]


def bands(ax):
    """Return low and high ends of the measured chance, one array per representation."""
    drawn = [part for part in ax.collections if isinstance(part, PolyCollection)]
    return [np.array([path.vertices[:, 1][[0, 2]] for path in part.get_paths()]) for part in drawn]


def assert_band(band, low, high):
    """Compare the two edges of a band over the shares."""
    corners = band.get_paths()[0].vertices
    at = [corners[np.isclose(corners[:, 0], share), 1] for share in SHARES]
    np.testing.assert_allclose([(y.min(), y.max()) for y in at], np.transpose([low, high]))


def test_bars_errors_chance_and_labels(table, shades, legend, intervals):
    ax = pl.recall(table)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], table["value"])
    bars = [container for container in ax.containers if isinstance(container, BarContainer)]
    for i, (container, ends) in enumerate(zip(bars, intervals(ax), strict=True)):
        assert {bar.get_facecolor() for bar in container} == {to_rgba(shades[i])}
        np.testing.assert_allclose(ends, table.iloc[3 * i : 3 * i + 3][["ci_low", "ci_high"]])
    assert bands(ax) == [], "no chance was measured"
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches]).reshape(2, 3)
    np.testing.assert_allclose(centres.mean(axis=0), [0, 1, 2.35], atol=1e-12)
    np.testing.assert_allclose(ax.get_xticks(), [0, 1, 2.35])
    (chance,) = [line for line in ax.lines if line.get_label() == "chance"]
    assert list(chance.get_ydata()) == [0.1, 0.1]
    assert chance.get_linestyle() == "--"
    assert legend(ax) == [*NAMES, "chance"]
    assert labels(ax) == KEYS
    assert ax.get_ylabel() == "Known relationships recalled"
    ax.figure.canvas.draw()
    assert "20%" in [label.get_text() for label in ax.get_yticklabels()]
    assert ax.get_ylim()[0] == 0


def test_databases_without_pairs_gaps_and_intervals_beside_the_value(table, intervals):
    ax = pl.recall(table.drop(index=1))
    assert np.flatnonzero(np.isnan([bar.get_height() for bar in ax.patches])).tolist() == [1], "a gap"
    empty = table["key"] == "SIGNOR"
    table.loc[empty, ["value", "ci_low", "ci_high"]] = np.nan
    table.loc[empty, "n_pairs"] = 0
    table.loc[0, ["ci_low", "ci_high"]] = [table.loc[0, "value"] + 0.01, table.loc[0, "value"] + 0.02]
    ax = pl.recall(table)
    assert labels(ax) == ["CORUM"], "its mean says nothing new"
    assert len(ax.patches) == 2
    np.testing.assert_allclose(intervals(ax)[0][0], table.loc[0, ["ci_low", "ci_high"]].astype(float))


def test_mean_and_union_stand_apart_and_last(table):
    ax = pl.recall(with_union(table).iloc[::-1])
    assert labels(ax) == ["SIGNOR", "CORUM", "mean", "union"]
    np.testing.assert_allclose(np.diff(ax.get_xticks()), [1, 1.35, 1])
    assert labels(pl.recall(with_union(table[table["key"] != "SIGNOR"]))) == ["CORUM"], "others say nothing new"
    assert labels(pl.recall(with_union(table[table["key"] == "mean"]))) == ["mean", "union"], "they are all"


def test_measured_chance(table, legend):
    table = table.assign(chance_mean=np.linspace(0.08, 0.13, 6), chance_sd=np.linspace(0.005, 0.06, 6))
    ax = pl.recall(table)
    low = (table["chance_mean"] - 2 * table["chance_sd"]).clip(lower=0)
    ends = np.stack([low, table["chance_mean"] + 2 * table["chance_sd"]], axis=1)
    np.testing.assert_allclose(np.concatenate(bands(ax)), ends)
    assert legend(ax) == [*NAMES, "chance", "permuted ± 2 sd"]
    assert [len(ends) for ends in bands(pl.recall(table.drop(index=1)))] == [2, 3]


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
def test_what_takes_more_room_is_legible(table, overlaps, size, assert_legible):
    long = pd.concat([table.assign(key=table["key"] + suffix) for suffix in ("", "_2")])
    alone = overlaps[overlaps["threshold_low"] == 0.05]
    measured = with_union(table).assign(chance_mean=0.1, chance_sd=0.02)
    for draw, tables in ((pl.recall, [long, measured]), (partial(pl.null_overlap, recalled=True), [overlaps, alone])):
        for drawn in tables:
            ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
            assert_legible(draw(drawn, ax=ax))


@pytest.mark.parametrize("key", ["mean", "CORUM"])
def test_curves_bands_and_chance(curves, key, shades, legend):
    ax = pl.recall_curve(curves, key=key)
    for i, name in enumerate(NAMES):
        rows = curves[(curves["representation"] == name) & (curves["key"] == key)].sort_values("threshold_low")
        np.testing.assert_allclose(ax.lines[i].get_data(), [SHARES, rows["value"]])
        assert same_color(ax.lines[i].get_color(), shades[i])
        assert_band(ax.collections[i], rows["ci_low"], rows["ci_high"])
    np.testing.assert_allclose(ax.lines[2].get_data(), [[0, 0.4], [0, 0.4]])
    assert ax.lines[2].get_linestyle() == "--"
    assert legend(ax) == [*NAMES, "chance"]
    assert ax.get_xlabel() == "Share of all pairs in the tails"
    assert ax.get_ylabel() == f"Known relationships recalled\n({key})"
    ax.figure.canvas.draw()
    assert "20%" in labels(ax)
    assert max(ax.get_yticks()) <= 1


def test_overlaps_nulls_and_marks(overlaps, shades, legend):
    ax = pl.null_overlap(overlaps)
    for i, name in enumerate(["X_scvi", "X_image"]):
        rows = overlaps[overlaps["reference"] == name].sort_values("threshold_low")
        null, overlap, full, hollow = ax.lines[4 * i : 4 * i + 4]
        for line, values in ((null, rows["null_median"]), (overlap, rows["overlap"])):
            np.testing.assert_allclose(line.get_data(), [SHARES, values])
            assert same_color(line.get_color(), shades[i])
        assert null.get_linestyle() == "--"
        np.testing.assert_allclose(full.get_xdata(), [0.2, 0.4] if i == 0 else SHARES)
        np.testing.assert_allclose(hollow.get_xdata(), [0.1] if i == 0 else [])
        assert same_color(hollow.get_markerfacecolor(), "white")
        assert_band(ax.collections[i], rows["null_low"], rows["null_high"])
    assert legend(ax) == ["X_scvi", "X_image", "p > 0.05", "chance, 95% band"]
    assert ax.get_xlabel() == "Share of all pairs in the tails"
    assert " ".join(ax.get_ylabel().split()) == "Pairs that X_semiclip and the reference recall"
    assert "p > 0.05" not in legend(pl.null_overlap(overlaps.assign(p_value=0.01)))
    ax = pl.null_overlap(overlaps, recalled=True)
    np.testing.assert_allclose(ax.lines[-1].get_data(), [SHARES, [30, 60, 120]])
    assert legend(ax)[-1] == "all of X_semiclip"


def test_overlaps_at_a_single_threshold(overlaps):
    rows = overlaps[overlaps["threshold_low"] == 0.05]
    ax = pl.null_overlap(rows, recalled=True)
    assert labels(ax) == ["X_scvi", "X_image"]
    assert ax.get_xlabel() == "10% of all pairs in the tails"
    for i in range(2):
        row = rows.iloc[i]
        ((low, high),) = (segment[:, 1] for segment in ax.collections[i].get_segments())
        np.testing.assert_allclose([low, high], row[["null_low", "null_high"]].astype(float))
        np.testing.assert_allclose(ax.lines[4 * i + 1].get_data(), [[i], [row["overlap"]]])
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 30)


def test_refuses(table, curves, overlaps, refuses):
    with refuses(errors.TooMany, number=2, limit=1):
        pl.recall(pd.concat([table, table.assign(threshold_low=0.1, threshold_high=0.9)]))
    for draw, unpaired in ((pl.recall, table), (pl.recall_curve, curves)):
        with refuses(errors.Empty):
            draw(unpaired.assign(n_pairs=0))
    gaps = {"chance_mean": 0.1, "chance_sd": np.nan}
    with refuses(errors.MissingValues, where="column 'chance_sd'", rows=[0, 1, 2, 3, 4, 5]):
        pl.recall(table.assign(**gaps))
    with refuses(errors.MissingEntry, key="union", there=["CORUM", "mean"], name="key"):
        pl.recall_curve(curves, key="union")
    with refuses(errors.TooFew, number=1, needed=2):
        pl.recall_curve(curves[curves["threshold_low"] == 0.05])
    shifted = curves[["threshold_low", "threshold_high"]] + 0.01  # which leaves the same share in the tails
    with refuses(errors.Repeated):
        pl.recall_curve(pd.concat([curves, curves.assign(**shifted)], ignore_index=True))
    with refuses(errors.TooMany, number=2, limit=1):
        pl.null_overlap(pd.concat([overlaps, overlaps.assign(representation="X_kd")]))
