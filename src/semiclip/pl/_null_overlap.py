from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import BASELINE, bare, colours, legend_on_top, name_groups, new_axes, percent
from semiclip.pl._tables import THRESHOLDS, by_share, filled, finite, single

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

NULL = ("null_low", "null_median", "null_high")
NUMBERS = ("overlap", *NULL, "p_value")
LEVEL = 0.05
SPOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none"}


def null_overlap(
    table: pd.DataFrame,
    *,
    recalled: bool = False,
    ax: Axes | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw how many pairs a representation recalls together with references, and how many by chance (Figures 6, 7).

    Solid: pairs that the representation and the reference both recall, a full marker where the permutation p is at
    most 0.05. Dashed: the median over permutations of the perturbation labels, in a band that holds 95 % of them.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.null_overlap` returns.
    recalled
        Draw also the number of pairs that the representation recalls.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the references, in their order in the table or by name.

    Returns
    -------
    The axes.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column does not hold numbers.
    KeyError
        If a column is missing, or ``palette`` lacks a reference.
    ValueError
        If the table is empty, has gaps, several representations or several values of a reference for one share of the
        tails, or there are too few colours.

    References
    ----------
    Bendidi et al., ICML 2025, Figures 6 and 7, DOI 10.48550/arXiv.2505.21317.

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
    columns = ["representation", "reference", "n_recalled", *NUMBERS, *THRESHOLDS]
    table = filled(table, columns, "scl.tl.null_overlap")
    finite(table, ["n_recalled", *NUMBERS])
    representation = single(table, "representation")
    names = list(table["reference"].unique())
    table = by_share(table, "reference")
    palette = colours(names, palette)
    shares = table["share"].unique()
    alone = len(shares) == 1  # a curve needs two places: then the references have a place each

    ax = new_axes(size=(4.8, 4.0))[0] if ax is None else ax
    handles: list[Artist] = []
    for i, name in enumerate(names):
        rows, colour = table[table["reference"] == name], palette[name]
        at = rows["share"] * 0 + i if alone else rows["share"]
        if alone:
            ax.vlines(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.3, linewidth=8)
            ax.plot(at, rows["null_median"], "_", color=colour, markersize=12)
        else:
            ax.fill_between(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(at, rows["null_median"], color=colour, linestyle="--", linewidth=1)
        ax.plot(at, rows["overlap"], color=colour, linewidth=1.4)
        likely = rows["p_value"] > LEVEL
        for which, face in ((~likely, colour), (likely, "white")):
            ax.plot(at[which], rows["overlap"][which], color=colour, markerfacecolor=face, **SPOT)
        handles.append(_sign(color=colour, label=name, **SPOT | {"linestyle": "-"}))
    if (table["p_value"] > LEVEL).any():
        handles.append(_sign(color="0.35", markerfacecolor="white", label=f"p > {LEVEL}", **SPOT))
    chance = {"marker": "_", "linestyle": "none"} if alone else {"linestyle": "--", "linewidth": 1}
    handles.append(_sign(color="0.35", label="chance, 95% band", **chance))
    if recalled:
        whole = table.drop_duplicates("share")
        x = [-0.5, len(names) - 0.5] if alone else whole["share"]
        y = np.repeat(whole["n_recalled"], 2) if alone else whole["n_recalled"]
        handles += ax.plot(x, y, label=f"all of {representation}", **BASELINE)
    _scales(ax, names, shares)
    ax.set_ylabel(f"Pairs that {representation}\nand the reference recall")
    bare(ax)
    top = ax.get_ylim()[1]
    legend_on_top(ax, handles)
    ticks = ax.get_yticks()
    ax.set_yticks(ticks[(ticks >= 0) & (ticks <= top)])
    return ax


def _scales(ax: Axes, names: Sequence[str], shares: np.ndarray) -> None:
    if len(shares) == 1:
        name_groups(ax, names)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_xlabel(f"{100 * shares[0]:.4g}% of all pairs in the tails")
    else:
        percent(ax.xaxis)
        ax.set_xlabel("Share of all pairs in the tails")
    ax.set_ylim(bottom=0)


def _sign(**look: Any) -> Line2D:
    """Make an entry of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)
