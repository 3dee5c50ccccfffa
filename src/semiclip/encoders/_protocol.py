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


@contextmanager
def warned_once() -> Iterator[None]:
    """Let each warning of :func:`align` through a single time, for data that are embedded in blocks."""
    seen: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        known = (message := record.getMessage()) in seen
        seen.add(message)
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


def rows_where(values: Any, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the rows of a dense or sparse matrix that hold a value of which ``wrong`` is true."""
    if hasattr(values, "tocoo"):
        entries = values.tocoo()
        return np.unique(entries.coords[0][wrong(entries.data)])
    return np.flatnonzero(wrong(np.asarray(values)).any(axis=1))


def dense(values: Any, *, copy: bool = False) -> np.ndarray:
    """Return a dense or sparse matrix as a dense float32 array, a new one where ``copy``."""
    with np.errstate(over="ignore"):  # whoever writes the array names the rows that float32 cannot hold
        if sparse.issparse(values):
            return values.astype(np.float32).toarray()
        return np.asarray(values).astype(np.float32, copy=copy)
