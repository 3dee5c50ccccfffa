from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip.encoders._files import Stored, check_arrays
from semiclip.encoders._network import describe
from semiclip.encoders._pca import read_expression
from semiclip.encoders._protocol import check_fitted, dense
from semiclip.errors import NotFitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from anndata import AnnData


class MLPEncoder(Stored):
    """An scVI-like multilayer perceptron that a model trains from scratch, together with its adapter.

    The encoder knows which genes it reads and how, and has no weights of its own. :func:`semiclip.pp.encode` therefore
    cannot use it: :func:`semiclip.pp.expression` writes what it reads, and the trained model makes the embedding.

    Parameters
    ----------
    n_hidden
        Widths of the hidden layers.
    n_latent
        Dimensions of the embedding.
    batch_norm
        Whether hidden layers have batch normalisation.
    dropout
        Probability with which a hidden value is dropped in training.
    normalize
        Whether to scale each sample to 10,000 counts and take log1p first. Turn it off for values that are already
        normalised, such as L1000 z-scores. Counts that are not whole numbers bring a warning.
    layer
        Layer that holds the values, ``X`` by default.
    min_overlap
        Share of the encoder's genes that other data must have. Missing genes count as zero, with a warning.

    References
    ----------
    Bendidi et al., ICML 2025, Figure 1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.encoders.MLPEncoder(n_latent=8).fit(study.mdata["rna"])
    >>> encoder.architecture
    {'n_input': 40, 'n_hidden': [128], 'n_output': 8, 'batch_norm': True, 'dropout': 0.1}
    >>> encoder.features(study.knockouts["rna"]).shape
    (312, 40)
    """

    def __init__(
        self,
        *,
        n_hidden: Sequence[int] = (128,),
        n_latent: int = 64,
        batch_norm: bool = True,
        dropout: float = 0.1,
        normalize: bool = True,
        layer: str | None = None,
        min_overlap: float = 0.8,
    ) -> None:
        self.n_hidden, self.n_latent, self.batch_norm, self.dropout = n_hidden, n_latent, batch_norm, dropout
        self.normalize, self.layer, self.min_overlap = normalize, layer, min_overlap

    def fit(self, adata: AnnData) -> MLPEncoder:
        """Remember the genes of ``adata``, check its values and return the encoder itself."""
        read_expression(self, adata, adata.var_names)
        self._describe(adata.n_vars)
        self.genes_ = adata.var_names.copy()
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build the perceptron."""
        check_fitted(self)
        return self._describe(len(self.genes_))

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return ``None``, since a model draws the weights."""
        return None

    def features(self, adata: AnnData) -> np.ndarray:
        """Return normalised expression, which the perceptron reads, float32 of shape (n_obs, n_genes)."""
        check_fitted(self)
        return dense(read_expression(self, adata, self.genes_)[1], copy=not self.normalize)

    def encode(self, adata: AnnData) -> np.ndarray:
        """Raise a RuntimeError, since only a model that trained the perceptron can embed."""
        way_out = "pass the encoder on as scl.model.SemiClip(..., encoder=encoder) and embed with the trained model"
        raise NotFitted("the network of an MLPEncoder", way_out)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {}

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._describe(len(self.genes_))
        check_arrays(arrays, {})

    def _describe(self, n_genes: int) -> dict[str, Any]:
        return describe(n_genes, self.n_hidden, self.n_latent, batch_norm=self.batch_norm, dropout=self.dropout)
