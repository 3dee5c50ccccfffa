from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip._seed_table import checked, grid
from semiclip.errors import UnknownChoice
from semiclip.pl._style import (
    CHANCE,
    MEAN,
    OKABE_ITO,
    measure_inches,
    name_groups,
    strip_spines,
    take_axes,
    write_title,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

WIDE = 10  # settings of a wider range than this are spaced by their logarithms
PRINT: dict[str, Any] = {"va": "bottom", "color": "0.35", "fontsize": "small"}


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
    value
        Column of the figure to draw.
    parameter
        Column of the names of the parameters; the panels follow their order in the table.
    setting
        Column of the settings. Numbers are sorted, and spaced by their logarithms if they are positive and the largest
        is more than ten times the smallest. Names keep their order.
    seed
        Column of the seeds. Every setting of a parameter needs the same seeds.
    default
        The setting in use by the name of the parameter, marked by a dotted line. Parameters that the table lacks are
        left out.
    chance
        The value that knows nothing reaches, drawn as a dashed line.
    ax
        One axes per parameter; by default a new figure with two columns.

    Returns
    -------
    The axes, one per parameter.

    Raises
    ------
    {drawing_errors}
        Also if a setting lacks a seed of the others, a default is none of the settings that are names, or ``ax`` does
        not hold one axes per parameter.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> runs = {"parameter": "lr", "setting": [0.003, 0.003, 0.1, 0.1], "seed": [0, 1, 0, 1]}
    >>> axes = scl.pl.sweep(pd.DataFrame(runs | {"recall": [0.40, 0.44, 0.52, 0.58]}), default={"lr": 0.1})
    >>> [(ax.get_xlabel(), ax.get_xscale()) for ax in axes]
    [('lr', 'log')]
    """
    table = checked(table, values={"value": value}, keys={"parameter": parameter, "setting": setting, "seed": seed})
    runs = table.groupby(parameter, sort=False, observed=True)
    panels = {str(name): grid(rows, value, [setting, seed]) for name, rows in runs}
    default = default or {}
    for name, (_, (settings, _)) in panels.items():
        chosen = default.get(name, settings[0])
        if chosen not in settings and not _are_numbers([*settings, chosen]):
            raise UnknownChoice(f"default[{name!r}]", chosen, settings, "run it, or leave it out")
    columns = min(len(panels), 2)
    size = (2.4 * columns, 2 * -(-len(panels) // columns))
    axes = take_axes(ax, len(panels), size=size, columns=columns, panels=list(panels))

    for panel, (name, (values, (settings, seeds))) in zip(axes, panels.items(), strict=True):
        at = _place_settings(panel, settings, default.get(name))
        spread = values.std(axis=1, ddof=1) if len(seeds) > 1 else np.zeros(len(values))
        order = np.argsort(at)
        look = MEAN if _are_numbers(settings) else {**MEAN, "linestyle": "none"}  # nothing lies between names
        panel.errorbar(at[order], values.mean(axis=1)[order], spread[order], color=OKABE_ITO[0], **look)
        if chance is not None:
            panel.axhline(chance, **CHANCE)
        if name in default:
            place = default[name] if _are_numbers(settings) else settings.index(default[name])
            _mark_default(panel, place, f"default {_write_setting(default[name])}")
        panel.set_xlabel(name.replace("_", " "))
        panel.set_ylabel(write_title(value))
        strip_spines(panel)
    limits = np.array([panel.get_ylim() for panel in axes])
    for panel in axes:
        panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    if chance is not None:
        axes[0].text(1, chance, "chance", ha="right", transform=axes[0].get_yaxis_transform(), **PRINT)
    return axes


def _place_settings(ax: Axes, settings: Sequence[Any], default: Any) -> np.ndarray:
    """Choose a scale of x that has the default too, label settings where there is room, and return their places."""
    if not _are_numbers(settings):
        name_groups(ax, [_write_setting(setting) for setting in settings])
        ax.set_xlim(-0.5, len(settings) - 0.5)
        return np.arange(len(settings))
    at = np.array(settings, dtype=float)
    shown = at if default is None else np.append(at, default)
    if log := shown.min() > 0 and shown.max() > WIDE * shown.min():
        ax.set_xscale("log")
    spaced = np.log(shown) if log else shown
    margin = np.ptp(spaced) / 20 or abs(at[0]) / 2 or 1
    low, high = spaced.min() - margin, spaced.max() + margin
    # said here, since error bars of older matplotlib stretch a logarithmic scale to 1
    ax.set_xlim((np.exp(low), np.exp(high)) if log else (low, high))
    width = measure_inches(ax)[0] / (high - low)  # inches per unit
    labels, end = [""] * len(at), -np.inf
    for i in np.argsort(at):
        text = _write_setting(settings[i])
        half = 0.035 * len(text)  # inches of small print
        if (middle := spaced[i] * width) - half > end + 0.05:
            labels[i], end = text, middle + half
    ax.set_xticks(at, labels, fontsize="small")
    ax.minorticks_off()
    return at


def _mark_default(ax: Axes, place: float, text: str) -> None:
    """Draw a dotted line through the setting in use, and name it above the panel."""
    ax.axvline(place, color="0.35", linestyle=":", linewidth=1.2, zorder=0)
    left, right = ax.get_xlim()
    scale = ax.xaxis.get_transform().transform
    share = (scale(place) - scale(left)) / (scale(right) - scale(left))
    side = "left" if share < 0.3 else "right" if share > 0.7 else "center"
    ax.text(place, 1.01, text, ha=side, transform=ax.get_xaxis_transform(), **PRINT)


def _are_numbers(settings: Sequence[Any]) -> bool:
    return all(isinstance(setting, Real) and not isinstance(setting, bool) for setting in settings)


def _write_setting(setting: Any) -> str:
    return f"{setting:g}" if _are_numbers([setting]) else str(setting)
