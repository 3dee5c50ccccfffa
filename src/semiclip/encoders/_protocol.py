"""What encoders promise, and how they read the expression in an AnnData."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from semiclip import errors
from semiclip._arguments import check_number
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    import torch
    from anndata import AnnData

logger = logging.getLogger(__name__)

BLOCK_VALUES = 2**18  # of a matrix, that are looked at together


@runtime_checkable
class Encoder(Protocol):
    """Any object that embeds the observations of an AnnData."""

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return an embedding of shape (n_obs, d); ``adata`` is not changed."""
        ...


class EmbedsImages(Protocol):
    """Any object that embeds an array of images, such as :class:`semiclip.encoders.ImageEncoder`."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return an embedding of shape (n, d) of images of shape (n, channels, height, width)."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A fitted encoder with a network that a model can train further, or from scratch.

    In evaluation mode, ``build(architecture)`` with the weights maps ``features(adata)`` to ``encode(adata)``.
    """

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values that JSON can hold, of which :func:`semiclip.encoders.build` makes the network."""
        ...

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state dict of the network on the CPU, or ``None`` if the network starts from scratch."""
        ...

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what the network reads, a new float32 array (n_obs, n_input); ``adata`` is not changed."""
        ...


def check_fitted(encoder: object) -> None:
    """Refuse an encoder that knows no genes yet."""
    if not hasattr(encoder, "genes_"):
        raise errors.NotFitted("this encoder", "call .fit(adata) on the training data first")


def embedded(encoder: Encoder, adata: AnnData) -> np.ndarray:
    """Return the embedding by an encoder, which must be an array (n_obs, d)."""
    values = np.asarray(encoder.encode(adata))
    if values.ndim != 2 or len(values) != adata.n_obs or values.shape[1] == 0:
        raise errors.WrongShape("the embedding by the encoder", values.shape, f"({adata.n_obs}, d), a row per sample")
    return values


@contextmanager
def warned_once() -> Iterator[None]:
    """Let each kind of warning through a single time, for data that are embedded in blocks."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        repeats = record.msg in seen  # the words without what is filled in
        seen.add(record.msg)
        return not repeats

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


# ---- genes


def align(adata: AnnData, layer: str | None, genes: pd.Index, min_overlap: float = 0.8) -> Any:
    """Return ``X`` or a layer, dense or sparse, with the columns in the order of ``genes``.

    Genes that the data lack become columns of zeros, with a warning; a share ``min_overlap`` must be there.
    """
    values = counts(adata, layer)
    check_number("min_overlap", min_overlap, above=0, most=1)
    if adata.var_names.equals(genes):
        return values
    places = adata.var_names.get_indexer(genes)
    present = places >= 0
    if present.all():
        return values[:, places]
    where = f"genes of the encoder's {len(genes)} in var_names"
    check_overlap(present, genes, min_overlap, where, lambda: _suggest_names(adata.var_names, genes))
    logger.warning(
        "%d of the %d genes that the encoder was fitted on are not in var_names, so it fills them in: %s",
        (~present).sum(),
        len(genes),
        some(genes[~present]),
    )
    return _spread(values[:, places[present]], np.flatnonzero(present), len(genes))


def check_overlap(
    present: np.ndarray, genes: pd.Index, min_overlap: float, what: str, suggest: Callable[[], str]
) -> None:
    """Refuse data with less than a share of the genes, naming what is missing and what may mend it."""
    needed = max(1, math.ceil(min_overlap * len(genes) - 1e-9))  # 0.7 * 10 is a little more than 7
    if present.sum() < needed:
        missing = some(genes[~present]) or "all"
        raise errors.TooFew(what, int(present.sum()), needed, f"missing are {missing}; {suggest()}")


def _spread(values: Any, places: np.ndarray, n_genes: int) -> Any:
    """Put columns where they belong among columns of zeros."""
    if sparse.issparse(values):
        rows = values.tocsr()
        return type(rows)((rows.data, places[rows.indices], rows.indptr), shape=(rows.shape[0], n_genes))
    full = np.zeros((len(values), n_genes), dtype=values.dtype)
    full[:, places] = values
    return full


def _suggest_names(names: pd.Index, genes: pd.Index) -> str:
    """Say what may be wrong with the names of genes."""
    query, learned = (index.str.match(r"ENS[A-Z]*G\d{6}").mean() > 0.5 for index in (names, genes))
    if query != learned:
        ids, symbols = ("var_names", "the encoder's genes") if query else ("the encoder's genes", "var_names")
        return f"{ids} look like ENSEMBL ids and {symbols} do not: put the same kind of gene ids into adata.var_names"
    return (
        f"check that both are gene symbols, or both are ENSEMBL ids, written alike (var_names start with "
        f"{some(names[:3])}, the encoder's genes with {some(genes[:3])}), or fit the encoder on the genes that both "
        "data sets have"
    )


# ---- values


def counts(adata: AnnData, layer: str | None) -> Any:
    """Return ``X`` or a layer, which must be in memory."""
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        raise errors.Repeated("var_names", repeated, "call adata.var_names_make_unique() first")
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]  # where anndata 0.13 keeps X
        raise errors.MissingEntry(layer, names, "layers", "layer")
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise errors.Empty("values in X", "name the layer that holds the counts")
    if not isinstance(values, np.ndarray) and not sparse.issparse(values):
        raise errors.NotInMemory("X" if layer is None else f"layers[{layer!r}]")
    return values


def check_counts(
    values: Any,
    names: pd.Index,
    reason: str,
    is_wrong: Callable[[np.ndarray], np.ndarray],
    way_out: str = "name the layer that holds the counts",
) -> None:
    """Refuse values that are no counts, naming their rows."""
    if (rows := rows_where(values, is_wrong)).size:
        raise errors.NotCounts(names[rows].tolist(), reason, way_out)


def warn_unless_counts(values: Any, adata: AnnData | None = None, layer: str | None = None) -> None:
    """Warn if values that are taken for counts are not whole numbers, and so may be normalised already.

    Fractions are no error, since programs that estimate counts give them. ``adata`` and ``layer`` say where the values
    are, and which layers hold whole numbers instead.
    """
    if not anywhere(values, fractional):
        return
    where, layers = "expression", []
    if adata is not None:
        where = "X" if layer is None else f"layers[{layer!r}]"
        if layer is None and "log1p" in adata.uns:
            where = "X, which is logged by uns['log1p'],"
        layers = [f"layer={name!r}" for name in {None: 0, **adata.layers} if name != layer and _are_counts(adata, name)]
    logger.warning(
        "%s holds numbers that are not whole, but is scaled to 10,000 counts in each sample and logged; if it is "
        "normalised already, pass %s or normalize=False, or put counts in its place",
        where,
        f"{' or '.join(layers[:5])}, whole numbers," if layers else "the layer of the counts as layer=",
    )


def _are_counts(adata: AnnData, layer: str | None) -> bool:
    values = adata.X if layer is None else adata.layers[layer]
    in_memory = (isinstance(values, np.ndarray) or sparse.issparse(values)) and values.dtype.kind in "iuf"
    return in_memory and not anywhere(values, lambda x: fractional(x) | (x < 0))


def fractional(values: np.ndarray) -> np.ndarray:
    """Return which values are no whole numbers."""
    return values != np.round(values)


def rows_where(values: Any, is_wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the rows of a dense or sparse matrix that hold a wrong value."""
    wrong = np.zeros(values.shape[0], dtype=bool)
    for rows in _find_rows(values, is_wrong):
        wrong[rows] = True
    return np.flatnonzero(wrong)


def anywhere(values: Any, is_wrong: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return whether a dense or sparse matrix holds a wrong value; the search ends at the first."""
    return any(rows.size for rows in _find_rows(values, is_wrong))


def _find_rows(values: Any, is_wrong: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of wrong values, block by block, so that temporaries are small beside the matrix."""
    if sparse.issparse(values):
        values = values if values.format in ("csr", "csc") else values.tocsr()
        starts, by_row = values.indptr, values.format == "csr"
        for block in row_blocks(int(starts[-1]), BLOCK_VALUES):
            at = np.flatnonzero(is_wrong(values.data[block])) + block.start
            yield np.searchsorted(starts, at.astype(starts.dtype), "right") - 1 if by_row else values.indices[at]
        return
    values = np.asarray(values)
    for block in row_blocks(len(values), rows_at_once(BLOCK_VALUES, values.shape[1])):
        yield block.start + np.flatnonzero(is_wrong(values[block]).any(axis=1))


def dense(values: Any, *, copy: bool = False) -> np.ndarray:
    """Return a dense or sparse matrix as a dense float32 array, a new one if ``copy``."""
    with np.errstate(over="ignore"):  # whoever writes the array names the rows that float32 cannot hold
        if sparse.issparse(values):
            return values.astype(np.float32).toarray()
        return np.asarray(values).astype(np.float32, copy=copy)
