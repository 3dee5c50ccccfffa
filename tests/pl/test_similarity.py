import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import errors, pl

NAMES = ["X_scvi", "X_semiclip"]


def assert_drawn(ax, rows, colour):
    everything, annotated, *tails = ax.patches
    for steps, column in ((everything, "all"), (annotated, "annotated")):
        np.testing.assert_allclose(steps.get_data().values, rows[column])
        np.testing.assert_allclose(steps.get_data().edges, [*rows["low"], 1])
    assert same_color(annotated.get_edgecolor(), colour)
    shown = rows[rows["n_all"] > 0]
    left, right = shown["low"].min(), shown["high"].max()
    ends = [(tail.get_x(), tail.get_x() + tail.get_width()) for tail in tails]
    np.testing.assert_allclose(ends, [(left, rows["cut_low"].iloc[0]), (rows["cut_high"].iloc[0], right)])
    np.testing.assert_allclose(ax.get_xlim(), (left, right))


def test_one_representation(table, shades, legend):
    ax = pl.similarity(table.sample(frac=1, random_state=0), representation="X_semiclip")
    assert_drawn(ax, table[table["representation"] == "X_semiclip"], shades[0])
    assert legend(ax) == ["2,000 pairs", "150 annotated", "recalled"]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("X_semiclip", "Cosine", "Density")


def test_a_panel_per_representation(table, shades):
    axes = pl.similarity(table)
    assert isinstance(axes, np.ndarray)
    assert [ax.get_title() for ax in axes] == NAMES
    for ax, (_, rows), colour in zip(axes, table.groupby("representation"), shades, strict=False):
        assert_drawn(ax, rows, colour)
    axes = pl.similarity(table, representation=NAMES[::-1])
    assert [ax.get_title() for ax in axes] == NAMES[::-1]
    alone = plt.subplots()[1]
    assert pl.similarity(table[table["representation"] == "X_scvi"], ax=alone) is alone


def test_refuses(table, refuses):
    with refuses(errors.MissingEntry, key=["X_kd"], there=NAMES, name="representation"):
        pl.similarity(table, representation=["X_scvi", "X_kd"])
    with refuses(errors.BadValue, name="representation", value=[]):
        pl.similarity(table, representation=[])
    with refuses(errors.Refused):
        pl.similarity(table.drop(index=3))
