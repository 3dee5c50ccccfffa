"""Panels of the picture of PEA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import OKABE_ITO, make_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.patches import Ellipse

    from semiclip.pl._pea_plane import Plane, Views

DIAMOND: dict[str, Any] = {"marker": "D", "facecolors": "none", "linewidths": 1.5, "zorder": 3}
ROUND: dict[str, Any] = {"marker": "o", "linestyle": "none"}


def draw_column(panels: np.ndarray, plane: Plane, drawn: Views, kept: Sequence[str]) -> dict[str, Any]:
    """Draw the two panels of a column and return what their colours and signs stand for."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("controls", (OKABE_ITO[4], "#00283F")).with_extremes(under="0")
    points = [drawn.values[drawn.kept == name] @ plane.axes for name in kept]
    frames = [
        np.concatenate([samples, *map(_measure_corners, pools)])
        for samples, pools in zip(plane.samples, plane.controls, strict=True)
    ]
    left, right = (corner[0] for corner in _choose_limits(np.concatenate(frames), np.concatenate(points)))
    marks: dict[str, Any] = {}
    for i, (panel, name) in enumerate(zip(panels, kept, strict=True)):
        if name not in drawn.share:
            continue
        pools, views = plane.controls[i], points[i]
        for pool in pools[:0:-1]:
            panel.add_patch(_make_ellipse(pool, fill=False, edgecolor="0.75", linewidth=0.8))
        panel.add_patch(_make_ellipse(pools[0], facecolor="0.9", edgecolor="0.45", linewidth=0.8))
        marks["controls (± 2 s.d.)"] = panel.scatter(*pools[0].T, s=7, color="0.5", linewidths=0)
        if len(pools) > 1:
            marks["those of other batches"] = make_mark(markersize=9, fillstyle="none", color="0.75", **ROUND)
        shade = {"c": drawn.n_controls[drawn.kept == name], "cmap": shades, "vmin": 2, "vmax": drawn.n_controls.max()}
        marks["views"] = panel.scatter(*views.T, s=16, linewidths=0, zorder=2, **shade)
        diamonds = panel.scatter(*plane.samples[i].T, s=42, edgecolors=OKABE_ITO[5], **DIAMOND)
        marks["the same steps, all controls"] = diamonds
        low, high = _choose_limits(frames[i], views)
        low[0], high[0] = left, right
        if n_far := ((views < low) | (views > high)).any(axis=1).sum():
            panel.text(0.98, 0.02, f"{n_far} beyond", transform=panel.transAxes, ha="right", color="0.35", size="small")
        panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return marks


def explain_panels(axes: np.ndarray, marks: dict[str, Any]) -> None:
    """Write the legend and the scale of the colours; mark panels without views."""
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
    marks["views"] = make_mark(markersize=4, color=OKABE_ITO[0], **ROUND)
    key = {"handles": marks.values(), "labels": marks.keys(), "frameon": False}
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.legend(**key, loc="outside lower center", ncols=4, fontsize="small")
    else:
        axes[0, 0].legend(**key, fontsize="x-small")


def _make_ellipse(points: np.ndarray, **style: Any) -> Ellipse:
    """Return the ellipse of two standard deviations about the mean of points (n, 2)."""
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(np.cov(points.T, ddof=0))
    width, height = 4 * np.sqrt(np.clip(values, 0, None))
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(points.mean(axis=0), width, height, angle=angle, **style)


def _measure_corners(points: np.ndarray) -> np.ndarray:
    """Return the lower left and upper right corner of that ellipse, shape (2, 2)."""
    mean, sd = points.mean(axis=0), points.std(axis=0)
    return np.stack([mean - 2 * sd, mean + 2 * sd])


def _choose_limits(certain: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits, each (2,), that show all of ``certain`` and the views, unless they are far off."""
    low, high = certain.min(axis=0), certain.max(axis=0)
    reach = 0.5 * (high - low)
    if len(views):
        low, high = views.min(axis=0).clip(low - reach, low), views.max(axis=0).clip(high, high + reach)
    room = 0.08 * np.where(high > low, high - low, 1)
    return low - room, high + room
