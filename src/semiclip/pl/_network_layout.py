"""Places the nodes of a graph and their labels on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx

FEW = 4
# where a label may stand beside its node, in half widths and half heights; the first that is free is taken
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def spread(graph: nx.Graph, rng: int | np.random.Generator | None, aspect: float) -> dict[str, np.ndarray]:
    """Place the components of a graph on a page of this width over height: the largest in a corner, rows around it."""
    import networkx as nx

    generator = np.random.default_rng(rng)
    parts = sorted(nx.connected_components(graph), key=lambda nodes: (-len(nodes), min(nodes)))
    sides = np.array([len(nodes) ** 0.55 + 0.6 for nodes in parts])
    places: dict[str, np.ndarray] = {}
    for nodes, side, corner in zip(parts, sides, _pack(sides, aspect), strict=True):
        part = graph.subgraph(sorted(nodes))
        start = dict(zip(part, generator.uniform(-1, 1, (len(part), 2)), strict=True))
        at = nx.kamada_kawai_layout(part, pos=start)
        points = np.array([at[node] for node in part])
        points = points - points.min(axis=0)
        extent = points.max(axis=0) if len(part) > FEW else points.max()  # a large part fills its square
        points = points / np.maximum(extent, 1e-9) * (side - 0.9)
        places |= dict(zip(part, corner + points + [0.45, -0.45 - points[:, 1].max()], strict=True))
    return places


def _pack(sides: np.ndarray, aspect: float) -> np.ndarray:
    """Return the upper left corners of squares, given from large to small, without overlaps."""
    width = max(sides[0], np.sqrt((sides**2).sum() * aspect))
    corners = np.zeros((len(sides), 2))
    left, low, row = sides[0], 0.0, 0.0
    for i, side in enumerate(sides[1:], start=1):
        if left + side > 1.02 * width:
            # rows beside the largest square, if they hold anything, then below it
            low = low - row if row and low - row > -sides[0] else min(low - row, -sides[0])
            left, row = (sides[0] if low > -sides[0] and sides[0] + side <= 1.02 * width else 0.0), 0.0
        corners[i] = left, low
        left, row = left + side, max(row, side)
    return corners


def place_labels(
    points: np.ndarray, sizes: np.ndarray, order: Sequence[int], *, gap: float, page: tuple[float, float]
) -> dict[int, np.ndarray]:
    """Return centres for the labels that fit beside their points without meeting another label or the edge of the page.

    ``points``, ``sizes`` (width and height of each label) and ``gap`` (radius of a point) are in inches.
    """
    placed: list[int] = []
    centres = np.empty_like(points)
    for i in order:
        for side in np.array(SIDES, dtype=float):
            centre = points[i] + side * (sizes[i] / 2 + gap)
            inside = (centre - sizes[i] / 2 >= 0).all() and (centre + sizes[i] / 2 <= page).all()
            others = abs(centres[placed] - centre) < (sizes[placed] + sizes[i]) / 2
            dots = abs(np.delete(points, i, axis=0) - centre) < sizes[i] / 2 + 0.4 * gap
            if inside and not others.all(axis=1).any() and not dots.all(axis=1).any():
                centres[i] = centre
                placed.append(i)
                break
    return {i: centres[i] for i in placed}
