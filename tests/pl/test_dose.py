"""Size and direction over doses."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl


@pytest.fixture
def table():
    columns = {"perturbation": ["a", "a", "a", "b", "b"], "dose": [1.0, 10.0, 100.0, 1.0, 10.0]}
    numbers = {
        "size": [1.0, 2.0, 3.0, 1.5, 0.5],
        "chance": [1.0, 1.0, 1.0, 0.5, 1.0],
        "direction": [0.2, 0.9, 0.9, -1, np.nan],
    }
    return pd.DataFrame({"representation": "X_semiclip", "n_obs": 4} | columns | numbers)


def test_lines_are_what_the_table_holds(table):
    shuffled = table.sample(frac=1, random_state=0)
    size, direction = pl.dose(shuffled, perturbation=["b", "a"])
    for ax, key in ((size, "size"), (direction, "direction")):
        for line, name in zip(ax.lines, ["b", "a"], strict=False):
            rows = table[table["perturbation"] == name]
            np.testing.assert_array_equal(line.get_xdata(), rows["dose"])
            np.testing.assert_array_equal(line.get_ydata(), rows[key])
        assert ax.get_xscale() == "log"
    np.testing.assert_array_equal(size.lines[2].get_ydata(), [0.75, 1, 1])  # the median at each dose
    assert [text.get_text() for text in size.figure.legends[0].get_texts()] == ["b", "a", "as many controls"]


def test_a_dose_of_0_needs_a_linear_axis_and_no_controls_no_line(table):
    size, _ = pl.dose(table.assign(dose=table["dose"] - 1, chance=np.nan))
    assert size.get_xscale() == "linear"
    assert len(size.lines) == 2


def test_draws_on_given_axes(table):
    _, given = plt.subplots(1, 2)
    axes = pl.dose(table, ax=given)
    assert list(axes) == list(given)
    labels = [text.get_text().replace("\n", " ") for text in given[1].get_legend().get_texts()]
    assert labels == ["a", "b", "as many controls"]


def test_refuses_what_is_no_such_table(table, refuses):
    with refuses(errors.WrongType, name="table", got=dict):
        pl.dose({})
    with refuses(errors.MissingColumn, key=["direction"]):
        pl.dose(table.drop(columns="direction"))
    with refuses(errors.MissingEntry, key=["c"], name="perturbation"):
        pl.dose(table, perturbation=["a", "c"])
    with refuses(errors.Repeated, items=["a of 1.0"]):
        pl.dose(pd.concat([table, table.iloc[:1]]))
    two = pd.concat([table, table.assign(representation="X_pca")])
    with refuses(errors.TooMany, number=2, limit=1):
        pl.dose(two)
    assert "X_pca" in pl.dose(two, representation="X_pca")[0].get_ylabel()


@pytest.mark.parametrize("given", [False, True])
def test_names_of_close_doses_are_apart(given, assert_apart):
    doses = np.round(10 / 3.0 ** np.arange(8), 4)
    rest = {"representation": "X", "size": 1.0, "chance": 1.0, "direction": 0.4}
    table = pd.DataFrame({"perturbation": "a", "dose": doses}).assign(**rest)
    axes = pl.dose(table, ax=plt.subplots(2, 2, figsize=(9, 7))[1][0] if given else None)
    for ax in axes:
        ax.figure.draw_without_rendering()
        labels = [label for label in ax.get_xticklabels() if label.get_text()]
        assert_apart(labels)
        assert len(labels) >= 3
        np.testing.assert_array_equal(ax.get_xticks(), np.sort(doses))
        for at, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
            assert label.get_text() in ("", f"{at:g}")


def test_panels_have_the_scale_of_the_doses_without_a_direction(table):
    for values in (table, table.assign(direction=np.nan)):
        size, direction = pl.dose(values)
        np.testing.assert_allclose(size.get_xlim(), [10**-0.1, 10**2.1])
        assert size.get_xlim() == direction.get_xlim()
