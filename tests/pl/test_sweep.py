import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl

DEFAULT = {"lr": 0.03, "temperature": 0.1, "batch_size": 1024, "epochs": 150}


def curve(ax):
    (bar,) = ax.containers
    ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
    return bar.lines[0].get_xdata(), bar.lines[0].get_ydata(), ends


def notes(ax):
    return [text.get_text() for text in ax.texts]


def test_a_panel_per_parameter_with_means_and_deviations(table):
    axes = pl.sweep(table, chance=0.1)
    assert isinstance(axes, np.ndarray)
    assert [ax.get_xlabel() for ax in axes] == ["lr", "temperature", "batch size", "epochs"]
    assert {ax.get_ylabel() for ax in axes} == {"Recall"}
    for ax, name in zip(axes, DEFAULT, strict=True):
        by_setting = table[table["parameter"] == name].groupby("setting")["recall"]  # sorts
        at, mean, ends = curve(ax)
        np.testing.assert_array_equal(at, list(by_setting.groups))
        assert len(at) == (4 if name == "temperature" else 6)
        np.testing.assert_allclose(mean, by_setting.mean())
        spread = np.stack([by_setting.mean() - by_setting.std(), by_setting.mean() + by_setting.std()], axis=1)
        np.testing.assert_allclose(ends, spread)
        (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert list(line.get_ydata()) == [0.1, 0.1]
        assert ax.get_ylim()[0] < 0.1
    assert len({ax.get_ylim() for ax in axes}) == 1, "panels compare by eye"
    assert [notes(ax) for ax in axes] == [["chance"], [], [], []]
    assert not any(ax.texts for ax in pl.sweep(table))


def test_wide_ranges_are_logarithmic(table, make):
    assert [ax.get_xscale() for ax in pl.sweep(table)] == ["log", "linear", "log", "log"]
    ranges = {"ten": [0.1, 1], "more": [0.1, 1.01], "zero": [0, 1, 100], "negative": [-1, 100], "one": [3]}
    axes = pl.sweep(make("sweep", ranges))
    assert (len(axes), len(axes[0].figure.axes), axes[0].get_gridspec().ncols) == (5, 5, 2), "no empty panel"
    assert [ax.get_xscale() for ax in axes] == ["linear", "log", "linear", "linear", "linear"]
    for ax, settings in zip(axes, ranges.values(), strict=True):
        assert ax.get_xlim()[0] < settings[0] <= settings[-1] < ax.get_xlim()[1]


def test_the_default_is_marked_and_named(table):
    axes = pl.sweep(table, default=DEFAULT)
    for ax, (name, setting) in zip(axes, DEFAULT.items(), strict=True):
        (line,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert list(line.get_xdata()) == [setting, setting]
        assert notes(ax) == [f"default {DEFAULT[name]}"]
    axes = pl.sweep(table, default={"epochs": 40, "another": 3})
    assert [notes(ax) for ax in axes] == [[], [], [], ["default 40"]]


@pytest.mark.parametrize(("default", "scale"), [(5, "linear"), (0.1, "log"), (60, "log"), (0, "linear")])
def test_a_default_outside_the_settings_widens_the_scale(default, scale, make):
    (ax,) = pl.sweep(make("sweep", {"epochs": [1, 2, 4]}), default={"epochs": default})
    assert notes(ax) == [f"default {default:g}"]
    low, high = ax.get_xlim()
    assert low < min(default, 1)
    assert high > max(default, 4)
    assert ax.get_xscale() == scale
    assert list(ax.get_xticks()) == [1, 2, 4]


def test_settings_that_are_names_keep_their_order(make):
    table = make("sweep", {"optimizer": ["sgd", "adamw"], "symmetric": [True, False], "ridge": [0.5, 0, 1]})
    axes = pl.sweep(table, default={"optimizer": "adamw", "symmetric": True, "ridge": 0.5})
    labels = [[label.get_text() for label in ax.get_xticklabels()] for ax in axes[:2]]
    assert labels == [["sgd", "adamw"], ["True", "False"]]
    np.testing.assert_array_equal(curve(axes[0])[0], [0, 1])
    assert [ax.containers[0].lines[0].get_linestyle() for ax in axes] == ["None", "None", "-"]
    np.testing.assert_allclose(curve(axes[0])[1], table["recall"][:10].to_numpy().reshape(2, 5).mean(axis=1))
    np.testing.assert_array_equal(curve(axes[2])[0], [0, 0.5, 1])
    assert [notes(ax) for ax in axes] == [["default adamw"], ["default True"], ["default 0.5"]]


def test_one_seed_has_no_deviation(make):
    (ax,) = pl.sweep(make("sweep", {"lr": [0.1, 0.2]}, n_seeds=1))
    _, mean, ends = curve(ax)
    np.testing.assert_array_equal(ends, np.stack([mean, mean], axis=1))


def test_names_of_columns_and_types(table):
    names = {"recall": "mean_rank", "parameter": "knob", "setting": "value", "seed": "run"}
    renamed = table.astype({"parameter": "category", "seed": "category"}).rename(columns=names)
    axes = pl.sweep(renamed, value="mean_rank", parameter="knob", setting="value", seed="run")
    assert {ax.get_ylabel() for ax in axes} == {"Mean rank"}
    for ax, nullable, same in zip(axes, pl.sweep(table.convert_dtypes()), pl.sweep(table), strict=True):
        np.testing.assert_array_equal(curve(ax)[1], curve(same)[1])
        np.testing.assert_array_equal(curve(nullable)[1], curve(same)[1])


@pytest.mark.parametrize("shape", [None, (2, 2, (3.35, 3)), (1, 4, (7, 2)), (4, 1, (2, 8))])
def test_nothing_is_cut_or_hidden(table, shape, assert_legible):
    axes = None if shape is None else plt.subplots(*shape[:2], figsize=shape[2], layout="constrained")[1]
    axes = pl.sweep(table, default=DEFAULT, chance=0.1, ax=axes)
    for ax in axes:
        assert_legible(ax)
        assert len([label for label in ax.get_xticklabels() if label.get_text()]) >= 3
        assert len(ax.get_xticks()) == len(curve(ax)[0])
        assert len(ax.get_xticks(minor=True)) == 0
    titles = [text.get_window_extent() for ax in axes for text in ax.texts if text.get_text() != "chance"]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(titles, 2))


def test_refuses(table, make, refuses):
    with refuses(errors.MissingColumn, key="wrong", name="parameter"):
        pl.sweep(table, parameter="wrong")
    with refuses(errors.WrongDtype):
        pl.sweep(table, value="parameter")
    with refuses(errors.UnknownChoice, name="default['temperature']", value="0.1", choices=[0.05, 0.1, 0.2, 0.4]):
        pl.sweep(table, default={"temperature": "0.1"})
    with refuses(errors.UnknownChoice, name="default['optimizer']", value="lion", choices=["sgd", "adamw"]):
        pl.sweep(make("sweep", {"optimizer": ["sgd", "adamw"]}), default={"optimizer": "lion"})


def test_names_of_settings_keep_apart_in_large_letters(table, assert_apart):
    with plt.rc_context({"font.size": 14}):
        for ax in pl.sweep(table):
            ax.figure.draw_without_rendering()
            assert_apart([label for label in ax.get_xticklabels() if label.get_text()])
