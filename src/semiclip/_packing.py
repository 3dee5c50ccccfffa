"""Nested values as JSON and tensors: a closed list of types, so that nothing of a file can be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from semiclip import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPE, VALUE = "__type__", "value"


def pack(value: Any, tensors: dict[str, torch.Tensor], name: str = "") -> Any:
    """Return ``value`` as JSON holds it; numbers of arrays go to ``tensors``, under a name made of their place.

    Parameters
    ----------
    value
        Mappings, lists and tuples of text, numbers, booleans, ``None``, arrays, tensors and tables, as deep as needed.
    tensors
        Filled with the arrays and tensors.
    name
        Where ``value`` is, for the names of tensors and for errors.
    """
    if value is None or isinstance(value, bool | int | float | str) and not isinstance(value, np.generic):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [pack(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {TYPE: "tuple", VALUE: pack([*value], tensors, name)}
    if hasattr(value, "items") and not isinstance(value, pd.DataFrame | pd.Series):
        if all(isinstance(key, str) for key in value) and TYPE not in value:
            return {key: pack(item, tensors, f"{name}.{key}") for key, item in value.items()}
        return {TYPE: "mapping", VALUE: [pack([*pair], tensors, f"{name}.{i}") for i, pair in enumerate(value.items())]}
    if isinstance(value, torch.Tensor):
        return {TYPE: "tensor", VALUE: _keep(tensors, name, value.detach().cpu().contiguous().clone())}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.dtype.isnative:
        # safetensors knows the order of C alone; a loaded matrix must lie as before to multiply to the same bits
        columns_first = value.ndim == 2 and not value.flags.c_contiguous
        kind = "transposed" if columns_first else "array"
        # what was cut out of a larger array, as components are, has gaps in memory
        whole = np.array(value.T if columns_first else value, order="C")
        return {TYPE: kind, VALUE: _keep(tensors, name, torch.tensor(whole))}
    if isinstance(value, np.ndarray) and value.ndim == 1:  # names, and what scvi-tools keeps as objects
        kind = "names" if value.dtype.kind == "U" else "objects"
        return {TYPE: kind, VALUE: pack(value.tolist(), tensors, name)}
    if isinstance(value, pd.DataFrame):
        columns = [pack(value[column].to_numpy(), tensors, f"{name}.{column}") for column in value]
        index = {"index": pack(value.index.to_numpy(), tensors, f"{name}.index"), "name": value.index.name}
        return {TYPE: "table", VALUE: {"columns": value.columns.tolist(), "values": columns, **index}}
    raise errors.WrongType(
        name.lstrip("."), type(value), "text, a number, an array, a table, or a list or mapping of these"
    )


def _keep(tensors: dict[str, torch.Tensor], name: str, tensor: torch.Tensor) -> str:
    name = name.lstrip(".")
    while name in tensors:  # since keys have dots too
        name += "_"
    tensors[name] = tensor
    return name


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return what :func:`pack` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TYPE not in value:
        return {key: unpack(item, tensors) for key, item in value.items()}
    kind, value = value[TYPE], value[VALUE]
    if kind in ("tensor", "array", "transposed"):
        tensor = tensors[value]
        return tensor if kind == "tensor" else tensor.numpy() if kind == "array" else tensor.numpy().T
    items = unpack(value, tensors)
    if kind == "tuple":
        return tuple(items)
    if kind == "mapping":
        return dict(items)
    if kind == "names":
        return np.array(items, dtype=str)
    if kind == "objects":
        return np.fromiter(items, dtype=object, count=len(items))
    if kind == "table":
        columns = dict(zip(items["columns"], items["values"], strict=True))
        return pd.DataFrame(columns, index=pd.Index(items["index"], name=items["name"]))
    raise errors.Refused("no such type is known", [kind])
