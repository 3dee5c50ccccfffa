from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip import errors
from semiclip._arguments import check_choice, read_whole
from semiclip._checks import read_column
from semiclip._messages import announce_loading, hush_lightning
from semiclip._numerics import row_blocks, single_precision
from semiclip._seed import seeded
from semiclip.encoders._expression import TARGET_SUM, align_genes, check_counts, densify, is_fractional, read_counts
from semiclip.encoders._files import Stored, check_arrays, read_names
from semiclip.encoders._network import describe, network
from semiclip.encoders._protocol import remembered_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from anndata import AnnData
    from scvi.model import SCVI

BATCH = "batch"
WHOLE = r"^(-?\d+)\.0$"  # a whole number in a column of floats, which a gap or a file makes of integers
COVARIATES = ("categorical_covariate_keys", "continuous_covariate_keys")
BLOCK = 128  # samples at a time, as many as scvi-tools takes, so that the same seed gives the same draws
SIZES = ("n_input", "n_batch", "n_labels", "use_size_factor_key")  # what a network knows of the data it was set up with
DRAWS = 5000  # with which scvi-tools averages a latent space that is not normal
ROWS = 8  # of all these draws at a time
Mode = Literal["mean", "ppc"]


@dataclass(eq=False, kw_only=True)
class SCVIEncoder(Stored):
    """The posterior mean of scVI's latent space, through scvi-tools.

    The decoder is told the batch and the encoder is not (``encode_covariates=False``), so that training removes batch
    effects and the encoder can embed samples of new batches.

    Parameters
    ----------
    n_latent
        Dimensions of the embedding.
    batch_key
        ``obs`` column of the batches, for training and :meth:`denoise` only.
    layer
        Layer that holds the raw counts, ``X`` by default.
    max_epochs
        Training epochs; ``None`` is scvi-tools' rule, which depends on the number of samples.
    rng
        Seed of training; ``None`` follows the state of torch.
    model_kwargs, train_kwargs
        Further arguments of :class:`scvi.model.SCVI` and its ``train``.
    min_overlap
        Share of the encoder's genes that other data must have. Missing genes count as zero, with a warning.

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
    >>> encoder.denoise(counts, rng=0)[:2].sum(axis=1).round().tolist()
    [10000.0, 10000.0]
    """

    n_latent: int = 64
    batch_key: str | None = None
    layer: str | None = None
    max_epochs: int | None = None
    rng: int | np.random.Generator | None = None
    model_kwargs: dict[str, Any] | None = None
    train_kwargs: dict[str, Any] | None = None
    min_overlap: float = 0.8

    def __post_init__(self) -> None:
        if self.max_epochs is not None:
            self.max_epochs = read_whole("max_epochs", self.max_epochs)
        self.model_kwargs, self.train_kwargs = self.model_kwargs or {}, self.train_kwargs or {}

    def fit(self, adata: AnnData) -> SCVIEncoder:
        """Train scVI on the counts of ``adata`` and return the encoder itself."""
        announce_loading()
        from anndata import AnnData
        from scvi.model import SCVI

        batch = (
            "all" if self.batch_key is None else read_column(adata, self.batch_key, "batch_key").astype(str).to_numpy()
        )
        values = self._counts(adata, adata.var_names)
        obs = pd.DataFrame({BATCH: pd.Categorical(np.broadcast_to(batch, adata.n_obs))}, index=adata.obs_names)
        private = AnnData(values, obs=obs)  # so that scvi-tools writes nothing into the user's
        SCVI.setup_anndata(private, batch_key=BATCH)
        with single_precision(), seeded(self.rng), hush_lightning():
            model = SCVI(private, n_latent=self.n_latent, **(self.model_kwargs or {}))
            # all samples in order: scvi-tools would hold some out unused, and draw them from a seed of its own
            model.train(self.max_epochs, **{"train_size": 1.0, "shuffle_set_split": False, **(self.train_kwargs or {})})
        self._take(model, model.module, adata.var_names.copy())
        model.deregister_manager(private)  # or scvi-tools would keep the counts for good
        return self

    @classmethod
    def from_model(cls, model: SCVI, *, min_overlap: float = 0.8) -> SCVIEncoder:
        """Return an encoder made of a model that scvi-tools has trained.

        The network is copied, so that training the model further changes nothing, and the model's data are not kept.

        Parameters
        ----------
        model
            A trained model without covariates besides the batch. If its encoder is told the batch
            (``encode_covariates=True``), it embeds samples of the model's own batches only.
        min_overlap
            Share of the encoder's genes that other data must have, as for the class.

        Examples
        --------
        >>> import scvi
        >>> import semiclip as scl
        >>> counts = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
        >>> scvi.model.SCVI.setup_anndata(counts, batch_key="batch")
        >>> model = scvi.model.SCVI(counts, n_latent=8)
        >>> model.train(1, enable_progress_bar=False, log_every_n_steps=1)
        >>> scl.encoders.SCVIEncoder.from_model(model).encode(counts).shape
        (252, 8)
        """
        from scvi.model import SCVI
        from scvi.module import VAE

        if not isinstance(model, SCVI) or type(model.module) not in (VAE, type(None)):
            raise errors.WrongType("model", type(model), "a scvi.model.SCVI")
        if model.module is None or not model.is_trained:
            raise errors.NotFitted("this scVI model", "call model.train() first")
        setup = model.registry["setup_args"]
        if covariates := [key for kind in COVARIATES for key in setup.get(kind) or []]:
            problem = "an encoder knows the batch alone, but this scVI model has further covariates"
            raise errors.Refused(problem, covariates, "train a model without them")
        recipe = _read_recipe(model)
        options = {name: recipe[name] for name in recipe if name not in ("n_latent", *SIZES)}
        keys = {"batch_key": setup.get("batch_key"), "layer": setup.get("layer")}
        encoder = cls(n_latent=recipe["n_latent"], model_kwargs=options, min_overlap=min_overlap, **keys)
        module = deepcopy(model.module).eval()
        module.minified_data_type = None  # the encoder is given counts, whatever the model kept
        encoder._take(model, module, pd.Index(model.get_var_names()))
        return encoder

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return the posterior mean of each sample, float32 of shape (n_obs, n_latent)."""
        self._check_fitted()
        batch = np.zeros(adata.n_obs, dtype=np.int64)
        if self.module_.encode_covariates:
            batch = self._batches(adata, "embed samples of these batches, or fit it with encode_covariates=False")
        with single_precision(), seeded(0):  # scVI draws from the posterior even where only its mean is asked for
            return _embed(self.module_, self._counts(adata, self.genes_), batch)

    def denoise(
        self, adata: AnnData, *, mode: Mode = "mean", rng: int | np.random.Generator | None = None
    ) -> np.ndarray:
        """Return the expression that scVI decodes from one posterior draw of each sample.

        Parameters
        ----------
        adata
            Counts of batches that scVI was trained on, in ``obs[batch_key]``.
        mode
            ``"mean"`` is the expected expression at the draw; ``"ppc"`` (posterior predictive) adds counting noise.
        rng
            Seed of the draws; ``None`` follows the state of torch.

        Returns
        -------
        Expression of the encoder's genes, float32 of shape (n_obs, n_genes). Each row is scaled to 10,000 counts, not
        logged; a row without any count drawn is zero.

        Raises
        ------
        ValueError
            If scVI was not trained on a batch, or its likelihood has no counts.
        """
        self._check_fitted()
        check_choice("mode", mode, Mode)
        module, noise = self.module_, mode == "ppc"
        if module.use_size_factor_key:
            problem = "a scVI model that was trained with size factors"
            raise errors.Conflict("denoising", problem, "train a model without them")
        by_label = module.dispersion == "gene-label" and module.n_labels > 1
        if noise and (module.gene_likelihood == "normal" or by_label):
            options = f"gene_likelihood={module.gene_likelihood!r} and dispersion={module.dispersion!r}"
            raise errors.Conflict('mode="ppc"', options, 'counts cannot be drawn; pass mode="mean"')
        batch, values = self._batches(adata, "denoise samples of these batches"), self._counts(adata, self.genes_)
        with single_precision(), seeded(rng):
            return _decode(module, values, batch, noise=noise)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build scVI's encoder; options it lacks are refused."""
        self._check_fitted()
        return _describe_encoder(self.module_)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the trained weights of scVI's encoder."""
        import torch

        architecture, encoder = self.architecture, self.module_.z_encoder
        with torch.device("meta"):  # for the names alone: nothing is drawn
            names = network(**architecture).state_dict()
        values = [*encoder.encoder.state_dict().values(), *encoder.mean_encoder.state_dict().values()]
        return {name: value.cpu().clone() for name, value in zip(names, values, strict=True)}

    def features(self, adata: AnnData) -> np.ndarray:
        """Return log1p of the counts, which scVI reads, float32 of shape (n_obs, n_genes)."""
        self._check_fitted()
        values = self._counts(adata, self.genes_)
        return densify(values.log1p() if sparse.issparse(values) else np.log1p(values))

    def _take(self, model: SCVI, module: Any, genes: pd.Index) -> None:
        state = model.registry["field_registries"]["batch"]["state_registry"]
        self.batches_ = pd.Index([str(name) for name in state["categorical_mapping"]])
        self.module_, self.recipe_, self.genes_ = module, _read_recipe(model), genes

    def _counts(self, adata: AnnData, genes: pd.Index) -> Any:
        """Return raw counts of genes as scVI takes them, float32, dense or as a csr matrix."""
        values = align_genes(read_counts(adata, self.layer), adata.var_names, genes, self.min_overlap)
        reason, way_out = "negative, fractional or not finite", "name the layer of the counts, or use the PCA encoder"
        check_counts(values, adata.obs_names, reason, lambda x: ~np.isfinite(x) | (x < 0) | is_fractional(x), way_out)
        values = sparse.csr_matrix(values) if sparse.issparse(values) else np.asarray(values)
        return values.astype(np.float32, copy=False)

    def _batches(self, adata: AnnData, way_out: str) -> np.ndarray:
        """Return the codes of the batches, all of which scVI must know."""
        if self.batch_key is None:
            return np.zeros(adata.n_obs, dtype=np.int64)
        with remembered_by(self):
            names = pd.Index(read_column(adata, self.batch_key, "batch_key").astype(str))
        codes = self.batches_.get_indexer(names)
        trained, present = (index.str.replace(WHOLE, r"\1", regex=True) for index in (self.batches_, names))
        if trained.is_unique:
            codes = np.where(codes < 0, trained.get_indexer(present), codes)
        if (codes < 0).any():
            unknown = names[codes < 0].unique().tolist()
            raise errors.UnknownChoice(f"obs[{self.batch_key!r}]", unknown, self.batches_, way_out)
        return codes.astype(np.int64)

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {name: value.cpu().numpy() for name, value in self.module_.state_dict().items()}
        return {"recipe": self.recipe_, "batches": self.batches_.tolist()}, arrays

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.recipe_, self.batches_ = state["recipe"], read_names(state["batches"], "batches")
        sizes = {"n_input": len(self.genes_), "n_batch": len(self.batches_), "n_latent": self.n_latent}
        for name, size in sizes.items():
            if self.recipe_[name] != size:
                raise errors.Mismatch(f"{name} of the network", self.recipe_[name], size)
        self.module_ = _build(self.recipe_, arrays)


def _read_recipe(model: Any) -> dict[str, Any]:
    """Return the arguments that build the network of a model again, defaults included."""
    arguments, module = model.init_params_, model.module
    named = {name: value for name, value in arguments["non_kwargs"].items() if name not in ("adata", "registry")}
    further = {name: value for values in arguments["kwargs"].values() for name, value in values.items()}
    sizes = {name: getattr(module, name) for name in SIZES}
    return {**named, **further, **sizes, "use_size_factor_key": bool(module.use_size_factor_key)}


def _build(recipe: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build the network of scVI with these weights, without a random number and without scvi-tools' pickles."""
    announce_loading()
    import torch
    from scvi.module import VAE

    library = np.zeros((1, recipe["n_batch"]))  # of the right shape; the weights have the values
    with single_precision(), torch.device("meta"):  # takes no memory until the weights are known to fit
        module = VAE(**recipe, library_log_means=library, library_log_vars=library)
    state = module.state_dict()
    check_arrays(arrays, {name: tuple(value.shape) for name, value in state.items()})
    tensors = {name: torch.as_tensor(arrays[name]).to(value.dtype) for name, value in state.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval()


def _describe_encoder(module: Any) -> dict[str, Any]:
    """Describe the encoder of scVI, or refuse one that :func:`semiclip.encoders.network` cannot build."""
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
    if options := [name for name, present in foreign.items() if present]:
        way_out = "leave these options out of model_kwargs and fit it again"
        raise errors.Refused("the encoder of this scVI model cannot be trained further", options, way_out)
    widths = [block[0].out_features for block in blocks]
    dropout = next((layer.p for layer in layers if isinstance(layer, nn.Dropout)), 0.0)
    return describe(module.n_input, widths, module.n_latent, batch_norm=nn.BatchNorm1d in kinds, dropout=dropout)


def _embed(module: Any, values: Any, batch: np.ndarray) -> np.ndarray:
    """Return the posterior mean of counts, float32 of shape (n, n_latent)."""
    import torch

    out = np.empty((values.shape[0], module.n_latent), dtype=np.float32)
    # a mean that is estimated takes the same draws for each sample, so that it does not depend on other samples
    noise = torch.randn(DRAWS, module.n_latent) if module.latent_distribution == "ln" else None
    with torch.inference_mode():
        for rows, tensors in _read_blocks(values, batch):
            posterior = module.inference(x=tensors["X"], batch_index=tensors["batch"])["qz"]
            mean = posterior.loc
            if noise is not None:
                noise = noise.to(mean.device)
                parts = zip(mean[:, None].split(ROWS), posterior.scale[:, None].split(ROWS), strict=True)
                mean = torch.cat([(loc + scale * noise).softmax(dim=-1).mean(dim=1) for loc, scale in parts])
            out[rows] = mean.cpu().numpy()
    return out


def _decode(module: Any, values: Any, batch: np.ndarray, *, noise: bool) -> np.ndarray:
    """Decode one posterior draw of each sample, float32 of shape (n, n_genes) with rows of 10,000 counts."""
    import torch

    out = np.empty(values.shape, dtype=np.float32)
    with torch.inference_mode():
        for rows, tensors in _read_blocks(values, batch):
            if noise:
                drawn = module.sample(tensors)
            else:
                drawn = module(tensors, compute_loss=False)[1]["px"].get_normalized("scale").cpu()
            total = drawn.sum(dim=1, keepdim=True, dtype=torch.float64)
            out[rows] = (drawn * (TARGET_SUM / total).where(total > 0, 0.0)).numpy()
    return out


def _read_blocks(values: Any, batch: np.ndarray) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
    """Yield samples, a few at a time, as scVI reads them."""
    import torch

    for rows in row_blocks(values.shape[0], BLOCK):
        x, codes = torch.as_tensor(densify(values[rows], copy=True)), torch.as_tensor(batch[rows, None])
        yield rows, {"X": x, "batch": codes, "labels": torch.zeros_like(codes)}
