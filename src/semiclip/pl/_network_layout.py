"""Places the components of a graph on a page, each in a rectangle of its own, and names beside their nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import networkx as nx
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

FEW = 4
MARGIN = np.array([0.28, 0.16])  # inches beside a component, for names
# where a name may stand beside its node, in half widths and half heights; the first that is free is taken
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def place_nodes(graph: nx.Graph, page: Bbox, rng: int | np.random.Generator | None) -> dict[str, np.ndarray]:
    """Return the places of the nodes on a page in inches."""
    import networkx as nx

    generator = np.random.default_rng(rng)
    components = sorted(map(sorted, nx.connected_components(graph)), key=lambda names: (-len(names), names))
    places: dict[str, np.ndarray] = {}
    for names, box in zip(components, _divide(page, [len(names) for names in components]), strict=True):
        part = nx.Graph()  # a subgraph has its nodes in another order in each process
        part.add_nodes_from(names)
        part.add_edges_from(graph.edges(names))
        start = dict(zip(names, generator.uniform(-1, 1, (len(names), 2)), strict=True))
        layout = nx.kamada_kawai_layout(part, pos=start)
        points = _turn(np.array([layout[name] for name in names]), box)
        room = np.maximum(np.array(box.size) - 2 * MARGIN, 0.3 * np.array(box.size))
        scale = room / np.maximum(np.ptp(points, axis=0), 1e-9)
        # a large component fills its rectangle, while a small one keeps its shape
        points *= scale if len(names) > FEW else min(scale.min(), 0.5)
        places |= dict(zip(names, points + box.get_points().mean(axis=0), strict=True))
    return places


def _turn(points: np.ndarray, box: Bbox) -> np.ndarray:
    """Turn points so that they extend as their rectangle does, and centre them."""
    points = points - points.mean(axis=0)
    points = points @ np.linalg.svd(points, full_matrices=False)[2].T[:, :: 1 if box.width > box.height else -1]
    return points - (points.min(axis=0) + points.max(axis=0)) / 2


def _divide(box: Bbox, weights: Sequence[float]) -> list[Bbox]:
    """Halve a rectangle across its longer side until each weight has a share of the area (a treemap)."""
    if len(weights) == 1:
        return [box]
    shares = np.cumsum(weights[:-1]) / sum(weights)
    cut = int(abs(shares - 0.5).argmin())
    wide = box.width > box.height
    parts = box.splitx(shares[cut]) if wide else box.splity(1 - shares[cut])[::-1]  # from the upper left
    return _divide(parts[0], weights[: cut + 1]) + _divide(parts[1], weights[cut + 1 :])


def place_names(texts: Iterable[Text], points: np.ndarray, gap: float, page: Bbox) -> list[Text]:
    """Move names beside their nodes, clear of each other, of nodes and of the edge; return those without room.

    The names stand on their nodes at ``points``, whose radius is the ``gap``, all in inches.
    """
    from matplotlib.transforms import Bbox

    taken: list[Bbox] = []
    homeless = []
    for text in texts:
        size = np.array(text.get_window_extent().size) / text.figure.dpi
        for side in np.array(SIDES):
            centre = text.get_position() + side * (size / 2 + gap)
            box = Bbox([centre - size / 2, centre + size / 2])
            inside = page.count_contains(box.corners()) == 4
            if inside and not box.count_overlaps(taken) and not box.padded(0.4 * gap).count_contains(points):
                taken.append(box)
                text.set(position=centre, in_layout=False)
                break
        else:
            homeless.append(text)
    return homeless
