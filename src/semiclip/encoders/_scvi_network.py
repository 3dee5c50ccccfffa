"""What an encoder does with the network of a trained scVI: describe it, build it again, run it over counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from semiclip._numerics import row_blocks
from semiclip.encoders._expression import TARGET_SUM, check_counts, densify, is_fractional
from semiclip.encoders._files import check_arrays
from semiclip.encoders._network import describe
from semiclip.errors import Conflict, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import torch

BLOCK = 128  # samples at a time, as many as scvi-tools takes, so that the same seed gives the same draws
SIZES = ("n_input", "n_batch", "n_labels", "use_size_factor_key")  # what a network knows of the data it was set up with
DRAWS = 5000  # with which scvi-tools averages a latent space that is not normal
ROWS = 8  # of all these draws at a time


def check_raw_counts(values: Any, names: pd.Index) -> Any:
    """Return raw counts as scVI takes them, float32, dense or as a csr matrix."""
    reason, way_out = "negative, fractional or not finite", "name the layer of the counts, or use the PCA encoder"
    check_counts(values, names, reason, lambda x: ~np.isfinite(x) | (x < 0) | is_fractional(x), way_out)
    values = sparse.csr_matrix(values) if hasattr(values, "tocsr") else np.asarray(values)
    return values.astype(np.float32, copy=False)


def read_recipe(model: Any) -> dict[str, Any]:
    """Return the arguments that build the network of a model again, defaults included."""
    arguments, module = model.init_params_, model.module
    named = {name: value for name, value in arguments["non_kwargs"].items() if name not in ("adata", "registry")}
    further = {name: value for values in arguments["kwargs"].values() for name, value in values.items()}
    sizes = {name: getattr(module, name) for name in SIZES}
    return {**named, **further, **sizes, "use_size_factor_key": bool(module.use_size_factor_key)}


def build(recipe: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build the network of scVI with these weights, without a random number and without scvi-tools' pickles."""
    import torch
    from scvi.module import VAE

    library = np.zeros((1, recipe["n_batch"]))  # of the right shape; the weights have the values
    with torch.device("meta"):  # takes no memory until the weights are known to fit
        module = VAE(**recipe, library_log_means=library, library_log_vars=library)
    state = module.state_dict()
    check_arrays(arrays, {name: tuple(value.shape) for name, value in state.items()})
    tensors = {name: torch.as_tensor(arrays[name]).to(value.dtype) for name, value in state.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval()


def describe_encoder(module: Any) -> dict[str, Any]:
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
        raise Refused("the encoder of this scVI model cannot be trained further", options, way_out)
    widths = [block[0].out_features for block in blocks]
    dropout = next((layer.p for layer in layers if isinstance(layer, nn.Dropout)), 0.0)
    return describe(module.n_input, widths, module.n_latent, batch_norm=nn.BatchNorm1d in kinds, dropout=dropout)


def embed(module: Any, values: Any, batch: np.ndarray) -> np.ndarray:
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


def decode(module: Any, values: Any, batch: np.ndarray, *, noise: bool) -> np.ndarray:
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


def check_decodable(module: Any, *, noise: bool) -> None:
    """Refuse a network whose decoder needs more than counts."""
    if module.use_size_factor_key:
        raise Conflict("denoising", "a scVI model that was trained with size factors", "train a model without them")
    if noise and (module.gene_likelihood == "normal" or (module.dispersion == "gene-label" and module.n_labels > 1)):
        options = f"gene_likelihood={module.gene_likelihood!r} and dispersion={module.dispersion!r}"
        raise Conflict('mode="ppc"', options, 'counts cannot be drawn; pass mode="mean"')


def _read_blocks(values: Any, batch: np.ndarray) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
    """Yield samples, a few at a time, as scVI reads them."""
    import torch

    for rows in row_blocks(values.shape[0], BLOCK):
        x, codes = torch.as_tensor(densify(values[rows], copy=True)), torch.as_tensor(batch[rows, None])
        yield rows, {"X": x, "batch": codes, "labels": torch.zeros_like(codes)}
