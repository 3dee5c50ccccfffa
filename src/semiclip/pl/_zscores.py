from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.pl._style import MEAN, bare, colours, inches, legend_on_top, new_axes
from semiclip.pl._tables import filled, finite, once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

SUMMARY = ("mean", "sd", "n_seeds")
MARKERS = "os^Dv*X"
LETTER = 0.075  # inches of small print


def zscores(
    table: pd.DataFrame,
    *,
    by: str = "representation",
    panel: str = "dataset",
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> np.ndarray:
    """Draw the z-scores of methods, one panel per data set and one marker per figure, as in Figure 2a of the paper.

    Markers are means over the seeds, bars their standard deviation; the line at 0 is the mean of all methods.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.zscores` returns.
    by
        Column of the methods, which are drawn from top to bottom in their order in the table.
    panel
        Column of the panels; without it in the table there is one. The other columns tell the markers apart.
    ax
        One axes per panel; by default a new figure.
    palette
        Colours of the markers, in their order in the table or by name.

    Returns
    -------
    The axes, one per panel.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or its means are not numbers.
    KeyError
        If a column is missing, or ``palette`` lacks a name.
    ValueError
        If the table is empty or one of :func:`semiclip.tl.compare`, a mean is not finite, a method has several z-scores
        for one figure, there are too few colours, or ``ax`` does not hold one axes per panel.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> runs = {"representation": ["KD", "KD", "CLIP", "CLIP", "DCCA", "DCCA"], "seed": [0, 1] * 3}
    >>> table = pd.DataFrame(runs | {"value": [0.1, 0.2, 0.3, 0.4, 0.2, 0.4]})
    >>> (ax,) = scl.pl.zscores(scl.tl.zscores(table))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['KD', 'CLIP', 'DCCA']
    """
    table = filled(table, (by, *SUMMARY), "scl.tl.zscores").reset_index(drop=True)
    if "difference" in table:
        msg = "the table is one of scl.tl.compare, whose means are no z-scores; draw what scl.tl.zscores returns"
        raise ValueError(msg)
    within = [name for name in table.columns if name not in (by, *SUMMARY)]
    finite(table, ["mean"])
    once(table, [by, *within])
    methods = list(table[by].unique())
    figures = _written(table, [name for name in within if name != panel], [panel] if panel in within else [])
    names = list(figures.unique())
    palette = colours(names, palette)
    panels = {"": table} if panel not in within else {str(p): table[table[panel] == p] for p in table[panel].unique()}
    own = ax is None
    if ax is None:
        ax = _new_axes(len(panels), len(methods), len(names))
    axes = list(np.asarray(ax, dtype=object).ravel())
    if len(axes) != len(panels):
        msg = f"ax holds {len(axes)} axes; {len(panels)} are needed, one for each of {some(panels)}"
        raise ValueError(msg)

    handles = []
    for this, (heading, rows) in zip(axes, panels.items(), strict=True):
        for i in range(0, len(methods), 2):
            this.axhspan(i - 0.5, i + 0.5, color="0.95", zorder=0)
        this.vlines(0, -0.5, len(methods) - 0.5, color="0.35", linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            drawn = rows[figures[rows.index] == name]
            shift = (i - (len(names) - 1) / 2) * 0.7 / len(names)
            at = np.array([methods.index(method) + shift for method in drawn[by]])
            mean, sd = (drawn[column].to_numpy(float, na_value=np.nan) for column in ("mean", "sd"))
            look = MEAN | {"marker": MARKERS[i % len(MARKERS)], "linestyle": "none", "color": palette[name]}
            handles.append(this.errorbar(mean, at, xerr=sd, label=name, **look))
        this.set_ylim(len(methods) - 0.5, -0.5)
        place = this.get_subplotspec()
        first = place is None or place.is_first_col()
        this.set_yticks(range(len(methods)), [str(method) for method in methods] if first else [""] * len(methods))
        this.tick_params("y", length=0)
        this.set_xlabel(_scale(rows["n_seeds"].unique()))
        this.set_title(heading.replace("_", " "), fontsize="medium")
        bare(this)
        this.spines["left"].set_visible(False)
    limits = np.array([this.get_xlim() for this in axes])
    for this in axes:
        this.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    if any(names):
        width = inches(axes[0])[0] * (len(axes) if own else 1)
        axes[0].set_zorder(axes[-1].get_zorder() + 1)  # the next panel does not hide a wide legend
        fit = int(width / (LETTER * max(map(len, names)) + 0.4))
        legend_on_top(axes[0], handles[: len(names)], columns=max(1, min(fit, len(names))))
        for this in axes[1:]:
            this.set_ylim(axes[0].get_ylim())
    return np.array(axes, dtype=object)


def _written(table: pd.DataFrame, columns: Sequence[str], panel: Sequence[str]) -> pd.Series:
    """Name each row's figure by the fewest leading columns that tell the figures of a panel apart."""
    told: list[str] = []
    for name in columns:
        known = [*panel, *told]
        so_far = len(table[known].drop_duplicates()) if known else 1
        if len(table[[*known, name]].drop_duplicates()) > so_far:
            told.append(name)
    if not (told := told or list(columns[:1])):
        return pd.Series("", index=table.index)
    return table[told].astype(str).agg(" · ".join, axis=1).str.replace("_", " ")


def _scale(n_seeds: np.ndarray) -> str:
    if n_seeds.max() == 1:
        return "z-score (1 seed)"
    return f"z-score\n(mean ± sd, {n_seeds[0]} seeds)" if len(n_seeds) == 1 else "z-score\n(mean ± sd over seeds)"


def _new_axes(n: int, n_methods: int, n_figures: int) -> list[Axes]:
    height = 1.2 + 0.2 * n_figures + n_methods * max(0.26, 0.11 * n_figures)
    return new_axes(n, size=(max(4.2, 1.2 + 2 * n), height))
