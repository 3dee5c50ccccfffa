from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl

EPOCHS = pd.RangeIndex(30, name="epoch")
RIGHT = {
    "rank percentile ↓": "validation_mean_rank_percentile",
    "recall@1 ↑": "validation_recall_at_1",
    "recall@10 ↑": "validation_recall_at_10",
}


@pytest.fixture
def history():
    fall = np.exp(-np.arange(30) / 10)
    values = {
        "train_loss": (1 + fall).astype(object),  # as loggers leave it
        "validation_loss": 2 + fall,
        "validation_mean_rank_percentile": 0.3 + 0.2 * fall,
        "validation_recall_at_10": 0.5 - 0.5 * fall,
        "validation_recall_at_1": 0.1 - 0.1 * fall,
    }
    return {name: pd.DataFrame({name: value}, index=EPOCHS) for name, value in values.items()}


def test_both_panels(history, legend):
    axes = pl.history(history)
    assert isinstance(axes, np.ndarray)
    left, right = axes
    drawn = {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for ax in axes for line in ax.lines}
    for label, name in (RIGHT | {"training": "train_loss", "validation": "validation_loss"}).items():
        np.testing.assert_allclose(drawn[label], history[name][name].astype(float))
    np.testing.assert_array_equal(drawn["chance of the rank"], [0.5, 0.5])
    assert {line.get_label(): line.get_linestyle() for line in right.lines}["chance of the rank"] == "--"
    assert legend(left) == ["training", "validation"]
    assert legend(right) == ["rank percentile ↓", "chance of the rank", "recall@1 ↑", "recall@10 ↑"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("Epoch", "Loss (lower is better)")
    assert (right.get_xlabel(), right.get_ylabel()) == ("Epoch", "Retrieval in validation\n(↑ more, ↓ less is better)")
    assert right.get_ylim()[0] == 0
    assert right.get_ylim()[1] > 1
    np.testing.assert_allclose(right.get_yticks(), [0, 0.2, 0.4, 0.6, 0.8, 1])
    colours = [line.get_color() for line in right.lines]
    assert len(set(colours)) == 3
    assert colours[-1] == colours[0], "chance has the colour of its curve"
    assert legend(pl.history(SimpleNamespace(history=history))[0]) == ["training", "validation"], "a model"


def test_without_validation_and_of_the_loss_or_of_recall_alone(history, legend):
    left, right = pl.history({"train_loss": history["train_loss"], "kl_weight": history["train_loss"]})
    assert legend(left) == ["training"]
    assert [text.get_text() for text in right.texts] == ["no validation"]
    assert not right.lines
    assert not right.axison
    del history["validation_mean_rank_percentile"]
    _, right = pl.history(history)
    assert legend(right) == ["recall@1 ↑", "recall@10 ↑"]
    del history["validation_recall_at_1"], history["validation_recall_at_10"]
    left, right = pl.history(history)
    assert legend(left) == ["training", "validation"]
    assert not right.axison


def test_validation_every_few_epochs(history):
    sparse = [np.nan if epoch % 5 else epoch for epoch in EPOCHS]
    left, _ = pl.history(history | {"validation_loss": pd.DataFrame({"validation_loss": sparse}, index=EPOCHS)})
    assert list(left.lines[1].get_xdata()) == [0, 5, 10, 15, 20, 25]


def test_a_single_epoch_is_a_point_on_a_whole_number(history):
    axes = pl.history({name: table.iloc[:1] for name, table in history.items()})
    for ax in axes:
        assert {line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1} == {"o"}
        ax.figure.canvas.draw()
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [0]


@pytest.mark.parametrize("size", [None, (6, 2.4)])
def test_nothing_is_cut_or_hidden(history, size, assert_legible):
    history["validation_recall_at_5"] = history["validation_recall_at_10"]
    panels = None if size is None else list(plt.subplots(1, 2, figsize=size, layout="constrained")[1])
    before = {name: table.copy() for name, table in history.items()}
    axes = pl.history(history, ax=panels)
    assert panels is None or list(axes) == panels
    assert all(table.equals(before[name]) for name, table in history.items())
    for ax in axes:
        assert_legible(ax)
        legend = ax.get_legend().get_window_extent()
        assert all(line.get_window_extent().y1 <= legend.y0 for line in ax.lines)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"select": "best"}, 29),  # by the loss, which falls
        ({"select": "best", "monitor": "validation_recall_at_1"}, 12),
        ({"select": "last"}, None),
        ({}, None),
    ],
)
def test_the_kept_epoch_is_marked(history, params, kept, legend):
    history["validation_recall_at_1"].iloc[12] = 0.9
    axes = pl.history(SimpleNamespace(history=history, train_params_=params))
    for ax in axes:
        marked = [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"]
        assert marked == ([] if kept is None else [[kept, kept]])
        assert (legend(ax)[-1] == f"kept: epoch {kept}") == (kept is not None)


def test_refuses(history, refuses):
    with refuses(errors.Empty):
        pl.history(SimpleNamespace(history=None))
    with refuses(errors.MissingEntry, key="train_loss", there=["validation_loss"]):
        pl.history({"validation_loss": history["validation_loss"]})
    panels = plt.subplots(1, 3)[1]
    with refuses(errors.WrongShape, where="ax", shape=(3,)):
        pl.history(history, ax=panels)
