"""Reads the folder of a published scGPT model: settings, vocabulary and weights, and says what is wrong with one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._checks import some
from semiclip._damage import DAMAGE, reason
from semiclip.encoders._network import build

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

logger = logging.getLogger(__name__)

SETTINGS, VOCABULARY, WEIGHTS = "args.json", "vocab.json", "best_model.pt"
CLS, EMBEDDING = "<cls>", "encoder.embedding.weight"
SIZES = {"d_hid": "n_hidden", "embsize": "n_output", "nlayers": "n_layers", "nheads": "n_heads"}
USUAL = {"n_bins": 51, "dropout": 0.2}
PUBLISHED = {"input_emb_style": "continuous", "input_style": "binned", "pre_norm": False}


def find(checkpoint: str | Path) -> Path:
    """Return the folder of a checkpoint, which must have its three files."""
    folder = Path(checkpoint).expanduser()
    if missing := [name for name in (SETTINGS, VOCABULARY, WEIGHTS) if not (folder / name).is_file()]:
        msg = (
            f"{folder} has no {some(missing)}; checkpoint is the folder of a published scGPT model, where they all are"
        )
        raise FileNotFoundError(msg)
    return folder


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Return the row of each token in the embedding."""
    path = folder / VOCABULARY
    vocabulary = _read_json(path)
    if wrong := [token for token, row in vocabulary.items() if type(row) is not int or row < 0]:
        msg = f"{path} has no row of the embedding for {some(wrong)}; a vocabulary is {{token: row}}, rows from 0"
        raise ValueError(msg)
    if missing := [token for token in (CLS, "<pad>") if token not in vocabulary]:
        msg = f"{path} lacks {some(missing)}, so it is not the vocabulary of a model that makes cell embeddings"
        raise ValueError(msg)
    return vocabulary


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the sizes of the network, as :class:`ScGPTNetwork` names them, and refuse one that it is not."""
    path = folder / SETTINGS
    given = _read_json(path)
    if missing := [name for name in (*SIZES, "pad_value") if name not in given]:
        msg = f"{path} lacks {some(missing)}"
        raise ValueError(msg)
    if foreign := [f"{name}={given[name]!r}" for name, value in PUBLISHED.items() if given.get(name, value) != value]:
        msg = f"{path} has {some(foreign)}, which no published model has and this encoder does not do"
        raise ValueError(msg)
    sizes = {name: given[key] for key, name in SIZES.items()}
    return {**sizes, "pad_value": given["pad_value"], **{name: given.get(name, value) for name, value in USUAL.items()}}


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint with the names of :class:`ScGPTNetwork`; nothing else is unpickled."""
    import torch

    path = folder / WEIGHTS
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        msg = (
            f"{path} cannot be read: it is cut short, or it holds more than weights, which is refused since it could "
            f"run code; download it again ({reason(error)})"
        )
        raise ValueError(msg) from error
    if not isinstance(state, Mapping):
        msg = f"{path} holds a {type(state).__name__}, not weights by name"
        raise ValueError(msg)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    renamed = {_rename(name): value for name, value in tensors.items()}
    if len(renamed) < len(tensors):
        taken = [name for name in tensors if _rename(name) != name and _rename(name) in tensors]
        msg = f"{path} has weights under two names: {some(taken)}"
        raise ValueError(msg)
    return renamed


def _rename(name: str) -> str:
    # torch names the projections of attention otherwise than flash-attention, and training on many GPUs adds a prefix
    name = name.removeprefix("module.").replace("self_attn._impl.", "self_attn.")
    return re.sub(r"self_attn\.in_proj_(weight|bias)$", r"self_attn.Wqkv.\1", name)


def load(folder: Path, architecture: Mapping[str, Any], rows: Sequence[int]) -> nn.Module:
    """Build the network with the published weights; of the vocabulary it gets ``rows``."""
    weights = read_weights(folder)
    if aside := [name for name in weights if name.startswith(("bn.", "dsbn."))]:
        logger.warning("normalisation of tokens is left out, as scGPT does for cell embeddings: %s", some(aside))
    if EMBEDDING not in weights:
        msg = f"{folder / WEIGHTS} lacks {EMBEDDING}"
        raise ValueError(msg)
    embedding = weights[EMBEDDING]
    if (fault := _fault(embedding)) or embedding.ndim != 2:
        msg = (
            f"{folder / WEIGHTS} holds no table of tokens: {EMBEDDING} is {fault or f'of {embedding.ndim} dimensions'}"
        )
        raise ValueError(msg)
    if max(rows) >= len(embedding):
        msg = f"{folder / VOCABULARY} names row {max(rows)}, but {EMBEDDING} in {WEIGHTS} has {len(embedding)} rows"
        raise ValueError(msg)
    try:
        return assemble(architecture, {**weights, EMBEDDING: embedding[list(rows)]})
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{folder / WEIGHTS} does not fit {SETTINGS}: {error}"
        raise ValueError(msg) from error


def assemble(architecture: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build a network, in evaluation mode, around its weights; others are left out."""
    import torch

    numbers = {name.split(".")[2] for name in weights if name.startswith("transformer_encoder.layers.")}
    if len(numbers) != architecture["n_layers"]:  # before a number that may be absurd is built
        msg = f"there are weights of {len(numbers)} layers, but {architecture['n_layers']!r} layers are asked for"
        raise ValueError(msg)
    with torch.device("meta"):  # nothing is drawn
        network = build(architecture)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if missing := [name for name in shapes if name not in weights]:
        msg = f"there are no {some(missing)}"
        raise ValueError(msg)
    if odd := [f"{name} is {fault}" for name in shapes if (fault := _fault(weights[name]))]:
        msg = f"weights must be plain floating-point numbers, but {some(odd)}"
        raise ValueError(msg)
    found = {name: tuple(weights[name].shape) for name in shapes}
    if wrong := [f"{name} is {found[name]}, not {shape}" for name, shape in shapes.items() if found[name] != shape]:
        raise ValueError(some(wrong))
    single = {name: weights[name].float() for name in shapes}
    if wrong := [name for name, value in single.items() if not value.isfinite().all()]:
        msg = f"there are NaN or infinite weights, as float32, in {some(wrong)}"
        raise ValueError(msg)
    network.load_state_dict(single, assign=True)
    return network.eval()


def _fault(tensor: torch.Tensor) -> str:
    """Say what a tensor is instead of plain floating-point numbers in memory, if it is."""
    import torch

    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else f"of the layout {tensor.layout}"
    if tensor.device.type != "cpu":
        return f"without values (device {tensor.device})"
    return "" if tensor.is_floating_point() else f"of the type {tensor.dtype}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds a {type(content).__name__}, not an object with names"
        raise ValueError(msg)
    return content
