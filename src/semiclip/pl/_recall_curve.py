from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._checks import some
from semiclip.pl._style import CHANCE, bare, colours, legend_on_top, new_axes, percent
from semiclip.pl._tables import THRESHOLDS, by_share, filled, finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLUMNS = ("representation", "key", "value", "ci_low", "ci_high", "n_pairs", *THRESHOLDS)
POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}


def recall_curve(
    table: pd.DataFrame,
    *,
    key: str = "mean",
    ax: Axes | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw relationship recall over the thresholds, one line per representation with its 95 % interval.

    Horizontal is the share of all pairs that the thresholds leave in the two tails, which is also what a map that
    knows nothing recalls: the dashed diagonal.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.recall` returns for a list of thresholds.
    key
        Database to draw, or ``"mean"`` or ``"union"``.
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
        If a column is missing, ``key`` is not in the table, or ``palette`` lacks a representation.
    ValueError
        If the table is empty or has gaps, no annotated pair or fewer than two thresholds, a representation has several
        values for one share of the tails, or there are too few colours.

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
    table = filled(table, COLUMNS, "scl.tl.recall")
    if key not in set(table["key"]):
        msg = f"key={key!r} is not in the table, which has {some(table['key'].unique())}"
        raise KeyError(msg)
    table = table[(table["key"] == key) & (table["n_pairs"] > 0)]
    if table.empty:
        msg = f"no annotated pair of {key} is in the map, so there is nothing to draw"
        raise ValueError(msg)
    finite(table, ["value", "ci_low", "ci_high"])
    names = list(table["representation"].unique())
    table = by_share(table, "representation")
    if (widest := table["share"].max()) == table["share"].min():
        msg = "a curve needs two thresholds or more; pass a list of them to scl.tl.recall, or draw scl.pl.recall"
        raise ValueError(msg)
    palette = colours(names, palette)

    ax = new_axes(size=(4.8, 4.0))[0] if ax is None else ax
    handles: list[Artist] = []
    for name in names:
        rows = table[table["representation"] == name]
        ax.fill_between(rows["share"], rows["ci_low"], rows["ci_high"], color=palette[name], alpha=0.18, linewidth=0)
        handles += ax.plot(rows["share"], rows["value"], label=name, color=palette[name], **POINTS)
    handles += ax.plot([0, widest], [0, widest], label="chance", **CHANCE)
    ax.set_xlim(0, widest * 1.03)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Share of all pairs in the tails")
    ax.set_ylabel(f"Known relationships recalled\n({key})")
    percent(ax.xaxis)
    percent(ax.yaxis)
    bare(ax)
    top = ax.get_ylim()[1]
    legend_on_top(ax, handles)
    ticks = ax.get_yticks()
    ax.set_yticks(ticks[(ticks >= 0) & (ticks <= min(top, 1))])
    return ax
