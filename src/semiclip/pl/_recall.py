from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.pl._style import CHANCE, bare, colours, legend_on_top, name_groups, new_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

COLUMNS = ("representation", "key", "value", "error", "chance", "n_pairs")


def recall(
    table: pd.DataFrame, *, ax: Axes | None = None, palette: Sequence[str] | Mapping[str, str] | None = None
) -> Axes:
    """Draw relationship recall per database and on average, one bar per representation.

    Error bars are standard errors; the dashed line is what a map that knows nothing recalls.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns.
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
        If ``table`` is not a DataFrame.
    KeyError
        If a column is missing, or ``palette`` lacks a representation.
    ValueError
        If the table is empty, a representation has several values for one database, or there are too few colours.

    Notes
    -----
    A database without a pair in the map is left out, and so is the mean of a single database.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> table = pd.DataFrame(
    ...     {
    ...         "representation": ["X_scvi", "X_semiclip"],
    ...         "key": "mean",
    ...         "value": [0.2, 0.3],
    ...         "error": 0.02,
    ...         "chance": 0.1,
    ...         "n_pairs": 400,
    ...     }
    ... )
    >>> ax = scl.pl.recall(table)
    >>> [round(float(bar.get_height()), 2) for bar in ax.patches]
    [0.2, 0.3]
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"table is a {type(table).__name__}, not a DataFrame; draw what scl.tl.recall returns"
        raise TypeError(msg)
    if absent := [name for name in COLUMNS if name not in table]:
        msg = f"the table has no column {some(absent)}; draw what scl.tl.recall returns"
        raise KeyError(msg)
    table = table[table["n_pairs"] > 0]
    if table.empty:
        msg = "the table has no row with an annotated pair, so there is nothing to draw"
        raise ValueError(msg)
    if (repeated := table.duplicated(["representation", "key"])).any():
        where = table.loc[repeated, ["representation", "key"]].agg(" of ".join, axis=1).unique()
        msg = f"the table has several values for {some(where)}; average them first, or give each run its own name"
        raise ValueError(msg)
    if table["key"].nunique() == 2:
        table = table[table["key"] != "mean"]
    keys, names = list(table["key"].unique()), list(table["representation"].unique())
    palette = colours(names, palette)

    ax = new_axes(size=(6.4, 4.0))[0] if ax is None else ax
    width, bars = 0.8 / len(names), []
    for i, name in enumerate(names):
        rows = table[table["representation"] == name].set_index("key").reindex(keys)
        drawn = ax.bar(
            np.arange(len(keys)) + (i - (len(names) - 1) / 2) * width,
            rows["value"],
            width,
            yerr=rows["error"],
            color=palette[name],
            error_kw={"elinewidth": 1, "ecolor": "0.2"},
            label=name,
        )
        bars.append(drawn)
    lines = [ax.axhline(chance, label="chance", **CHANCE) for chance in table["chance"].unique()]
    name_groups(ax, keys)
    room = max(0, 3 - len(keys)) / 2  # a single database would make bars as wide as the picture
    ax.set_xlim(-0.6 - room, len(keys) - 0.4 + room)
    ax.set_ylabel("Known relationships recalled", loc="top")
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    ax.set_ylim(bottom=0)
    bare(ax)
    legend_on_top(ax, [*bars, *lines])
    ticks, top = ax.get_yticks(), ax.get_ylim()[1]
    ax.set_yticks(ticks[(ticks >= 0) & (ticks <= min(top, 1))])  # the legend's room is no share of anything
    return ax
