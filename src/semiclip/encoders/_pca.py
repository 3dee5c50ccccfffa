from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from semiclip._arguments import check_whole
from semiclip._messages import warn
from semiclip.encoders._expression import (
    TARGET_SUM,
    align_genes,
    densify,
    find_rows,
    normalize_expression,
    read_counts,
    read_expression,
)
from semiclip.encoders._files import Stored, check_arrays
from semiclip.encoders._network import describe
from semiclip.errors import BadValue, NotFitted, NoVariation

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from sklearn.decomposition import PCA

SPREADS = ("explained_variance_", "explained_variance_ratio_", "singular_values_", "noise_variance_")
LEARNED = ("components_", "mean_", *SPREADS)


@dataclass(eq=False, kw_only=True)
class PCAEncoder(Stored):
    """Principal components of expression, through scikit-learn.

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    normalize
        Whether to scale each sample to 10,000 counts and take log1p first. Turn it off to fit on values that are
        already normalised, such as L1000 z-scores; an encoder that was fitted on counts reads z-scores by
        ``encode(adata, zscores=True)``. Counts that are not whole numbers bring a warning.
    layer
        Layer that holds the values, ``X`` by default.
    rng
        Seed of the truncated solvers, which sparse and large data need.
    min_overlap
        Share of the encoder's genes that other data must have. Missing genes take their mean in training, with a
        warning. With ``normalize``, the other genes are scaled to the part of 10,000 counts that they had in training.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.encoders.PCAEncoder(n_components=10).fit(study.mdata["rna"])
    >>> encoder.encode(study.knockouts["rna"]).shape
    (312, 10)
    """

    LATER = frozenset({"sd_"})

    n_components: int = 50
    normalize: bool = True
    layer: str | None = None
    rng: int | np.random.Generator | None = None
    min_overlap: float = 0.8

    def fit(self, adata: AnnData) -> PCAEncoder:
        """Learn the components of ``adata`` and return the encoder itself."""
        raw, values = read_expression(self, adata, adata.var_names)
        most = count_components(values)
        if not 1 <= self.n_components <= most:
            size = f"{values.shape[0]} samples of {values.shape[1]} genes"
            raise BadValue("n_components", self.n_components, f"from 1 to {most}, as {size} have no more components")
        self.model_ = fit_pca(values, self.n_components, int(np.random.default_rng(self.rng).integers(2**31)))
        self.share_ = _mean_shares(raw) if self.normalize else np.zeros(adata.n_vars)
        self.sd_: np.ndarray | None = _deviations(values)
        self.genes_ = adata.var_names.copy()
        return self

    def encode(self, adata: AnnData, *, zscores: bool = False) -> np.ndarray:
        """Return the components of each sample, float32 of shape (n_obs, n_components).

        ``zscores`` says that values are z-scores of each gene, as L1000 has them: a value z then stands for the gene's
        mean in training plus z of its standard deviations there, and a missing gene for its mean.
        """
        self._check_fitted()
        if zscores:
            if self.sd_ is None:  # of an older file
                raise NotFitted("the standard deviation of genes", "fit the encoder and save it again")
            raw = align_genes(read_counts(adata, self.layer), adata.var_names, self.genes_, self.min_overlap)
            raw = normalize_expression(raw, adata.obs_names, normalize=False)
            if adata.n_obs and not find_rows(raw, lambda x: x < 0).size:
                warn("expression holds no negative value, so that it can hardly be z-scores: leave out zscores=True")
            return np.asarray(raw @ (self.model_.components_ * self.sd_).T).astype(np.float32)
        values, missing = self._read(adata)
        embedding = self.model_.transform(values)
        if missing.any():  # their mean is added here, so that sparse values stay sparse
            embedding += self.model_.mean_[missing] @ self.model_.components_[:, missing].T
        return embedding.astype(np.float32, copy=False)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build the components as one linear map."""
        self._check_fitted()
        return describe(len(self.genes_), [], len(self.model_.components_), batch_norm=False, dropout=0.0)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the linear map: the components, and their values at the mean as a negative bias."""
        import torch

        self._check_fitted()
        components = self.model_.components_.astype(np.float64)  # the bias sums over all genes
        bias = -components @ self.model_.mean_
        return {"0.weight": torch.tensor(components).float(), "0.bias": torch.tensor(bias).float()}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return normalised expression, which the components are made of, float32 of shape (n_obs, n_genes)."""
        self._check_fitted()
        values, missing = self._read(adata)
        values = densify(values, copy=not self.normalize)
        if missing.any():
            values[:, missing] = self.model_.mean_[missing]
        return values

    def _read(self, adata: AnnData) -> tuple[Any, np.ndarray]:
        """Return expression of the encoder's genes, and a mask of the genes that the data lack, which are zero."""
        missing = ~self.genes_.isin(adata.var_names)
        total = TARGET_SUM * float(self.share_[~missing].sum()) if missing.any() else TARGET_SUM
        return read_expression(self, adata, self.genes_, total)[1], missing

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {name: np.asarray(getattr(self.model_, name)) for name in LEARNED}
        later = {} if self.sd_ is None else {"sd_": self.sd_}
        return {"n_samples": int(self.model_.n_samples_)}, {**arrays, "share_": self.share_, **later}

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        from sklearn.decomposition import PCA

        n, d, n_samples = len(self.genes_), self.n_components, state["n_samples"]
        check_whole("n_samples", n_samples)
        shapes = dict.fromkeys(LEARNED, (d,)) | {"components_": (d, n), "mean_": (n,), "noise_variance_": ()}
        check_arrays(arrays, {**shapes, "share_": (n,), **({"sd_": (n,)} if "sd_" in arrays else {})})
        self.model_, self.share_ = PCA(d), arrays.pop("share_")
        self.sd_ = arrays.pop("sd_") if "sd_" in arrays else None
        vars(self.model_).update(arrays, n_components_=d, n_features_in_=n, n_samples_=n_samples)


def _mean_shares(values: Any) -> np.ndarray:
    """Return the mean share that each gene has of the counts of a sample."""
    totals = np.asarray(values.sum(axis=1), dtype=np.float64).ravel()
    weights = np.divide(1, totals, out=np.zeros_like(totals), where=totals > 0)
    shares = np.asarray(values.T @ weights).ravel()
    return shares / max(np.count_nonzero(totals), 1)


def _deviations(values: Any) -> np.ndarray:
    """Return the standard deviation of each gene, in double precision, without a dense copy."""
    from sklearn.preprocessing import StandardScaler

    return np.sqrt(StandardScaler(with_mean=False).fit(values).var_)


def count_components(values: Any) -> int:
    """Return how many principal components can be fitted; the solver for sparse values finds all but one."""
    return min(values.shape) - sparse.issparse(values)


def fit_pca(values: Any, n_components: int, seed: int) -> PCA:
    """Fit principal components to dense or sparse values."""
    from sklearn.decomposition import PCA

    most, least = values.max(axis=0), values.min(axis=0)
    if not (most != least).sum():  # of which the solver for sparse values says that its starting vector is zero
        way_out = "look at the counts, or name the layer that holds them"
        raise NoVariation(f"the values of {values.shape[0]} samples", way_out=way_out)
    solver = "arpack" if sparse.issparse(values) else "auto"
    model = PCA(n_components, svd_solver=solver, random_state=seed).fit(values)
    if model.components_.strides[0] < 0:  # arpack gives them in reverse, an order in memory that no file can keep
        model.components_ = model.components_.copy()
    return model
