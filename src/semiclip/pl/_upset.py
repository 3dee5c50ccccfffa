"""The picture of more sets than circles can show: a bar per combination, with dots that say of which sets it is."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import inches

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from matplotlib.axes import Axes

SMALL: dict[str, Any] = {"fontsize": 8}
NARROW = 0.13  # inches that a column takes at least
BARE: dict[str, Any] = {"xticks": [], "yticks": []}


def regions(members: Sequence[set[Hashable]]) -> list[tuple[tuple[bool, ...], int]]:
    """Count what is in just these sets and no other, for each combination that there is, the largest first."""
    items = set(chain.from_iterable(members))
    counts = Counter(tuple(item in held for held in members) for item in items)
    return sorted(counts.items(), key=lambda region: (-region[1], sum(region[0]), [not held for held in region[0]]))


def upset(members: Sequence[set[Hashable]], names: Sequence[str], colours: Sequence[str], ax: Axes) -> None:
    """Divide the place of the axes into bars of the combinations, bars of the sets, and the dots between them."""
    ax.set_axis_off()
    wide, high = inches(ax)
    named = min(0.4, _width(ax, names) / wide + 0.02)
    left = min(0.22, 0.9 / wide)
    low = min(0.6, max(0.25 * len(names) / high, 0.3))
    start = left + named
    place = {"bars": (start, low + 0.02, 1 - start, 0.98 - low)}
    place |= {"sizes": (0.0, 0.0, left, low), "dots": (start, 0.0, 1 - start, low)}
    bars, sizes, dots = (ax.inset_axes(box, label=name) for name, box in place.items())

    every = regions(members)
    room = max(1, int(wide * place["bars"][2] / NARROW))
    shown, hidden = every[:room], every[room:]
    counts = np.array([count for _, count in shown])
    at = np.arange(len(shown))
    bars.bar(at, counts, 0.7, color="0.3")
    fits = max(len(f"{count:,}") for count in counts) * 0.075 < wide * place["bars"][2] / len(shown)
    for where, count in zip(at, counts, strict=True):
        bars.annotate(
            f"{count:,}", (where, count), (0, 2), textcoords="offset points", ha="center", va="bottom", **SMALL,
            rotation=0 if fits else 90,
        )  # fmt: skip
    bars.set(**BARE, ylim=(0, counts.max() * (1.12 if fits else 1.25)))
    bars.spines[["left", "right", "top"]].set_visible(False)
    if hidden:
        left_out = sum(count for _, count in hidden)
        note = f"not shown: {len(hidden)} smaller combinations, {left_out:,} in all"
        letters = max(1, int(start * wide / 0.065))
        ax.text(0, 1, fill(note, letters), transform=ax.transAxes, va="top", color="0.35", **SMALL)

    rows = np.arange(len(names))
    for row in rows[::2]:
        dots.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0, linewidth=0)
    size = min(60, 40 * (wide * place["dots"][2] / len(shown) / 0.2) ** 2, 40 * (low * high / len(names) / 0.2) ** 2)
    held = np.array([combination for combination, _ in shown])
    x, y = np.meshgrid(at, rows, indexing="ij")
    dots.scatter(x[~held], y[~held], s=size, color="0.85", linewidths=0)
    for where, column in zip(at, held, strict=True):
        dots.plot([where, where], [rows[column].min(), rows[column].max()], color="0.2", linewidth=1.2)
    dots.scatter(x[held], y[held], s=size, color="0.2", linewidths=0, zorder=3)
    for panel in (bars, dots):
        panel.set_xlim(-0.6, len(shown) - 0.4)

    totals = [len(items) for items in members]
    sizes.barh(rows, totals, 0.55, color=list(colours))
    for row, total in zip(rows, totals, strict=True):
        sizes.annotate(
            f"{total:,}", (total, row), (-2, 0), textcoords="offset points", ha="right", va="center", **SMALL
        )
    for panel in (dots, sizes):
        panel.set(**BARE, ylim=(len(names) - 0.5, -0.5))
        panel.spines[:].set_visible(False)
    # the sizes grow to the left; what their numbers take of the width stays free
    share = min(0.7, 0.07 * (max(len(f"{total:,}") for total in totals) + 1) / (left * wide))
    sizes.set_xlim(max(totals) / (1 - share), 0)
    points = min(8.0, 8 * named * wide / max(_width(ax, names), 1e-9))
    for row, name in zip(rows, names, strict=True):
        sizes.annotate(
            name, (1, row), (4, 0), xycoords=sizes.get_yaxis_transform(), textcoords="offset points", va="center",
            fontsize=points, annotation_clip=False,
        )  # fmt: skip


def _width(ax: Axes, names: Sequence[str]) -> float:
    """Return the width in inches of the longest name, with a margin on either side."""
    widest = 0.0
    for name in names:
        text = ax.text(0, 0, name, **SMALL)
        widest = max(widest, text.get_window_extent().width)
        text.remove()
    return widest / ax.figure.dpi + 0.12
