"""The picture of more sets than circles can show: a bar per combination, with dots that say of which sets it is."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import measure_inches

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from matplotlib.axes import Axes

SMALL: dict[str, Any] = {"fontsize": 8}
POINTS: dict[str, Any] = {"textcoords": "offset points"}
NARROW = 0.13  # inches that a column takes at least
BARE: dict[str, Any] = {"xticks": [], "yticks": []}


def draw_upset(members: Sequence[set[Hashable]], names: Sequence[str], colours: Sequence[str], ax: Axes) -> None:
    """Divide the place of the axes into bars of the combinations, bars of the sets, and the dots between them."""
    ax.set_axis_off()
    wide, high = measure_inches(ax)
    named = min(0.4, _measure_names(ax, names) / wide + 0.02)
    left = min(0.22, 0.9 / wide)
    low = min(0.6, max(0.25 * len(names) / high, 0.3))
    start = left + named
    bars = ax.inset_axes((start, low + 0.02, 1 - start, 0.98 - low), label="bars")
    sizes = ax.inset_axes((0.0, 0.0, left, low), label="sizes")
    dots = ax.inset_axes((start, 0.0, 1 - start, low), label="dots")

    # what is in just these sets and no other, the largest combination first
    counter = Counter(tuple(item in items for items in members) for item in set(chain.from_iterable(members)))
    regions = sorted(
        counter.items(), key=lambda region: (-region[1], sum(region[0]), [not inside for inside in region[0]])
    )
    room = max(1, int(wide * (1 - start) / NARROW))
    shown, hidden = regions[:room], regions[room:]
    held, counts = np.array([sets for sets, _ in shown]), np.array([count for _, count in shown])
    _draw_bars(bars, counts, wide * (1 - start) / len(shown))
    if hidden:
        note = f"not shown: {len(hidden)} smaller combinations, {sum(count for _, count in hidden):,} in all"
        letters = max(1, int(start * wide / 0.065))
        ax.text(0, 1, fill(note, letters), transform=ax.transAxes, va="top", color="0.35", **SMALL)
    row, column = low * high / len(names), wide * (1 - start) / len(shown)  # inches
    _draw_dots(dots, held, min(60, 40 * (column / 0.2) ** 2, 40 * (row / 0.2) ** 2))
    for panel in (bars, dots):
        panel.set_xlim(-0.6, len(shown) - 0.4)

    _draw_sizes(sizes, [len(items) for items in members], colours, left * wide)
    for panel in (dots, sizes):
        panel.set(**BARE, ylim=(len(names) - 0.5, -0.5))
        panel.spines[:].set_visible(False)
    points = min(8.0, 8 * named * wide / max(_measure_names(ax, names), 1e-9))
    look: dict[str, Any] = {"va": "center", "fontsize": points, "annotation_clip": False, **POINTS}
    for i, name in enumerate(names):
        sizes.annotate(name, (1, i), (4, 0), xycoords=sizes.get_yaxis_transform(), **look)


def _draw_bars(ax: Axes, counts: np.ndarray, width: float) -> None:
    """Draw the counts of the combinations, which have a ``width`` of so many inches each."""
    at = np.arange(len(counts))
    ax.bar(at, counts, 0.7, color="0.3")
    fits = max(len(f"{count:,}") for count in counts) * 0.075 < width
    look: dict[str, Any] = {"ha": "center", "va": "bottom", "rotation": 0 if fits else 90, **POINTS, **SMALL}
    for x, count in zip(at, counts, strict=True):
        ax.annotate(f"{count:,}", (x, count), (0, 2), **look)
    ax.set(**BARE, ylim=(0, counts.max() * (1.12 if fits else 1.25)))
    ax.spines[["left", "right", "top"]].set_visible(False)


def _draw_dots(ax: Axes, held: np.ndarray, size: float) -> None:
    """Draw a column of dots for each combination; those of its sets are dark and joined."""
    rows = np.arange(held.shape[1])
    for row in rows[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0, linewidth=0)
    x, y = np.meshgrid(np.arange(len(held)), rows, indexing="ij")
    ax.scatter(x[~held], y[~held], s=size, color="0.85", linewidths=0)
    for at, sets in enumerate(held):
        ax.plot([at, at], [rows[sets].min(), rows[sets].max()], color="0.2", linewidth=1.2)
    ax.scatter(x[held], y[held], s=size, color="0.2", linewidths=0, zorder=3)


def _draw_sizes(ax: Axes, totals: Sequence[int], colours: Sequence[str], width: float) -> None:
    """Draw the sizes of the sets, which grow to the left; what their numbers take of the width stays free."""
    ax.barh(np.arange(len(totals)), totals, 0.55, color=list(colours))
    for row, total in enumerate(totals):
        ax.annotate(f"{total:,}", (total, row), (-2, 0), ha="right", va="center", **POINTS, **SMALL)
    share = min(0.7, 0.07 * (max(len(f"{total:,}") for total in totals) + 1) / width)
    ax.set_xlim(max(totals) / (1 - share), 0)


def _measure_names(ax: Axes, names: Sequence[str]) -> float:
    """Return the width in inches of the longest name, with a margin on either side."""
    widest = 0.0
    for name in names:
        text = ax.text(0, 0, name, **SMALL)
        widest = max(widest, text.get_window_extent().width)
        text.remove()
    return widest / ax.figure.dpi + 0.12
