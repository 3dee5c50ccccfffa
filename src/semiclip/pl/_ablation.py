from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_choice
from semiclip._docs import document
from semiclip._seed_table import checked, grid
from semiclip.errors import TooFew
from semiclip.metrics import paired_wilcoxon, smallest_p
from semiclip.pl._style import (
    BASELINE,
    CHANCE,
    MEAN,
    Palette,
    add_legend,
    add_note,
    measure_inches,
    name_groups,
    pick_colours,
    shift_in_group,
    strip_spines,
    take_axes,
    write_title,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container

LEVEL = 0.05  # where fewer seeds than six cannot reach it, no p is written
ROW = 9  # points from line to line of the small print
SEEDS: dict[str, Any] = {"alpha": 0.3, "linewidth": 0.5, "marker": ".", "markersize": 3, "label": "_seeds"}
BASE: dict[str, Any] = {"linestyle": ":", "linewidth": 1, "label": "_base"}
PRINT: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "bottom", "linespacing": 1.05}
BRACKET: dict[str, Any] = {"arrowstyle": "|-|,widthA=0.15,widthB=0.15", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 2}


@document
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
    palette: Palette = None,
) -> Axes:
    """Draw what each rung of a ladder adds, for example each part of PEA in Table 2 of the paper.

    A thick line shows means and standard deviations over the seeds, a thin line one seed across the rungs. Above the
    rungs stands the mean gain over the previous rung, and on top the gain of the last rung over the first. Each gain
    has the two-sided p of a Wilcoxon signed-rank test over the seeds, not corrected for the number of tests.

    Rungs that do not build on each other, for example the augmentations in Figure 2b, are compared with a ``base``.
    Then the gain over the base stands above each rung, the mean of the base is a dotted line, and nothing is joined.

    Parameters
    ----------
    table
        One row per rung and seed (and method). The rungs are drawn in their order in the table.
    value
        Column of the figure to draw.
    rung
        Column of the names of the rungs.
    seed
        Column of the seeds. Every rung (of every method) needs the same seeds.
    method
        Column of the names of methods to compare, each drawn in its own colour.
    base
        The rung that all others are compared with; by default each is compared with the previous one.
    baseline
        Column of a figure that the ladder has to beat, for example the unimodal recall. Its mean is a line.
    chance
        The value that knows nothing reaches, drawn as a dashed line.
    {drawing}

    Returns
    -------
    The axes.

    Raises
    ------
    {drawing_errors}
        Also if there is a single rung, ``base`` is no rung, or a rung lacks a seed of the others.

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
        raise TooFew(f"rungs in column {rung!r}", len(rungs), 2)
    if base is not None:
        check_choice("base", str(base), rungs)
    base_rung = None if base is None else rungs.index(str(base))
    values = values.reshape(len(methods), len(rungs), n_seeds)
    palette = pick_colours(methods, palette)

    ax = take_axes(ax, size=(4.8, 3.3 + 0.5 * len(methods)))[0]
    handles: list[Artist | Container] = []
    joined: dict[str, Any] = {} if base_rung is None else {"linestyle": "none"}
    for i, (name, runs) in enumerate(zip(methods, values, strict=True)):
        at = np.arange(len(rungs)) + shift_in_group(i, len(methods), 0.7 / len(methods))
        ax.plot(at, runs, color=palette[name], **SEEDS, **joined)
        spread = runs.std(axis=1, ddof=1) if n_seeds > 1 else None
        handles.append(ax.errorbar(at, runs.mean(axis=1), spread, label=name, color=palette[name], **MEAN, **joined))
        if base_rung is not None:
            ax.axhline(runs[base_rung].mean(), color=palette[name], **BASE)
    if baseline is not None:
        handles.append(ax.axhline(table[baseline].mean(), label=baseline.replace("_", " "), **BASELINE))
    if chance is not None:
        handles.append(ax.axhline(chance, label="chance", **CHANCE))
    ax.set_xlim(-0.5, len(rungs) - 0.5)
    name_groups(ax, rungs, size=8)
    ax.set_ylabel(write_title(value))
    seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}"
    enough = smallest_p(n_seeds) < LEVEL
    note = f"{seeds}; p of paired Wilcoxon tests" if enough else f"{seeds}: too few for p < 0.05 in a Wilcoxon test"
    ax.set_xlabel(note if base is None else f"gains over {base}\n{note}", fontsize="small", color="0.35")
    strip_spines(ax)

    steps = list(pairwise(range(len(rungs))))
    if base_rung is not None:
        steps = [(base_rung, i) for i in range(len(rungs)) if i != base_rung]
    floor, points = ax.get_ylim()[1], 0
    for name, runs in reversed(list(zip(methods, values, strict=True))):  # from the top down as in the legend
        for before, after in steps:
            text = _write_gain(runs[after], runs[before], "\n")
            _draw_bracket(ax, (before if base is None else after, after), (floor, points), text, palette[name])
        points += ROW * (1 + enough) + 3
        if base_rung is None and len(rungs) > 2:
            text = _write_gain(runs[-1], runs[0], ", ")
            _draw_bracket(ax, (0, len(rungs) - 1), (floor, points), text, palette[name])
            points += ROW + 4
    add_legend(ax, handles, below=points / 72)
    _end_scale(ax, floor)
    return ax


def _write_gain(after: np.ndarray, before: np.ndarray, between: str) -> str:
    """Write the mean gain and, where seeds suffice, its p."""
    mean = f"{(after - before).mean():+z.3f}".replace("-", "−")
    if smallest_p(len(after)) >= LEVEL:
        return mean
    p = paired_wilcoxon(after, before)
    return f"{mean}{between}" + ("p < 0.001" if p < 0.001 else f"p = {p:.2g}")


def _draw_bracket(ax: Axes, ends: tuple[float, float], height: tuple[float, float], text: str, colour: str) -> None:
    """Write a text so many points above a value, on a line that joins two places where these differ."""
    from matplotlib.transforms import ScaledTranslation

    floor, points = height
    lifted = ax.transData + ScaledTranslation(0, points / 72, ax.figure.dpi_scale_trans)
    if ends[0] < ends[1]:
        line = BRACKET | {"color": colour}
        drawn = ax.annotate("", (ends[0], floor), (ends[1], floor), xycoords=lifted, textcoords=lifted, arrowprops=line)
        drawn.set_in_layout(False)
    add_note(ax, text, ((ends[0] + ends[1]) / 2, floor), (0, 1.5), xycoords=lifted, color=colour, **PRINT)


def _end_scale(ax: Axes, end: float) -> None:
    """End the vertical scale at a value, since the room above it has none."""
    from matplotlib.ticker import MaxNLocator

    bottom, top = ax.get_ylim()
    share = (end - bottom) / (top - bottom)
    n_ticks = max(2, int(share * measure_inches(ax)[1] / 0.25))
    ticks = np.array(MaxNLocator(n_ticks, steps=[1, 2, 5, 10]).tick_values(bottom, end))
    ax.set_yticks(ticks[(ticks >= bottom) & (ticks <= end)])
    ax.spines["left"].set_bounds(bottom, end)
    ax.yaxis.label.set_y(share / 2)
