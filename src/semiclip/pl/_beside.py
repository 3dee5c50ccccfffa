"""Legends and names beside what is drawn, with room made for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl import _style as style
from semiclip.pl._names import fit_names, measure_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

WIDEST = 2.6  # inches of a name
SCALE = 0.85  # inches of a scale with its figures and label
CELL = 1.15  # heights of letters between names of rows
SPACING = 0.4  # between entries, in heights of letters


def write_beside(ax: Axes, handles: Sequence[Any], title: str = "") -> None:
    """Write a legend right of the last axes of a picture, in as many columns as the height asks for.

    A figure that the picture made itself grows with it; other axes keep their size, and the legend stands beside them.
    """
    if not handles:
        return
    figure: Any = ax.get_figure(root=True)
    is_own = figure in style.OWN
    high = figure.get_size_inches()[1] if is_own else style.measure_inches(ax)[1]
    names = [str(handle.get_label()) for handle in handles]
    fixed = figure.get_layout_engine() is None  # what lies beside the axes is the place of others
    widest = max(0.4, min(WIDEST, style.measure_inches(ax)[0] / 3)) if fixed else WIDEST
    for size in (style.SMALL, style.LEAST) if fixed else (style.SMALL,):
        heading = fit_names([title], widest, size, 2)[0]
        parts = _divide_entries(names, widest, size, high - 0.15 - _measure_height(heading.split(), size))
        if len(parts) == 1:
            break
    labels, columns = [label for part in parts for label in part], len(parts)
    look = {"title": heading or None, "fontsize": size, "title_fontsize": size, "alignment": "left", "ncols": columns}
    look |= {"frameon": False, "handlelength": 1.5, "columnspacing": 1, "labelspacing": SPACING}
    width = sum(max(measure_text(label, size) for label in part) for part in parts) + columns * 4 * size / 72
    if is_own:
        style.grow(ax, width=width)
        figure.legend(handles, labels, loc="outside right upper", **look)
        return
    if fixed:
        _give_way(ax, width)
    ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, **look)


def _give_way(ax: Axes, width: float) -> None:
    """Move the right edge of axes inwards, for so many inches within their place; a third of it stays."""
    place, across = ax.get_position(original=True), ax.figure.bbox.width / ax.figure.dpi
    ax.set_anchor("W")
    kept = max(place.width / 3, place.width - width / across)
    ax.set_position((place.x0, place.y0, kept, place.height))


def _divide_entries(names: Sequence[str], width: float, size: float, room: float) -> list[list[str]]:
    """Break names into two lines where one column has room for them, else into as few columns as the room asks for."""
    labels = fit_names(names, width, size, 2)
    if _measure_height(labels, size) > room:
        labels = fit_names(names, width, size)
    columns, parts = 0, [labels]
    while columns < len(labels) and (not columns or max(_measure_height(part, size) for part in parts) > room):
        columns += 1
        n_rows = -(-len(labels) // columns)
        parts = [labels[i : i + n_rows] for i in range(0, len(labels), n_rows)]
    return parts


def _measure_height(labels: Sequence[str], size: float) -> float:
    """Return the inches that the entries of a column of a legend take."""
    lines = sum(1 + label.count("\n") for label in labels)
    return (lines * style.LINE + len(labels) * SPACING) * size / 72


def name_cells(axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Name the cells of axes that already hold all else: below each, and left of the first.

    Letters are as large as a cell. Where cells are smaller than the smallest letters, only some of them have names.
    """
    room = max(measure_text(name, style.SMALL) for name in fit_names(names, WIDEST, style.SMALL))
    style.grow(axes[0], width=room, height=room)
    _write_cells(axes, names, style.SMALL)  # takes its room, so that the cells can be measured
    least = style.LEAST * CELL / 72
    pitch = min(min(style.measure_inches(ax)) for ax in axes) / len(names)
    size = min(style.SMALL, max(style.LEAST, 72 * pitch / CELL))
    _write_cells(axes, names, size, -(-least // (1.001 * pitch)))


def _write_cells(axes: Sequence[Axes], names: Sequence[str], size: float, step: float = 1) -> None:
    places = range(0, len(names), int(step))
    texts = fit_names([names[i] for i in places], WIDEST, size)
    for ax in axes:
        ax.xaxis.set_ticks(places, texts, fontsize=size)
        ax.yaxis.set_ticks(*((places, texts) if ax is axes[0] else ([], [])), fontsize=size)
        ax.xaxis.set_tick_params(length=0, rotation=90)
        ax.yaxis.set_tick_params(length=0)


def add_scale(axes: Sequence[Axes], drawn: Any, label: str) -> None:
    """Draw the scale of colours right of all axes; its label is no longer than the figure is high."""
    figure: Any = axes[-1].figure
    look: dict[str, Any] = {"shrink": 0.8, "aspect": 25, "pad": 0.02}
    if figure.get_figure(root=True).get_layout_engine() is None:  # its figures and label stay within the place too
        across = np.ptp([edge for ax in axes for edge in ax.get_position(original=True).intervalx])
        look["fraction"] = min(0.5, max(0.15, SCALE * figure.dpi / (float(across) * figure.bbox.width)))
    bar = figure.colorbar(drawn, ax=list(axes), **look)
    high = 0.85 * figure.bbox.height / figure.dpi  # of a part of a figure too
    bar.set_label(fit_names([label], high, style.SMALL, 2)[0], fontsize=style.SMALL)
    bar.ax.tick_params(labelsize=style.SMALL)
    bar.outline.set_visible(False)
