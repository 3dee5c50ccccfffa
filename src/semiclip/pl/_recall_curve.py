from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._docs import document
from semiclip.errors import Empty, TooFew
from semiclip.pl._style import (
    BAND,
    CHANCE,
    Palette,
    add_legend,
    limit_ticks,
    pick_colours,
    strip_spines,
    take_axes,
    write_percent,
)
from semiclip.pl._tables import THRESHOLDS, check_numbers, check_table, select_rows, sort_by_share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "n_pairs", *THRESHOLDS)
POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}


@document
def recall_curve(table: pd.DataFrame, *, key: str = "mean", ax: Axes | None = None, palette: Palette = None) -> Axes:
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

    Returns
    -------
    The axes.

    Raises
    ------
    {drawing_errors}

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
    check_table(table, COLUMNS, "scl.tl.recall")
    table = select_rows(table, "key", key)
    table = table[table["n_pairs"] > 0]
    if table.empty:
        raise Empty(f"annotated pairs of {key} in the map to draw")
    check_numbers(table, ["value", "ci_low", "ci_high"])
    names = list(table["representation"].unique())
    table = sort_by_share(table, "representation")
    if (widest := table["share"].max()) == table["share"].min():
        raise TooFew("thresholds", 1, 2, "pass a list of them to scl.tl.recall, or draw scl.pl.recall")
    palette = pick_colours(names, palette)

    ax = take_axes(ax, size=(4.8, 4.0))[0]
    handles: list[Artist] = []
    for name in names:
        rows = table[table["representation"] == name]
        ax.fill_between(rows["share"], rows["ci_low"], rows["ci_high"], color=palette[name], **BAND)
        handles += ax.plot(rows["share"], rows["value"], label=name, color=palette[name], **POINTS)
    handles += ax.plot([0, widest], [0, widest], label="chance", **CHANCE)
    ax.set_xlim(0, widest * 1.03)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Share of all pairs in the tails")
    ax.set_ylabel(f"Known relationships recalled\n({key})")
    write_percent(ax.xaxis)
    write_percent(ax.yaxis)
    strip_spines(ax)
    top = ax.get_ylim()[1]
    add_legend(ax, handles)
    limit_ticks(ax, 0, min(top, 1))
    return ax
