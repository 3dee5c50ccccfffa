from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some
from semiclip.pl._style import CHANCE, bare, colours, legend_on_top, name_groups, new_axes, percent
from semiclip.pl._tables import THRESHOLDS, filled, finite, once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.container import Container

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "chance", "n_pairs", *THRESHOLDS)
SUMMARIES = ("mean", "union")
MEASURED = ("chance_mean", "chance_sd")
APART = 0.35  # between the databases and what summarises them


def recall(
    table: pd.DataFrame, *, ax: Axes | None = None, palette: Sequence[str] | Mapping[str, str] | None = None
) -> Axes:
    """Draw relationship recall per database, on average and over their union, one bar per representation.

    Thin lines are 95 % intervals, which need not be symmetric about the value; the dashed line is what a map that
    knows nothing recalls. Where chance was measured by permutations, a grey band across each bar shows its mean and
    two standard deviations to either side.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns for one pair of thresholds.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the representations, in their order in the table or by name.

    Returns
    -------
    The axes.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column does not hold numbers.
    KeyError
        If a column is missing, or ``palette`` lacks a representation.
    ValueError
        If the table is empty, has gaps or several thresholds, a representation has several values for one database, or
        there are too few colours.

    Notes
    -----
    A database without a pair in the map is left out, and so are the mean and the union of a single database.

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
    table = filled(table, COLUMNS, "scl.tl.recall")
    thresholds = table[list(THRESHOLDS)].drop_duplicates().to_numpy()
    if len(thresholds) > 1:
        named = some(f"({low:g}, {high:g})" for low, high in thresholds)
        msg = f"the table holds several thresholds, {named}; draw the rows of one, or all with scl.pl.recall_curve"
        raise ValueError(msg)
    table = table[table["n_pairs"] > 0]
    if table.empty:
        msg = "the table has no row with an annotated pair, so there is nothing to draw"
        raise ValueError(msg)
    measured = set(MEASURED) <= set(table)
    finite(table, ["value", "ci_low", "ci_high", *(MEASURED if measured else ())])
    once(table, ["representation", "key"])
    databases = [key for key in table["key"].unique() if key not in SUMMARIES]
    summaries = [key for key in SUMMARIES if (table["key"] == key).any() and len(databases) != 1]
    keys, names = databases + summaries, list(table["representation"].unique())
    palette = colours(names, palette)
    places = np.arange(len(keys)) + APART * (np.arange(len(keys)) >= len(databases)) * bool(databases)

    ax = new_axes(size=(6.4, 4.0))[0] if ax is None else ax
    width, bands = 0.8 / len(names), []
    handles: list[Artist | Container] = []
    for i, name in enumerate(names):
        rows = table[table["representation"] == name].set_index("key").reindex(keys)
        at = places + (i - (len(names) - 1) / 2) * width
        handles.append(ax.bar(at, rows["value"], width, color=palette[name], label=name))
        middle, half = (rows["ci_high"] + rows["ci_low"]) / 2, (rows["ci_high"] - rows["ci_low"]) / 2
        ax.errorbar(at, middle, half, fmt="none", elinewidth=1, ecolor="0.2")
        if measured:
            bands.append(_band(ax, at, width, *(rows[column].to_numpy(float) for column in MEASURED)))
    handles += [ax.axhline(chance, label="chance", **CHANCE) for chance in table["chance"].unique()]
    name_groups(ax, keys, at=places.tolist())
    room = max(0, 3 - len(keys)) / 2  # a single database would make bars as wide as the picture
    ax.set_xlim(-0.6 - room, places[-1] + 0.6 + room)
    ax.set_ylabel("Known relationships recalled", loc="top")
    percent(ax.yaxis)
    ax.set_ylim(bottom=0)
    bare(ax)
    legend_on_top(ax, [*handles, *bands[:1]])
    ticks, top = ax.get_yticks(), ax.get_ylim()[1]
    ax.set_yticks(ticks[(ticks >= 0) & (ticks <= min(top, 1))])  # the legend's room is no share of anything
    return ax


def _band(ax: Axes, at: np.ndarray, width: float, mean: np.ndarray, sd: np.ndarray) -> Collection:
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
