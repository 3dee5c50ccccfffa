from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import pl

EPOCHS = pd.RangeIndex(30, name="epoch")


def curve(name, values, index=EPOCHS):
    return pd.DataFrame({name: values}, index=index)


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
    return {name: curve(name, value) for name, value in values.items()}


def drawn(ax):
    return {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in ax.lines}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_both_panels(history):
    axes = pl.history(history)
    assert isinstance(axes, np.ndarray)
    left, right = axes
    assert list(drawn(left)) == ["training", "validation"]
    np.testing.assert_allclose(drawn(left)["training"], history["train_loss"]["train_loss"].astype(float))
    np.testing.assert_allclose(drawn(left)["validation"], history["validation_loss"]["validation_loss"])
    names = {
        "rank percentile": "validation_mean_rank_percentile",
        "recall@1": "validation_recall_at_1",
        "recall@10": "validation_recall_at_10",
    }
    for label, name in names.items():
        np.testing.assert_allclose(drawn(right)[label], history[name][name])
    np.testing.assert_array_equal(drawn(right)["its chance"], [0.5, 0.5])
    assert {line.get_label(): line.get_linestyle() for line in right.lines}["its chance"] == "--"
    assert legend(left) == ["training", "validation"]
    assert legend(right) == ["rank percentile", "its chance", "recall@1", "recall@10"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("Epoch", "Loss")
    assert (right.get_xlabel(), right.get_ylabel()) == ("Epoch", "Retrieval in validation")
    assert right.get_ylim()[0] == 0
    assert right.get_ylim()[1] > 1
    np.testing.assert_allclose(right.get_yticks(), [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert len({line.get_color() for line in right.lines}) == 4


def test_takes_a_model(history):
    left, _ = pl.history(SimpleNamespace(history=history))
    assert legend(left) == ["training", "validation"]


def test_without_validation(history):
    left, right = pl.history({"train_loss": history["train_loss"], "kl_weight": history["train_loss"]})
    assert legend(left) == ["training"]
    assert [text.get_text() for text in right.texts] == ["no validation"]
    assert not right.lines
    assert not right.axison


def test_validation_of_the_loss_alone_or_of_recall_alone(history):
    del history["validation_mean_rank_percentile"]
    _, right = pl.history(history)
    assert legend(right) == ["recall@1", "recall@10"]
    del history["validation_recall_at_1"], history["validation_recall_at_10"]
    left, right = pl.history(history)
    assert legend(left) == ["training", "validation"]
    assert not right.axison


def test_validation_every_few_epochs(history):
    sparse = [np.nan if epoch % 5 else epoch for epoch in EPOCHS]
    history["validation_loss"] = curve("validation_loss", sparse)
    left, _ = pl.history(history)
    assert list(left.lines[1].get_xdata()) == [0, 5, 10, 15, 20, 25]


def test_a_single_epoch_is_a_point_on_a_whole_number(history):
    axes = pl.history({name: table.iloc[:1] for name, table in history.items()})
    for ax in axes:
        assert {line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1} == {"o"}
        ax.figure.canvas.draw()
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [0]


@pytest.mark.parametrize("size", [None, (6, 2.4)])
def test_nothing_is_cut_or_hidden(history, size):
    history["validation_recall_at_5"] = history["validation_recall_at_10"]
    axes = None if size is None else plt.subplots(1, 2, figsize=size, layout="constrained")[1]
    for ax in pl.history(history, ax=axes):
        figure = ax.figure
        figure.canvas.draw()
        box = ax.get_legend().get_window_extent()
        for part in (box, ax.xaxis.label.get_window_extent(), ax.yaxis.label.get_window_extent()):
            assert min(part.x0, part.y0) >= 0
            assert part.x1 <= figure.bbox.width
            assert part.y1 <= figure.bbox.height
        for line in ax.lines:
            assert line.get_window_extent().y1 <= box.y0


def test_draws_on_given_axes_and_changes_nothing(history):
    figure, grid = plt.subplots(2, 1)
    before = {name: table.copy() for name, table in history.items()}
    axes = pl.history(history, ax=list(grid))
    assert [axes[0] is grid[0], axes[1] is grid[1]] == [True, True]
    assert plt.get_fignums() == [figure.number]
    assert list(history) == list(before)
    for name, table in history.items():
        pd.testing.assert_frame_equal(table, before[name])


def test_refuses(history):
    with pytest.raises(ValueError, match=r"has no history, since it is not trained; call \.train\(\) first"):
        pl.history(SimpleNamespace(history=None))
    with pytest.raises(KeyError, match="no 'train_loss', only validation_loss; draw the history of a SemiClip model"):
        pl.history({"validation_loss": history["validation_loss"]})
    with pytest.raises(KeyError, match="no 'train_loss', only nothing"):
        pl.history({})
    _, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match=r"ax holds 3 axes; two are needed, such as plt\.subplots\(1, 2\)\[1\]"):
        pl.history(history, ax=axes)
    with pytest.raises(ValueError, match="ax holds 1 axes"):
        pl.history(history, ax=axes[0])
