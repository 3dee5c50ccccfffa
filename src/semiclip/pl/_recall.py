from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import Empty, TooFew, TooMany
from semiclip.pl import _style as style
from semiclip.pl import _tables as tables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "n_pairs", *tables.THRESHOLDS)
SUMMARIES = ("mean", "union")
MEASURED = ("chance_mean", "chance_sd")
APART = 0.35  # between the databases and what summarises them
POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
NUMBERS = ("n_recalled", "overlap", "null_low", "null_median", "null_high", "p_value")
LEVEL = 0.05
SPOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none"}


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
    >>> recalls = {"representation": ["X_scvi", "X_semiclip"], "key": "mean", "value": [0.2, 0.3]}
    >>> interval = {"ci_low": [0.17, 0.26], "ci_high": [0.24, 0.35], "n_pairs": 400}
    >>> chance = {"threshold_low": 0.05, "threshold_high": 0.95, "chance": 0.1}
    >>> ax = scl.pl.recall(pd.DataFrame(recalls | interval | chance))
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

    ax = style.take_axes(ax, size=(6.4, 4.0))[0]
    width, bands = 0.8 / len(names), []
    handles: list[Any] = []
    for i, name in enumerate(names):
        rows = table[table["representation"] == name].set_index("key").reindex(keys)
        at = places + style.shift_in_group(i, len(names), width)
        handles.append(ax.bar(at, rows["value"], width, color=palette[name], label=name))
        middle, half = (rows["ci_high"] + rows["ci_low"]) / 2, (rows["ci_high"] - rows["ci_low"]) / 2
        ax.errorbar(at, middle, half, fmt="none", **style.ERROR)
        if measured:
            bands.append(_draw_band(ax, at, width, *(rows[column].to_numpy(float) for column in MEASURED)))
    handles += [ax.axhline(chance, label="chance", **style.CHANCE) for chance in table["chance"].unique()]
    style.name_groups(ax, keys, at=places.tolist())
    room = max(0, 3 - len(keys)) / 2  # a single database would make bars as wide as the picture
    ax.set_xlim(-0.6 - room, places[-1] + 0.6 + room)
    ax.set_ylabel("Known relationships recalled", loc="top")
    style.write_percent(ax.yaxis)
    ax.set_ylim(bottom=0)
    style.finish(ax, [*handles, *bands[:1]], most=1)
    return ax


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
    >>> interval = {"ci_low": [0.26, 0.35], "ci_high": [0.35, 0.44]}
    >>> thresholds = {"threshold_low": [0.05, 0.1], "threshold_high": [0.95, 0.9]}
    >>> ax = scl.pl.recall_curve(pd.DataFrame(recalls | interval | thresholds))
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
    handles: list[Any] = []
    for name in names:
        rows = table[table["representation"] == name]
        ax.fill_between(rows["share"], rows["ci_low"], rows["ci_high"], color=palette[name], **style.BAND)
        handles += ax.plot(rows["share"], rows["value"], label=name, color=palette[name], **POINTS)
    handles += ax.plot([0, widest], [0, widest], label="chance", **style.CHANCE)
    ax.set(xlim=(0, widest * 1.03), ylim=(0, None))
    ax.set(xlabel="Share of all pairs in the tails", ylabel=f"Known relationships recalled\n({key})")
    style.write_percent(ax.xaxis)
    style.write_percent(ax.yaxis)
    style.finish(ax, handles, most=1)
    return ax


def _draw_band(ax: Axes, at: np.ndarray, width: float, mean: np.ndarray, sd: np.ndarray) -> Collection:
    """Lay the measured chance across the bars."""
    from matplotlib.collections import PolyCollection

    left, right = at - width / 2, at + width / 2
    low, high = np.maximum(mean - 2 * sd, 0), mean + 2 * sd
    corners = np.array([[left, low], [right, low], [right, high], [left, high]]).transpose(2, 0, 1)
    look: dict[str, Any] = {"facecolor": "0.35", "alpha": 0.25, "edgecolor": "none", "zorder": 1.5}
    band = PolyCollection(corners[np.isfinite(mean)].tolist(), label="permuted ± 2 sd", **look)
    ax.add_collection(band)
    ax.hlines(mean, left, right, color="0.35", linewidth=0.6, zorder=1.6)
    return band


@document
def null_overlap(
    table: pd.DataFrame, *, recalled: bool = False, ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw how many pairs a representation recalls together with references, and how many by chance (Figures 6, 7).

    A solid line counts the pairs that the representation and the reference both recall. Its marker is full where the
    permutation p is at most 0.05. The dashed line is the median over permutations of the perturbation labels, in a band
    that holds 95 % of them.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.null_overlap` returns, with one representation.
    recalled
        Draw also the number of pairs that the representation recalls.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> what = {"representation": "X_semiclip", "reference": "X_image", "n_recalled": [80, 130], "overlap": [35, 60]}
    >>> thresholds = {"threshold_low": [0.05, 0.1], "threshold_high": [0.95, 0.9]}
    >>> null = {"null_low": [3, 12], "null_median": [8, 20], "null_high": [15, 30], "p_value": 0.01}
    >>> ax = scl.pl.null_overlap(pd.DataFrame(what | thresholds | null))
    >>> [line.get_label() for line in ax.get_legend().get_lines()]
    ['X_image', 'chance, 95% band']
    """
    names = ["representation", "reference", *tables.THRESHOLDS]
    tables.check_table(table, names, "scl.tl.null_overlap", numbers=NUMBERS)
    representation = tables.read_single(table, "representation")
    names = list(table["reference"].unique())
    table = tables.sort_by_share(table, "reference")
    palette = style.pick_colours(names, palette)
    shares = table["share"].unique()
    alone = len(shares) == 1  # a curve needs two places: then the references have a place each

    ax = style.take_axes(ax, size=(4.8, 4.0))[0]
    handles: list[Any] = []
    for i, name in enumerate(names):
        rows, colour = table[table["reference"] == name], palette[name]
        at = rows["share"] * 0 + i if alone else rows["share"]
        if alone:
            ax.vlines(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.3, linewidth=8)
            ax.plot(at, rows["null_median"], "_", color=colour, markersize=12)
        else:
            ax.fill_between(at, rows["null_low"], rows["null_high"], color=colour, **style.BAND)
            ax.plot(at, rows["null_median"], color=colour, linestyle="--", linewidth=1)
        ax.plot(at, rows["overlap"], color=colour, linewidth=1.4)
        likely = rows["p_value"] > LEVEL
        for which, face in ((~likely, colour), (likely, "white")):
            ax.plot(at[which], rows["overlap"][which], color=colour, markerfacecolor=face, **SPOT)
        handles.append(style.make_mark(color=colour, label=name, **SPOT | {"linestyle": "-"}))
    if (table["p_value"] > LEVEL).any():
        handles.append(style.make_mark(color="0.35", markerfacecolor="white", label=f"p > {LEVEL}", **SPOT))
    chance = {"marker": "_", "linestyle": "none"} if alone else {"linestyle": "--", "linewidth": 1}
    handles.append(style.make_mark(color="0.35", label="chance, 95% band", **chance))
    if recalled:
        whole = table.drop_duplicates("share")
        x = [-0.5, len(names) - 0.5] if alone else whole["share"]
        y = np.repeat(whole["n_recalled"], 2) if alone else whole["n_recalled"]
        handles += ax.plot(x, y, label=f"all of {representation}", **style.BASELINE)
    if alone:
        style.name_groups(ax, names)
        ax.set(xlim=(-0.5, len(names) - 0.5), xlabel=f"{100 * shares[0]:.4g}% of all pairs in the tails")
    else:
        style.write_percent(ax.xaxis)
        ax.set_xlabel("Share of all pairs in the tails")
    ax.set(ylim=(0, None), ylabel=f"Pairs that {representation}\nand the reference recall")
    style.finish(ax, handles, most=np.inf)
    return ax
