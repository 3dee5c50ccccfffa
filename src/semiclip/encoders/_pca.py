from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from semiclip._checks import some
from semiclip.encoders._network import describe
from semiclip.encoders._protocol import align, check_fitted, counts, dense, rows_where

if TYPE_CHECKING:
    import pandas as pd
    import torch
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
        check_fitted(self)
        return self.model_.transform(self._expression(adata)).astype(np.float32, copy=False)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build the components as one linear map."""
        check_fitted(self)
        return describe(len(self.genes_), [], len(self.model_.components_), batch_norm=False, dropout=0.0)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the linear map: the components, and their values at the mean as a negative bias."""
        import torch

        check_fitted(self)
        components = self.model_.components_.astype(np.float64)  # the bias sums over all genes
        bias = -components @ self.model_.mean_
        return {"0.weight": torch.tensor(components).float(), "0.bias": torch.tensor(bias).float()}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what the components are of: normalised expression, float32 of shape (n_obs, n_genes)."""
        check_fitted(self)
        return dense(self._expression(adata), copy=not self.normalize)

    def _expression(self, adata: AnnData) -> Any:
        return expression(align(adata, self.layer, self.genes_), adata.obs_names, normalize=self.normalize)


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
