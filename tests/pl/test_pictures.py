"""What all pictures of tables have in common."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl

TOOLS = {  # by picture: names that have colours, and columns of names and of numbers
    "recall": (["X_scvi", "X_semiclip"], "representation", "ci_low"),
    "recall_curve": (["X_scvi", "X_semiclip"], "threshold_low", "value"),
    "null_overlap": (["X_scvi", "X_image"], "reference", "overlap"),
    "gains_losses": (["preserved", "gains", "losses"], "base", "gains"),
    "preservation": (["X_scvi", "X_semiclip"], "metric", "value"),
    "similarity": (["X_scvi", "X_semiclip"], "representation", "all"),
    "zscores": (["relationship recall", "preservation"], "sd", "mean"),
    "relationship_network": (["CORUM", "SIGNOR", "StringDB"], "databases", None),
    "gene_attribution": (["up", "down"], "gene", "attribution"),
    "enrichment": (None, "gene_set", "p_value"),
}
OPTIONS = {"ablation": {"baseline": "unimodal", "chance": 0.1}, "sweep": {"default": {"lr": 0.03}, "chance": 0.1}}
DRAWN = {"recall_curve": "mean", "preservation": "unseen perturbations"}  # the key of the rows
N_AXES = {"similarity": 2, "zscores": 2, "sweep": 4}
PICTURES = [*TOOLS, *OPTIONS]


def draw(name, table, **options):
    """Draw with a fixed seed, and return the axes as a list."""
    options = OPTIONS.get(name, {}) | ({"rng": 0} if name == "relationship_network" else {}) | options
    return np.ravel(np.array(getattr(pl, name)(table, **options), dtype=object)).tolist()


def pixels(name, table, **options):
    figure = draw(name, table, **options)[0].figure
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())


def test_importing_pl_leaves_matplotlib_alone():
    code = "import sys, semiclip.pl; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", PICTURES)
def test_draws_on_given_axes_and_changes_nothing(name, make, refuses):
    table, n = make(name), N_AXES.get(name, 1)
    before = table.copy()
    figure, axes = plt.subplots(1, n, figsize=(4 * n, 4), squeeze=False)
    assert all(one is other for one, other in zip(draw(name, table, ax=axes[0]), axes[0], strict=True))
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)
    too_many = plt.subplots(1, n + 1)[1]
    with refuses(errors.WrongShape, where="ax", shape=(n + 1,)):
        draw(name, table, ax=too_many)
    assert not any(ax.has_data() for ax in too_many)


@pytest.mark.parametrize("size", [None, (3.2, 2.6), (9, 5)])
@pytest.mark.parametrize("name", [name for name in PICTURES if name != "sweep"])
def test_nothing_is_cut_or_hidden(name, size, make, assert_legible):
    n, ax = N_AXES.get(name, 1), None
    if size is not None:
        ax = plt.subplots(1, n, figsize=(size[0] * n, size[1]), layout="constrained", squeeze=False)[1][0]
    for panel in draw(name, make(name), ax=ax):
        assert_legible(panel)
        if name not in ("relationship_network", "enrichment") and panel.get_legend():
            ends = panel.transData.transform([(0, y) for y in (panel.dataLim.y0, panel.dataLim.y1)])
            assert ends[:, 1].max() <= panel.get_legend().get_window_extent().y0 + 1


@pytest.mark.parametrize("name", [name for name, (coloured, *_) in TOOLS.items() if coloured])
def test_colours_by_order_and_by_name(name, make, refuses):
    table, coloured = make(name), TOOLS[name][0]
    palette = ["#ff0000", "#0000ff", "#00ff00"][: len(coloured)]
    by_order = pixels(name, table, palette=palette)
    by_name = pixels(name, table, palette=dict(zip(coloured[::-1], palette[::-1], strict=True)))
    np.testing.assert_array_equal(by_order, by_name)
    assert (by_order != pixels(name, table)).any()
    assert (by_order != pixels(name, table, palette=palette[::-1])).any()
    with refuses(errors.TooFew, number=1, needed=len(coloured)):
        draw(name, table, palette=["red"])
    with refuses(errors.MissingEntry, key=coloured[1:], where="palette", there=coloured[:1]):
        draw(name, table, palette={coloured[0]: "red"})


@pytest.mark.parametrize("name", TOOLS)
def test_refuses_what_is_no_such_table(name, make, refuses):
    table, (_, column, number) = make(name), TOOLS[name]
    with refuses(errors.WrongType, name="table", got=dict):
        draw(name, {})
    with refuses(errors.MissingColumn, key=[column]):
        draw(name, table.drop(columns=column))
    with refuses(errors.Empty):
        draw(name, table.iloc[:0])
    if number is not None:
        drawn = table.index[table["key"] == DRAWN[name]] if name in DRAWN else table.index
        with refuses(errors.WrongDtype, where=f"column {number!r}"):
            draw(name, table.astype({number: object}))
        for gap in (np.nan, np.inf):
            gaps = table[number].astype(float).where(table.index != drawn[1], gap)
            with refuses(errors.MissingValues, where=f"column {number!r}", rows=[drawn[1]]):
                draw(name, table.assign(**{number: gaps}))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("recall", "X_scvi of CORUM"),
        ("recall_curve", "X_scvi of 40%"),
        ("null_overlap", "X_scvi of 40%"),
        ("gains_losses", "Semi-Clipped of X_scvi"),
        ("preservation", "structural_integrity of X_scvi"),
        ("zscores", "X_scvi of relationship_recall of mean of HUVEC-KO"),
    ],
)
def test_refuses_rows_that_repeat(name, row, make, refuses):
    table = make(name)
    if name in DRAWN:
        table = table[table["key"] == DRAWN[name]]
    with refuses(errors.Repeated, items=[row]):
        draw(name, pd.concat([table, table.iloc[:1]]))


@pytest.mark.parametrize(
    ("names", "width", "written", "rotation"),
    [
        (["a", "b c"], 5, ["a", "b c"], 0),
        (["base", "one word after another"], 3.1, ["base", "one word after\nanother"], 0),
        (["base", "incomprehensibilities"], 3, ["base", "incomprehensibilities"], 30),
    ],
)
def test_names_of_groups_are_broken_between_words_or_slanted(names, width, written, rotation, make):
    table = make("ablation", n_rungs=2)
    renamed = table.assign(rung=np.repeat(names, 15))
    ax = pl.ablation(renamed, ax=plt.subplots(figsize=(width, 3), layout="constrained")[1])
    assert [label.get_text() for label in ax.get_xticklabels()] == written
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {rotation}


def test_dark_styles_turn_greys_grounds_and_black_around(make):
    from matplotlib.colors import to_rgb

    from semiclip.pl import _style as style

    with plt.style.context("dark_background"):
        counts = pl.enrichment(make("enrichment")).texts[-1].get_bbox_patch()
        network = pl.relationship_network(make("relationship_network"))
        looks = list(style.pick_colours(list("abcdefg")).values())
        chance = pl.recall(make("recall")).lines[-1]
        assert style.make_error_look()["ecolor"] == "0.8"
    assert to_rgb(counts.get_facecolor()[:3]) == (0, 0, 0)
    (stroke,) = network.texts[0].get_path_effects()
    assert stroke._gc["foreground"] == (0, 0, 0)
    assert looks == [*style.COLOURS[:6], "#FFFFFF"]
    assert chance.get_color() == "0.65"
    assert style.tone(0.35) == "0.35"
