from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some
from semiclip._seed_table import checked, grid
from semiclip.metrics import paired_wilcoxon, smallest_p
from semiclip.pl._style import (
    BASELINE,
    CHANCE,
    MEAN,
    bare,
    colours,
    inches,
    legend_on_top,
    name_groups,
    new_axes,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container

LEVEL = 0.05  # where fewer seeds than six cannot reach it, no p is written
ROW = 9  # points from line to line of the small print
SEEDS: dict[str, Any] = {"alpha": 0.3, "linewidth": 0.5, "marker": ".", "markersize": 3, "label": "_seeds"}
BASE: dict[str, Any] = {"linestyle": ":", "linewidth": 1, "label": "_base"}
PRINT: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "bottom", "linespacing": 1.05}


def ablation(
    table: pd.DataFrame,
    *,
    value: str = "recall",
    rung: str = "rung",
    seed: str = "seed",
    method: str | None = None,
    base: object = None,
    baseline: str | None = None,
    chance: float | None = None,
    ax: Axes | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw what each rung of a ladder adds, such as the parts of PEA in Table 2 of the paper.

    Thick: mean and standard deviation over the seeds. Thin: the seeds, each joined across the rungs. Above stands the
    mean gain over the previous rung, and that of the last rung over the first, each with the two-sided p of a Wilcoxon
    signed-rank test over the seeds, not corrected for the number of tests.

    Rungs that do not build on each other, such as the augmentations in Figure 2b, are compared with one of them: above
    each then stands its gain over the ``base``, whose mean is a dotted line, and nothing is joined.

    Parameters
    ----------
    table
        One row per rung and seed (and method). The rungs are drawn in their order in the table.
    value
        Column of the figure to draw.
    rung
        Column of the names of the rungs.
    seed
        Column of the seeds. Every rung (of every method) needs the same ones.
    method
        Column of the names of methods to compare, each drawn in its own colour.
    base
        The rung that all others are compared with; by default each is compared with the previous one.
    baseline
        Column of a figure that the ladder has to beat, such as the unimodal recall; its mean is a line.
    chance
        The value that knows nothing reaches, drawn as a dashed line.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the methods, in their order in the table or by name.

    Returns
    -------
    The axes.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or ``value`` or ``baseline`` do not hold numbers.
    KeyError
        If a column is missing, or ``palette`` lacks a method.
    ValueError
        If the table is empty or has gaps, there is a single rung, ``base`` is not a rung, a rung lacks a seed that
        others have or has it twice, or there are too few colours.

    Notes
    -----
    No p below 0.05 can come from fewer than six seeds. The gains then stand alone, and the axis says why.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> rungs = ["base"] * 6 + ["full PEA"] * 6
    >>> recalls = [0.40, 0.42, 0.41, 0.38, 0.45, 0.39, 0.44, 0.47, 0.45, 0.43, 0.46, 0.44]
    >>> ax = scl.pl.ablation(pd.DataFrame({"rung": rungs, "seed": [*range(6)] * 2, "recall": recalls}))
    >>> print(ax.texts[-1].get_text())
    +0.040
    p = 0.031
    """
    by = {"rung": rung, "seed": seed} if method is None else {"method": method, "rung": rung, "seed": seed}
    measures = {"value": value} if baseline is None else {"value": value, "baseline": baseline}
    table = checked(table, values=measures, keys=by)
    values, names = grid(table, value, list(by.values()))
    methods = ["mean ± sd"] if method is None else [str(name) for name in names[0]]
    rungs, n_seeds = [str(name) for name in names[-2]], len(names[-1])
    if len(rungs) < 2:
        msg = f"column {rung!r} names a single rung, {rungs[0]}; a ladder has two or more"
        raise ValueError(msg)
    if base is not None and str(base) not in rungs:
        msg = f"base={base!r} is not a rung; column {rung!r} names {some(rungs)}"
        raise ValueError(msg)
    compared = None if base is None else rungs.index(str(base))
    values = values.reshape(len(methods), len(rungs), n_seeds)
    palette = colours(methods, palette)

    ax = new_axes(size=(4.8, 3.3 + 0.5 * len(methods)))[0] if ax is None else ax
    handles: list[Artist | Container] = []
    joined: dict[str, Any] = {} if compared is None else {"linestyle": "none"}
    for i, (name, runs) in enumerate(zip(methods, values, strict=True)):
        at = np.arange(len(rungs)) + (i - (len(methods) - 1) / 2) * 0.7 / len(methods)
        ax.plot(at, runs, color=palette[name], **SEEDS, **joined)
        spread = runs.std(axis=1, ddof=1) if n_seeds > 1 else None
        handles.append(ax.errorbar(at, runs.mean(axis=1), spread, label=name, color=palette[name], **MEAN, **joined))
        if compared is not None:
            ax.axhline(runs[compared].mean(), color=palette[name], **BASE)
    if baseline is not None:
        handles.append(ax.axhline(table[baseline].mean(), label=baseline.replace("_", " "), **BASELINE))
    if chance is not None:
        handles.append(ax.axhline(chance, label="chance", **CHANCE))
    ax.set_xlim(-0.5, len(rungs) - 0.5)
    name_groups(ax, rungs, size=8)
    ax.set_ylabel(title(value))
    seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}"
    enough = smallest_p(n_seeds) < LEVEL
    note = f"{seeds}; p of paired Wilcoxon tests" if enough else f"{seeds}: too few for p < 0.05 in a Wilcoxon test"
    if base is not None:
        note = f"gains over {base}\n{note}"
    ax.set_xlabel(note, fontsize="small", color="0.35")
    bare(ax)

    floor, points = ax.get_ylim()[1], 0
    for name, runs in reversed(list(zip(methods, values, strict=True))):  # from the top down as in the legend
        steps = pairwise(range(len(rungs))) if compared is None else ((compared, i) for i in range(len(rungs)))
        for before, after in steps:
            if before != after:
                ends = (before if compared is None else after, after)
                _bracket(ax, ends, (floor, points), _gain(runs[after], runs[before], "\n"), palette[name])
        points += ROW * (1 + enough) + 3
        if compared is None and len(rungs) > 2:
            _bracket(ax, (0, len(rungs) - 1), (floor, points), _gain(runs[-1], runs[0], ", "), palette[name])
            points += ROW + 4
    legend_on_top(ax, handles, below=points / 72)
    _end_scale(ax, floor)
    return ax


def _gain(after: np.ndarray, before: np.ndarray, between: str) -> str:
    """Write the mean gain and, where seeds suffice, its p."""
    mean = f"{(after - before).mean():+z.3f}".replace("-", "−")
    if smallest_p(len(after)) >= LEVEL:
        return mean
    p = paired_wilcoxon(after, before)
    return f"{mean}{between}" + ("p < 0.001" if p < 0.001 else f"p = {p:.2g}")


def _bracket(ax: Axes, ends: tuple[float, float], height: tuple[float, float], text: str, colour: str) -> None:
    """Write a text so many points above a value, on a line that joins two places where these differ."""
    from matplotlib.transforms import ScaledTranslation

    floor, points = height
    lifted = ax.transData + ScaledTranslation(0, points / 72, ax.figure.dpi_scale_trans)
    line = {"arrowstyle": "|-|,widthA=0.15,widthB=0.15", "color": colour, "linewidth": 0.7, "shrinkA": 2, "shrinkB": 2}
    if ends[0] < ends[1]:
        drawn = ax.annotate("", (ends[0], floor), (ends[1], floor), xycoords=lifted, textcoords=lifted, arrowprops=line)
        drawn.set_in_layout(False)
    middle = ((ends[0] + ends[1]) / 2, floor)
    note = ax.annotate(text, middle, (0, 1.5), xycoords=lifted, textcoords="offset points", color=colour, **PRINT)
    note.set_in_layout(False)  # room for both is made inside the axes


def _end_scale(ax: Axes, end: float) -> None:
    """End the vertical scale at a value, since the room above it has none."""
    from matplotlib.ticker import MaxNLocator

    bottom, top = ax.get_ylim()
    share = (end - bottom) / (top - bottom)
    most = max(2, int(share * inches(ax)[1] / 0.25))
    ticks = np.array(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(bottom, end))
    ax.set_yticks(ticks[(ticks >= bottom) & (ticks <= end)])
    ax.spines["left"].set_bounds(bottom, end)
    ax.yaxis.label.set_y(share / 2)
