from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy import sparse

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData


@runtime_checkable
class Encoder(Protocol):
    """Anything that can embed the observations of an AnnData."""

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return an embedding of shape (n_obs, d); ``adata`` is not changed."""
        ...


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
