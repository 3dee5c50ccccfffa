"""The network behind an encoder, so that a model can train it further or from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build the network of an encoder from its architecture.

    Parameters
    ----------
    architecture
        Plain values, as in ``architecture`` of a :class:`semiclip.encoders.Trainable`. ``kind`` is ``"mlp"``, also
        where there is none, for :func:`semiclip.encoders.network`, or ``"scgpt"`` for the transformer of
        :class:`semiclip.encoders.ScGPTEncoder`; the rest are its arguments, always with ``n_input`` and ``n_output``.

    Returns
    -------
    The network, with weights drawn from the state of torch. It maps features of shape (n, n_input) to an embedding of
    shape (n, n_output).

    Raises
    ------
    TypeError
        If it is not a mapping, or has arguments that this kind of network does not take.
    ValueError
        If the kind is unknown, a width is missing or a value is out of range.

    Examples
    --------
    >>> from semiclip.encoders import build
    >>> build({"n_input": 40, "n_hidden": [128], "n_output": 8})[-1]
    Linear(in_features=128, out_features=8, bias=True)
    """
    if not isinstance(architecture, Mapping):
        msg = f"architecture={architecture!r} is not a mapping, such as encoder.architecture is"
        raise TypeError(msg)
    arguments = dict(architecture)
    kind = arguments.pop("kind", "mlp")
    if kind not in BUILDERS:
        msg = f"kind={kind!r} is not a network; choose one of {some(BUILDERS)}"
        raise ValueError(msg)
    if missing := [name for name in ("n_input", "n_output") if name not in arguments]:
        msg = f"the architecture lacks {some(missing)}, the widths of what the network reads and returns"
        raise ValueError(msg)
    return BUILDERS[kind](**arguments)


def network(
    n_input: int, n_hidden: Sequence[int], n_output: int, *, batch_norm: bool = True, dropout: float = 0.1
) -> nn.Sequential:
    """Build the multilayer perceptron that encodes expression in scVI.

    For each hidden width it has a linear map, batch normalisation, ReLU and dropout; a linear map to the embedding
    follows. Without hidden widths that map is all there is. The names of the weights depend on the widths alone, so
    that they fit whatever ``batch_norm`` and ``dropout`` are, save those of the batch normalisation itself.

    Parameters
    ----------
    n_input, n_hidden, n_output
        Number of genes, widths of the hidden layers and dimensions of the embedding.
    batch_norm
        Whether hidden layers have batch normalisation, with the constants of scVI.
    dropout
        Probability with which a hidden value is dropped in training, at least 0 and below 1.

    Returns
    -------
    The network, with weights drawn from the state of torch. It maps expression of shape (n, n_input) to an embedding
    of shape (n, n_output).

    Raises
    ------
    ValueError
        If a width is below 1 or ``dropout`` is out of range.
    TypeError
        If a width is not a whole number, or ``n_hidden`` is not a sequence of them.

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
    for width, following in pairwise([n_input, *n_hidden]):
        norm = nn.BatchNorm1d(following, eps=1e-3, momentum=0.01) if batch_norm else nn.Identity()
        layers += [nn.Linear(width, following), norm, nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([n_input, *n_hidden][-1], n_output))


def describe(
    n_input: int, n_hidden: Sequence[int], n_output: int, *, batch_norm: bool = True, dropout: float = 0.1
) -> dict[str, Any]:
    """Check the arguments of :func:`network` and return them as plain values that JSON can hold."""
    if isinstance(n_hidden, Integral | str):
        msg = f"n_hidden={n_hidden!r} is not a list of widths, such as [128], or [] for no hidden layer"
        raise TypeError(msg)
    widths = {"n_input": [n_input], "n_hidden": list(n_hidden), "n_output (the embedding)": [n_output]}
    for name, values in widths.items():
        for value in values:
            if not isinstance(value, Integral) or isinstance(value, bool):
                msg = f"{name} has {value!r}, but a width is a whole number"
                raise TypeError(msg)
            if value < 1:
                msg = f"{name} has {value}, but a width must be at least 1"
                raise ValueError(msg)
    if not 0 <= dropout < 1:
        msg = f"dropout={dropout} must be at least 0 and below 1"
        raise ValueError(msg)
    return {
        "n_input": int(n_input),
        "n_hidden": [int(width) for width in n_hidden],
        "n_output": int(n_output),
        "batch_norm": bool(batch_norm),
        "dropout": float(dropout),
    }


def _scgpt(**arguments: Any) -> nn.Module:
    from semiclip.encoders._scgpt_network import ScGPTNetwork  # needs torch

    return ScGPTNetwork(**arguments)


BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": network, "scgpt": _scgpt}
