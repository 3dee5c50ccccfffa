from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._docs import document
from semiclip.errors import Refused
from semiclip.pl import _panels as panels
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names, measure_text
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
WIDE = 2.4  # inches of names beside an axis


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

    n_seeds = counts.to_numpy()
    seeds = f"{n_seeds.max():.0f} seeds" if n_seeds.min() == n_seeds.max() else "seeds"
    note = key if n_seeds.max() == 1 else f"{key}\nmean ± sd over {seeds}"
    looks = {name: BASELINES.get(name) or {"color": palette[name]} for name in names}
    scales = np.array(list(SCALES.values()))
    figures = {
        name: (
            means.loc[name].to_numpy(float, na_value=np.nan) * scales,
            deviations.loc[name].to_numpy(float, na_value=np.nan) * scales,
        )
        for name in names
    }
    if len(others) > panels.MOST_BARS:
        ax = style.take_axes(ax, size=(6.4, 4.0))[0]
        _draw_rows(ax, figures, looks, note)
        return ax
    ax = style.take_axes(ax, size=(max(6.4, 1.4 + 0.6 * len(names)), 4.0))[0]
    width, bars = 0.8 / len(names), []
    for i, (name, (heights, spread)) in enumerate(figures.items()):
        at = np.arange(3) + style.shift_in_group(i, len(names), width)
        error = {"yerr": spread, "error_kw": style.make_error_look()} if np.isfinite(spread).all() else {}
        bars.append(ax.bar(at, heights, width, label=name, **looks[name], **error))
    ax.axhline(0, color=style.tone(0.2), linewidth=0.8)
    style.name_groups(ax, NAMES)
    ax.set_xlim(-0.6, 2.6)
    ax.set_xlabel(note, fontsize="small", color=style.tone(0.35))
    ax.set_ylabel("Preservation (perfect: 100)", loc="top")
    style.finish(ax, bars, most=100)  # nothing is better than perfect
    return ax


def _draw_rows(ax: Axes, figures: dict[str, tuple[np.ndarray, np.ndarray]], looks: dict[str, Any], note: str) -> None:
    """Draw a row per representation, with a column per figure."""
    parts = panels.divide_rows(ax, list(figures), NAMES, foot=0.5, column=1.5)
    heights, spreads = (np.array(values) for values in zip(*figures.values(), strict=True))
    ends = np.nan_to_num(spreads)
    limits = min(0, (heights - ends).min()), max((heights + ends).max(), 1) * 1.04
    for part, values, spread in zip(parts, heights.T, spreads.T, strict=True):
        for row, (look, value, sd) in enumerate(zip(looks.values(), values, spread, strict=True)):
            error = {"xerr": sd, "error_kw": style.make_error_look()} if np.isfinite(sd) else {}
            part.barh(row, value, 0.66, **look, **error)
        part.axvline(0, color=style.tone(0.2), linewidth=0.8)
        part.set(xlim=limits, xticks=style.choose_ticks(limits[0], min(limits[1], 100), 4))
    panels.explain(ax, label="Preservation (perfect: 100), " + note.replace("\n", ", "))


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
    headings = list(table[panel].unique()) if panel in within else []
    panel_rows = {str(name): table[table[panel] == name] for name in headings} or {"": table}
    figures = _name_figures(table, [name for name in within if name != panel], [panel] if panel in within else [])
    names = list(figures.unique())
    palette = style.pick_colours(names, palette)
    longest = max(measure_text(str(method), 10) for method in methods)
    row = max(0.26 if longest <= WIDE else 0.34, 0.11 * len(names))
    columns = min(len(panel_rows), 4)
    n_rows = -(-len(panel_rows) // columns)
    size = (max(4.2, 1.2 + 2 * columns), n_rows * (1.4 + 0.2 * len(names) / n_rows + len(methods) * row))
    axes = style.take_axes(ax, len(panel_rows), size=size, columns=columns, panels=list(panel_rows))
    style.grow(axes[0], width=min(longest, WIDE) - 1)
    if longest > WIDE:
        longest, letters = WIDE, style.SMALL
    else:
        letters = 10
    written = fit_names(list(map(str, methods)), WIDE, letters, 2)

    handles = []
    for part, rows in zip(axes, panel_rows.values(), strict=True):
        for i in range(0, len(methods), 2):
            part.axhspan(i - 0.5, i + 0.5, color=style.tone(0.95), zorder=0)
        part.vlines(0, -0.5, len(methods) - 0.5, color=style.tone(0.35), linewidth=0.8, zorder=1)
        for i, name in enumerate(names):
            drawn = rows[figures[rows.index] == name]
            shift = style.shift_in_group(i, len(names), 0.7 / len(names))
            at = np.array([methods.index(method) + shift for method in drawn[by]])
            mean, sd = (drawn[column].to_numpy(float, na_value=np.nan) for column in ("mean", "sd"))
            look = style.MEAN | {"marker": MARKERS[i % len(MARKERS)], "linestyle": "none", "color": palette[name]}
            handles.append(part.errorbar(mean, at, xerr=sd, label=name, **look))
        part.set_ylim(len(methods) - 0.5, -0.5)
        first = (place := part.get_subplotspec()) is None or place.is_first_col()
        part.set_yticks(range(len(methods)), written if first else [""] * len(methods), fontsize=letters)
        part.tick_params("y", length=0)
        n_seeds = rows["n_seeds"].unique()
        seeds = f", {n_seeds[0]} seeds" if len(n_seeds) == 1 else " over seeds"
        part.set_xlabel("z-score (1 seed)" if n_seeds.max() == 1 else f"z-score\n(mean ± sd{seeds})")
        part.set_title("\n" * (len(panel_rows) > 1))  # the room of a heading
        part.spines[["top", "right", "left"]].set_visible(False)
    inches = style.measure_inches(axes[0])
    for part, heading in zip(axes, panel_rows, strict=True):
        style.write_label(part.xaxis, part.get_xlabel(), room=inches[0])
        style.write_heading(part, heading.replace("_", " "), width=inches[0])
    limits = np.array([part.get_xlim() for part in axes])
    for part in axes:
        part.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    if any(names):
        wide = style.measure_inches(axes[0])[0] * (columns if ax is None else 1)
        axes[0].set_zorder(axes[-1].get_zorder() + 1)  # the next panel does not hide a wide legend
        style.finish(axes[0], handles[: len(names)], columns=len(names), width=wide)
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
