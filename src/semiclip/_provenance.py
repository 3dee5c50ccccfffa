"""Writes results and the parameters that made them, in types that h5ad, h5mu and zarr can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData


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


def made_by(encoder: object) -> dict[str, str]:
    """Return what tells an encoder from others, to be recorded beside what it made; nothing if it does not tell."""
    fingerprint = getattr(encoder, "fingerprint", None)
    return {"fingerprint": fingerprint} if isinstance(fingerprint, str) else {}


def recorded_fingerprint(adata: AnnData, key: str) -> str | None:
    """Return the fingerprint of the encoder that made ``obsm[key]``, or ``None`` if nothing tells."""
    entry: Any = adata.uns
    for name in ("semiclip", key, "fingerprint"):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return str(entry) if isinstance(entry, str) else None
