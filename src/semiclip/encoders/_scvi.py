from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip._checks import column, some
from semiclip._seed import seeded
from semiclip.encoders._network import describe, network
from semiclip.encoders._protocol import align, check_fitted, counts, dense, rows_where

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

BATCH = "batch"


class SCVIEncoder:
    """The posterior mean of scVI's latent space, through scvi-tools.

    The decoder is told the batch, the encoder is not (``encode_covariates=False``): that removes batch effects in
    training and lets the encoder embed samples of batches it has never seen.

    Parameters
    ----------
    n_latent
        Dimensions of the embedding.
    batch_key
        ``obs`` column of the batches, for training only.
    layer
        Layer that holds the raw counts, ``X`` by default.
    max_epochs
        Training epochs; ``None`` is scvi-tools' rule, which depends on the number of samples.
    rng
        Seed of training.
    model_kwargs, train_kwargs
        Further arguments of :class:`scvi.model.SCVI` and its ``train``.

    References
    ----------
    Lopez et al. 2018, DOI 10.1038/s41592-018-0229-2.

    Examples
    --------
    >>> import semiclip as scl
    >>> counts = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
    >>> quiet = {"enable_progress_bar": False, "log_every_n_steps": 1}
    >>> encoder = scl.encoders.SCVIEncoder(n_latent=8, batch_key="batch", max_epochs=1, train_kwargs=quiet)
    >>> encoder.fit(counts).encode(counts).shape
    (252, 8)
    """

    def __init__(
        self,
        *,
        n_latent: int = 64,
        batch_key: str | None = None,
        layer: str | None = None,
        max_epochs: int | None = None,
        rng: int | np.random.Generator | None = 0,
        model_kwargs: dict[str, Any] | None = None,
        train_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.n_latent, self.batch_key, self.layer, self.max_epochs, self.rng = (
            n_latent,
            batch_key,
            layer,
            max_epochs,
            rng,
        )
        self.model_kwargs, self.train_kwargs = model_kwargs or {}, train_kwargs or {}

    def fit(self, adata: AnnData) -> SCVIEncoder:
        """Train scVI on the counts of ``adata``; returns the encoder itself."""
        from scvi.model import SCVI

        batch = None if self.batch_key is None else column(adata, self.batch_key, "batch_key").astype(str).to_numpy()
        private = _private(counts(adata, self.layer), adata, "all" if batch is None else batch)
        SCVI.setup_anndata(private, batch_key=BATCH)
        with seeded(self.rng):
            self.model_ = SCVI(private, n_latent=self.n_latent, **self.model_kwargs)
            # all samples in order: scvi-tools would hold some out unused, and draw them from a seed of its own
            split = {"train_size": 1.0, "shuffle_set_split": False}
            self.model_.train(self.max_epochs, **{**split, **self.train_kwargs})
        self.batch_, self.genes_ = private.obs[BATCH].iloc[0], adata.var_names.copy()
        return self

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the posterior mean of each sample, float32 of shape (n_obs, n_latent)."""
        check_fitted(self)
        private = _private(align(adata, self.layer, self.genes_), adata, self.batch_)
        # registered here, since scvi-tools would print a line about doing it
        self.model_._register_manager_for_instance(self.model_.adata_manager.transfer_fields(private))
        with seeded(0):  # scvi-tools draws from the posterior even where only its mean is asked for
            latent = self.model_.get_latent_representation(private)
        self.model_.deregister_manager()  # scvi-tools would keep the samples in memory
        return latent.astype(np.float32, copy=False)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build the encoder of scVI up to the posterior mean.

        Raises
        ------
        ValueError
            If ``model_kwargs`` asked for what that network does not have, such as ``use_layer_norm``.
        """
        check_fitted(self)
        return _architecture(self.model_.module)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the trained weights of scVI's encoder."""
        import torch

        architecture, encoder = self.architecture, self.model_.module.z_encoder
        with torch.device("meta"):  # for the names alone: nothing is drawn
            names = network(**architecture).state_dict()
        values = [*encoder.encoder.state_dict().values(), *encoder.mean_encoder.state_dict().values()]
        return {name: value.cpu().clone() for name, value in zip(names, values, strict=True)}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what scVI reads: log1p of the counts, float32 of shape (n_obs, n_genes)."""
        check_fitted(self)
        values = _private(align(adata, self.layer, self.genes_), adata, self.batch_).X
        return dense(values.log1p() if sparse.issparse(values) else np.log1p(values))


def _architecture(module: Any) -> dict[str, Any]:
    """Describe the encoder of a module of scVI, or refuse one that :func:`network` cannot be."""
    from torch import nn

    blocks = [[layer for layer in block if layer is not None] for block in module.z_encoder.encoder.fc_layers]
    layers = [layer for block in blocks for layer in block]
    kinds = {type(layer) for layer in layers}
    foreign = {
        "encode_covariates=True": module.encode_covariates,
        "log_variational=False": not module.log_variational,
        "latent_distribution='ln'": module.latent_distribution == "ln",
        "layer normalisation": nn.LayerNorm in kinds,
        "no ReLU": nn.ReLU not in kinds,
        "no bias": blocks[0][0].bias is None,
    }
    if found := [name for name, true in foreign.items() if true]:
        msg = (
            f"the encoder of this scVI model cannot be trained further, since it has {some(found)}; "
            "leave that out of model_kwargs and fit it again"
        )
        raise ValueError(msg)
    widths = [block[0].out_features for block in blocks]
    dropout = next((layer.p for layer in layers if isinstance(layer, nn.Dropout)), 0.0)
    return describe(module.n_input, widths, module.n_latent, batch_norm=nn.BatchNorm1d in kinds, dropout=dropout)


def _private(values: Any, adata: AnnData, batch: Any) -> AnnData:
    """Hold the counts in an object of our own, so that scvi-tools writes nothing into the user's."""
    from anndata import AnnData

    rows = rows_where(values, lambda x: ~np.isfinite(x) | (x < 0) | (x != np.round(x)))
    if rows.size:
        msg = (
            f"scVI models raw counts, but expression is negative, fractional or not finite in {len(rows)} row(s): "
            f"{some(adata.obs_names[rows])}; name the layer that holds the counts, or use the PCA encoder"
        )
        raise ValueError(msg)
    obs = pd.DataFrame({BATCH: pd.Categorical(np.broadcast_to(batch, adata.n_obs))}, index=adata.obs_names)
    # scvi-tools takes float32, dense or as a csr matrix
    values = sparse.csr_matrix(values) if hasattr(values, "tocsr") else np.asarray(values)
    return AnnData(values.astype(np.float32, copy=False), obs=obs)
