from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    import torch
    from anndata import AnnData

logger = logging.getLogger(__name__)

BLOCK_VALUES = 2**18  # of a matrix, that are looked at together


@runtime_checkable
class Encoder(Protocol):
    """Anything that can embed the observations of an AnnData."""

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return an embedding of shape (n_obs, d); ``adata`` is not changed."""
        ...


class EmbedsImages(Protocol):
    """Anything that can embed an array of images, such as :class:`semiclip.encoders.ImageEncoder`."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return an embedding of shape (n, d) of images of shape (n, channels, height, width)."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A fitted encoder whose network a model can build and train further, or from scratch.

    In evaluation mode, ``build(architecture)`` with the weights maps ``features(adata)`` to ``encode(adata)``.
    """

    @property
    def architecture(self) -> dict[str, Any]:
        """What :func:`semiclip.encoders.build` makes the network of, as plain values that JSON can hold."""
        ...

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state dict of that network, on the CPU; ``None`` has it trained from scratch."""
        ...

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what the network reads, a new float32 array (n_obs, n_input); ``adata`` is not changed."""
        ...


def check_fitted(encoder: object) -> None:
    """Refuse an encoder that knows no genes yet."""
    if not hasattr(encoder, "genes_"):
        msg = "this encoder is not fitted; call .fit(adata) on the training data first"
        raise RuntimeError(msg)


def embedded(encoder: Encoder, adata: AnnData) -> np.ndarray:
    """Return what an encoder makes of the observations, which must be an array (n_obs, d)."""
    values = np.asarray(encoder.encode(adata))
    if values.ndim != 2 or len(values) != adata.n_obs or values.shape[1] == 0:
        msg = f"the encoder returned shape {values.shape} for {adata.n_obs} observations; (n_obs, d) is needed"
        raise ValueError(msg)
    return values


@contextmanager
def warned_once() -> Iterator[None]:
    """Let each kind of warning through a single time, for data that are embedded in blocks."""
    seen: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        known = record.msg in seen  # the words without what is filled in
        seen.add(record.msg)
        return not known

    logger.addFilter(new)
    try:
        yield
    finally:
        logger.removeFilter(new)


def align(adata: AnnData, layer: str | None, genes: pd.Index, min_overlap: float = 0.8) -> Any:
    """Return counts (``X`` or a layer, dense or sparse) with the columns in the order of ``genes``.

    Genes that the data lack become columns of zeros, with a warning, as long as the data have the share
    ``min_overlap`` of them.
    """
    values = counts(adata, layer)
    if not 0 < min_overlap <= 1:
        msg = f"min_overlap={min_overlap} is not a share of the encoder's genes, above 0 and at most 1"
        raise ValueError(msg)
    if adata.var_names.equals(genes):
        return values
    places = adata.var_names.get_indexer(genes)
    there = places >= 0
    if there.all():
        return values[:, places]
    if there.mean() < min_overlap:
        msg = (
            f"only {there.sum()} of the {len(genes)} genes that the encoder was fitted on ({there.mean():.1%}) are in "
            f"var_names, below min_overlap={min_overlap}; missing are {some(genes[~there])}. "
            f"{_advice(adata.var_names, genes)}"
        )
        raise ValueError(msg)
    logger.warning(
        "%d of the %d genes that the encoder was fitted on are not in var_names, so it fills them in: %s",
        (~there).sum(),
        len(genes),
        some(genes[~there]),
    )
    return _spread(values[:, places[there]], np.flatnonzero(there), len(genes))


def _spread(values: Any, places: np.ndarray, n_genes: int) -> Any:
    """Put columns where they belong among columns of zeros."""
    if sparse.issparse(values):
        rows = values.tocsr()
        return type(rows)((rows.data, places[rows.indices], rows.indptr), shape=(rows.shape[0], n_genes))
    full = np.zeros((len(values), n_genes), dtype=values.dtype)
    full[:, places] = values
    return full


def _advice(names: pd.Index, genes: pd.Index) -> str:
    """Say what may be wrong with the names of genes."""
    query, own = (index.str.match(r"ENS[A-Z]*G\d{6}").mean() > 0.5 for index in (names, genes))
    if query != own:
        ids, symbols = ("var_names", "the encoder's genes") if query else ("the encoder's genes", "var_names")
        return (
            f"{ids} look like ENSEMBL ids (ENSG…) and {symbols} do not: put the same kind of gene ids into "
            "adata.var_names, usually there is a column of adata.var that has them"
        )
    return (
        f"Check that both are gene symbols, or both are ENSEMBL ids, written alike (var_names start with "
        f"{some(names[:3])}, the encoder's genes with {some(genes[:3])}), or fit the encoder on the genes that both "
        "data sets have"
    )


def counts(adata: AnnData, layer: str | None) -> Any:
    """Return ``X`` or a layer."""
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        msg = f"var_names repeat: {some(repeated)}; call adata.var_names_make_unique() first"
        raise ValueError(msg)
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]  # where anndata 0.13 keeps X
        msg = f"layer={layer!r} is not in layers, which has {some(names) or 'nothing'}"
        raise KeyError(msg)
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        msg = "adata has no X to encode; name the layer that holds the counts"
        raise ValueError(msg)
    if not isinstance(values, np.ndarray) and not sparse.issparse(values):
        where = "X" if layer is None else f"layers[{layer!r}]"
        msg = f"{where} is not in memory; load it with adata = adata.to_memory()"
        raise TypeError(msg)
    return values


def warn_unless_counts(values: Any, adata: AnnData | None = None, layer: str | None = None) -> None:
    """Warn if values that are taken for counts are not whole numbers, and so may be normalised already.

    It is no error, since programs that estimate counts give fractions of them. ``adata`` and ``layer`` say where the
    values are, and where whole numbers may be instead.
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


def rows_where(values: Any, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the rows of a dense or sparse matrix that hold a value of which ``wrong`` is true."""
    found = np.zeros(values.shape[0], dtype=bool)
    for rows in _rows_where(values, wrong):
        found[rows] = True
    return np.flatnonzero(found)


def anywhere(values: Any, wrong: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return whether a dense or sparse matrix holds a value of which ``wrong`` is true; one that is found is enough."""
    return any(rows.size for rows in _rows_where(values, wrong))


def _rows_where(values: Any, wrong: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the rows of wrong values, block by block, so that what is held beside the matrix is small."""
    if sparse.issparse(values):
        values = values if values.format in ("csr", "csc") else values.tocsr()
        starts = values.indptr
        for start in range(0, starts[-1], BLOCK_VALUES):
            at = np.flatnonzero(wrong(values.data[start : min(start + BLOCK_VALUES, starts[-1])])) + start
            by_row = values.format == "csr"
            yield np.searchsorted(starts, at.astype(starts.dtype), "right") - 1 if by_row else values.indices[at]
        return
    values = np.asarray(values)
    step = max(1, BLOCK_VALUES // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        yield start + np.flatnonzero(wrong(values[start : start + step]).any(axis=1))


def dense(values: Any, *, copy: bool = False) -> np.ndarray:
    """Return a dense or sparse matrix as a dense float32 array, a new one where ``copy``."""
    with np.errstate(over="ignore"):  # whoever writes the array names the rows that float32 cannot hold
        if sparse.issparse(values):
            return values.astype(np.float32).toarray()
        return np.asarray(values).astype(np.float32, copy=copy)
