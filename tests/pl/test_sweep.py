import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.container import ErrorbarContainer

from semiclip import pl

SETTINGS = {
    "lr": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "temperature": [0.05, 0.1, 0.2, 0.4],
    "batch_size": [2048, 1024, 512, 256, 128, 64],  # not in order
    "epochs": [10, 20, 40, 60, 100, 150],
}
DEFAULT = {"lr": 0.03, "temperature": 0.1, "batch_size": 1024, "epochs": 150}


def runs(settings, n_seeds=5):
    rng = np.random.default_rng(0)
    rows = [(name, one, seed) for name, values in settings.items() for one in values for seed in range(n_seeds)]
    table = pd.DataFrame(rows, columns=["parameter", "setting", "seed"])
    return table.assign(recall=rng.normal(0.5, 0.03, len(table)))


@pytest.fixture
def table():
    return runs(SETTINGS)


def curve(ax):
    (bar,) = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
    return bar.lines[0].get_xdata(), bar.lines[0].get_ydata(), ends


def labels(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def notes(ax):
    return [text.get_text() for text in ax.texts]


def test_a_panel_per_parameter_with_means_and_deviations(table):
    axes = pl.sweep(table)
    assert isinstance(axes, np.ndarray)
    assert [ax.get_xlabel() for ax in axes] == ["lr", "temperature", "batch size", "epochs"]
    assert {ax.get_ylabel() for ax in axes} == {"Recall"}
    for ax, (name, settings) in zip(axes, SETTINGS.items(), strict=True):
        by_setting = table[table["parameter"] == name].groupby("setting")["recall"]  # sorts
        at, mean, ends = curve(ax)
        np.testing.assert_array_equal(at, sorted(settings))
        np.testing.assert_allclose(mean, by_setting.mean())
        spread = np.stack([by_setting.mean() - by_setting.std(), by_setting.mean() + by_setting.std()], axis=1)
        np.testing.assert_allclose(ends, spread)
    assert len({ax.get_ylim() for ax in axes}) == 1, "panels compare by eye"
    assert not any(ax.texts for ax in axes)


def test_wide_ranges_are_logarithmic(table):
    assert [ax.get_xscale() for ax in pl.sweep(table)] == ["log", "linear", "log", "log"]
    table = runs({"ten": [0.1, 1], "more": [0.1, 1.01], "zero": [0, 1, 100], "negative": [-1, 100], "one": [3]})
    axes = pl.sweep(table)
    assert [ax.get_xscale() for ax in axes] == ["linear", "log", "linear", "linear", "linear"]
    for ax, low, high in zip(axes, (0.1, 0.1, 0, -1, 3), (1, 1.01, 100, 100, 3), strict=True):
        assert ax.get_xlim()[0] < low <= high < ax.get_xlim()[1]


def test_the_default_is_marked_and_named(table):
    axes = pl.sweep(table, default=DEFAULT)
    for ax, (name, setting) in zip(axes, DEFAULT.items(), strict=True):
        (line,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert list(line.get_xdata()) == [setting, setting]
        assert notes(ax) == [f"default {DEFAULT[name]}"]
    axes = pl.sweep(table, default={"epochs": 40, "another": 3})
    assert [notes(ax) for ax in axes] == [[], [], [], ["default 40"]]


@pytest.mark.parametrize(("default", "scale"), [(5, "linear"), (0.1, "log"), (60, "log"), (0, "linear")])
def test_a_default_outside_the_settings_widens_the_scale(default, scale):
    (ax,) = pl.sweep(runs({"epochs": [1, 2, 4]}), default={"epochs": default})
    assert notes(ax) == [f"default {default:g}"]
    low, high = ax.get_xlim()
    assert low < min(default, 1)
    assert high > max(default, 4)
    assert ax.get_xscale() == scale
    assert list(ax.get_xticks()) == [1, 2, 4]


def test_chance(table):
    axes = pl.sweep(table, chance=0.1)
    for ax in axes:
        (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert list(line.get_ydata()) == [0.1, 0.1]
        assert ax.get_ylim()[0] < 0.1
    assert [notes(ax) for ax in axes] == [["chance"], [], [], []]


def test_settings_that_are_names_keep_their_order():
    table = runs({"optimizer": ["sgd", "adamw"], "symmetric": [True, False], "ridge": [0.5, 0, 1]})
    axes = pl.sweep(table, default={"optimizer": "adamw", "symmetric": True, "ridge": 0.5})
    assert [labels(ax) for ax in axes[:2]] == [["sgd", "adamw"], ["True", "False"]]
    np.testing.assert_array_equal(curve(axes[0])[0], [0, 1])
    assert [ax.containers[0].lines[0].get_linestyle() for ax in axes] == ["None", "None", "-"]
    np.testing.assert_allclose(curve(axes[0])[1], table["recall"][:10].to_numpy().reshape(2, 5).mean(axis=1))
    np.testing.assert_array_equal(curve(axes[2])[0], [0, 0.5, 1])
    assert [notes(ax) for ax in axes] == [["default adamw"], ["default True"], ["default 0.5"]]


def test_one_seed_has_no_deviation():
    _, mean, ends = curve(pl.sweep(runs({"lr": [0.1, 0.2]}, n_seeds=1))[0])
    np.testing.assert_array_equal(ends, np.stack([mean, mean], axis=1))


def test_names_of_columns_and_types(table):
    names = {"recall": "mean_rank", "parameter": "knob", "setting": "value", "seed": "run"}
    renamed = table.astype({"parameter": "category", "seed": "category"}).rename(columns=names)
    axes = pl.sweep(renamed, value="mean_rank", parameter="knob", setting="value", seed="run")
    assert {ax.get_ylabel() for ax in axes} == {"Mean rank"}
    for ax, same in zip(axes, pl.sweep(table), strict=True):
        np.testing.assert_array_equal(curve(ax)[1], curve(same)[1])


@pytest.mark.parametrize("shape", [None, (2, 2, (3.35, 3)), (1, 4, (7, 2)), (4, 1, (2, 8))])
def test_nothing_is_cut_or_hidden(table, shape):
    axes = None if shape is None else plt.subplots(*shape[:2], figsize=shape[2], layout="constrained")[1]
    axes = pl.sweep(table, default=DEFAULT, chance=0.1, ax=axes)
    figure = axes[0].figure
    figure.canvas.draw()
    for ax in axes:
        written = [label for label in ax.get_xticklabels() if label.get_text()]
        assert len(written) >= 3
        boxes = [label.get_window_extent() for label in written]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        for artist in (*written, *ax.texts, ax.xaxis.label, ax.yaxis.label):
            box = artist.get_window_extent()
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height
        assert len(ax.get_xticks()) == len(curve(ax)[0])
        assert len(ax.get_xticks(minor=True)) == 0
    titles = [text.get_window_extent() for ax in axes for text in ax.texts if text.get_text() != "chance"]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(titles, 2))


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (3, 2)])
def test_new_figures_have_no_empty_panel(n, columns):
    axes = pl.sweep(runs({f"p{i}": [1, 2] for i in range(n)}))
    assert len(axes) == len(axes[0].figure.axes) == n
    assert axes[0].get_gridspec().ncols == columns


def test_draws_on_given_axes_and_changes_nothing(table):
    before, default = table.copy(), dict(DEFAULT)
    figure, grid = plt.subplots(2, 2)
    axes = pl.sweep(table, ax=grid, default=default)
    assert [ax is given for ax, given in zip(axes, grid.flat, strict=True)] == [True] * 4
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)
    assert default == DEFAULT
    alone = table[table["parameter"] == "lr"]
    assert pl.sweep(alone, ax=grid[0, 0])[0] is grid[0, 0]


def test_refuses(table):
    with pytest.raises(TypeError, match="table is a list, not a DataFrame; pass one with a row per run"):
        pl.sweep([])
    for parameter in ("value", "parameter", "setting", "seed"):
        with pytest.raises(
            KeyError, match=f"{parameter}='wrong' is not a column of the table, which has parameter, set"
        ):
            pl.sweep(table, **{parameter: "wrong"})
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to draw"):
        pl.sweep(table.iloc[:0])
    with pytest.raises(TypeError, match="column 'parameter' holds .* values, not numbers"):
        pl.sweep(table, value="parameter")
    with pytest.raises(
        ValueError, match=r"default\['temperature'\]='0.1' is none of its settings, 0.05, 0.1, 0.2, 0.4;"
    ):
        pl.sweep(table, default={"temperature": "0.1"})
    with pytest.raises(
        ValueError, match=r"default\['optimizer'\]='lion' is none of its settings, sgd, adamw; run it, or"
    ):
        pl.sweep(runs({"optimizer": ["sgd", "adamw"]}), default={"optimizer": "lion"})
    assert plt.get_fignums() == []
    _, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match="ax holds 3 axes; 4 are needed, one for each of lr, temperature, batch_size"):
        pl.sweep(table, ax=axes)
    with pytest.raises(ValueError, match="ax holds 1 axes; 4 are needed"):
        pl.sweep(table, ax=axes[0])
    assert not any(ax.lines for ax in axes)


@pytest.mark.parametrize("column", ["recall", "setting", "parameter", "seed"])
@pytest.mark.parametrize("nullable", [False, True])
def test_refuses_gaps(table, column, nullable):
    table = table.astype({"seed": "Int64"}).convert_dtypes() if nullable else table.astype({"seed": float})
    table.loc[[3, 7], column] = None
    with pytest.raises(ValueError, match=rf"column '{column}' has no value in 2 row\(s\): 3, 7; fill them, or drop"):
        pl.sweep(table)


def test_nullable_columns(table):
    for ax, same in zip(pl.sweep(table.convert_dtypes()), pl.sweep(table), strict=True):
        np.testing.assert_array_equal(curve(ax)[1], curve(same)[1])
        assert labels(ax) == labels(same)


def test_refuses_seeds_that_do_not_pair(table):
    with pytest.raises(
        ValueError, match=r"paired by seed, but there is none for setting=0.1 seed=1; add it, or drop its"
    ):
        pl.sweep(table.drop(index=36))
    with pytest.raises(ValueError, match="several values for setting=0.001 seed=0; average them first"):
        pl.sweep(pd.concat([table, table.iloc[:1]]))
