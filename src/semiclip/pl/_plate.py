"""Pictures of plates: what stands where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip.errors import Conflict, NotGiven, TooFewControls, TooMany, UnknownChoice
from semiclip.io._tables import read_well_positions
from semiclip.metrics import group_mean
from semiclip.pl import _style as style
from semiclip.pl._colouring import MISSING, colour_numbers, read_colouring
from semiclip.pl._names import measure_text
from semiclip.tl._maps import list_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))  # rows and columns, 6 to 1536 wells
MAX_PLATES = 12


@document
def plate(
    adata: AnnData,
    *,
    color: str | None = None,
    use_rep: str | None = None,
    well_key: str = "well",
    batch_key: str | None = None,
    batches: str | Sequence[str] | None = None,
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> Axes | np.ndarray:
    """Draw a column of ``obs``, or the distance from the controls, over the wells of the plates.

    A gradient, an edge or a stripe in what should be random is an effect of the position. How much of the retrieval it
    explains, :func:`semiclip.tl.position_baseline` says.

    Parameters
    ----------
    adata
        Observations, of which several may be of one well.
    color
        Column of ``obs``, or a gene of ``var_names``: numbers, of which a well shows the mean, or names, of which it
        shows the most frequent.
    use_rep
        In place of ``color``: key of ``obsm`` (or ``"X"``), for the Euclidean distance of each observation from the
        mean of the controls of its batch.
    well_key
        ``obs`` column of the wells, such as A01 or AF48.
    batch_key, batches
        ``obs`` column of the plates, a panel each, and those to draw, by default all, of which there may be 12. Without
        ``batch_key`` the plates are laid on top of each other: what stays is what they have in common.
    perturbation_key, control
        For ``use_rep``: column and label or labels of the controls. ``None`` takes all rows of a batch in their place.
    {drawing}

    Returns
    -------
    The axes; an array of them, one per plate, where there are several.

    Raises
    ------
    KeyError
        If a column or the representation is missing, or a mapping as ``palette`` lacks a name.
    TypeError, ValueError
        If neither or both of ``color`` and ``use_rep`` are given, a name of a well cannot be read, a batch has no
        control, or there are more than 12 plates or too few colours.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> adata.obs["well"] = [f"{'ABCDEFGH'[i % 8]}{i // 8 % 12 + 1:02}" for i in range(adata.n_obs)]
    >>> axes = scl.pl.plate(adata, color="pathway", batch_key="batch")
    >>> ax = scl.pl.plate(adata, use_rep="X_image", perturbation_key="perturbation", control="control")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H']
    """
    if color is None and use_rep is None:
        raise NotGiven("color", "name a column of obs, or pass use_rep= for the distance from the controls")
    if color is not None and use_rep is not None:
        raise Conflict("color", "use_rep", "pass one of them")
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    position = read_well_positions(check_adata(adata), well_key)
    codes, names = design.batches(adata)
    shown = np.arange(len(names))
    if batches is not None:
        wanted = list_names(batches, "batches")
        if absent := [name for name in wanted if name not in names]:
            raise UnknownChoice("batches", absent[0], names)
        shown = names.get_indexer(pd.Index(wanted, dtype=names.dtype))
    if len(shown) > MAX_PLATES:
        way_out = "name some with batches=, or lay all on top of each other with batch_key=None"
        raise TooMany("plates", len(shown), MAX_PLATES, way_out)
    if use_rep is None:
        colouring = read_colouring(adata, str(color), palette)
    else:
        distance = _measure_distances(read_representation(adata, use_rep), codes, design.reference(adata), names)
        colouring = colour_numbers(distance, f"Distance from the controls ({use_rep})", adata.obs_names)
    shape = next((size for size in FORMATS if (position.max(axis=0) < size).all()), FORMATS[-1])

    from matplotlib.colors import ListedColormap

    columns = min(len(shown), 3 if len(shown) > 4 else 2)
    rows = -(-len(shown) // columns)
    size = (0.3 + 3.4 * columns + 1.2, 0.4 + 2.4 * rows)
    axes = style.take_axes(
        ax, len(shown), size=size, columns=columns, panels=[str(names[code]) for code in shown.tolist()]
    )
    look = colouring.look
    for panel, code in zip(axes, shown.tolist(), strict=True):
        inside = codes == code
        shown_wells = _fill_wells(position[inside], colouring.values[inside], shape, named=bool(colouring.names))
        grid = np.full((2, *shape), np.nan)
        places = shown_wells.index.to_numpy()
        grid[0].flat[places] = 0  # the wells that have rows
        grid[1].flat[places] = shown_wells.where(shown_wells >= 0) if colouring.names else shown_wells
        panel.imshow(grid[0], cmap=ListedColormap([MISSING]), interpolation="nearest")
        drawn = panel.imshow(grid[1], interpolation="nearest", **look)
        if batch_key is not None:
            style.write_heading(panel, str(names[code]))
    colouring.explain(list(axes), drawn, marker="s", markersize=6)
    inches = np.min([style.measure_inches(panel) for panel in (axes[0], axes[-1])], axis=0)
    for panel in axes:
        _letter(panel, shape, inches)
    return axes[0] if len(shown) == 1 else axes


def _measure_distances(x: np.ndarray, codes: np.ndarray, reference: np.ndarray, names: pd.Index) -> np.ndarray:
    """Return the distance of each row from the mean of the reference rows of its batch."""
    counts = np.bincount(codes[reference], minlength=len(names))
    if not counts.all():
        raise TooFewControls({names[code]: 0 for code in np.flatnonzero(counts == 0).tolist()}, 1, int(counts.sum()))
    x = x.astype(np.float64)
    return np.linalg.norm(x - group_mean(x[reference], codes[reference], len(names))[codes], axis=1)


def _fill_wells(position: np.ndarray, values: np.ndarray, shape: tuple[int, int], *, named: bool) -> pd.Series:
    """Return the mean number or the most frequent code of each well that has a row."""
    well = np.ravel_multi_index(tuple(position.T), shape)
    groups: Any = pd.Series(values).groupby(well)
    filled: pd.Series = groups.agg(_find_commonest) if named else groups.mean()
    return filled


def _find_commonest(codes: pd.Series) -> Any:
    return codes.value_counts(sort=False).idxmax()


def _letter(ax: Axes, shape: tuple[int, int], inches: np.ndarray) -> None:
    """Name rows by letters and columns by numbers, as many as have room in so many inches of width and height."""
    for axis, n, room in ((ax.yaxis, shape[0], inches[1]), (ax.xaxis, shape[1], inches[0])):
        taken = 1.2 * 7 / 72 if axis is ax.yaxis else measure_text(f" {n} ", 7)
        step = max(-(-n // (12 if axis is ax.xaxis else 16)), int(np.ceil(taken * n / room)))
        places = np.arange(0, n, step)
        texts = [_write_row(int(i)) if axis is ax.yaxis else str(i + 1) for i in places]
        axis.set_ticks(places, texts, fontsize=7)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()


def _write_row(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else f"A{chr(ord('A') + i - 26)}"
