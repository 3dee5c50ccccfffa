"""The perceptron that a model trains from scratch, and the networks behind all encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip._numerics import single_precision
from semiclip.encoders._expression import densify, read_expression
from semiclip.encoders._files import Stored, check_arrays
from semiclip.errors import BadValue, NotFitted, WrongType, some

if TYPE_CHECKING:
    import numpy as np
    import torch
    from anndata import AnnData
    from torch import nn


@dataclass(eq=False, kw_only=True)
class MLPEncoder(Stored):
    """An scVI-like multilayer perceptron that a model trains from scratch, together with its adapter.

    The encoder knows which genes it reads and how, and has no weights of its own: :func:`semiclip.pp.expression` writes
    what it reads, and the trained model, not :func:`semiclip.pp.encode`, makes the embedding.

    Parameters
    ----------
    n_hidden, n_latent
        Widths of the hidden layers and dimensions of the embedding.
    batch_norm, dropout
        Whether hidden layers have batch normalisation, and the probability with which training drops a hidden value.
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

    n_hidden: Sequence[int] = (128,)
    n_latent: int = 64
    batch_norm: bool = True
    dropout: float = 0.1
    normalize: bool = True
    layer: str | None = None
    min_overlap: float = 0.8

    def fit(self, adata: AnnData) -> MLPEncoder:
        """Remember the genes of ``adata``, check its values and return the encoder itself."""
        read_expression(self, adata, adata.var_names)
        self._describe(adata.n_vars)
        self.genes_ = adata.var_names.copy()
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of :func:`semiclip.encoders.network` that build the perceptron."""
        self._check_fitted()
        return self._describe(len(self.genes_))

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return ``None``, since a model draws the weights."""
        return None

    def features(self, adata: AnnData) -> np.ndarray:
        """Return normalised expression, which the perceptron reads, float32 of shape (n_obs, n_genes)."""
        self._check_fitted()
        return densify(read_expression(self, adata, self.genes_)[1], copy=not self.normalize)

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


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Return the network of an architecture, with weights drawn from the state of torch.

    The network maps features of shape (n, n_input) to an embedding of shape (n, n_output).

    Parameters
    ----------
    architecture
        Plain values, as in ``architecture`` of a :class:`semiclip.encoders.Trainable`: the ``kind``, ``"mlp"`` (the
        default) or ``"scgpt"``, and the arguments of the network, always with ``n_input`` and ``n_output``.

    Examples
    --------
    >>> from semiclip.encoders import build
    >>> build({"n_input": 40, "n_hidden": [128], "n_output": 8})[-1]
    Linear(in_features=128, out_features=8, bias=True)
    """
    if not isinstance(architecture, Mapping):
        raise WrongType("architecture", type(architecture), "a mapping, as encoder.architecture is")
    arguments = dict(architecture)
    kind = arguments.pop("kind", "mlp")
    check_choice("kind", kind, BUILDERS)
    if missing := [name for name in ("n_input", "n_output") if name not in arguments]:
        raise BadValue("architecture", dict(architecture), f"a mapping that has {some(missing)}")
    with single_precision():
        return BUILDERS[kind](**arguments)


def network(
    n_input: int, n_hidden: Sequence[int], n_output: int, *, batch_norm: bool = True, dropout: float = 0.1
) -> nn.Sequential:
    """Return the multilayer perceptron that encodes expression in scVI, with weights drawn from the state of torch.

    Each hidden width stands for a linear map, batch normalisation, ReLU and dropout; a linear map follows.

    Parameters
    ----------
    n_input, n_hidden, n_output
        Number of genes, widths of the hidden layers (``[]`` for one linear map) and dimensions of the embedding.
    batch_norm, dropout
        Whether hidden layers have batch normalisation, with the constants of scVI, and the probability with which
        training drops a hidden value, at least 0 and below 1.

    References
    ----------
    Lopez et al. 2018, DOI 10.1038/s41592-018-0229-2.

    Examples
    --------
    >>> import torch
    >>> from semiclip.encoders import network
    >>> network(40, [128], 8).eval()(torch.zeros(3, 40)).shape
    torch.Size([3, 8])
    """
    from torch import nn

    describe(n_input, n_hidden, n_output, batch_norm=batch_norm, dropout=dropout)
    layers: list[nn.Module] = []
    for width, next_width in pairwise([n_input, *n_hidden]):
        norm = nn.BatchNorm1d(next_width, eps=1e-3, momentum=0.01) if batch_norm else nn.Identity()
        layers += [nn.Linear(width, next_width), norm, nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([n_input, *n_hidden][-1], n_output))


def describe(
    n_input: int, n_hidden: Sequence[int], n_output: int, *, batch_norm: bool = True, dropout: float = 0.1
) -> dict[str, Any]:
    """Check the arguments of :func:`network` and return them as plain values that JSON can hold."""
    if isinstance(n_hidden, Integral | str):
        raise WrongType("n_hidden", type(n_hidden), "a list of widths, such as [128], or [] for no hidden layer")
    for name, widths in {"n_input": [n_input], "n_hidden": n_hidden, "n_output": [n_output]}.items():
        for width in widths:
            check_whole(name, width)
    check_number("dropout", dropout, least=0, below=1)
    sizes = {"n_input": int(n_input), "n_hidden": [int(width) for width in n_hidden], "n_output": int(n_output)}
    return {**sizes, "batch_norm": bool(batch_norm), "dropout": float(dropout)}


def _build_scgpt(**arguments: Any) -> nn.Module:
    from semiclip.encoders._scgpt_network import ScGPTNetwork  # needs torch

    return ScGPTNetwork(**arguments)


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": network, "scgpt": _build_scgpt}
