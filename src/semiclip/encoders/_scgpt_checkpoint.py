"""Reads the folder of a published scGPT model: settings, vocabulary and weights, and says what is wrong with one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._damage import say_reason
from semiclip.encoders._network import build
from semiclip.errors import DamagedFile, Mismatch, MissingEntry, MissingFile, Refused, WrongDtype, WrongShape, some

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

SETTINGS, VOCABULARY, WEIGHTS = "args.json", "vocab.json", "best_model.pt"
CLS, EMBEDDING = "<cls>", "encoder.embedding.weight"
SIZES = {"d_hid": "n_hidden", "embsize": "n_output", "nlayers": "n_layers", "nheads": "n_heads"}
USUAL = {"n_bins": 51, "dropout": 0.2}
PUBLISHED = {"input_emb_style": "continuous", "input_style": "binned", "pre_norm": False}


def find_folder(checkpoint: str | Path) -> Path:
    """Return the folder of a checkpoint, which must have its three files."""
    folder = Path(checkpoint).expanduser()
    if missing := [path for name in (SETTINGS, VOCABULARY, WEIGHTS) if not (path := folder / name).is_file()]:
        raise MissingFile(missing, "checkpoint is the folder of a published scGPT model, with all of its files")
    return folder


def _read_json(path: Path, needed: Iterable[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise DamagedFile(path, f"it is not JSON ({say_reason(error)})") from error
    if not isinstance(content, dict):
        raise DamagedFile(path, f"it holds a {type(content).__name__}, not an object with names")
    if missing := [name for name in needed if name not in content]:
        raise DamagedFile(path, f"it lacks {some(missing)}, which a model that makes cell embeddings has")
    return content


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Return the row of each token in the embedding."""
    vocabulary = _read_json(path := folder / VOCABULARY, (CLS, "<pad>"))
    if wrong := [token for token, row in vocabulary.items() if type(row) is not int or row < 0]:
        raise DamagedFile(path, f"tokens without a row of the embedding: {some(wrong)}")
    return vocabulary


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the sizes of the network as :class:`ScGPTNetwork` names them; refuse settings that it does not have."""
    settings = _read_json(path := folder / SETTINGS, (*SIZES, "pad_value"))
    if foreign := [f"{name}={settings[name]!r}" for name, x in PUBLISHED.items() if settings.get(name, x) != x]:
        raise DamagedFile(path, f"no published model has {some(foreign)}, which this encoder cannot do")
    sizes = {name: settings[key] for key, name in SIZES.items()}
    usual = {name: settings.get(name, value) for name, value in USUAL.items()}
    return {**sizes, "pad_value": settings["pad_value"], **usual}


def load_network(folder: Path, architecture: Mapping[str, Any], rows: Sequence[int]) -> nn.Module:
    """Build the network with the published weights, of the vocabulary with ``rows``; nothing else is unpickled."""
    import torch

    path = folder / WEIGHTS
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything
        reason = f"it is cut short, or holds more than weights, which could run code ({say_reason(error)})"
        raise DamagedFile(path, reason, "download it again") from error
    if not isinstance(state, Mapping):
        raise DamagedFile(path, f"it holds a {type(state).__name__}, not weights by name")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    weights = {_rename(name): value for name, value in tensors.items()}
    if len(weights) < len(tensors):
        raise DamagedFile(path, f"it has weights under two names, as {some(tensors.keys() - weights.keys())}")
    if aside := [name for name in weights if name.startswith(("bn.", "dsbn."))]:
        logger.warning("normalisation of tokens is left out, as scGPT does for cell embeddings: %s", some(aside))
    try:
        return assemble(architecture, {**weights, EMBEDDING: weights[EMBEDDING][list(rows)]})
    except IndexError as error:
        reason = f"it names row {max(rows)}, but {EMBEDDING} is {tuple(weights[EMBEDDING].shape)}"
        raise DamagedFile(folder / VOCABULARY, reason) from error
    except Exception as error:  # so do crafted tensors
        raise DamagedFile(path, f"it does not fit {SETTINGS}: {say_reason(error)}") from error


def _rename(name: str) -> str:
    # torch names the projections of attention otherwise than flash-attention, and training on many GPUs adds a prefix
    name = name.removeprefix("module.").replace("self_attn._impl.", "self_attn.")
    return re.sub(r"self_attn\.in_proj_(weight|bias)$", r"self_attn.Wqkv.\1", name)


def assemble(architecture: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build a network, in evaluation mode, around its weights; further weights are left out."""
    import torch

    numbers = {name.split(".")[2] for name in weights if name.startswith("transformer_encoder.layers.")}
    if len(numbers) != architecture["n_layers"]:  # before a number that may be absurd is built
        raise Mismatch("the number of layers", len(numbers), architecture["n_layers"])
    with torch.device("meta"):  # nothing is drawn
        network = build(architecture)
    single = {}
    for name, value in network.state_dict().items():
        if (tensor := weights.get(name)) is None:
            raise MissingEntry(name, weights, "the weights")
        is_plain = tensor.layout == torch.strided and not tensor.is_nested and tensor.device.type == "cpu"
        if not is_plain or not tensor.is_floating_point():
            kind = f"{tensor.dtype}, {tensor.layout}, {'nested, ' * tensor.is_nested}{tensor.device}"
            raise WrongDtype(name, kind, "plain floating-point numbers")
        if tensor.shape != value.shape:
            raise WrongShape(name, tuple(tensor.shape), str(tuple(value.shape)))
        single[name] = tensor.float()
        if not single[name].isfinite().all():
            raise Refused(f"{name} holds NaN or infinite values as float32")
    network.load_state_dict(single, assign=True)
    return network.eval()
