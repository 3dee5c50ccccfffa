"""Pictures of a region of the recalled sets: its pairs as a network, and the gene sets of its genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_whole
from semiclip._docs import document
from semiclip.errors import Empty, MissingEntry, MissingValues, Refused
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names
from semiclip.pl._tables import check_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

LEVELS = (0.05, 0.01)
SEVERAL = "several"
LEGEND: dict[str, Any] = {"loc": "lower left", "frameon": False, "borderaxespad": 0.0, "borderpad": 0.0}
LEGEND |= {"handlelength": 1.8, "columnspacing": 0.8}
SAFE = 1.08  # letters are so much wider at another resolution
FEW = 4  # genes of a component that keeps its shape
MARGIN = np.array([0.28, 0.16])  # inches beside a component, for names
# where a name may stand beside its node, in half widths and half heights; the first that is free is taken
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


@document
def enrichment(table: pd.DataFrame, *, n_top: int = 10, adjusted: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the gene sets that are most enriched among the genes of a region (Table 3 of the paper).

    A dot stands at −log10 p. Its area is the number of genes of the region in the set, and that number is written
    beside the dot with the size of the set. Dashed lines are p = 0.05 and 0.01. Names that are too long lose their
    middle, and still differ.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.enrich` returns.
    n_top
        Number of gene sets to draw, those with the smallest p.
    adjusted
        Draw the p that is adjusted for the number of gene sets; ``False`` draws the raw one.
    ax
        Where to draw; by default a new figure.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = {"gene_set": ["Notch signalling", "Apoptosis"], "n_overlap": [6, 3], "n_set": [40, 55]}
    >>> ax = scl.pl.enrichment(pd.DataFrame(sets | {"p_value": [1e-4, 0.01], "p_adjusted": [0.001, 0.05]}))
    >>> [text.get_text() for text in ax.texts if "/" in text.get_text()]
    ['6/40', '3/55']
    """
    check_whole("n_top", n_top)
    check_table(table, ["gene_set"], "scl.tl.enrich", numbers=("n_overlap", "n_set", "p_value", "p_adjusted"))
    column = "p_adjusted" if adjusted else "p_value"
    if (wrong := ~table[column].between(0, 1)).any():
        raise Refused(f"column {column!r} is not between 0 and 1", table.loc[wrong, "gene_set"].tolist())
    top = table.sort_values(["p_adjusted", "p_value"], kind="stable").head(n_top)
    height = -np.log10(np.maximum(top[column].to_numpy(float), np.finfo(float).tiny)) + 0.0  # no minus zero

    names = [str(name).replace("_", " ") for name in top["gene_set"]]
    if len(set(names)) < len(set(top["gene_set"])):
        names = list(map(str, top["gene_set"]))
    ax = style.take_axes(ax, size=(5.8, 1.2 + 0.34 * len(top)))[0]
    of_all = f"\n{len(top)} of {len(table):,} gene sets" if len(top) < len(table) else ""
    ax.set_xlabel(f"−log₁₀ {'adjusted p' if adjusted else 'p'}{of_all}")
    wide, high = style.measure_inches(ax)
    rows = np.arange(len(top))
    line = float(np.clip(60 * high / len(top), style.LEAST, min(style.SMALL, max(style.LEAST, 2.2 * wide))))
    lines = 1 + (high / len(top) > 2.6 * line / 72)
    ax.set_yticks(rows, fit_names(names, max(0.6, 0.47 * wide), line, lines), fontsize=line)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for level, text, side in zip(LEVELS, ("p = 0.05 ", " 0.01"), ("right", "left"), strict=True):
        ax.axvline(-np.log10(level), **style.make_chance_look() | {"linewidth": 0.9, "zorder": 0})
        look: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": side, "va": "bottom", "fontsize": 7}
        ax.text(-np.log10(level), 1, text, color=style.tone(0.35), **look)
    ax.hlines(rows, 0, height, color=style.OKABE_ITO[0], linewidth=1.5)
    area = 90 * top["n_overlap"] / top["n_overlap"].max()
    ax.scatter(height, rows, s=np.maximum(area, 6), color=style.OKABE_ITO[0], zorder=3, clip_on=False)
    shares = [f"{n:,}/{of:,}" for n, of in zip(top["n_overlap"], top["n_set"], strict=True)]
    plain = {"facecolor": style.find_ground(), "edgecolor": "none", "pad": 0.5}  # hides the lines behind a text
    for row, at, share in zip(rows, height, shares, strict=True):
        style.add_note(ax, share, (at, row), (7, 0), va="center", fontsize=7, bbox=plain)
    end = max(height.max(), -np.log10(min(LEVELS)) + 0.15)
    margin = 0.065 * max(map(len, shares)) + 0.15  # inches
    ax.set_xlim(0, end / max(0.3, 1 - margin / style.measure_inches(ax)[0]))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


@document
def relationship_network(
    sets: pd.DataFrame,
    *,
    inside: str | Sequence[str] = (),
    outside: str | Sequence[str] = (),
    database: str | None = None,
    max_pairs: int = 150,
    rng: int | np.random.Generator | None = None,
    ax: Axes | None = None,
    palette: style.Palette = None,
) -> Axes:
    """Draw the genes and annotated pairs of a region of the recalled sets as a network.

    A gene whose name would cover another one is a dot alone, and a note counts such genes.

    Parameters
    ----------
    sets
        What :func:`semiclip.tl.relationship_sets` returns.
    inside, outside
        Representation or representations that all recall the pairs to draw, and that recall none of them; without any,
        all annotated pairs are drawn.
    database
        Draw only pairs of this database.
    max_pairs
        Number of pairs to draw at most. If there are more, the largest components that fit are drawn; if the largest
        has too many itself, its pairs in most databases. The title says how many of how many are shown.
    rng, ax
        Seed or generator of the layout, and where to draw; by default a new figure.
    palette
        Colours of the databases, in their order in ``sets`` or by name. Pairs of several databases are grey.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> pairs = {"gene_a": ["A", "A", "C"], "gene_b": ["B", "C", "D"], "databases": ["CORUM", "CORUM;SIGNOR", "SIGNOR"]}
    >>> sets = pd.DataFrame(pairs | {"X_semiclip": [True, True, False]})
    >>> print(scl.pl.relationship_network(sets, inside="X_semiclip").get_title())
    2 pairs (3 genes) in X_semiclip
    """
    check_whole("max_pairs", max_pairs)
    pairs, databases, where = _choose_pairs(sets, inside, outside, database)
    looks = style.pick_looks(databases, palette) | {SEVERAL: style.Look("0.45", "-", "o", None)}
    shown, rule = _keep_largest(pairs, max_pairs)

    ax = style.take_axes(ax, size=(6.4, 5.6))[0]
    ax.set_axis_off()
    n_genes = len(set(shown["gene_a"]) | set(shown["gene_b"]))
    count = f"{len(shown):,} of {len(pairs):,}" if rule else f"{len(pairs):,}"
    title = [f"{count} pair{'s' * (len(pairs) > 1)} ({n_genes:,} genes) {where}".rstrip(), rule]
    wide = style.measure_inches(ax)[0]
    ax.set_title("\n".join(fit_names([line], wide, 8.4, 4)[0] for line in title if line), fontsize="small")
    _draw(ax, shown, looks, rng)
    return ax


def _choose_pairs(
    sets: pd.DataFrame, inside: str | Sequence[str], outside: str | Sequence[str], database: str | None
) -> tuple[pd.DataFrame, list[str], str]:
    """Return the pairs to draw, all databases, and words that say which pairs these are."""
    from semiclip.tl import region
    from semiclip.tl._sets import read_sets

    check_table(sets, ["gene_a", "gene_b", "databases"], "scl.tl.relationship_sets")
    read_sets(sets)
    if (nameless := sets["databases"].isna()).any():
        raise MissingValues("column 'databases'", sets.index[nameless].tolist(), "drop them first")
    databases = list(dict.fromkeys(name for names in sets["databases"].unique() for name in names.split(";")))
    if database is not None and database not in databases:
        raise MissingEntry(database, databases, "sets", "database")
    within, without = ([names] if isinstance(names, str) else list(names) for names in (inside, outside))
    pairs = region(sets, inside=within, outside=without) if within or without else sets
    where = [f"in {' and '.join(within)}"] * bool(within) + [f"not in {' or '.join(without)}"] * bool(without)
    if database is not None:
        pairs = pairs[[database in names.split(";") for names in pairs["databases"]]]
        where.append(f"of {database}")
    if pairs.empty:
        raise Empty(f"annotated pairs {', '.join(where)} to draw")
    return pairs, databases, ", ".join(where)


def _keep_largest(pairs: pd.DataFrame, max_pairs: int) -> tuple[pd.DataFrame, str]:
    """Return the pairs that are drawn, and the rule by which they are chosen if there are too many."""
    import networkx as nx

    if len(pairs) <= max_pairs:
        return pairs, ""
    graph = nx.from_pandas_edgelist(pairs, "gene_a", "gene_b")
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


def _draw(ax: Axes, pairs: pd.DataFrame, looks: dict[str, style.Look], rng: int | np.random.Generator | None) -> None:
    """Draw in inches, so that names keep clear of each other."""
    import networkx as nx
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Bbox

    shown_as = pairs["databases"].where(~pairs["databases"].str.contains(";"), SEVERAL)
    looks = {name: look for name, look in looks.items() if (shown_as == name).any()}
    wide, high = style.measure_inches(ax)
    labels, columns, size, inches = style.arrange_legend(list(looks), wide, max(1, int(wide / 0.7)))
    strip = inches + 0.24  # the legend and a line of small print
    if strip > high / 4:
        style.grow(ax, height=strip - high / 4)
        wide, high = style.measure_inches(ax)
    ax.set(xlim=(0, wide), ylim=(0, high))
    handles = [style.make_mark(color=look.colour, linestyle=look.line, linewidth=2) for look in looks.values()]
    how = LEGEND | {"fontsize": size, "ncols": columns, "bbox_to_anchor": (0, 0.15 / high)}
    ax.legend(handles=handles, labels=labels, **how).set_in_layout(False)

    graph = nx.from_pandas_edgelist(pairs, "gene_a", "gene_b")
    page = Bbox([[0, strip], [wide, high]])
    places = _place_nodes(graph, page, rng)
    names = sorted(graph, key=lambda name: (-graph.degree[name], name))  # the first to find room
    points = np.array([places[name] for name in names])
    room = np.sqrt(wide * high / len(points))  # inches per gene
    radius = float(np.clip(0.06 * room, 0.015, 0.04))
    for name, look in looks.items():
        ends = pairs.loc[shown_as == name, ["gene_a", "gene_b"]].to_numpy()
        kind: dict[str, Any] = {"colors": look.colour, "linestyles": [look.line], "linewidths": 1.3, "label": name}
        lines = LineCollection([(places[a], places[b]) for a, b in ends], **kind)
        ax.add_collection(lines, autolim=False)
    ax.scatter(points[:, 0], points[:, 1], s=(2 * radius * 72) ** 2, color=style.tone(0.2), linewidths=0, zorder=2)
    if n_nameless := _write_names(ax, names, points, radius, page, float(np.clip(14 * room, 5, 8))):
        note = f"{n_nameless} of {len(names)} genes have no room for their name"
        ax.text(0, 0, note, va="bottom", color=style.tone(0.35), fontsize=7).set_in_layout(False)


def _place_nodes(graph: nx.Graph, page: Bbox, rng: int | np.random.Generator | None) -> dict[str, np.ndarray]:
    """Return the places of the nodes on a page in inches, each component in a rectangle of its own."""
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
        # turned, so that the points extend as their rectangle does
        points = np.array([layout[name] for name in names])
        points = points - points.mean(axis=0)
        points = points @ np.linalg.svd(points, full_matrices=False)[2].T[:, :: 1 if box.width > box.height else -1]
        points = points - (points.min(axis=0) + points.max(axis=0)) / 2
        room = np.maximum(np.array(box.size) - 2 * MARGIN, 0.3 * np.array(box.size))
        scale = room / np.maximum(np.ptp(points, axis=0), 1e-9)
        # a large component fills its rectangle, while a small one keeps its shape
        points *= scale if len(names) > FEW else min(scale.min(), 0.5)
        places |= dict(zip(names, points + box.get_points().mean(axis=0), strict=True))
    return places


def _divide(box: Bbox, weights: Sequence[float]) -> list[Bbox]:
    """Halve a rectangle across its longer side until each weight has a share of the area (a treemap)."""
    if len(weights) == 1:
        return [box]
    shares = np.cumsum(weights[:-1]) / sum(weights)
    cut = int(abs(shares - 0.5).argmin())
    wide = box.width > box.height
    parts = box.splitx(shares[cut]) if wide else box.splity(1 - shares[cut])[::-1]  # from the upper left
    return _divide(parts[0], weights[: cut + 1]) + _divide(parts[1], weights[cut + 1 :])


def _write_names(ax: Axes, names: Sequence[str], points: np.ndarray, gap: float, page: Bbox, fontsize: float) -> int:
    """Write names clear of each other, of nodes and of the edge; return how many nodes have no room for theirs."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": fontsize}
    look["path_effects"] = [withStroke(linewidth=1.2, foreground=style.find_ground())]  # keeps names legible on lines
    taken: list[Bbox] = []
    for name, point in zip(names, points, strict=True):
        text = ax.text(point[0], point[1], name, **look)
        size = SAFE * np.array(text.get_window_extent().size) / ax.figure.dpi
        for side in np.array(SIDES):
            centre = point + side * (size / 2 + gap)
            box = Bbox([centre - size / 2, centre + size / 2])
            inside = page.count_contains(box.corners()) == 4
            if inside and not box.count_overlaps(taken) and not box.padded(0.4 * gap).count_contains(points):
                taken.append(box)
                text.set(position=centre, in_layout=False)
                break
        else:
            text.remove()
    return len(names) - len(taken)
