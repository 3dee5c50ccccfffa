"""What all pictures share: colours that colour-blind readers tell apart, axes, legends, ticks and notes.

No number or length of names is too much for a picture. :func:`pick_looks` gives each name a look of its own,
:func:`finish` makes room for legends, :mod:`semiclip.pl._names` shortens names so that they still differ, and
:mod:`semiclip.pl._panels` divides axes where more is compared than one can hold. Figures that a picture makes itself
grow with what they hold (:func:`grow`); the axes of a user keep their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np

from semiclip.errors import MissingEntry, TooFew, WrongShape, WrongType, some
from semiclip.pl._names import fit_names, measure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Palette = Sequence[str] | Mapping[str, str] | None

# Okabe and Ito, https://jfly.uni-koeln.de/color/, darkest and most distinct first; yellow is too light for thin lines
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
# wine, olive and indigo of Paul Tol's muted scheme, https://sronpersonalpages.nl/~pault/, are far from these seven
COLOURS = (*OKABE_ITO, "#882255", "#999933", "#332288")
# where colours begin again, something else changes
LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "os^Dv*X"
HATCHES = (None, "//////", "......", "xxxxxx")

BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}
MEAN: dict[str, Any] = {"marker": "o", "markersize": 4, "elinewidth": 1.2, "capsize": 2.5, "zorder": 3}

SMALL = 8.0  # points of names, legends and notes
LEAST = 6.0  # points of the smallest print
LINE = 1.25  # from line to line, in heights of letters
FREE = 0.75  # share of the height that a legend leaves to the data of a figure that can grow
OWN: WeakSet[Figure] = WeakSet()  # figures that pictures made themselves


def find_ground() -> tuple[float, float, float]:
    """Return the colour behind what is drawn, which styles of matplotlib decide on."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb, to_rgba

    behind = (rcParams["axes.facecolor"], rcParams["figure.facecolor"])
    return to_rgb(next((colour for colour in behind if to_rgba(colour)[3]), "white"))


def tone(grey: float) -> str:
    """Return a grey that differs from the ground as much as this one differs from white."""
    return f"{grey if np.mean(find_ground()) >= 0.5 else 1 - grey:g}"


def make_baseline_look() -> dict[str, Any]:
    """Return how the line of a baseline looks."""
    return {"color": tone(0.1), "linestyle": "-.", "linewidth": 1.2}


def make_chance_look() -> dict[str, Any]:
    """Return how the line of chance looks."""
    return {"color": tone(0.35), "linestyle": "--", "linewidth": 1.2}


def make_error_look() -> dict[str, Any]:
    """Return how the interval of a bar looks."""
    return {"elinewidth": 1, "ecolor": tone(0.2)}


class Look(NamedTuple):
    """How a name is drawn, as a line, a point or an area."""

    colour: str
    line: Any
    marker: str
    hatch: str | None


def pick_colours(names: Sequence[str], palette: Palette = None) -> dict[str, str]:
    """Give each name its colour, by name from a mapping or in order from a sequence.

    After ten names the colours begin again: then a place, or the rest of :func:`pick_looks`, tells names apart.
    """
    if isinstance(palette, str):
        way_out = f"for a colour map pass matplotlib.colormaps[{palette!r}].colors"
        raise WrongType("palette", str, "a sequence of colours or a mapping of names to colours", way_out)
    if isinstance(palette, Mapping):
        if absent := [name for name in names if name not in palette]:
            raise MissingEntry(absent, palette, "palette", way_out="add it, or pass a sequence of colours")
        return {name: palette[name] for name in names}
    if palette is None:
        dark = tone(0) != "0"  # where black is the ground, white takes its place
        colours = ["#FFFFFF" if dark and colour == "#000000" else colour for colour in COLOURS]
        return {name: colours[i % len(colours)] for i, name in enumerate(names)}
    if len(names) > len(palette):
        raise TooFew(f"colours for {some(names)}", len(palette), len(names), "pass more as palette=, or draw fewer")
    return dict(zip(names, palette, strict=False))


def pick_looks(names: Sequence[str], palette: Palette = None) -> dict[str, Look]:
    """Give each name a look that no other has; a palette decides on the colours, and then on nothing else."""
    looks = {}
    for i, (name, colour) in enumerate(pick_colours(names, palette).items()):
        turn = i // len(COLOURS) if palette is None else 0
        marker = MARKERS[(i if palette is None else 0) % len(MARKERS)] if turn else "o"
        looks[name] = Look(colour, LINE_STYLES[turn % len(LINE_STYLES)], marker, HATCHES[turn % len(HATCHES)])
    return looks


def take_axes(
    ax: Any, n: int = 1, *, size: tuple[float, float], columns: int | None = None, panels: Sequence[str] = ()
) -> np.ndarray:
    """Return the ``n`` axes of a user, which ``panels`` names, or new ones on a figure of ``size`` inches."""
    if ax is None:
        from matplotlib import pyplot as plt

        columns = columns or n
        figure, grid = plt.subplots(-(-n // columns), columns, figsize=size, layout="constrained", squeeze=False)
        OWN.add(figure)
        for empty in grid.flat[n:]:
            empty.remove()
        return np.array(grid.flat[:n], dtype=object)
    axes = np.array(ax, dtype=object).ravel()
    if len(axes) != n:
        raise WrongShape("ax", axes.shape, f"({n},)" + (f", one axes for each of {some(panels)}" if panels else ""))
    return axes


def grow(ax: Axes, *, width: float = 0, height: float = 0) -> None:
    """Make the figure of a picture larger by so many inches, unless it is the user's."""
    if (figure := ax.get_figure(root=True)) in OWN and figure is not None:
        wide, high = figure.get_size_inches()
        figure.set_size_inches(float(wide) + max(width, 0), float(high) + max(height, 0))


def measure_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of the area inside the axes, with room made for the labels that it has."""
    figure = ax.get_figure(root=True)
    if figure is not None and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    locate: Any = ax.get_axes_locator()
    ax.apply_aspect(None if locate is None else locate(ax, None))  # equal scales leave a part of the place free
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


def name_groups(
    ax: Axes,
    names: Sequence[str],
    *,
    at: Sequence[float] | None = None,
    size: float = 10,
    inches: tuple[float, float] | None = None,
) -> None:
    """Write names under places, by default 0, 1, …: in several lines, or slanted if they would run into each other.

    Slanted names are shortened to two inches, or to half of the height of the axes, and upright where slanted ones
    would touch. ``inches`` are those of axes that were measured before.
    """
    places = list(range(len(names)) if at is None else at)
    wide, high = measure_inches(ax) if inches is None else inches
    room = wide / (places[-1] - places[0] + 1) * 0.95
    broken = [fill_name(name, room, size) for name in names]
    if all(map(bool, broken)):
        ax.set_xticks(places, broken)
        ax.tick_params("x", labelsize=size)
        return
    size = max(LEAST, min(size, 72 * room / LINE))
    upright = 72 * room < 2.2 * size
    ax.set_xticks(places, fit_names(names, min(2.0, high / 2), size, 1))
    ax.tick_params("x", labelsize=size, rotation=90 if upright else 30)
    if not upright:
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def span_numbers(ax: Axes, values: np.ndarray, *, log: bool) -> None:
    """Choose a scale of x and limits a little beyond the values, whatever is drawn later."""
    if log:
        ax.set_xscale("log")
    spaced = np.log(values) if log else values
    margin = np.ptp(spaced) / 20 or (0.5 if log else abs(values[0]) / 2) or 1
    low, high = spaced.min() - margin, spaced.max() + margin
    ax.set_xlim((np.exp(low), np.exp(high)) if log else (low, high))


def name_places(ax: Axes, at: np.ndarray, names: Sequence[str], size: float = SMALL) -> None:
    """Mark places on x, and from the left name each that has room; scale, limits and layout are known before."""
    middles = ax.get_xaxis_transform().transform(np.column_stack([at, np.zeros(len(at))]))[:, 0] / ax.figure.dpi
    labels, end = [""] * len(at), -np.inf
    for i in np.argsort(at):
        half = measure_text(names[i], size) / 2
        if middles[i] - half > end + 0.05:
            labels[i], end = names[i], middles[i] + half
    ax.set_xticks(at, labels, fontsize=size)
    ax.minorticks_off()


def fill_name(name: str, width: float, size: float, lines: int = 4) -> str:
    """Break a name between words into lines of a width in inches; nothing where a word or the name is too long."""
    words: list[str] = []
    for word in name.split(" "):
        if words and measure_text(f"{words[-1]} {word}", size) <= width:
            words[-1] += f" {word}"
        else:
            words.append(word)
    return "\n".join(words) if len(words) <= lines and measure_text("\n".join(words), size) <= width else ""


def write_heading(ax: Axes, text: str, *, width: float | None = None, lines: int = 3, size: float = 10) -> None:
    """Write a title in lines that are no wider than the axes, or than so many inches; long ones in smaller letters."""
    width = measure_inches(ax)[0] if width is None else width
    size = size if measure_text(text, size) <= width else min(size, SMALL)
    ax.set_title(fit_names([text], width, size, lines)[0], fontsize=size)


def write_label(axis: Axis, text: str, *, lines: int = 3, size: float = 10, room: float | None = None) -> None:
    """Write the label of an axis in lines that are no longer than the axis, or than so many inches."""
    ax = axis.axes
    if room is None:
        room = measure_inches(ax)[0 if axis is ax.xaxis else 1]
    axis.set_label_text("\n".join(fit_names([part], room, size, lines)[0] for part in text.split("\n")), fontsize=size)


def finish(
    ax: Axes,
    handles: Sequence[Any],
    *,
    below: float = 0,
    columns: int = 2,
    most: float | None = None,
    width: float | None = None,
    inches: tuple[float, float] | None = None,
) -> None:
    """Write a legend inside, in room that the upper limit of y makes for its rows and for so many inches ``below``.

    The legend has at most so many columns, and is as wide as the axes or ``width`` inches; long names are broken. With
    ``most`` there are no ticks in this room, nor above so much. ``inches`` are those of axes that were measured before,
    which a grid of many panels does once.
    """
    ax.spines[["top", "right"]].set_visible(False)
    wide, high = measure_inches(ax) if inches is None else inches
    labels, columns, size, rows = arrange_legend([h.get_label() for h in handles], width or wide, columns, high)
    need = rows + 0.1 + below  # inches
    if need > (1 - FREE) * high and inches is None:
        grow(ax, height=need - (1 - FREE) * high)
        high = measure_inches(ax)[1]
    share = min(0.8, need / high)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, bottom + (top - bottom) / (1 - share))
    spacing: dict[str, Any] = {"borderaxespad": 0.2, "handlelength": 1.3, "columnspacing": 1}
    look: dict[str, Any] = {"loc": "upper left", "ncols": columns, "frameon": False, "fontsize": size}
    legend = ax.legend(handles=handles, labels=labels, **look, **spacing)
    legend.set_in_layout(False)  # a wide legend does not squeeze the axes
    if most is not None:
        ticks = ax.get_yticks()
        ax.set_yticks(ticks[(ticks >= bottom) & (ticks <= min(top, most))])


def arrange_legend(
    labels: Sequence[str], width: float, columns: int, height: float = np.inf
) -> tuple[list[str], int, float, float]:
    """Return labels in lines, the columns that they have room for, points of their letters and inches of height.

    Letters become smaller where the legend would take more than half of ``height``.
    """
    for size in (10 * 0.833, 7.0, LEAST):
        handle = 3.4 * size / 72  # sign, gap and space between columns
        for n_columns in range(min(columns, len(labels)) or 1, 0, -1):
            n_rows = -(-len(labels) // n_columns)
            parts = [labels[i : i + n_rows] for i in range(0, len(labels), n_rows)]
            fits = sum(max(measure_text(text, size) for text in part) + handle for part in parts) <= width
            if fits:
                break
        fitted = list(labels) if fits else fit_names(labels, width - handle, size, 3)
        lines = [1 + text.count("\n") for text in fitted]
        rows = sum(max(lines[i::n_rows], default=1) for i in range(n_rows))
        inches = (rows * LINE * size + n_rows * 0.3 * size) / 72
        if inches <= height / 2:
            break
    return fitted, n_columns, size, inches


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
