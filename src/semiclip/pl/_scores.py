from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._docs import document
from semiclip.errors import Refused
from semiclip.pl import _style as style
from semiclip.pl._tables import check_numbers, check_once, check_table, select_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

# the score is a mean of the parts on a scale of 100, so that on this scale all three can share an axis
SCALES = {"structural_integrity": 100, "spearman_gene": 100, "preservation": 1}
NAMES = ("structural integrity ×\u00a0100", "Spearman per gene ×\u00a0100", "score (mean of both)")
BASELINES: dict[str, dict[str, Any]] = {
    "random": {"facecolor": "0.92", "hatch": "....", "edgecolor": "0.5", "linewidth": 0.5},
    "constant": {"facecolor": "0.82", "hatch": "////", "edgecolor": "0.5", "linewidth": 0.5},
    "PCA": {"facecolor": "0.6", "edgecolor": "0.5", "linewidth": 0.5},
}
SUMMARY = ("mean", "sd", "n_seeds")
MARKERS = "os^Dv*X"
LETTER = 0.075  # inches of small print


@document
def preservation(
    table: pd.DataFrame, *, key: str = "unseen perturbations", ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw how much of the expression each representation preserves: the two parts of the score, and the score.

    The score is the mean of structural integrity and of the Spearman correlation per gene, each times 100. All three
    share this scale, on which a useful decoder lies between 0 and 100. The baselines (``"random"``, ``"constant"``,
    ``"PCA"``) are grey, whatever the palette, and come first.

    Both parts, and so the score, may be negative. A constant answer has a structural integrity of 0.5, a score of 25.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.preservation` returns. With a column ``seed`` the bars are means over the seeds and the
        error bars their standard deviations.
    key
        Which test to draw: ``"unseen perturbations"`` or ``"seen perturbations"``.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> parts = {"metric": ["structural_integrity", "spearman_gene", "preservation"], "value": [0.7, 0.3, 50.0]}
    >>> ax = scl.pl.preservation(pd.DataFrame(parts | {"representation": "X_scvi", "key": "unseen perturbations"}))
    >>> [round(float(bar.get_height())) for bar in ax.patches]
    [70, 30, 50]
    """
    check_table(table, ["metric", "representation", "key", "value"], "scl.tl.preservation")
    table = select_rows(table, "key", key)
    table = table[table["metric"].isin(SCALES)]
    check_numbers(table, ["value"])
    check_once(table, ["metric", "representation", *(["seed"] if "seed" in table else [])])
    runs = table["value"].groupby([table["representation"], table["metric"]], sort=False, observed=True)
    means, deviations, counts = (
        runs.agg(summary).unstack().reindex(columns=list(SCALES)) for summary in ("mean", "std", "count")
    )
    present, absent = list(table["representation"].unique()), means.isna()
    if lacks := [f"{part} of {name}" for name in present for part in SCALES if absent.loc[name, part]]:
        raise Refused(f"the table lacks figures for {key}", lacks, "draw what scl.tl.preservation returns")
    others = [name for name in present if name not in BASELINES]
    palette = style.pick_colours(others, palette)
    names = [name for name in BASELINES if name in present] + others

    ax = style.take_axes(ax, size=(6.4, 4.0))[0]
    width, bars, scales = 0.8 / len(names), [], np.array(list(SCALES.values()))
    for i, name in enumerate(names):
        at = np.arange(3) + style.shift_in_group(i, len(names), width)
        heights, spread = (rows.loc[name].to_numpy(float, na_value=np.nan) * scales for rows in (means, deviations))
        look = BASELINES.get(name) or {"color": palette[name]}
        error = {"yerr": spread, "error_kw": style.ERROR} if np.isfinite(spread).all() else {}
        bars.append(ax.bar(at, heights, width, label=name, **look, **error))
    ax.axhline(0, color="0.2", linewidth=0.8)
    style.name_groups(ax, NAMES)
    n_seeds = counts.to_numpy()
    seeds = f"{n_seeds.max():.0f} seeds" if n_seeds.min() == n_seeds.max() else "seeds"
    note = key if n_seeds.max() == 1 else f"{key}\nmean ± sd over {seeds}"
    ax.set_xlim(-0.6, 2.6)
    ax.set_xlabel(note, fontsize="small", color="0.35")
    ax.set_ylabel("Preservation (perfect: 100)", loc="top")
    style.finish(ax, bars, most=100)  # nothing is better than perfect
    return ax


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
    {drawing}

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
    axes = style.take_axes(ax, len(panels), size=(max(4.2, 1.2 + 2 * len(panels)), height), panels=list(panels))

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
        first = (place := part.get_subplotspec()) is None or place.is_first_col()
        part.set_yticks(range(len(methods)), [str(method) for method in methods] if first else [""] * len(methods))
        part.tick_params("y", length=0)
        n_seeds = rows["n_seeds"].unique()
        seeds = f", {n_seeds[0]} seeds" if len(n_seeds) == 1 else " over seeds"
        part.set_xlabel("z-score (1 seed)" if n_seeds.max() == 1 else f"z-score\n(mean ± sd{seeds})")
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
