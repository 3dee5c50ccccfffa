"""Writes results and the parameters that made them, in types that h5ad, h5mu and zarr can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip.errors import Mismatch

if TYPE_CHECKING:
    from anndata import AnnData

CHECKED = 4096  # rows of an embedding of which a record keeps a sum
TOLERANCE = 0.01  # of the size of a row, so that half precision passes


def storable(value: Any) -> Any:
    """Turn a parameter into what the file formats hold: no tuple, no None, no object."""
    if isinstance(value, bool | int | float | str | np.ndarray | np.generic):
        return value
    if isinstance(value, dict):
        return {str(key).replace("/", "_"): storable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return type(value).__name__


def name_of(made: object, registry: Mapping[str, Any]) -> str:
    """Return the name under which an object's class is registered, or else the class's own."""
    return next((name for name, kind in registry.items() if type(made) is kind), type(made).__name__)


def record(adata: AnnData, key: str, params: Mapping[str, Any], **results: Any) -> None:
    """Keep ``params`` and ``results`` in ``uns["semiclip"][key]``, replacing an earlier run under the same key."""
    entry = {"params": storable(dict(params)), **results}
    adata.uns["semiclip"] = {**adata.uns.get("semiclip", {}), key: entry}


def made_by(encoder: object, adata: AnnData, key: str) -> dict[str, Any]:
    """Return which encoder made ``obsm[key]`` and sums of some rows, to be recorded; nothing if it does not tell."""
    fingerprint = getattr(encoder, "fingerprint", None)
    if not isinstance(fingerprint, str):
        return {}
    names = _hash_names(adata.obs_names)
    rows = np.argsort(names)[:CHECKED]
    return {"fingerprint": fingerprint, "rows": names[rows], "sums": _sum_rows(adata.obsm[key], rows)[0]}


def recorded_fingerprint(adata: AnnData, key: str) -> str | None:
    """Return the fingerprint of the encoder that made ``obsm[key]``, or ``None`` if nothing tells.

    A record that is older than the values is refused: ``scanpy.pp.pca`` writes to the key of the PCA encoder.
    """
    entry: Any = adata.uns
    for name in ("semiclip", key):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(entry.get("fingerprint"), str):
        return None
    if "rows" in entry:
        recorded = pd.Series(entry["sums"], index=entry["rows"])
        names = _hash_names(adata.obs_names)
        rows = np.flatnonzero(np.isin(names, entry["rows"]))  # those that are left, in whatever order
        sums, sizes = _sum_rows(adata.obsm[key], rows)
        changed = np.abs(sums - recorded.loc[names[rows]].to_numpy()) > TOLERANCE * sizes
        if changed.any():
            way_out = f"encode again, or del adata.uns['semiclip'][{key!r}] if it was changed on purpose"
            what = f"obsm[{key!r}] of {changed.sum()} of {changed.size} rows"
            raise Mismatch(what, "something else", "what the encoder in its record wrote", way_out)
    return str(entry["fingerprint"])


def _hash_names(names: pd.Index) -> np.ndarray:
    return pd.util.hash_array(names.to_numpy(dtype=object)).view(np.int64)


def _sum_rows(values: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of rows, in which all values and their signs count but not the order of columns, and their sizes."""
    chosen: Any = values.iloc[rows] if isinstance(values, pd.DataFrame) else values[rows]
    chosen = np.asarray(chosen.toarray() if sparse.issparse(chosen) else chosen, dtype=np.float64)
    return np.sort(chosen, axis=1) @ np.cos(np.arange(chosen.shape[1])), np.linalg.norm(chosen, axis=1)
