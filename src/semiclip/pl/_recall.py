from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import Empty, MissingEntry, Refused, TooFew, TooMany
from semiclip.pl import _panels as panels
from semiclip.pl import _style as style
from semiclip.pl import _tables as tables
from semiclip.pl._names import measure_text
from semiclip.tl._maps import list_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "n_pairs", *tables.THRESHOLDS)
SUMMARIES = ("mean", "union")
MEASURED = ("chance_mean", "chance_sd")
MOST_GROUPS = 8
WIDEST = 0.8  # inches of a bar
APART = 0.35  # between the databases and what summarises them
POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
BINS = ("low", "high", "n_all", "n_annotated", "all", "annotated", "cut_low", "cut_high")


@document
def recall(table: pd.DataFrame, *, ax: Axes | None = None, palette: style.Palette = None) -> Axes:
    """Draw relationship recall per database, on average and over their union, one bar per representation.

    Thin lines are 95 % intervals, which need not be symmetric about the value. The dashed line is what a map that
    knows nothing recalls. Where permutations measured chance, a grey band across each bar shows the mean of chance and
    two standard deviations to either side. A database without a pair in the map is left out. With a single database its
    mean and union are left out too.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns for one pair of thresholds.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> recalls = {"representation": ["X_scvi", "X_semiclip"], "key": "mean", "value": [0.2, 0.3], "n_pairs": 400}
    >>> chance = {"ci_low": 0.1, "ci_high": 0.4, "threshold_low": 0.05, "threshold_high": 0.95, "chance": 0.1}
    >>> ax = scl.pl.recall(pd.DataFrame(recalls | chance))
    >>> [round(float(bar.get_height()), 2) for bar in ax.patches]
    [0.2, 0.3]
    """
    tables.check_table(table, (*COLUMNS, "chance"), "scl.tl.recall")
    if (n := len(table[list(tables.THRESHOLDS)].drop_duplicates())) > 1:
        raise TooMany("pairs of thresholds", n, 1, "draw the rows of one, or all with scl.pl.recall_curve")
    table = table[table["n_pairs"] > 0]
    if table.empty:
        raise Empty("rows with an annotated pair to draw")
    measured = set(MEASURED) <= set(table)
    tables.check_numbers(table, ["value", "ci_low", "ci_high", *(MEASURED if measured else ())])
    tables.check_once(table, ["representation", "key"])
    databases = [key for key in table["key"].unique() if key not in SUMMARIES]
    summaries = [key for key in SUMMARIES if (table["key"] == key).any() and len(databases) != 1]
    keys, names = databases + summaries, list(table["representation"].unique())
    palette = style.pick_colours(names, palette)
    places = np.arange(len(keys)) + APART * (np.arange(len(keys)) >= len(databases)) * bool(databases)

    if len(names) > panels.MOST_BARS or len(keys) > MOST_GROUPS:
        ax = style.take_axes(ax, size=(4.8, 4.0))[0]
        _draw_rows(ax, table, names, keys, palette, measured=measured)
        return ax
    width = 0.8 / len(names)
    size = (max(2.7, 1.4 + 0.6 * len(keys) + 0.12 * len(keys) * len(names)), 4.0)
    ax = style.take_axes(ax, size=size)[0]
    bands: list[Any] = []
    handles: list[Any] = []
    for i, name in enumerate(names):
        rows = table[table["representation"] == name].set_index("key").reindex(keys)
        at = places + style.shift_in_group(i, len(names), width)
        handles.append(ax.bar(at, rows["value"], width, color=palette[name], label=name))
        middle, half = (rows["ci_high"] + rows["ci_low"]) / 2, (rows["ci_high"] - rows["ci_low"]) / 2
        ax.errorbar(at, middle, half, fmt="none", **style.make_error_look())
        if measured:
            bands.append(_draw_band(ax, at, width, *(rows[column].to_numpy(float) for column in MEASURED)))
    handles += [ax.axhline(chance, label="chance", **style.make_chance_look()) for chance in table["chance"].unique()]
    span = max(places[-1] + 1.2, width * style.measure_inches(ax)[0] / WIDEST)
    middle = places[-1] / 2
    ax.set_xlim(middle - span / 2, middle + span / 2)
    style.name_groups(ax, keys, at=places.tolist())
    ax.set_ylabel("Known relationships recalled", loc="top")
    style.write_percent(ax.yaxis)
    ax.set_ylim(bottom=0)
    style.finish(ax, [*handles, *bands[:1]], most=1)
    return ax


def _draw_rows(
    ax: Axes, table: pd.DataFrame, names: list[str], keys: list[str], palette: dict[str, str], *, measured: bool
) -> None:
    """Draw a row of bars per representation, with a column per database; or the other way if it has more rows then."""
    over = len(names) >= len(keys) or len(names) > panels.MOST_BARS
    lines, heads, line, head = (
        (names, keys, "representation", "key") if over else (keys, names, "key", "representation")
    )
    parts = panels.divide_rows(ax, lines, heads, foot=0.75)
    chances = table["chance"].unique()
    top = max(table["ci_high"].max(), table["value"].max()) * 1.05
    bands: list[Any] = []
    for part, title in zip(parts, heads, strict=True):
        rows = table[table[head] == title].set_index(line).reindex(lines)
        at, colours = np.arange(len(lines)), [palette[name] for name in (lines if over else [title] * len(lines))]
        part.barh(at, rows["value"], 0.66, color=colours)
        middle, half = (rows["ci_high"] + rows["ci_low"]) / 2, (rows["ci_high"] - rows["ci_low"]) / 2
        part.errorbar(middle, at, xerr=half, fmt="none", **style.make_error_look())
        if measured:
            levels = (rows[column].to_numpy(float) for column in MEASURED)
            bands.append(_draw_band(part, at, 0.66, *levels, lying=True))
        for chance in chances:
            part.axvline(chance, label="chance", **style.make_chance_look())
        part.set_xlim(0, top)
        style.write_percent(part.xaxis)
        room = style.measure_inches(part)[0] / measure_text("100% ", 7)
        ticks = style.choose_ticks(0, min(top, 1), max(1, min(3, int(room))))
        part.set_xticks(ticks if len(ticks) <= room else ticks[-1:])
    panels.explain(
        ax, [style.make_mark(label="chance", **style.make_chance_look()), *bands[:1]], "Known relationships recalled"
    )


def _draw_band(
    ax: Axes, at: np.ndarray, width: float, mean: np.ndarray, sd: np.ndarray, *, lying: bool = False
) -> Collection:
    """Outline the measured chance on the bars, whose colours stay as they are."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patheffects import withStroke

    left, right = at - width / 2, at + width / 2
    low, high = np.maximum(mean - 2 * sd, 0), mean + 2 * sd
    corners = np.array([[left, low], [right, low], [right, high], [left, high]]).transpose(2, 0, 1)
    corners = corners[:, :, ::-1] if lying else corners
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": style.tone(0.15), "linewidth": 0.7, "zorder": 2.5}
    look["path_effects"] = [withStroke(linewidth=1.8, foreground=style.find_ground())]
    band = PolyCollection(corners[np.isfinite(mean)].tolist(), label="permuted ± 2 sd", **look)
    ax.add_collection(band)
    return band


@document
def recall_curve(
    table: pd.DataFrame, *, key: str = "mean", ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw relationship recall over the thresholds, one line per representation with its 95 % interval.

    Horizontal is the share of all pairs that the thresholds leave in the two tails. A map that knows nothing recalls
    the same share, which is the dashed diagonal.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns for a list of thresholds.
    key
        Database to draw, or ``"mean"`` or ``"union"``.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> recalls = {"representation": "X_semiclip", "key": "mean", "value": [0.3, 0.4], "n_pairs": 400}
    >>> ends = {"ci_low": 0.2, "ci_high": 0.5, "threshold_low": [0.05, 0.1], "threshold_high": [0.95, 0.9]}
    >>> ax = scl.pl.recall_curve(pd.DataFrame(recalls | ends))
    >>> ax.lines[0].get_xdata().round(2)
    array([0.1, 0.2])
    """
    tables.check_table(table, COLUMNS, "scl.tl.recall")
    table = tables.select_rows(table, "key", key)
    table = table[table["n_pairs"] > 0]
    if table.empty:
        raise Empty(f"annotated pairs of {key} in the map to draw")
    tables.check_numbers(table, ["value", "ci_low", "ci_high"])
    names = list(table["representation"].unique())
    table = tables.sort_by_share(table, "representation")
    if (widest := table["share"].max()) == table["share"].min():
        raise TooFew("thresholds", 1, 2, "pass a list of them to scl.tl.recall, or draw scl.pl.recall")
    palette = style.pick_colours(names, palette)

    ax = style.take_axes(ax, size=(4.8, 4.0))[0]
    labels = ("Share of all pairs in the tails", f"Known relationships recalled\n({key})")
    curves = {name: table[table["representation"] == name] for name in names}
    if len(names) > panels.MOST_CURVES:
        panels.draw_grid(
            ax,
            {name: rows[["share", "value"]].to_numpy() for name, rows in curves.items()},
            lambda part, name: [*_draw_curve(part, curves[name], name, palette), *_draw_chance(part, widest)][1:],
            labels,
        )
        for part in ax.child_axes:
            part.set(xlim=(0, widest * 1.03), ylim=(0, None))
            style.write_percent(part.xaxis)
            style.write_percent(part.yaxis)
        return ax
    handles: list[Any] = []
    for name, rows in curves.items():
        handles += _draw_curve(ax, rows, name, palette)
    handles += _draw_chance(ax, widest)
    ax.set(xlim=(0, widest * 1.03), ylim=(0, None))
    ax.set_xlabel(labels[0])
    style.write_label(ax.yaxis, labels[1])
    style.write_percent(ax.xaxis)
    style.write_percent(ax.yaxis)
    style.finish(ax, handles, most=1)
    return ax


def _draw_curve(ax: Axes, rows: pd.DataFrame, name: str, palette: dict[str, str]) -> list[Any]:
    ax.fill_between(rows["share"], rows["ci_low"], rows["ci_high"], color=palette[name], **style.BAND)
    return ax.plot(rows["share"], rows["value"], label=name, color=palette[name], **POINTS)


def _draw_chance(ax: Axes, widest: float) -> list[Any]:
    return ax.plot([0, widest], [0, widest], label="chance", **style.make_chance_look())


@document
def similarity(
    table: pd.DataFrame,
    *,
    representation: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> Axes | np.ndarray:
    """Draw the cosines of annotated pairs and of all pairs; annotated pairs in the shaded tails are recalled.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.similarity` returns.
    representation
        Representation or representations to draw, a panel each; by default all in the table.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> bins = {"representation": "X_semiclip", "low": [-1.0, 0.0], "high": [0.0, 1.0], "cut_low": -0.4}
    >>> counts = {"n_all": [50, 50], "n_annotated": [2, 8], "all": 0.5, "annotated": [0.2, 0.8], "cut_high": 0.4}
    >>> ax = scl.pl.similarity(pd.DataFrame(bins | counts))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['100 pairs', '10 annotated', 'recalled']
    """
    tables.check_table(table, ["representation"], "scl.tl.similarity", numbers=BINS)
    present = list(table["representation"].unique())
    names = list_names(present if representation is None else representation, "representation")
    if absent := [name for name in names if name not in present]:
        raise MissingEntry(absent, present, "the table", "representation")
    bins = [table[table["representation"] == name].sort_values("low", kind="stable") for name in names]
    for name, rows in zip(names, bins, strict=True):
        if not np.allclose(rows["low"].to_numpy()[1:], rows["high"].to_numpy()[:-1]):
            raise Refused(f"the bins of {name} overlap or leave gaps", way_out="draw what scl.tl.similarity returns")
    palette = style.pick_colours(names, palette)

    columns = min(len(names), 5 if len(names) > 9 else 3 if len(names) > 4 else 4)
    n_rows, wide = -(-len(names) // columns), 2.8 if columns < 5 else 2.3
    axes = style.take_axes(ax, len(names), size=(1 + wide * columns, 3.0 * n_rows), columns=columns, panels=names)
    for panel in axes:
        panel.set(xlabel="Cosine", ylabel="Density")
        panel.set_title("\n" * 2)
    inches = style.measure_inches(axes[0])
    for panel, name, rows in zip(axes, names, bins, strict=True):
        colour, edges = palette[name], [*rows["low"], rows["high"].iloc[-1]]
        filled_bins = rows[rows["n_all"] > 0]
        left, right = filled_bins["low"].min(), filled_bins["high"].max()
        everything = panel.stairs(rows["all"], edges, fill=True, color="0.8", label=f"{rows['n_all'].sum():,} pairs")
        line = {"color": colour, "linewidth": 1.6, "label": f"{rows['n_annotated'].sum():,} annotated"}
        annotated = panel.stairs(rows["annotated"], edges, **line)
        tail = {"color": colour, "alpha": 0.12, "linewidth": 0, "zorder": 0, "label": "recalled"}
        panel.axvspan(left, rows["cut_low"].iloc[0], **tail)
        recalled = panel.axvspan(rows["cut_high"].iloc[0], right, **tail)
        panel.set(xlim=(left, right), ylim=(0, None))
        style.finish(panel, [everything, annotated, recalled], most=np.inf, inches=inches)
        style.write_heading(panel, name, width=inches[0])
    return axes[0] if len(names) == 1 else axes
