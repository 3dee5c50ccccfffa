from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.pl._style import (
    BAND,
    BASELINE,
    Palette,
    add_legend,
    limit_ticks,
    make_mark,
    name_groups,
    pick_colours,
    strip_spines,
    take_axes,
    write_percent,
)
from semiclip.pl._tables import THRESHOLDS, check_table, read_single, sort_by_share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

NUMBERS = ("n_recalled", "overlap", "null_low", "null_median", "null_high", "p_value")
LEVEL = 0.05
SPOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none"}


@document
def null_overlap(
    table: pd.DataFrame, *, recalled: bool = False, ax: Axes | None = None, palette: Palette = None
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

    Returns
    -------
    The axes.

    Raises
    ------
    {drawing_errors}

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
    check_table(table, ["representation", "reference", *THRESHOLDS], "scl.tl.null_overlap", numbers=NUMBERS)
    representation = read_single(table, "representation")
    names = list(table["reference"].unique())
    table = sort_by_share(table, "reference")
    palette = pick_colours(names, palette)
    shares = table["share"].unique()
    alone = len(shares) == 1  # a curve needs two places: then the references have a place each

    ax = take_axes(ax, size=(4.8, 4.0))[0]
    handles: list[Artist] = []
    for i, name in enumerate(names):
        rows, colour = table[table["reference"] == name], palette[name]
        at = rows["share"] * 0 + i if alone else rows["share"]
        if alone:
            ax.vlines(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.3, linewidth=8)
            ax.plot(at, rows["null_median"], "_", color=colour, markersize=12)
        else:
            ax.fill_between(at, rows["null_low"], rows["null_high"], color=colour, **BAND)
            ax.plot(at, rows["null_median"], color=colour, linestyle="--", linewidth=1)
        ax.plot(at, rows["overlap"], color=colour, linewidth=1.4)
        likely = rows["p_value"] > LEVEL
        for which, face in ((~likely, colour), (likely, "white")):
            ax.plot(at[which], rows["overlap"][which], color=colour, markerfacecolor=face, **SPOT)
        handles.append(make_mark(color=colour, label=name, **SPOT | {"linestyle": "-"}))
    if (table["p_value"] > LEVEL).any():
        handles.append(make_mark(color="0.35", markerfacecolor="white", label=f"p > {LEVEL}", **SPOT))
    chance = {"marker": "_", "linestyle": "none"} if alone else {"linestyle": "--", "linewidth": 1}
    handles.append(make_mark(color="0.35", label="chance, 95% band", **chance))
    if recalled:
        whole = table.drop_duplicates("share")
        x = [-0.5, len(names) - 0.5] if alone else whole["share"]
        y = np.repeat(whole["n_recalled"], 2) if alone else whole["n_recalled"]
        handles += ax.plot(x, y, label=f"all of {representation}", **BASELINE)
    if alone:
        name_groups(ax, names)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_xlabel(f"{100 * shares[0]:.4g}% of all pairs in the tails")
    else:
        write_percent(ax.xaxis)
        ax.set_xlabel("Share of all pairs in the tails")
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"Pairs that {representation}\nand the reference recall")
    strip_spines(ax)
    top = ax.get_ylim()[1]
    add_legend(ax, handles)
    limit_ticks(ax, 0, top)
    return ax
