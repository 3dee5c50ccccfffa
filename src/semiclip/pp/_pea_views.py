"""Views of an embedding that PEA draws, as columns that an AnnData and its files can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip.correction import PEA, augment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

STEPS = ("center", "scale", "whiten")
KEPT = ["+".join(step for bit, step in enumerate(STEPS) if code >> bit & 1) or "none" for code in range(8)]


def view_names(key: str, n_views: int) -> list[str]:
    """Return the keys of so many views: ``key`` for a single one, else numbered from 1."""
    return [key] if n_views == 1 else [f"{key}_{view}" for view in range(1, n_views + 1)]


def draw_views(
    x: np.ndarray, batch: np.ndarray, control: np.ndarray, names: Sequence[object], key: str, params: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Draw views: the embeddings for ``obsm``, steps and numbers of controls for ``obs``, parameters to repeat them."""
    rng = params["rng"]
    seed = int(rng if isinstance(rng, int | np.integer) else np.random.default_rng(rng).integers(2**63))
    how = {"n_views": params["n_views"], "fallback": params["fallback"]}
    views = augment(x, batch, control, pea=params["pea"], rng=seed, batch_names=names, **how)
    pea: Any = PEA.of(params["pea"])  # not None, which was refused just now
    possible = [KEPT[code] for code in np.unique(pea.table[0] @ (1, 2, 4))]
    results: dict[str, np.ndarray] = {}
    columns: dict[str, Any] = {}
    for name, values, steps, n_controls in zip(view_names(key, how["n_views"]), *views, strict=True):
        results[name] = values
        columns[f"{name}_steps"] = pd.Categorical(np.array(KEPT)[steps @ (1, 2, 4)], categories=possible)
        columns[f"{name}_controls"] = n_controls
    # None, which no file can hold, stands for no limit; a choice that is left to PEA is not written
    options = {name: np.inf if value is None else value for name, value in pea.params.items() if name != "bank_refresh"}
    if pea.bank_refresh is not None:
        options["bank_refresh"] = pea.bank_refresh
    return results, columns, {**params, "rng": seed, "pea": options}


def replace_views(adata: AnnData, key: str, columns: Mapping[str, Any]) -> None:
    """Write the columns of new views, none for a fixed correction; all views of an earlier run with this key go."""
    earlier = adata.uns.get("semiclip", {}).get(key, {}).get("params", {}).get("n_views", 0)
    names = view_names(key, int(earlier)) if earlier else []
    for name in names:
        adata.obsm.pop(name, None)
    old = [f"{name}_{what}" for name in names for what in ("steps", "controls")]
    if old or columns:  # in one go, since a table that grows column by column is slow
        kept = adata.obs.drop(columns=[*old, *columns], errors="ignore")
        adata.obs = pd.concat([kept, pd.DataFrame(columns, index=adata.obs.index)], axis=1)
