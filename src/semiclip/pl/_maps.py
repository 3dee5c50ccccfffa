"""Maps of embeddings: points in two dimensions, and the cosines of perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from semiclip._arguments import check_choice, check_whole
from semiclip._checks import check_adata, read_column, read_representation
from semiclip._docs import document
from semiclip.errors import MissingExtra, Repeated, TooFew, TooMany, UnknownChoice, WrongShape
from semiclip.metrics import _map
from semiclip.metrics._matrices import normalise
from semiclip.pl import _style as style
from semiclip.pl._beside import add_scale, name_cells
from semiclip.pl._colouring import MISSING, Colouring, read_colouring
from semiclip.tl._maps import list_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

Layout = Literal["umap", "pca"]
MAX_NAMES = 120  # rows of a heatmap whose names can be read
RASTER = 5000  # points from which on a vector file would be slow to open


@document
def embedding(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    color: str | None = None,
    layout: Layout | None = "umap",
    n_neighbors: int = 15,
    rng: int | np.random.Generator | None = 0,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> Axes | np.ndarray:
    """Draw representations side by side as points in two dimensions, with the same colours.

    Nothing is written to ``adata``. To keep a layout, or for what scanpy draws beside it, take
    :func:`scanpy.pp.neighbors` with ``use_rep``, :func:`scanpy.tl.umap` and :func:`scanpy.pl.embedding`, which this
    function calls for its layout.

    Parameters
    ----------
    adata
        Observations, or one row for each perturbation as of :func:`semiclip.tl.aggregate`.
    {representations}
        A panel each.
    color
        Column of ``obs``, or a gene of ``var_names``. Numbers take a scale, all else names, which keep the colours that
        scanpy keeps in ``uns``. Grey has no value.
    layout
        ``"umap"`` of a graph of cosines, by scanpy, which must be installed; ``"pca"``, the first two principal
        components; or ``None``, the first two dimensions as they are. Distances between far points of a UMAP mean
        nothing.
    n_neighbors, rng
        Neighbours of each point in the graph, and seed or generator of the UMAP.
    {drawing}

    Returns
    -------
    The axes; an array of them, one per representation, where there are several.

    Raises
    ------
    KeyError
        If the column or a representation is missing, or a mapping as ``palette`` lacks a name.
    ValueError
        If there are fewer than three rows, or four for a UMAP, no row has a value in ``color``, or colours are too few.
    ImportError
        If scanpy is not installed.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> adata = study.knockouts["image"]
    >>> axes = scl.pl.embedding(adata, use_rep=["X", "X_image"], color="pathway", layout="pca")
    >>> [ax.get_title() for ax in axes]
    ['X', 'X_image']
    """
    names = list_names(use_rep)
    if layout is not None:
        check_choice("layout", layout, Layout)
    check_whole("n_neighbors", n_neighbors, 2)
    if check_adata(adata).n_obs < (least := 4 if layout == "umap" else 3):
        raise TooFew("rows", adata.n_obs, least)
    arrays = {name: read_representation(adata, name) for name in names}
    for name, x in arrays.items():
        if x.shape[1] < 2:
            raise WrongShape(name, x.shape, "two dimensions or more for a picture")
    colouring = None if color is None else read_colouring(adata, color, palette)
    seed = int(np.random.default_rng(rng).integers(2**31))
    points = {name: _lay_out(x, layout, n_neighbors, seed) for name, x in arrays.items()}

    axes = style.take_axes(ax, len(names), size=(0.4 + 3.2 * len(names) + 1.4 * (color is not None), 3.3), panels=names)
    look: dict[str, Any] = {
        "s": np.clip(12_000 / adata.n_obs, 2, 30),
        "linewidths": 0,
        "rasterized": adata.n_obs > RASTER,
    }
    for panel, (name, at) in zip(axes, points.items(), strict=True):
        drawn = _scatter(panel, at, colouring, look)
        panel.set(xticks=[], yticks=[], box_aspect=1)
        style.write_heading(panel, name)
        panel.spines[["top", "right"]].set_visible(False)
    labels = {"umap": "UMAP", "pca": "PC", None: "dimension "}
    for panel in axes:
        panel.set(xlabel=f"{labels[layout]}1", ylabel=f"{labels[layout]}2")
    if colouring is not None:
        colouring.explain(list(axes), drawn, marker="o", markersize=6)
    return axes[0] if len(names) == 1 else axes


def _lay_out(x: np.ndarray, layout: Layout | None, n_neighbors: int, seed: int) -> np.ndarray:
    """Return two coordinates of each row."""
    if layout is None:
        return x[:, :2]
    if layout == "pca":
        from sklearn.decomposition import PCA

        return PCA(2, svd_solver="covariance_eigh" if x.shape[1] <= 1000 else "full").fit_transform(x)
    try:
        import scanpy as sc
    except ImportError as error:
        raise MissingExtra("scanpy", "layout='umap'") from error
    from anndata import AnnData

    graph = AnnData(obsm={"X": x})
    sc.pp.neighbors(graph, min(n_neighbors, len(x) - 1), use_rep="X", metric="cosine", random_state=seed)
    sc.tl.umap(graph, random_state=seed)
    return graph.obsm["X_umap"]


def _scatter(ax: Axes, at: np.ndarray, colouring: Colouring | None, look: Any) -> Any:
    """Draw points in a random order that is always the same, over those without a value."""
    order = np.random.default_rng(0).permutation(len(at))
    if colouring is None:
        return ax.scatter(at[order, 0], at[order, 1], color=style.OKABE_ITO[0], **look)
    ax.scatter(at[colouring.absent, 0], at[colouring.absent, 1], color=MISSING, **look)
    order = order[~colouring.absent[order]]
    return ax.scatter(at[order, 0], at[order, 1], c=colouring.values[order], **colouring.look, **look)


@document
def heatmap(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    perturbations: Sequence[str] | None = None,
    relationships: pd.DataFrame | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Axes | np.ndarray:
    """Draw the cosines of chosen perturbations with each other, and mark the pairs that are known to be related.

    All panels have the order of the last representation, in which like perturbations stand side by side (average
    linkage of 1 − cosine, optimal order of leaves).

    Parameters
    ----------
    adata
        One row for each perturbation, as :func:`semiclip.tl.aggregate` returns.
    {representations}
        A panel each.
    perturbation_key
        ``obs`` column of the perturbations.
    perturbations
        Those to draw; by default all, of which there may be 120.
    relationships
        Annotated pairs to mark by a dot: columns ``gene_a``, ``gene_b`` and, optionally, ``database``, as of
        :func:`semiclip.datasets.relationships`. By default nothing is marked.
    ax
        Where to draw, one axes per panel; by default a new figure. Axes with less than 6 points for a row name only
        every second, third or further row.

    Returns
    -------
    The axes; an array of them, one per representation, where there are several.

    Raises
    ------
    KeyError
        If the column or a representation is missing.
    ValueError
        If a perturbation has several rows or is not there, fewer than two or more than 120 are drawn, or no known pair
        is among them.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> columns = {"use_rep": "X_image", "perturbation_key": "perturbation"}
    >>> genes = scl.tl.aggregate(study.knockouts["image"], control="control", **columns)
    >>> ax = scl.pl.heatmap(genes, **columns, relationships=study.relationships)
    >>> [label.get_text() for label in ax.get_yticklabels()[:4]]  # of one pathway
    ['gene_14', 'gene_20', 'gene_02', 'gene_08']
    """
    names = list_names(use_rep)
    labels = pd.Index(read_column(check_adata(adata), perturbation_key, "perturbation_key"))
    if labels.has_duplicates:
        way_out = "average their rows with scl.tl.aggregate first"
        raise Repeated("perturbations", labels[labels.duplicated()].unique(), way_out)
    rows = np.arange(len(labels))
    if perturbations is not None:
        wanted = list_names(perturbations, "perturbations")
        if absent := [name for name in wanted if name not in labels]:
            raise UnknownChoice("perturbations", absent[0], labels)
        rows = labels.get_indexer(pd.Index(wanted, dtype=labels.dtype))
    if len(rows) < 2:
        raise TooFew("perturbations", len(rows), 2)
    if len(rows) > MAX_NAMES:
        raise TooMany("perturbations", len(rows), MAX_NAMES, "name some of them with perturbations=")
    cosines = {}
    for name in names:
        unit = normalise(read_representation(adata, name)[rows].astype(np.float64))
        cosines[name] = np.clip(unit @ unit.T, -1, 1)
    order = _cluster(cosines[names[-1]])
    shown = labels[rows[order]]
    pairs = None if relationships is None else _map.read_pairs(relationships, shown)[2:]

    inches = max(1.6, 0.15 * len(shown))
    axes = style.take_axes(ax, len(names), size=(1.4 + (inches + 0.3) * len(names), inches + 0.9), panels=names)
    for panel, name in zip(axes, names, strict=True):
        scale = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
        drawn = panel.imshow(cosines[name][np.ix_(order, order)], **scale)
        if pairs is not None:
            a, b = np.concatenate([pairs, pairs[::-1]], axis=1)
            panel.scatter(a, b, s=6, color="black", linewidths=0)
        style.write_heading(panel, name)
    add_scale(axes.tolist(), drawn, "Cosine" if pairs is None else "Cosine (• known pair)")
    name_cells(axes.tolist(), [str(label) for label in shown])
    return axes[0] if len(names) == 1 else axes


def _cluster(cosine: np.ndarray) -> np.ndarray:
    """Return the order in which like rows stand side by side."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(cosine) == 2:
        return np.arange(2)
    distance = (1 - cosine)[np.triu_indices(len(cosine), 1)]
    return leaves_list(linkage(np.maximum(distance, 0), "average", optimal_ordering=True))
