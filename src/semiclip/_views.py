"""Views of an embedding, augmented copies that lie side by side in one ``obsm`` entry."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from semiclip.errors import MissingEntry, WrongShape

WAY_OUT = "make views with scl.pp.augment, or with scl.pp.pea_correct(..., stochastic=True)"


def split_views(adata: AnnData, key: str, width: int | None = None) -> np.ndarray:
    """Return the views of ``obsm[key]`` one by one, shape (n_obs, n_views, d), without a copy.

    Parameters
    ----------
    adata
        What :func:`semiclip.pp.augment` or :func:`semiclip.pp.pea_correct` wrote to. The views lie side by side, so
        that ``obsm[key]`` has shape (n_obs, n_views · d) and view *i* is columns *i* · d to (*i* + 1) · d.
    key
        Key of the views in ``obsm``.
    width
        Dimensions d of the embedding. By default they follow from the number of views that ``uns`` has recorded, which
        :func:`anndata.concat` drops unless it is asked to keep ``uns``.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["image"]
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> scl.pp.pea_correct(images, **keys, stochastic=True, n_views=3)
    >>> images.obsm["X_image_pea"].shape, scl.pp.get_views(images, "X_image_pea").shape
    ((237, 384), (237, 3, 128))
    """
    if key not in adata.obsm:
        raise MissingEntry(key, adata.obsm, way_out=WAY_OUT)
    entry: Any = adata.uns
    for name in ("semiclip", key, "params", "n_views"):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    values, recorded = np.asarray(adata.obsm[key]), None if entry is None else int(entry)
    if width is None and recorded is None:
        raise MissingEntry("n_views", [], f"uns['semiclip'][{key!r}]['params']", way_out=WAY_OUT)
    n_columns = values.shape[-1]
    d = width or n_columns // (recorded or 1)
    n_views = recorded or n_columns // d
    if values.ndim != 2 or n_views == 0 or n_columns != n_views * d:
        raise WrongShape(f"obsm[{key!r}]", values.shape, f"(n_obs, n_views · {d}), whole views", WAY_OUT)
    return values.reshape(len(values), n_views, d)
