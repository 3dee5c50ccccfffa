from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import matplotlib
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _pictures():
    """Check that drawing leaves matplotlib's settings alone, and close what was drawn."""
    from matplotlib import pyplot as plt

    before = matplotlib.rcParams.copy()
    yield
    plt.close("all")
    assert matplotlib.rcParams == before


@pytest.fixture
def assert_legible() -> Callable[[Axes], None]:
    """Check that every text of axes and their insets lies within the figure, and that no two cover each other."""

    def check(ax: Axes) -> None:
        figure = ax.get_figure(root=True)
        figure.canvas.draw()
        texts = []
        for part in (ax, *ax.child_axes):
            texts += part.texts
            if part.axison:
                for axis, limits in ((part.xaxis, part.get_xlim()), (part.yaxis, part.get_ylim())):
                    low, high = sorted(limits)
                    texts += [
                        label
                        for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                        if low <= at <= high
                    ]
                    texts.append(axis.label)
            texts += [part.title, *(part.get_legend().get_texts() if part.get_legend() else [])]
        boxes = {text: text.get_window_extent() for text in texts if text.get_text() and text.get_visible()}
        assert len(boxes) > 3
        for text, box in boxes.items():
            assert box.x0 >= -0.5, text
            assert box.y0 >= -0.5, text
            assert box.x1 <= figure.bbox.width + 0.5, text
            assert box.y1 <= figure.bbox.height + 0.5, text
        level = {text: box for text, box in boxes.items() if not text.get_rotation() % 90}
        for (one, box), (other, second) in itertools.combinations(level.items(), 2):
            assert not box.padded(-1).overlaps(second.padded(-1)), (one, other)

    return check
