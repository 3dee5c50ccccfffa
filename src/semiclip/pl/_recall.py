from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import Empty, TooMany
from semiclip.pl._style import (
    CHANCE,
    ERROR,
    Palette,
    add_legend,
    limit_ticks,
    name_groups,
    pick_colours,
    shift_in_group,
    strip_spines,
    take_axes,
    write_percent,
)
from semiclip.pl._tables import THRESHOLDS, check_numbers, check_once, check_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.container import Container

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "chance", "n_pairs", *THRESHOLDS)
SUMMARIES = ("mean", "union")
MEASURED = ("chance_mean", "chance_sd")
APART = 0.35  # between the databases and what summarises them


@document
def recall(table: pd.DataFrame, *, ax: Axes | None = None, palette: Palette = None) -> Axes:
    """Draw relationship recall per database, on average and over their union, one bar per representation.

    Thin lines are 95 % intervals, which need not be symmetric about the value. The dashed line is what a map that
    knows nothing recalls. Where permutations measured chance, a grey band across each bar shows the mean of chance and
    two standard deviations to either side.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns for one pair of thresholds.
    {drawing}

    Returns
    -------
    The axes.

    Raises
    ------
    {drawing_errors}

    Notes
    -----
    A database without a pair in the map is left out. With a single database its mean and union are left out too.

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
    check_table(table, COLUMNS, "scl.tl.recall")
    if (n := len(table[list(THRESHOLDS)].drop_duplicates())) > 1:
        raise TooMany("pairs of thresholds", n, 1, "draw the rows of one, or all with scl.pl.recall_curve")
    table = table[table["n_pairs"] > 0]
    if table.empty:
        raise Empty("rows with an annotated pair to draw")
    measured = set(MEASURED) <= set(table)
    check_numbers(table, ["value", "ci_low", "ci_high", *(MEASURED if measured else ())])
    check_once(table, ["representation", "key"])
    databases = [key for key in table["key"].unique() if key not in SUMMARIES]
    summaries = [key for key in SUMMARIES if (table["key"] == key).any() and len(databases) != 1]
    keys, names = databases + summaries, list(table["representation"].unique())
    palette = pick_colours(names, palette)
    places = np.arange(len(keys)) + APART * (np.arange(len(keys)) >= len(databases)) * bool(databases)

    ax = take_axes(ax, size=(6.4, 4.0))[0]
    width, bands = 0.8 / len(names), []
    handles: list[Artist | Container] = []
    for i, name in enumerate(names):
        rows = table[table["representation"] == name].set_index("key").reindex(keys)
        at = places + shift_in_group(i, len(names), width)
        handles.append(ax.bar(at, rows["value"], width, color=palette[name], label=name))
        middle, half = (rows["ci_high"] + rows["ci_low"]) / 2, (rows["ci_high"] - rows["ci_low"]) / 2
        ax.errorbar(at, middle, half, fmt="none", **ERROR)
        if measured:
            bands.append(_draw_band(ax, at, width, *(rows[column].to_numpy(float) for column in MEASURED)))
    handles += [ax.axhline(chance, label="chance", **CHANCE) for chance in table["chance"].unique()]
    name_groups(ax, keys, at=places.tolist())
    room = max(0, 3 - len(keys)) / 2  # a single database would make bars as wide as the picture
    ax.set_xlim(-0.6 - room, places[-1] + 0.6 + room)
    ax.set_ylabel("Known relationships recalled", loc="top")
    write_percent(ax.yaxis)
    ax.set_ylim(bottom=0)
    strip_spines(ax)
    add_legend(ax, [*handles, *bands[:1]])
    limit_ticks(ax, 0, min(ax.get_ylim()[1], 1))
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
