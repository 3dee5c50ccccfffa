"""The way from genes to a representation, as one map that torch follows back to the genes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from semiclip._design import STUDENT
from semiclip._numerics import single_precision
from semiclip.correction._steps import Affine
from semiclip.encoders import Trainable, build
from semiclip.encoders._protocol import remembered_by
from semiclip.errors import Mismatch, MissingExtra, NotFitted, Refused, WrongType
from semiclip.errors._base import remembered
from semiclip.tl._maps import fit_chains

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from anndata import AnnData

    from semiclip._design import Design
    from semiclip.correction import Fallback
    from semiclip.model import SemiClip

LINEAR = (nn.Linear, nn.Identity, nn.Dropout, nn.BatchNorm1d, nn.Sequential)  # in evaluation mode


class Adapted(nn.Module):
    """What a trained model makes of the student's rows: the distilled part, and beside it the student's own."""

    def __init__(self, network: nn.Module, input_scale: float, scales: tuple[float, float]) -> None:
        super().__init__()
        self.network, self.input_scale, self.scales = network, input_scale, scales

    def forward(self, seen: Tensor) -> Tensor:
        """Embed rows (n, n_input) as :meth:`semiclip.model.SemiClip.get_latent_representation` does."""
        distilled, own = self.scales
        parts = [distilled * self.network(seen * self.input_scale)] if distilled else []
        return torch.cat([*parts, own * seen] if own else parts, dim=1)


@dataclass(frozen=True)
class GeneMap:
    """Expression (n, genes) → first layer, which is linear → before → correction of each batch → after, in float64."""

    genes: pd.Index
    read: Callable[[AnnData], np.ndarray]
    """Return the expression that is mapped, shape (n_obs, n_genes)."""
    first: nn.Linear | None
    before: nn.Module
    chains: dict[int, Affine] | None
    after: nn.Module

    @property
    def is_linear(self) -> bool:
        """Whether all of it is one linear map for each batch."""
        parts = (part for module in (self.before, self.after) for part in module.modules())
        return all(isinstance(part, (*LINEAR, Adapted)) for part in parts)

    @property
    def widest(self) -> int:
        """Most numbers that a row becomes after the first layer."""
        parts = [part for module in (self.before, self.after) for part in module.modules()]
        widths = [part.out_features for part in parts if isinstance(part, nn.Linear)]
        return max([len(self.genes) if self.first is None else self.first.out_features, *widths])

    @torch.no_grad()
    def enter(self, expression: np.ndarray) -> Tensor:
        """Return the first layer of rows, shape (n, k)."""
        rows = torch.as_tensor(expression, dtype=torch.float64)
        return rows if self.first is None else self.first(rows)

    def leave(self, hidden: Tensor, batch: int) -> Tensor:
        """Return the representation of rows of one batch, shape (n, d), from their first layer."""
        seen = self.before(hidden)
        return self.after(seen if self.chains is None else self.chains[batch](seen))

    @torch.no_grad()
    def represent(self, hidden: Tensor, batch: int) -> np.ndarray:
        """Return the representation of rows of one batch as an array, shape (n, d)."""
        return self.leave(hidden, batch).numpy()

    def slope(self, hidden: Tensor, start: Tensor, batch: int, direction: np.ndarray, n_steps: int) -> np.ndarray:
        """Return how a projection on ``direction`` rises with each gene, averaged on the line from ``start`` (1, k).

        These are integrated gradients before they are multiplied by the change (Sundararajan et al. 2017). The line is
        straight in genes and so in the first layer, which carries the slope back to genes without an error; where all
        is linear, the slope is the same everywhere. Shape (n or 1, n_genes).
        """

        def project(rows: Tensor) -> Tensor:
            return self.leave(rows, batch) @ torch.as_tensor(direction)

        with torch.enable_grad():
            if self.is_linear:
                point = start.clone().requires_grad_()
                (slope,) = torch.autograd.grad(project(point).sum(), point)
            else:
                gradients = import_captum().IntegratedGradients(project, multiply_by_inputs=False)
                slope = gradients.attribute(hidden, baselines=start.expand_as(hidden), n_steps=n_steps)
        slope = slope.detach()
        return (slope if self.first is None else slope @ self.first.weight).numpy()


def import_captum() -> Any:
    """Return captum's attributions, which a map that is not linear needs."""
    try:
        from captum import attr
    except ImportError as error:
        purpose = "gene_attribution through a network that is not linear"
        raise MissingExtra("captum", purpose, "'.[attribution]' in a clone of semiclip") from error
    return attr


def map_genes(
    adata: AnnData, encoder: Trainable, model: SemiClip | None, design: Design, fallback: Fallback, rows: np.ndarray
) -> GeneMap:
    """Return the map of an encoder, or of a model behind it as it corrects these samples; both stay as they are.

    ``rows`` are the numbers of those that are mapped, and of all on which a correction is fitted.
    """
    if isinstance(encoder, type) or not isinstance(encoder, Trainable):
        needed = "the fitted encoder of the student: PCAEncoder, SCVIEncoder or another with a network"
        raise WrongType("encoder", type(encoder), needed)
    architecture = encoder.architecture
    if architecture.get("kind") == "scgpt":
        raise Refused("scGPT reads bins of expression, which have no gradient", way_out="use encoder='pca' or 'scvi'")

    def read(samples: AnnData) -> np.ndarray:
        with remembered_by(encoder):
            return encoder.features(samples)

    genes = pd.Index(getattr(encoder, "genes_", adata.var_names))
    if len(genes) != architecture["n_input"]:
        raise Mismatch("the number of genes of the encoder", len(genes), architecture["n_input"])
    chains: dict[int, Affine] | None = None
    after: nn.Module = nn.Identity()
    is_trained_along = False
    if model is not None:
        chains, after = read_model(adata, model, design, fallback, rows)
        is_trained_along = model.module.encoder is not None
    network: Any = model.module.encoder if model is not None else None
    network = _build_network(encoder, architecture) if network is None else network
    first, before = _freeze(network[0]), _freeze(network[1:])
    if is_trained_along and chains is not None:  # the correction is one of genes, before the encoder
        return GeneMap(genes, read, None, nn.Identity(), chains, nn.Sequential(first, before, after))
    return GeneMap(genes, read, first, before, chains, after)


def read_model(
    adata: AnnData, model: SemiClip, design: Design, fallback: Fallback, rows: np.ndarray
) -> tuple[dict[int, Affine] | None, nn.Module]:
    """Return the correction of the student in each batch, and the network that follows an encoder."""
    if not hasattr(model, "projection_"):
        raise WrongType("model", type(model), "a semiclip.model.SemiClip, or None for the encoder alone")
    model._check_if_trained(warn=False)
    module, spec = model.module, model._specs[STUDENT]
    chains = None
    if spec.method is not None:
        columns: dict[str, Any] = {"perturbation_key": design.perturbation_key, "batch_key": design.batch_key}
        with remembered("the model", model.representations):
            query = model._read(adata, STUDENT, model.design.changed(**columns, control=design.control))
        spec = replace(spec, fallback="pooled" if "pooled" in (fallback, spec.fallback) else "raise")
        fitted = fit_chains(spec, query.values, query.batch, query.reference, query.batch_names, rows)
        chains = {
            code: Affine(*(None if part is None else torch.as_tensor(part) for part in chain))
            for code, chain in fitted.items()
        }
    scale = module.input_scale if module.encoder is None else 1.0
    return chains, Adapted(_freeze(module.adapter), scale, module.part_scales)


def _build_network(encoder: Trainable, architecture: Mapping[str, Any]) -> Any:
    weights = encoder.weights()
    if weights is None:
        raise NotFitted("the network of this encoder", "pass the model that was trained with it as model=")
    with single_precision(), torch.random.fork_rng([]):  # the weights that are drawn here are replaced
        network = build(architecture)
    network.load_state_dict(weights)
    return network


def _freeze(network: Any) -> Any:
    """Return a copy in double precision and evaluation mode, which no gradient changes."""
    return deepcopy(network).to("cpu", torch.float64).eval().requires_grad_(requires_grad=False)
