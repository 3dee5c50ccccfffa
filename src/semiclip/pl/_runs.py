"""Pictures of what repeated training runs reached."""

from __future__ import annotations

from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_choice
from semiclip._docs import document
from semiclip._seed_table import read_grid, read_runs
from semiclip.errors import TooFew, UnknownChoice
from semiclip.metrics import paired_wilcoxon, smallest_p
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names, measure_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

LEVEL = 0.05  # where fewer seeds than six cannot reach it, no p is written
ROW = 9  # points from line to line of the small print
SEEDS: dict[str, Any] = {"alpha": 0.3, "linewidth": 0.5, "marker": ".", "markersize": 3, "label": "_seeds"}
BASE: dict[str, Any] = {"linestyle": ":", "linewidth": 1, "label": "_base"}
GAIN: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "bottom", "linespacing": 1.05}
BRACKET: dict[str, Any] = {"arrowstyle": "|-|,widthA=0.15,widthB=0.15", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 2}
MOST_RUNGS = 6  # beside each other; more lie below each other, as those do whose words are too long
WORD, WIDE_NAME = 1.9, 2.4  # inches
WIDE = 10  # settings of a wider range than this are spaced by their logarithms
PRINT: dict[str, Any] = {"va": "bottom", "alpha": 0.65, "fontsize": "small"}


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
    palette: style.Palette = None,
) -> Axes:
    """Draw what each rung of a ladder adds, for example each part of PEA in Table 2 of the paper.

    A thick line shows means and standard deviations over the seeds, a thin line one seed across the rungs. Above the
    rungs stands the mean gain over the previous rung, and on top the gain of the last rung over the first. Each gain
    has the two-sided p of a Wilcoxon signed-rank test over the seeds, not corrected for the number of tests. Fewer than
    six seeds cannot give a p below 0.05: the gains then stand alone, and the axis says why.

    Rungs that do not build on each other, for example the augmentations in Figure 2b, are compared with a ``base``.
    Then the gain over the base stands above each rung, the mean of the base is a dotted line, and nothing is joined.

    Parameters
    ----------
    table
        One row per rung and seed (and method), of two rungs or more. The rungs are drawn in their order in the table.
    value, rung, seed
        Columns of the figure to draw, of the names of the rungs and of the seeds. Every rung (of every method) needs
        the same seeds.
    method
        Column of the names of methods to compare, each drawn in its own colour.
    base
        The rung that all others are compared with; by default each is compared with the previous one.
    baseline
        Column of a figure that the ladder has to beat, for example the unimodal recall. Its mean is a line.
    chance
        The value that knows nothing reaches, drawn as a dashed line.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> recalls = [0.40, 0.42, 0.41, 0.38, 0.45, 0.39, 0.44, 0.47, 0.45, 0.43, 0.46, 0.44]
    >>> runs = {"rung": ["base"] * 6 + ["full PEA"] * 6, "seed": [*range(6)] * 2, "recall": recalls}
    >>> print(scl.pl.ablation(pd.DataFrame(runs)).texts[-1].get_text())
    +0.040
    p = 0.031
    """
    keys = ({} if method is None else {"method": method}) | {"rung": rung, "seed": seed}
    measures = {"value": value} | ({} if baseline is None else {"baseline": baseline})
    table = read_runs(table, values=measures, keys=keys)
    values, names = read_grid(table, value, list(keys.values()))
    methods = ["mean ± sd"] if method is None else [str(name) for name in names[0]]
    rungs, n_seeds = [str(name) for name in names[-2]], len(names[-1])
    if len(rungs) < 2:
        raise TooFew(f"rungs in column {rung!r}", len(rungs), 2)
    if base is not None:
        check_choice("base", str(base), rungs)
    base_rung = None if base is None else rungs.index(str(base))
    ladders = dict(zip(methods, values.reshape(len(methods), len(rungs), n_seeds), strict=True))
    palette = style.pick_colours(methods, palette)

    lying = len(rungs) > MOST_RUNGS or any(measure_text(word, 8) > WORD for name in rungs for word in name.split())
    if lying:
        longest = min(WIDE_NAME, max(measure_text(name, style.SMALL) for name in rungs))
        size = (3.6 + longest + 1.1 * len(methods), 1.3 + len(rungs) * max(0.34, 0.16 * len(methods)))
    else:
        size = (4.8, 3.3 + 0.5 * len(methods))
    ax = style.take_axes(ax, size=size)[0]
    # lines that lie end below the legend
    reach = (-0.5, len(rungs) - 0.5)

    def draw_line(height: float, **look: Any) -> Any:
        return ax.plot([height] * 2, reach, **look)[0] if lying else ax.axhline(height, **look)

    handles: list[Any] = []
    joined: dict[str, Any] = {} if base_rung is None else {"linestyle": "none"}
    for i, (name, runs) in enumerate(ladders.items()):
        at = np.arange(len(rungs)) + style.shift_in_group(i, len(methods), 0.7 / len(methods))
        ax.plot(*_turn(lying, at, runs), color=palette[name], **SEEDS, **joined)
        spread = runs.std(axis=1, ddof=1) if n_seeds > 1 else None
        look = {"label": name, "color": palette[name], **style.MEAN, **joined}
        bars: dict[str, Any] = {"xerr" if lying else "yerr": spread}
        x, y = _turn(lying, at, runs.mean(axis=1))
        handles.append(ax.errorbar(x, y, **bars, **look))
        if base_rung is not None:
            draw_line(runs[base_rung].mean(), color=palette[name], **BASE)
    if baseline is not None:
        handles.append(
            draw_line(table[baseline].mean(), label=baseline.replace("_", " "), **style.make_baseline_look())
        )
    if chance is not None:
        handles.append(draw_line(chance, label="chance", **style.make_chance_look()))
    seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}"
    enough = smallest_p(n_seeds) < LEVEL
    note = f"{seeds}; p of paired Wilcoxon tests" if enough else f"{seeds}: too few for p < 0.05 in a Wilcoxon test"
    note = note if base is None else f"gains over {base}\n{note}"
    steps = list(pairwise(range(len(rungs))))
    if base_rung is not None:
        steps = [(base_rung, i) for i in range(len(rungs)) if i != base_rung]
    if lying:
        ax.set_xlabel(f"{_write_title(value)}\n")
        _write_rows(ax, rungs, ladders, steps, palette, joined=base_rung is None)
        style.write_label(ax.xaxis, f"{_write_title(value)}\n{note}")
        style.finish(ax, handles)
        return ax
    ax.set_xlim(-0.5, len(rungs) - 0.5)
    style.name_groups(ax, rungs, size=8)
    ax.set_ylabel(_write_title(value))
    ax.set_xlabel(note, fontsize="small", color=style.tone(0.35))

    floor, points = ax.get_ylim()[1], 0
    for name, runs in reversed(ladders.items()):  # from the top down as in the legend
        for before, after in steps:
            text = _write_gain(runs[after], runs[before], "\n")
            _draw_bracket(ax, (before if base is None else after, after), (floor, points), text, palette[name])
        points += ROW * (1 + enough) + 3
        if base_rung is None and len(rungs) > 2:
            text = _write_gain(runs[-1], runs[0], ", ")
            _draw_bracket(ax, (0, len(rungs) - 1), (floor, points), text, palette[name])
            points += ROW + 4
    style.finish(ax, handles, below=points / 72)

    # the scale ends below the gains
    bottom, top = ax.get_ylim()
    share = (floor - bottom) / (top - bottom)
    ax.set_yticks(style.choose_ticks(bottom, floor, max(2, int(share * style.measure_inches(ax)[1] / 0.25))))
    ax.spines["left"].set_bounds(bottom, floor)
    ax.yaxis.label.set_y(share / 2)
    return ax


def _turn(lying: bool, places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: FBT001
    """Return what is drawn over x and over y."""
    return (values, places) if lying else (places, values)


def _write_rows(
    ax: Axes,
    rungs: Sequence[str],
    ladders: Mapping[str, np.ndarray],
    steps: Sequence[tuple[int, int]],
    palette: Mapping[str, str],
    *,
    joined: bool,
) -> None:
    """Name the rungs from top to bottom, and write the gains beside them: between two rungs, or in the row of one."""
    limits = ax.get_xlim()
    ax.set_ylim(len(rungs) - 0.5 + 0.6 * joined, -0.5)
    ax.set_yticks(range(len(rungs)), [""] * len(rungs))
    wide, high = style.measure_inches(ax)
    room = min(WIDE_NAME, 0.45 * wide)
    row = high / (len(rungs) + 1)
    size = float(np.clip(72 * row / style.LINE, style.LEAST, style.SMALL))
    names = fit_names(rungs, room, size, max(1, int(72 * row / (style.LINE * size))))
    ax.set_yticks(range(len(rungs)), names, fontsize=size)
    for i in range(0, len(rungs), 2):
        ax.axhspan(i - 0.5, i + 0.5, color=style.tone(0.95), zorder=0, linewidth=0)
    wide = style.measure_inches(ax)[0]
    column = 1.3  # inches of a gain and its p
    share = min(0.7, column * len(ladders) / wide)
    ax.set_xlim(limits[0], limits[0] + (limits[1] - limits[0]) / (1 - share))
    look: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7}
    for k, (name, runs) in enumerate(ladders.items()):
        at = 1 - share + share * k / len(ladders) + 0.04 / wide
        for before, after in steps:
            place = (before + after) / 2 if joined else after
            ax.text(at, place, _write_gain(runs[after], runs[before], ", "), color=palette[name], **look)
        if joined and len(rungs) > 2:
            text = f"all: {_write_gain(runs[-1], runs[0], ', ')}"
            ax.text(at, len(rungs) - 0.2, text, color=palette[name], **look)
    ax.set_xticks(style.choose_ticks(*limits, max(2, int((1 - share) * wide / 0.55))))
    ax.spines["bottom"].set_bounds(*limits)
    ax.tick_params("y", length=0)
    ax.spines["left"].set_visible(False)


def _write_title(name: str) -> str:
    """Write the name of a column as the label of an axis."""
    return (name[:1].upper() + name[1:]).replace("_", " ")


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
        line: dict[str, Any] = {"xycoords": lifted, "textcoords": lifted, "arrowprops": BRACKET | {"color": colour}}
        ax.annotate("", (ends[0], floor), (ends[1], floor), **line).set_in_layout(False)
    style.add_note(ax, text, ((ends[0] + ends[1]) / 2, floor), (0, 1.5), xycoords=lifted, color=colour, **GAIN)


@document
def sweep(
    table: pd.DataFrame,
    *,
    value: str = "recall",
    parameter: str = "parameter",
    setting: str = "setting",
    seed: str = "seed",
    default: Mapping[str, Any] | None = None,
    chance: float | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw how a result depends on each parameter, one panel per parameter, as in Figure 3 of the paper.

    Points are means over the seeds, bars their standard deviation. All panels have the same vertical scale.

    Parameters
    ----------
    table
        One row per parameter, setting and seed.
    value, parameter, seed
        Columns of the figure to draw, of the names of the parameters and of the seeds. The panels follow the order of
        the parameters in the table. Every setting of a parameter needs the same seeds.
    setting
        Column of the settings. Numbers are sorted, and spaced by their logarithms if they are positive and the largest
        is more than ten times the smallest. Names keep their order.
    default
        The setting in use by the name of the parameter, marked by a dotted line; a name must be one of the
        settings. Parameters that the table lacks are left out.
    chance
        The value that knows nothing reaches, drawn as a dashed line.
    ax
        One axes per parameter; by default a new figure with two columns, or more where there are many panels.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> runs = {"parameter": "lr", "setting": [0.003, 0.003, 0.1, 0.1], "seed": [0, 1, 0, 1]}
    >>> axes = scl.pl.sweep(pd.DataFrame(runs | {"recall": [0.40, 0.44, 0.52, 0.58]}), default={"lr": 0.1})
    >>> [(ax.get_xlabel(), ax.get_xscale()) for ax in axes]
    [('lr', 'log')]
    """
    table = read_runs(table, values={"value": value}, keys={"parameter": parameter, "setting": setting, "seed": seed})
    runs = table.groupby(parameter, sort=False, observed=True)
    panels = {str(name): read_grid(rows, value, [setting, seed]) for name, rows in runs}
    default = default or {}
    for name, (_, (settings, _)) in panels.items():
        chosen = default.get(name, settings[0])
        if chosen not in settings and not _are_numbers([*settings, chosen]):
            raise UnknownChoice(f"default[{name!r}]", chosen, settings, "run it, or leave it out")
    n_names = max((len(settings) for _, (settings, _) in panels.values() if not _are_numbers(settings)), default=0)
    columns = min(len(panels), 2 if len(panels) <= 6 else 3 if len(panels) <= 9 else 4)
    size = (max(2.4, 0.5 + 0.13 * n_names) * columns, 2 * -(-len(panels) // columns))
    axes = style.take_axes(ax, len(panels), size=size, columns=columns, panels=list(panels))
    for panel, name in zip(axes, panels, strict=True):
        panel.set(xlabel=name.replace("_", " "), ylabel=_write_title(value), xticks=[])
        panel.spines[["top", "right"]].set_visible(False)
    style.measure_inches(axes[0])
    wide = axes[0].get_window_extent().width / axes[0].figure.dpi
    for panel, name, text in zip(axes, panels, style.fit_names(list(panels), 1.05 * wide, 9, 3), strict=True):
        panel.set_xlabel(text.replace("_", " "), fontsize=10 if len(text) == len(name) and "\n" not in text else 9)
    named = [
        panel for panel, (_, (settings, _)) in zip(axes, panels.values(), strict=True) if not _are_numbers(settings)
    ]
    style.grow(axes[0], height=0.9 * bool(named))
    style.measure_inches(axes[0])

    for panel, (name, (values, (settings, seeds))) in zip(axes, panels.items(), strict=True):
        at = _place_settings(panel, settings, default.get(name))
        spread = values.std(axis=1, ddof=1) if len(seeds) > 1 else np.zeros(len(values))
        order, numeric = np.argsort(at), _are_numbers(settings)
        look = style.MEAN if numeric else style.MEAN | {"linestyle": "none"}  # nothing lies between names
        panel.errorbar(at[order], values.mean(axis=1)[order], spread[order], color=style.OKABE_ITO[0], **look)
        if chance is not None:
            panel.axhline(chance, **style.make_chance_look())
        if name in default:
            place = default[name] if numeric else settings.index(default[name])
            panel.axvline(place, color=style.tone(0.35), linestyle=":", linewidth=1.2, zorder=0)
            share = (panel.transData - panel.transAxes).transform((place, 0))[0]
            side = "left" if share < 0.3 else "right" if share > 0.7 else "center"
            room, transform = 0.7 * wide, panel.get_xaxis_transform()
            text = style.fit_names([f"default {_write_setting(default[name])}"], room, 8, 1)[0]
            panel.text(place, 1.01, text, ha=side, transform=transform, **PRINT)
    limits = np.array([panel.get_ylim() for panel in axes])
    for panel in axes:
        panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    if chance is not None:
        axes[0].text(1, chance, "chance", ha="right", transform=axes[0].get_yaxis_transform(), **PRINT)
    return axes


def _place_settings(ax: Axes, settings: Sequence[Any], default: Any) -> np.ndarray:
    """Choose a scale of x that has the default too, label settings where there is room, and return their places."""
    if not _are_numbers(settings):
        style.name_groups(ax, [_write_setting(setting) for setting in settings], inches=_inches(ax))
        ax.set_xlim(-0.5, len(settings) - 0.5)
        return np.arange(len(settings))
    at = np.array(settings, dtype=float)
    shown = at if default is None else np.append(at, default)
    # said here, since error bars of older matplotlib stretch a logarithmic scale to 1
    style.span_numbers(ax, shown, log=bool(shown.min() > 0 and shown.max() > WIDE * shown.min()))
    style.name_places(ax, at, [_write_setting(setting) for setting in settings])
    return at


def _inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes whose layout is known already; many panels are not laid out one by one."""
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return box.width, box.height


def _are_numbers(settings: Sequence[Any]) -> bool:
    return all(isinstance(setting, Real) and not isinstance(setting, bool) for setting in settings)


def _write_setting(setting: Any) -> str:
    return f"{setting:g}" if _are_numbers([setting]) else str(setting)
