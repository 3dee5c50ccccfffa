from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._docs import document
from semiclip.errors import Refused
from semiclip.pl import _style as style
from semiclip.pl._tables import check_numbers, check_once, check_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

SUMMARY = ("mean", "sd", "n_seeds")
MARKERS = "os^Dv*X"
LETTER = 0.075  # inches of small print


@document
def zscores(
    table: pd.DataFrame,
    *,
    by: str = "representation",
    panel: str = "dataset",
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> np.ndarray:
    """Draw the z-scores of methods, one panel per data set and one marker per figure, as in Figure 2a of the paper.

    Markers are means over the seeds, bars their standard deviation. The line at 0 is the mean of all methods.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.zscores` returns, not :func:`semiclip.tl.compare`, whose means are no z-scores.
    by
        Column of the methods, which are drawn from top to bottom in their order in the table.
    panel
        Column of the panels; without it in the table there is one. The other columns tell the markers apart.
    ax
        One axes per panel; by default a new figure.
    palette
        Colours of the markers, in their order in the table or by name.

    {drawn}

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
    check_table(table, (by, *SUMMARY), "scl.tl.zscores")
    if "difference" in table:
        problem = "the table is one of scl.tl.compare, whose means are no z-scores"
        raise Refused(problem, way_out="draw what scl.tl.zscores returns")
    table = table.reset_index(drop=True)
    within = [name for name in table.columns if name not in (by, *SUMMARY)]
    check_numbers(table, ["mean"])
    check_once(table, [by, *within])
    methods = list(table[by].unique())
    panels = {"": table} if panel not in within else {str(p): table[table[panel] == p] for p in table[panel].unique()}
    figures = _name_figures(table, [name for name in within if name != panel], [panel] if panel in within else [])
    names = list(figures.unique())
    palette = style.pick_colours(names, palette)
    height = 1.2 + 0.2 * len(names) + len(methods) * max(0.26, 0.11 * len(names))
    size = (max(4.2, 1.2 + 2 * len(panels)), height)
    axes = style.take_axes(ax, len(panels), size=size, panels=list(panels))

    handles = []
    for part, (heading, rows) in zip(axes, panels.items(), strict=True):
        for i in range(0, len(methods), 2):
            part.axhspan(i - 0.5, i + 0.5, color="0.95", zorder=0)
        part.vlines(0, -0.5, len(methods) - 0.5, color="0.35", linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            drawn = rows[figures[rows.index] == name]
            shift = style.shift_in_group(i, len(names), 0.7 / len(names))
            at = np.array([methods.index(method) + shift for method in drawn[by]])
            mean, sd = (drawn[column].to_numpy(float, na_value=np.nan) for column in ("mean", "sd"))
            look = style.MEAN | {"marker": MARKERS[i % len(MARKERS)], "linestyle": "none", "color": palette[name]}
            handles.append(part.errorbar(mean, at, xerr=sd, label=name, **look))
        part.set_ylim(len(methods) - 0.5, -0.5)
        place = part.get_subplotspec()
        first = place is None or place.is_first_col()
        part.set_yticks(range(len(methods)), [str(method) for method in methods] if first else [""] * len(methods))
        part.tick_params("y", length=0)
        part.set_xlabel(_write_scale(rows["n_seeds"].unique()))
        part.set_title(heading.replace("_", " "), fontsize="medium")
        part.spines[["top", "right", "left"]].set_visible(False)
    limits = np.array([part.get_xlim() for part in axes])
    for part in axes:
        part.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    if any(names):
        width = style.measure_inches(axes[0])[0] * (len(axes) if ax is None else 1)
        axes[0].set_zorder(axes[-1].get_zorder() + 1)  # the next panel does not hide a wide legend
        fit = int(width / (LETTER * max(map(len, names)) + 0.4))
        style.finish(axes[0], handles[: len(names)], columns=max(1, min(fit, len(names))))
        for part in axes[1:]:
            part.set_ylim(axes[0].get_ylim())
    return axes


def _name_figures(table: pd.DataFrame, columns: Sequence[str], panel: Sequence[str]) -> pd.Series:
    """Name each row's figure by the fewest leading columns that tell the figures of a panel apart."""
    chosen: list[str] = []
    for name in columns:
        before = [*panel, *chosen]
        n_before = len(table[before].drop_duplicates()) if before else 1
        if len(table[[*before, name]].drop_duplicates()) > n_before:
            chosen.append(name)
    if not (chosen := chosen or list(columns[:1])):
        return pd.Series("", index=table.index)
    return table[chosen].astype(str).agg(" · ".join, axis=1).str.replace("_", " ")


def _write_scale(n_seeds: np.ndarray) -> str:
    if n_seeds.max() == 1:
        return "z-score (1 seed)"
    return f"z-score\n(mean ± sd, {n_seeds[0]} seeds)" if len(n_seeds) == 1 else "z-score\n(mean ± sd over seeds)"
