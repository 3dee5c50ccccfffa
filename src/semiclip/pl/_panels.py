"""Axes divided where there are more names than one picture can tell apart: a table of bars, or a grid of small panels.

The parts are ``child_axes`` of the axes that a picture returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._names import fit_names, measure_text
from semiclip.pl._style import LEAST, LINE, SMALL, arrange_legend, grow, measure_inches, tone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

MOST_BARS = 7  # beside each other in a group
MOST_CURVES = 10  # in one panel, as many as there are colours
GAP = 0.12  # inches between parts
MOST_COLUMNS = 5  # of a grid
CELL = (1.6, 1.3)  # inches of its panels, in a figure that can grow


def divide_rows(
    ax: Axes, names: Sequence[str], titles: Sequence[str], *, column: float = 1.05, foot: float = 0.5, row: float = 0.0
) -> list[Axes]:
    """Return a part for each title, beside each other; their rows 0, 1, … have the names, which stand on the left.

    A column is so many inches wide in a figure that can grow, where ``row`` is the least height of a row. Below the
    rows stay ``foot`` inches for the horizontal axis and for what a picture writes there.
    """
    ax.set_axis_off()
    high = measure_inches(ax)[1]
    longest = max(measure_text(name, SMALL) for name in names)
    step = max(row, 0.34 if longest > 2.4 else 0.2)
    left = min(longest, 2.4) + 0.1
    heads = fit_names(titles, column, SMALL, 6)
    head = _measure_height(heads, SMALL) + 0.06
    grow(ax, height=head + foot + step * len(names) - high)
    grow(ax, width=left + (column + GAP) * len(titles) + GAP - measure_inches(ax)[0])

    wide, high = measure_inches(ax)  # which are others where the figure could not grow
    left = min(left, 0.4 * wide)
    column = (wide - left - GAP) / len(titles) - GAP
    heads = fit_names(titles, column, SMALL, 6)
    head = _measure_height(heads, SMALL) + 0.06
    if upright := max(measure_text(word, SMALL) for title in titles for word in title.split()) > column:
        heads = fit_names(titles, 0.25 * high, SMALL, max(1, int(72 * column / (LINE * SMALL))))
        head = max(measure_text(text, SMALL) for text in heads) + 0.06
    step = max(high - head - foot, 0.3 * high) / len(names)
    size = float(np.clip(72 * step / LINE, LEAST, SMALL))
    written = fit_names(names, left - 0.08, size, max(1, int(72 * step / (LINE * size))))
    parts = []
    for i, text in enumerate(heads):
        x, y = (left + i * (column + GAP)) / wide, foot / high
        part = ax.inset_axes((x, y, column / wide, step * len(names) / high))
        for stripe in range(0, len(names), 2):
            part.axhspan(stripe - 0.5, stripe + 0.5, color=tone(0.95), zorder=0, linewidth=0)
        part.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
        part.set_yticklabels(written if i == 0 else [""] * len(names))
        part.tick_params("y", length=0, labelsize=size)
        part.tick_params("x", labelsize=7, pad=2)
        part.spines[["top", "right", "left"]].set_visible(False)
        part.set_title(text, fontsize=SMALL, pad=3, rotation=90 if upright else 0)
        parts.append(part)
    return parts


def divide_grid(
    ax: Axes,
    names: Sequence[str],
    label: str,
    ylabel: str,
    *,
    foot: float = 0.0,
    cell: tuple[float, float] = (1.6, 1.3),
) -> list[Axes]:
    """Return a small panel for each name, in a grid on the place of the axes; labels stand once beside all of them.

    Below the grid stay ``foot`` inches, for a legend.
    """
    ax.set_axis_off()
    n, cell = min(MOST_COLUMNS, len(names)), CELL
    rows = -(-len(names) // n)
    side, low = 0.7, 0.5 + foot  # inches for the labels of the axes
    titles = fit_names(names, cell[0], 7, 3)
    head = _measure_height(titles, 7) + 0.05
    wide, high = measure_inches(ax)
    grow(ax, width=side + n * (cell[0] + GAP) - wide, height=low + rows * (cell[1] + head + GAP) - high)

    wide, high = measure_inches(ax)
    cell = ((wide - side) / n - GAP, max((high - low) / rows - head - GAP, 0.2))
    titles = fit_names(names, cell[0], 7, 3)
    parts: list[Axes] = []
    for i, text in enumerate(titles):
        x, y = side + i % n * (cell[0] + GAP), low + (rows - 1 - i // n) * (cell[1] + head + GAP)
        part = ax.inset_axes((x / wide, y / high, cell[0] / wide, cell[1] / high))
        part.set_title(text, fontsize=7, pad=3)
        part.tick_params(labelsize=7, labelleft=i % n == 0, labelbottom=i + n >= len(names))
        part.spines[["top", "right"]].set_visible(False)
        parts.append(part)
    look: dict[str, Any] = {"transform": ax.transAxes, "fontsize": 9}
    middle = (side + wide) / 2 / wide
    ax.text(middle, foot / high, label, ha="center", va="bottom", **look)
    ax.text(0, (low + high) / 2 / high, ylabel, ha="left", va="center", rotation=90, ma="center", **look)
    return parts


def draw_grid(
    ax: Axes,
    curves: Mapping[str, np.ndarray],
    draw: Callable[[Axes, str], list[Any]],
    labels: tuple[str, str],
    handles: Sequence[Any] = (),
) -> None:
    """Draw each of many curves (k, 2) in a panel of its own, before all of them in grey, and on the same scales.

    ``draw`` draws a name and returns what the legend explains beside ``handles``.
    """
    from matplotlib.collections import LineCollection

    parts = divide_grid(ax, list(curves), *labels, foot=0.22)
    for part, name in zip(parts, curves, strict=True):
        others = LineCollection(list(curves.values()), colors=tone(0.85), linewidths=0.7, zorder=1, label="all others")
        part.add_collection(others)
        shown = draw(part, name)
    limits = np.array([[part.get_xlim(), part.get_ylim()] for part in parts])
    for part in parts:
        part.set(xlim=(limits[:, 0, 0].min(), limits[:, 0, 1].max()), ylim=(0, limits[:, 1, 1].max()))
        part.locator_params(nbins=3)
    explain(ax, [*shown, *handles, others])


def explain(ax: Axes, handles: Sequence[Any] = (), label: str = "") -> None:
    """Write a legend below the parts of axes, and above it the label that they share."""
    wide, high = measure_inches(ax)
    inches = 0.0
    if handles:
        texts, columns, size, inches = arrange_legend([handle.get_label() for handle in handles], wide, len(handles))
        look: dict[str, Any] = {"loc": "lower center", "ncols": columns, "fontsize": size, "frameon": False}
        look |= {"borderpad": 0.0, "borderaxespad": 0.0, "handlelength": 1.6}
        ax.legend(handles=handles, labels=texts, bbox_to_anchor=(0.5, 0), **look).set_in_layout(False)
    if label:
        at = (0.5, (inches + 0.06) / high)
        size = 9 if measure_text(label, 9) <= wide else 7  # two small lines are hardly higher than one
        (text,) = fit_names([label], wide, size, 2)
        ax.text(*at, text, transform=ax.transAxes, ha="center", va="bottom", fontsize=size)


def _measure_height(texts: Sequence[str], size: float) -> float:
    """Return the inches that the text with most lines is high."""
    return max(1 + text.count("\n") for text in texts) * LINE * size / 72
