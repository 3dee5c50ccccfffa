from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some
from semiclip.pl._network_layout import place_labels, spread
from semiclip.pl._style import colours, inches, new_axes
from semiclip.pl._tables import filled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes

SEVERAL = "several"
GREY = "0.45"
HALO: dict[str, Any] = {"linewidth": 1.2, "foreground": "white"}  # keeps names legible on lines


def relationship_network(
    sets: pd.DataFrame,
    *,
    inside: str | Sequence[str] = (),
    outside: str | Sequence[str] = (),
    database: str | None = None,
    max_pairs: int = 150,
    rng: int | np.random.Generator | None = None,
    ax: Axes | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw the genes and annotated pairs of a region of the recalled sets as a network.

    Parameters
    ----------
    sets
        What :func:`semiclip.tl.relationship_sets` returns.
    inside
        Representation or representations that all recall the pairs to draw; without any, all annotated pairs are drawn.
    outside
        Representation or representations that recall none of them.
    database
        Draw only pairs of this database.
    max_pairs
        Number of pairs to draw at most. If there are more, the largest components that fit are drawn; if the largest
        has too many itself, its pairs in most databases. The title says how many of how many are shown.
    rng
        Seed or generator of the layout.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the databases, in their order in ``sets`` or by name. Pairs of several databases are grey.

    Returns
    -------
    The axes. A gene whose name would cover another one is a dot alone, and a note counts such genes.

    Raises
    ------
    TypeError
        If ``sets`` is not a DataFrame.
    KeyError
        If a column, a representation or the database is missing, or ``palette`` lacks a database.
    ValueError
        If the region has no pair, ``max_pairs`` is less than 1, there are too few colours, or as in
        :func:`semiclip.tl.region`.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> pairs = {"gene_a": ["A", "A", "C"], "gene_b": ["B", "C", "D"], "databases": ["CORUM", "CORUM;SIGNOR", "SIGNOR"]}
    >>> sets = pd.DataFrame(pairs | {"X_semiclip": [True, True, False]})
    >>> ax = scl.pl.relationship_network(sets, inside="X_semiclip")
    >>> print(ax.get_title())
    2 pairs (3 genes) in X_semiclip
    """
    import networkx as nx

    pairs, databases, where = _chosen(sets, inside, outside, database)
    if max_pairs < 1:
        msg = f"max_pairs={max_pairs}: draw at least one pair"
        raise ValueError(msg)
    shades = colours(databases, palette) | {SEVERAL: GREY}
    shown, how = _largest(pairs, max_pairs)
    graph = nx.Graph()
    graph.add_edges_from(zip(shown["gene_a"], shown["gene_b"], strict=True))

    ax = new_axes(size=(6.4, 5.6))[0] if ax is None else ax
    ax.set_axis_off()
    left_out = len(shown) < len(pairs)
    count = f"{len(shown):,} of {len(pairs):,}" if left_out else f"{len(pairs):,}"
    title = [f"{count} pair{'s' * (len(pairs) > 1)} ({len(graph):,} genes) {where}".rstrip(), how]
    letters = int(inches(ax)[0] / 0.075)
    ax.set_title("\n".join(fill(line, letters) for line in title if line), fontsize="small")
    of = shown["databases"].where(~shown["databases"].str.contains(";"), SEVERAL)
    shades = {name: shade for name, shade in shades.items() if (of == name).any()}
    _draw(ax, graph, shown.assign(of=of), shades, rng)
    return ax


def _chosen(
    sets: pd.DataFrame, inside: str | Sequence[str], outside: str | Sequence[str], database: str | None
) -> tuple[pd.DataFrame, list[str], str]:
    """Return the pairs to draw, all databases, and words that say which pairs these are."""
    from semiclip.tl._overlap import region
    from semiclip.tl._sets import read_sets

    filled(sets, ["gene_a", "gene_b", "databases"], "scl.tl.relationship_sets")
    read_sets(sets)
    if (nameless := sets["databases"].isna()).any():
        msg = (
            f"column 'databases' has no value in {nameless.sum()} row(s): {some(sets.index[nameless])}; drop them first"
        )
        raise ValueError(msg)
    databases = list(dict.fromkeys(name for names in sets["databases"].unique() for name in names.split(";")))
    if database is not None and database not in databases:
        msg = f"database={database!r} is not in sets, which has {some(databases)}"
        raise KeyError(msg)
    within, without = ([names] if isinstance(names, str) else list(names) for names in (inside, outside))
    pairs = region(sets, inside=within, outside=without) if within or without else sets
    where = [f"in {' and '.join(within)}"] * bool(within) + [f"not in {' or '.join(without)}"] * bool(without)
    if database is not None:
        pairs = pairs[[database in names.split(";") for names in pairs["databases"]]]
        where.append(f"of {database}")
    if pairs.empty:
        msg = f"there is no annotated pair {', '.join(where)}, so there is nothing to draw"
        raise ValueError(msg)
    return pairs, databases, ", ".join(where)


def _largest(pairs: pd.DataFrame, max_pairs: int) -> tuple[pd.DataFrame, str]:
    """Return the pairs that are drawn if there are too many, and the rule by which they are chosen."""
    import networkx as nx

    if len(pairs) <= max_pairs:
        return pairs, ""
    graph = nx.Graph()
    graph.add_edges_from(zip(pairs["gene_a"], pairs["gene_b"], strict=True))
    component = {gene: i for i, genes in enumerate(nx.connected_components(graph)) for gene in genes}
    part = pairs["gene_a"].map(component)
    sizes = part.value_counts()  # falling
    if sizes.iloc[0] > max_pairs:
        pairs = pairs[part == sizes.index[0]]
        busy = pairs["gene_a"].map(graph.degree) + pairs["gene_b"].map(graph.degree)
        order = np.lexsort((-busy, -pairs["databases"].str.count(";")))[:max_pairs]
        return pairs.iloc[np.sort(order)], "shown: of the largest component the pairs in most databases"
    kept, left = [], max_pairs
    for which, size in sizes.items():
        if size <= left:
            kept.append(which)
            left -= size
    return pairs[part.isin(kept)], "shown: the largest components that fit"


def _draw(ax: Axes, graph: nx.Graph, pairs: pd.DataFrame, shades: dict[str, str], rng: Any) -> None:
    """Draw in inches, so that names keep clear of each other."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    wide, high = inches(ax)
    ax.set(xlim=(0, wide), ylim=(0, high))
    columns = max(1, int(wide / 0.95))
    strip = 0.16 * (-(-len(shades) // columns)) + 0.2  # the legend and a line of small print
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in shades.items()]
    spacing = dict.fromkeys(("borderaxespad", "borderpad"), 0.0) | {"handlelength": 1.0, "columnspacing": 1.0}
    look: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 0.15 / high), "frameon": False, "fontsize": 7.5}
    ax.legend(handles=handles, ncols=columns, **look | spacing).set_in_layout(False)

    flat = spread(graph, rng, wide / (high - strip))
    names = list(flat)
    points = np.array([flat[name] for name in names])
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    room = np.sqrt(wide * high / len(names))  # inches per gene
    radius = float(np.clip(0.06 * room, 0.015, 0.04))
    margin = np.array([0.28, 0.16])
    points = margin + (points - low) / span * np.maximum([wide, high - strip] - 2 * margin, 0.2) + [0, strip]
    at = dict(zip(names, points, strict=True))
    for name, colour in shades.items():
        lines = [(at[a], at[b]) for a, b in pairs.loc[pairs["of"] == name, ["gene_a", "gene_b"]].to_numpy()]
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=1.3, label=name, zorder=1), autolim=False)
    ax.scatter(points[:, 0], points[:, 1], s=(2 * radius * 72) ** 2, color="0.2", linewidths=0, zorder=2)

    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": float(np.clip(14 * room, 5, 8))}
    texts = [ax.text(x, y, name, path_effects=[withStroke(**HALO)], **style) for name, (x, y) in at.items()]
    boxes = [text.get_window_extent() for text in texts]
    sizes = np.array([[box.width, box.height] for box in boxes]) / ax.figure.dpi
    order = sorted(range(len(names)), key=lambda i: (-graph.degree[names[i]], names[i]))
    places = place_labels(points - [0, strip], sizes, order, gap=radius, page=(wide, high - strip))
    for i, text in enumerate(texts):
        if i in places:
            text.set(position=places[i] + [0, strip], in_layout=False)
        else:
            text.remove()
    if nameless := len(names) - len(places):
        note = f"{nameless} of {len(names)} genes have no room for their name"
        ax.text(0, 0, note, va="bottom", color="0.35", fontsize=7).set_in_layout(False)
