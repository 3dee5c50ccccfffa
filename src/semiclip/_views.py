"""Reads augmented views of an embedding, which ``obsm`` holds side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.errors import MissingEntry, WrongShape

if TYPE_CHECKING:
    from anndata import AnnData


def split_views(adata: AnnData, key: str) -> np.ndarray:
    """Return the augmented views in ``obsm[key]`` as an array (n_obs, n_views, d), a view of the same memory."""
    if key not in adata.obsm:
        raise MissingEntry(key, adata.obsm, way_out="make it with scl.pp.augment")
    values: np.ndarray = np.asarray(adata.obsm[key])
    n_views = recorded_views(adata, key) or 1
    if values.ndim != 2 or values.shape[1] % n_views:
        raise WrongShape(f"obsm[{key!r}]", values.shape, f"(n_obs, {n_views} * d), {n_views} views side by side")
    return values.reshape(len(values), n_views, -1)


def recorded_views(adata: AnnData, key: str) -> int | None:
    """Return how many views ``obsm[key]`` is recorded to hold, or ``None`` if it is no augmented view."""
    entry: Any = adata.uns
    for name in ("semiclip", key, "params", "n_views"):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return None if entry is None else int(entry)
