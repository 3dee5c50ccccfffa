"""What all pictures share: colours that colour-blind readers tell apart, and axes made only when none are given."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.container import Container

# Okabe and Ito, https://jfly.uni-koeln.de/color/, darkest and most distinct first; yellow is too light for thin lines
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
CHANCE: dict[str, Any] = {"color": "0.35", "linestyle": "--", "linewidth": 1.2}
BASELINE: dict[str, Any] = {"color": "0.1", "linestyle": "-.", "linewidth": 1.2}
MEAN: dict[str, Any] = {"marker": "o", "markersize": 4, "elinewidth": 1.2, "capsize": 2.5, "zorder": 3}


def colours(names: Sequence[str], palette: Sequence[str] | Mapping[str, str] | None = None) -> dict[str, str]:
    """Give each name its colour, by name from a mapping or in order from a sequence."""
    if isinstance(palette, Mapping):
        if absent := [name for name in names if name not in palette]:
            msg = f"palette has no colour for {some(absent)}; add them, or pass a sequence of colours"
            raise KeyError(msg)
        return {name: palette[name] for name in names}
    available = OKABE_ITO if palette is None else palette
    if len(names) > len(available):
        msg = f"{len(names)} names ({some(names)}) but {len(available)} colours; pass more as palette=, or draw fewer"
        raise ValueError(msg)
    return dict(zip(names, available, strict=False))


def new_axes(n: int = 1, *, size: tuple[float, float]) -> list[Axes]:
    """Make a figure with ``n`` axes beside each other, ``size`` in inches; its layout leaves room for all labels."""
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(1, n, figsize=size, layout="constrained", squeeze=False)
    return list(axes[0])


def inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of the area inside the axes, with room made for the labels that it has."""
    figure = ax.get_figure(root=True)
    if figure is not None and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return box.width, box.height


def name_groups(ax: Axes, names: Sequence[str], *, at: Sequence[float] | None = None, size: float = 10) -> None:
    """Write names under places, by default 0, 1, …, in several lines or slanted if they would run into each other."""
    places = list(range(len(names)) if at is None else at)
    room = int(inches(ax)[0] / (places[-1] - places[0] + 1) / (0.009 * size))  # letters
    fits = max(len(word) for name in names for word in name.split() or [""]) <= room
    ax.set_xticks(places, [fill(name, room, break_on_hyphens=False) for name in names] if fits else names)
    ax.tick_params("x", labelsize=size)
    if not fits:
        ax.tick_params("x", rotation=30)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def legend_on_top(ax: Axes, handles: Sequence[Artist | Container], *, below: float = 0, columns: int = 2) -> None:
    """Write a legend inside, in columns, where it hides nothing: the upper limit of y makes room for its rows.

    So many inches ``below`` it stay free too.
    """
    rows = -(-len(handles) // columns)
    share = min(0.6, (0.18 * rows + 0.1 + below) / inches(ax)[1])  # inches of small print
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, bottom + (top - bottom) / (1 - share))
    spacing = {"borderaxespad": 0.2, "handlelength": 1.3, "columnspacing": 1}
    legend = ax.legend(handles=handles, loc="upper left", ncols=columns, frameon=False, fontsize="small", **spacing)
    legend.set_in_layout(False)  # a wide legend does not squeeze the axes


def title(name: str) -> str:
    """Write the name of a column as the label of an axis."""
    return (name[:1].upper() + name[1:]).replace("_", " ")


def percent(axis: Axis) -> None:
    """Write shares as percentages."""
    axis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")


def bare(ax: Axes) -> None:
    """Leave only the two spines that carry scales."""
    ax.spines[["top", "right"]].set_visible(False)
