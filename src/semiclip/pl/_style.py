"""What all pictures share: colours that colour-blind readers tell apart, axes, legends, ticks and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.errors import MissingEntry, TooFew, WrongShape, some

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D

Palette = Sequence[str] | Mapping[str, str] | None

# Okabe and Ito, https://jfly.uni-koeln.de/color/, darkest and most distinct first; yellow is too light for thin lines
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}
BASELINE: dict[str, Any] = {"color": "0.1", "linestyle": "-.", "linewidth": 1.2}
CHANCE: dict[str, Any] = {"color": "0.35", "linestyle": "--", "linewidth": 1.2}
ERROR: dict[str, Any] = {"elinewidth": 1, "ecolor": "0.2"}  # of a bar
MEAN: dict[str, Any] = {"marker": "o", "markersize": 4, "elinewidth": 1.2, "capsize": 2.5, "zorder": 3}


def pick_colours(names: Sequence[str], palette: Palette = None) -> dict[str, str]:
    """Give each name its colour, by name from a mapping or in order from a sequence."""
    if isinstance(palette, Mapping):
        if absent := [name for name in names if name not in palette]:
            raise MissingEntry(absent, palette, "palette", way_out="add it, or pass a sequence of colours")
        return {name: palette[name] for name in names}
    available = OKABE_ITO if palette is None else palette
    if len(names) > len(available):
        raise TooFew(f"colours for {some(names)}", len(available), len(names), "pass more as palette=, or draw fewer")
    return dict(zip(names, available, strict=False))


def take_axes(
    ax: Any, n: int = 1, *, size: tuple[float, float], columns: int | None = None, panels: Sequence[str] = ()
) -> np.ndarray:
    """Return the ``n`` axes of a user, which ``panels`` names, or new ones on a figure of ``size`` inches."""
    if ax is None:
        from matplotlib import pyplot as plt

        columns = columns or n
        _, grid = plt.subplots(-(-n // columns), columns, figsize=size, layout="constrained", squeeze=False)
        for empty in grid.flat[n:]:
            empty.remove()
        return np.array(grid.flat[:n], dtype=object)
    axes = np.array(ax, dtype=object).ravel()
    if len(axes) != n:
        raise WrongShape("ax", axes.shape, f"({n},)" + (f", one axes for each of {some(panels)}" if panels else ""))
    return axes


def measure_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of the area inside the axes, with room made for the labels that it has."""
    figure = ax.get_figure(root=True)
    if figure is not None and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return box.width, box.height


def shift_in_group(i: int, n: int, width: float) -> float:
    """Return how far from the middle of a group its member ``i`` of ``n`` stands, where each takes a ``width``."""
    return (i - (n - 1) / 2) * width


def choose_ticks(low: float, high: float, n_ticks: int, **options: Any) -> np.ndarray:
    """Return round numbers between two ends, about as many as ``n_ticks``."""
    from matplotlib.ticker import MaxNLocator

    ticks = np.array(MaxNLocator(n_ticks, steps=[1, 2, 5, 10], **options).tick_values(low, high))
    return ticks[(ticks >= low) & (ticks <= high)]


def name_groups(ax: Axes, names: Sequence[str], *, at: Sequence[float] | None = None, size: float = 10) -> None:
    """Write names under places, by default 0, 1, …, in several lines or slanted if they would run into each other."""
    places = list(range(len(names)) if at is None else at)
    room = int(measure_inches(ax)[0] / (places[-1] - places[0] + 1) / (0.009 * size))  # letters
    fits = max(len(word) for name in names for word in name.split() or [""]) <= room
    ax.set_xticks(places, [fill(name, room, break_on_hyphens=False) for name in names] if fits else names)
    ax.tick_params("x", labelsize=size)
    if not fits:
        ax.tick_params("x", rotation=30)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def finish(ax: Axes, handles: Sequence[Any], *, below: float = 0, columns: int = 2, most: float | None = None) -> None:
    """Write a legend inside, in room that the upper limit of y makes for its rows and for so many inches ``below``.

    With ``most`` there are no ticks in this room, nor above so much.
    """
    ax.spines[["top", "right"]].set_visible(False)
    rows = -(-len(handles) // columns)
    share = min(0.6, (0.18 * rows + 0.1 + below) / measure_inches(ax)[1])  # inches of small print
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, bottom + (top - bottom) / (1 - share))
    spacing = {"borderaxespad": 0.2, "handlelength": 1.3, "columnspacing": 1}
    legend = ax.legend(handles=handles, loc="upper left", ncols=columns, frameon=False, fontsize="small", **spacing)
    legend.set_in_layout(False)  # a wide legend does not squeeze the axes
    if most is not None:
        ticks = ax.get_yticks()
        ax.set_yticks(ticks[(ticks >= bottom) & (ticks <= min(top, most))])


def add_note(ax: Axes, text: str, at: Any, shift: tuple[float, float], **look: Any) -> None:
    """Write a text so many points from a place; room for it is made inside the axes."""
    ax.annotate(text, at, shift, textcoords="offset points", **look).set_in_layout(False)


def make_mark(**look: Any) -> Line2D:
    """Make an entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def write_percent(axis: Axis) -> None:
    """Write shares as percentages."""
    axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
