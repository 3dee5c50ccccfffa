"""The network behind an encoder, which a model can train further or from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip.errors import BadValue, WrongType, some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Return the network of an architecture, with weights drawn from the state of torch.

    The network maps features of shape (n, n_input) to an embedding of shape (n, n_output).

    Parameters
    ----------
    architecture
        Plain values, as in ``architecture`` of a :class:`semiclip.encoders.Trainable`. ``kind`` is ``"mlp"``, the
        default, for :func:`semiclip.encoders.network`, or ``"scgpt"`` for the transformer of
        :class:`semiclip.encoders.ScGPTEncoder`. The rest are the arguments of the network, always with ``n_input`` and
        ``n_output``.

    Raises
    ------
    TypeError, ValueError
        If it is not a mapping, the kind is unknown, or arguments of the network are unknown, missing or out of range.

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
    return BUILDERS[kind](**arguments)


def network(
    n_input: int, n_hidden: Sequence[int], n_output: int, *, batch_norm: bool = True, dropout: float = 0.1
) -> nn.Sequential:
    """Return the multilayer perceptron that encodes expression in scVI, with weights drawn from the state of torch.

    Each hidden width stands for a linear map, batch normalisation, ReLU and dropout; a linear map to the embedding
    follows. Names of weights depend on the widths alone, so that the same linear maps fit any ``batch_norm`` and
    ``dropout``.

    Parameters
    ----------
    n_input, n_hidden, n_output
        Number of genes, widths of the hidden layers (``[]`` for one linear map) and dimensions of the embedding.
    batch_norm
        Whether hidden layers have batch normalisation, with the constants of scVI.
    dropout
        Probability with which a hidden value is dropped in training, at least 0 and below 1.

    Raises
    ------
    TypeError, ValueError
        If widths are not whole numbers of at least 1, or ``dropout`` is out of range.

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
    widths = {"n_input": [n_input], "n_hidden": list(n_hidden), "n_output": [n_output]}
    for name, values in widths.items():
        for value in values:
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise WrongType(name, type(value), "a whole number")
            check_whole(name, value)
    check_number("dropout", dropout, least=0, below=1)
    return {
        "n_input": int(n_input),
        "n_hidden": [int(width) for width in n_hidden],
        "n_output": int(n_output),
        "batch_norm": bool(batch_norm),
        "dropout": float(dropout),
    }


def _build_scgpt(**arguments: Any) -> nn.Module:
    from semiclip.encoders._scgpt_network import ScGPTNetwork  # needs torch

    return ScGPTNetwork(**arguments)


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": network, "scgpt": _build_scgpt}
