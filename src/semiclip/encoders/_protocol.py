from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import torch
    from anndata import AnnData


@runtime_checkable
class Encoder(Protocol):
    """Anything that can embed the observations of an AnnData."""

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return an embedding of shape (n_obs, d); ``adata`` is not changed."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A fitted encoder whose network a model can build and train further, or from scratch.

    In evaluation mode, ``network(**architecture)`` with the weights maps ``features(adata)`` to ``encode(adata)``.
    """

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network`, as plain values that JSON can hold."""
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


def align(adata: AnnData, layer: str | None, genes: pd.Index) -> Any:
    """Return counts (``X`` or a layer, dense or sparse) with the columns in the order of ``genes``."""
    if missing := genes.difference(adata.var_names).tolist():
        msg = (
            f"{len(missing)} of the {len(genes)} genes that the encoder was fitted on are not in var_names: "
            f"{some(missing)}; fit it on the genes that both data sets have"
        )
        raise ValueError(msg)
    values = counts(adata, layer)
    return values if adata.var_names.equals(genes) else values[:, adata.var_names.get_indexer(genes)]


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
