from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from semiclip._checks import some
from semiclip.encoders._protocol import align, counts, rows_where

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from sklearn.decomposition import PCA

TARGET_SUM = 1e4


class PCAEncoder:
    """Principal components of expression, through scikit-learn.

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    normalize
        Whether to scale each sample to 10,000 counts and take log1p first. Turn it off for values that are already
        normalised, such as L1000 z-scores.
    layer
        Layer that holds the values, ``X`` by default.
    rng
        Seed of the truncated solvers.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.encoders.PCAEncoder(n_components=10).fit(study.mdata["rna"])
    >>> encoder.encode(study.knockouts["rna"]).shape
    (312, 10)
    """

    def __init__(
        self,
        *,
        n_components: int = 50,
        normalize: bool = True,
        layer: str | None = None,
        rng: int | np.random.Generator | None = 0,
    ) -> None:
        self.n_components, self.normalize, self.layer, self.rng = n_components, normalize, layer, rng

    def fit(self, adata: AnnData) -> PCAEncoder:
        """Learn the components of ``adata``; returns the encoder itself."""
        values = expression(counts(adata, self.layer), adata.obs_names, normalize=self.normalize)
        most = most_components(values)
        if not 1 <= self.n_components <= most:
            size = f"{values.shape[0]} samples of {values.shape[1]} genes"
            msg = f"n_components={self.n_components}, but {size} have 1 to {most}"
            raise ValueError(msg)
        seed = int(np.random.default_rng(self.rng).integers(2**31))
        self.model_ = components(values, self.n_components, seed)
        self.genes_ = adata.var_names.copy()
        return self

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the components of each sample, float32 of shape (n_obs, n_components)."""
        if not hasattr(self, "model_"):
            msg = "this encoder is not fitted; call .fit(adata) on the training data first"
            raise RuntimeError(msg)
        values = expression(align(adata, self.layer, self.genes_), adata.obs_names, normalize=self.normalize)
        return self.model_.transform(values).astype(np.float32, copy=False)


def expression(values: Any, names: pd.Index, *, normalize: bool) -> Any:
    """Check expression, dense or sparse, and normalise it; messages name its rows."""
    from sklearn import preprocessing

    if (rows := rows_where(values, lambda x: ~np.isfinite(x))).size:
        msg = f"expression is NaN or infinite in {len(rows)} row(s): {some(names[rows])}; drop them first"
        raise ValueError(msg)
    if not normalize:
        return values
    if (rows := rows_where(values, lambda x: x < 0)).size:
        msg = (
            f"expression is negative in {len(rows)} row(s): {some(names[rows])}, so it is not counts; "
            "pass normalize=False if it is normalised already"
        )
        raise ValueError(msg)
    scaled = preprocessing.normalize(values, norm="l1", copy=True) * TARGET_SUM
    return scaled.log1p() if sparse.issparse(values) else np.log1p(scaled, out=scaled)


def most_components(values: Any) -> int:
    """Return how many principal components can be found; the solver for sparse values finds all but one."""
    return min(values.shape) - sparse.issparse(values)


def components(values: Any, n_components: int, seed: int) -> PCA:
    """Fit principal components to dense or sparse values."""
    from sklearn.decomposition import PCA

    solver = "arpack" if sparse.issparse(values) else "auto"
    return PCA(n_components, svd_solver=solver, random_state=seed).fit(values)
