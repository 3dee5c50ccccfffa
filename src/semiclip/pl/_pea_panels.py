"""Panels of the picture of PEA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import OKABE_ITO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse

    from semiclip.pl._pea_plane import Plane, Views


def draw_column(panels: np.ndarray, flat: Plane, drawn: Views, kept: Sequence[str]) -> dict[str, Any]:
    """Draw the two panels of a column and return what their colours and signs stand for."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("controls", (OKABE_ITO[4], "#00283F")).with_extremes(under="0")
    points = [drawn.values[drawn.kept == name] @ flat.axes for name in kept]
    frames = [
        np.concatenate([near, *map(_extent, pools)]) for near, pools in zip(flat.samples, flat.controls, strict=True)
    ]
    left, right = (side[0] for side in _limits(np.concatenate(frames), np.concatenate(points)))
    marks: dict[str, Any] = {}
    for panel, name, pools, where, samples, frame in zip(
        panels, kept, flat.controls, points, flat.samples, frames, strict=True
    ):
        if name not in drawn.share:
            continue
        for pool in pools[:0:-1]:
            panel.add_patch(_ellipse(pool, fill=False, edgecolor="0.75", linewidth=0.8))
        panel.add_patch(_ellipse(pools[0], facecolor="0.9", edgecolor="0.45", linewidth=0.8))
        marks["controls (± 2 s.d.)"] = panel.scatter(*pools[0].T, s=7, color="0.5", linewidths=0)
        if len(pools) > 1:
            marks["those of other batches"] = _sign(markersize=9, fillstyle="none", color="0.75")
        shade = {"c": drawn.n_controls[drawn.kept == name], "cmap": shades, "vmin": 2, "vmax": drawn.n_controls.max()}
        marks["views"] = panel.scatter(*where.T, s=16, linewidths=0, zorder=2, **shade)
        diamond = {"marker": "D", "facecolors": "none", "edgecolors": OKABE_ITO[5], "linewidths": 1.5, "zorder": 3}
        marks["the same steps, all controls"] = panel.scatter(*samples.T, s=42, **diamond)
        low, high = _limits(frame, where)
        low[0], high[0] = left, right
        if n_far := ((where < low) | (where > high)).any(axis=1).sum():
            panel.text(0.98, 0.02, f"{n_far} beyond", transform=panel.transAxes, ha="right", color="0.35", size="small")
        panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return marks


def explain(axes: np.ndarray, marks: dict[str, Any], title: str, *, own: bool) -> None:
    """Write the legend, the scale of the colours and, on a figure of its own, the title; mark panels without views."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    for panel in axes.flat:
        if not panel.has_data():
            panel.text(0.5, 0.5, "never drawn", transform=panel.transAxes, ha="center", va="center", color="0.35")
            panel.set(xticks=[], yticks=[])
    figure = axes[0, 0].figure
    bar = figure.colorbar(marks["views"], ax=list(axes.flat), shrink=0.6, ticks=MaxNLocator(5, integer=True))
    bar.set_label("Controls drawn", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    marks["views"] = _sign(markersize=4, color=OKABE_ITO[0])
    key = {"handles": marks.values(), "labels": marks.keys(), "frameon": False}
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.legend(**key, loc="outside lower center", ncols=4, fontsize="small")
    else:
        axes[0, 0].legend(**key, fontsize="x-small")
    if own:
        figure.suptitle(title, fontsize="medium")


def _sign(**style: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="none", **style)


def _ellipse(points: np.ndarray, **style: Any) -> Ellipse:
    """Return the ellipse of two standard deviations about the mean of points (n, 2)."""
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(np.cov(points.T, ddof=0))
    width, height = 4 * np.sqrt(np.clip(values, 0, None))
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(points.mean(axis=0), width, height, angle=angle, **style)


def _extent(points: np.ndarray) -> np.ndarray:
    """Return the lower left and upper right corner of that ellipse, shape (2, 2)."""
    mean, sd = points.mean(axis=0), points.std(axis=0)
    return np.stack([mean - 2 * sd, mean + 2 * sd])


def _limits(certain: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits, each (2,), that show all of ``certain`` and the views, unless they are far off."""
    low, high = certain.min(axis=0), certain.max(axis=0)
    reach = 0.5 * (high - low)
    if len(views):
        low, high = views.min(axis=0).clip(low - reach, low), views.max(axis=0).clip(high, high + reach)
    room = 0.08 * np.where(high > low, high - low, 1)
    return low - room, high + room
