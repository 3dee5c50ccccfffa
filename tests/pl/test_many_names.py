"""Pictures of many names: names stay different, looks are unique, and rows and panels hold the right values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl
from semiclip.pl._names import fit_names, measure_text, wrap_name
from semiclip.pl._style import pick_looks

NAMES = [f"X_{i}" for i in range(12)]
words = st.text(alphabet="ab_ -", min_size=1, max_size=60).map(str.strip).filter(bool)


@given(st.lists(words, min_size=2, max_size=12, unique=True), st.floats(0.2, 2), st.integers(1, 3))
def test_names_that_differ_stay_different(names, width, lines):
    fitted = fit_names(names, width, 8, lines)
    assert len(set(fitted)) == len(names)
    assert max(text.count("\n") for text in fitted) < lines


def test_names_are_broken_at_joints_and_lose_their_middle():
    assert wrap_name("alpha_beta gamma", measure_text("gamma ", 8) + 0.01, 8) == ["alpha_", "beta", "gamma"]
    assert wrap_name("one two", 2, 8) == ["one two"]
    long = "a name that begins here and goes on for long and ends there"
    (text,) = fit_names([long], measure_text("a name that … and ends there", 8), 8)
    start, end = text.split("…")
    assert long.startswith(start)
    assert long.endswith(end)
    assert measure_text(text, 8) <= measure_text("a name that … and ends there", 8)
    alike = [f"the same beginning of {i} and the same end" for i in range(3)]
    assert all(str(i) in text for i, text in enumerate(fit_names(alike, 1, 8)))


def test_each_of_forty_looks_is_another_and_a_palette_decides_alone():
    names = [f"name {i}" for i in range(40)]
    looks = pick_looks(names)
    assert len({(look.colour, look.line) for look in looks.values()}) == 40
    assert len({(look.colour, look.hatch) for look in looks.values()}) == 40
    chosen = pick_looks(names, dict.fromkeys(names, "red"))
    assert {(look.colour, look.line) for look in chosen.values()} == {("red", "-")}


def test_recall_of_many_has_a_row_for_each(legend):
    keys = ["CORUM", "mean", "SIGNOR"]
    index = pd.MultiIndex.from_product([NAMES, keys], names=["representation", "key"])
    value = np.random.default_rng(0).uniform(0.1, 0.5, len(index))
    ends = {"ci_low": value - 0.02, "ci_high": value + 0.05, "threshold_low": 0.05, "threshold_high": 0.95}
    measured = {"n_pairs": 100, "chance": 0.1, "chance_mean": 0.12, "chance_sd": 0.01}
    ax = pl.recall(pd.DataFrame({"value": value} | ends | measured, index=index).reset_index())
    assert [part.get_title() for part in ax.child_axes] == ["CORUM", "SIGNOR", "mean"]
    assert [label.get_text() for label in ax.child_axes[0].get_yticklabels()] == NAMES
    for part, column in zip(ax.child_axes, (0, 2, 1), strict=True):
        bars = part.containers[0]
        np.testing.assert_allclose([bar.get_width() for bar in bars], value.reshape(12, 3)[:, column])
        band = part.collections[-1].get_paths()[4].vertices
        np.testing.assert_allclose([band[:, 0].min(), band[:, 0].max()], [0.1, 0.14])
        np.testing.assert_allclose(band[:4, 1].mean(), 4)
    assert legend(ax) == ["chance", "permuted ± 2 sd"]


def test_curves_of_many_have_a_panel_for_each(legend, shades):
    lows = [0.05, 0.1, 0.2]
    index = pd.MultiIndex.from_product([NAMES, lows], names=["representation", "threshold_low"])
    table = index.to_frame(index=False)
    value = np.random.default_rng(0).uniform(0.1, 0.5, len(table))
    table = table.assign(key="mean", value=value, ci_low=value - 0.1, ci_high=value + 0.1, n_pairs=100)
    ax = pl.recall_curve(table.assign(threshold_high=1 - table["threshold_low"]))
    assert [part.get_title() for part in ax.child_axes] == NAMES
    for part, values in zip(ax.child_axes, value.reshape(12, 3), strict=True):
        np.testing.assert_allclose(part.lines[0].get_ydata(), values)
        assert part.get_xlim() == ax.child_axes[0].get_xlim()
        assert part.get_ylim() == ax.child_axes[0].get_ylim()
    assert same_color(ax.child_axes[1].lines[0].get_color(), shades[1])
    assert legend(ax) == ["chance", "all others"]


def test_preservation_of_many_has_a_row_for_each(make):
    table = make("preservation")
    one = table[table["representation"] == "X_scvi"]
    many = pd.concat([table, *(one.assign(representation=name) for name in NAMES)], ignore_index=True)
    ax = pl.preservation(many)
    labels = [label.get_text() for label in ax.child_axes[0].get_yticklabels()]
    assert labels == ["random", "constant", "PCA", "X_scvi", "X_semiclip", *NAMES]
    widths = [[bar.get_width() for bar in part.patches if bar.get_height() < 0.9] for part in ax.child_axes]
    np.testing.assert_allclose([row[3] for row in widths], [60, 40, 50])
    np.testing.assert_allclose([row[-1] for row in widths], [60, 40, 50])


@pytest.mark.parametrize("base", [None, "rung 0"])
def test_long_ladders_lie_and_say_the_same_gains(base, errorbars):
    rng, rungs = np.random.default_rng(0), [f"rung {i}" for i in range(12)]
    index = pd.MultiIndex.from_product([rungs, range(8)], names=["rung", "seed"])
    table = pd.DataFrame({"recall": rng.normal(0.4, 0.1, len(index))}, index=index).reset_index()
    ax = pl.ablation(table, base=base)
    means = table.groupby("rung", sort=False)["recall"].mean().to_numpy()
    np.testing.assert_allclose(errorbars(ax)[0].lines[0].get_xdata(), means)
    assert [label.get_text() for label in ax.get_yticklabels()] == rungs
    written = [float(text.get_text().split(",")[0].removeprefix("all: ").replace("−", "-")) for text in ax.texts]
    gains = [*np.diff(means), means[-1] - means[0]] if base is None else means[1:] - means[0]
    np.testing.assert_allclose(written, gains, atol=5e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_circles_with_long_names_are_whole(n, assert_legible):
    names = [f"X_semiclip_distilled_from_images_{i}_of_cell_painting_assays" for i in range(n)]
    members = [set(range(60)), set(range(25, 85)), set(range(45, 120)) | set(range(10))]
    ax = pl.venn(dict(zip(names, members, strict=False)))
    assert_legible(ax)
    plain = ["".join(text.get_text().split()) for text in ax.texts]
    assert all(any(name in text for text in plain) for name in names)


def test_bars_of_one_database_fill_their_picture(make):
    table = make("recall")
    ax = pl.recall(table[table["key"] == "CORUM"])
    bars = ax.patches
    taken = bars[-1].get_x() + bars[-1].get_width() - bars[0].get_x()
    assert taken / np.ptp(ax.get_xlim()) > 0.5
    plt.close(ax.figure)


@pytest.mark.parametrize("name", ["recall", "preservation"])
def test_rows_on_small_given_axes_are_legible(name, make, assert_legible):
    table = make(name)
    if name == "recall":
        keys = ["CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB", "mean", "union"]
        one = table[table["key"] == "mean"].iloc[:1]
        parts = [one.assign(representation=f"X_{i}", key=key) for i in range(9) for key in keys]
    else:
        one = table[table["representation"] == "X_scvi"]
        parts = [table, *(one.assign(representation=f"X_{i}") for i in range(9))]
    _, axes = plt.subplots(2, 2, figsize=(9, 7))
    ax = getattr(pl, name)(pd.concat(parts, ignore_index=True), ax=axes[0, 0])
    assert_legible(ax)
    if name == "recall":
        assert [part.get_title() for part in ax.child_axes] == keys  # whole
    label = ax.texts[-1].get_window_extent()
    place = ax.get_window_extent()
    assert place.x0 - 1 <= label.x0
    assert label.x1 <= place.x1 + 1
