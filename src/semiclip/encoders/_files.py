"""Encoders in files that hold names and numbers alone, so that a file from elsewhere can run nothing."""

from __future__ import annotations

import hashlib
import inspect
import json
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._arguments import check_choice
from semiclip._damage import say_reason
from semiclip._storage import load_folder, save_folder

if TYPE_CHECKING:
    from pathlib import Path

    from semiclip.encoders._protocol import Encoder

OLDER = ("weights.safetensors", "weights.npz")  # names of the weights in formats 2 and 1
FIT_ONLY = {"rng", "train_kwargs"}  # a fitted encoder is as good without these arguments
# types that JSON makes of values, by the annotations of arguments
PLAIN = {"bool": "bool", "int": "int", "float": "int float", "str": "str", "Path": "str", "None": "NoneType"}
JSON_TYPES = {**PLAIN, "Sequence[int]": "list", "dict[str, Any]": "dict", "np.random.Generator": ""}


class Stored:
    """Base class of encoders that can be saved.

    A subclass keeps each argument of the constructor in the attribute of the same name, and has the last two methods.
    """

    genes_: pd.Index
    LATER: ClassVar[frozenset[str]] = frozenset()
    """Arrays that were not always saved; what is asked of them is asked by name, so the fingerprint leaves them out."""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of all that the encoder learned, without seeds and devices; saving keeps them."""
        self._check_fitted()
        state, arrays = self._state()
        arrays = {name: array for name, array in arrays.items() if name not in self.LATER}
        shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
        learned = {"class": type(self).__name__, "genes": self.genes_.tolist(), "state": state, "arrays": shapes}
        digest = hashlib.sha256(json.dumps(_simplify(learned), sort_keys=True).encode())
        for name in sorted(arrays):
            digest.update(arrays[name].tobytes())  # in C order, whatever the order in memory
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Save the fitted encoder in a folder of its own, for :func:`semiclip.encoders.load`.

        ``encoder.json`` holds the arguments and the genes, another file the weights. Whenever the process dies, the
        folder holds the old encoder or the new one. ``rng`` and ``train_kwargs`` are left out if JSON cannot hold them.

        Parameters
        ----------
        folder
            Where to save; folders above it are made.
        overwrite
            Whether to replace a saved encoder. A folder that holds other things and no encoder is refused either way.

        Raises
        ------
        FileExistsError
            If the folder is not empty, unless it holds a saved encoder and ``overwrite=True``.
        """
        self._check_fitted()
        name = type(self).__name__
        if getattr(_list_classes().get(name), "__module__", None) != type(self).__module__:  # a class may be reloaded
            raise errors.WrongType("the encoder", type(self), "derived from Stored itself, for load to know it")
        state, arrays = self._state()
        contents = {
            "class": name,
            "arguments": self._arguments(),
            "genes": self.genes_.tolist(),
            "state": _simplify(state, "the trained network"),
            "fingerprint": self.fingerprint,
            "arrays": arrays,
        }
        save_folder(folder, "encoder", contents, overwrite=overwrite, replaces=OLDER)

    def _check_fitted(self) -> None:
        if not hasattr(self, "genes_"):
            raise errors.NotFitted("this encoder", "call .fit(adata) on the training data first")

    def _arguments(self) -> dict[str, Any]:
        arguments = {}
        for name in inspect.signature(type(self)).parameters:
            with suppress(TypeError) if name in FIT_ONLY else nullcontext():
                value = _simplify(getattr(self, name), name)
                _check_types(type(self), {name: value})
                arguments[name] = value
        return arguments

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what fitting learned besides the genes: plain values and arrays."""
        raise NotImplementedError

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take what ``_state`` returned; the genes are there already."""
        raise NotImplementedError


def load(folder: str | Path) -> Encoder:
    """Return the fitted encoder of a folder that ``save`` wrote.

    The encoder embeds as the saved one did, to a bit on the same machine. Nothing is unpickled: a file from a stranger
    can be wrong, but it cannot run code.

    Parameters
    ----------
    folder
        The folder that ``save`` was given.

    Raises
    ------
    DamagedFile
        If a file is damaged, or of another version.

    Examples
    --------
    >>> import tempfile
    >>> import semiclip as scl
    >>> counts = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
    >>> encoder = scl.pp.encode(counts, encoder="pca", n_components=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     encoder.save(f"{folder}/pca")
    ...     loaded = scl.encoders.load(f"{folder}/pca")
    >>> bool((loaded.encode(counts) == counts.obsm["X_pca"]).all())
    True
    """
    contents, _ = load_folder(folder, "encoder")
    try:
        check_choice("class", contents["class"], _list_classes())
        kind = _list_classes()[contents["class"]]
        _check_types(kind, contents["arguments"])
        encoder = kind(**contents["arguments"])
        encoder.genes_ = read_names(contents["genes"], "genes")
        encoder._restore(contents["state"], contents["arrays"])
        if encoder.fingerprint != contents["fingerprint"]:
            raise errors.Mismatch("the fingerprint", encoder.fingerprint, contents["fingerprint"])
    except Exception as error:  # its checksums were right: it was made like this, or by another version
        way_out = "fit the encoder and save it again with this version of semiclip"
        raise errors.DamagedFile(folder, say_reason(error), way_out) from error
    return encoder


def check_arrays(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse arrays of other names, shapes or types than an encoder needs."""
    if wrong := sorted(arrays.keys() ^ shapes.keys()):
        raise errors.Refused("weights are missing or not needed", wrong)
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise errors.WrongShape(name, arrays[name].shape, str(shape))
        if arrays[name].dtype.kind not in "fi":
            raise errors.WrongDtype(name, arrays[name].dtype)


def read_names(names: Any, what: str) -> pd.Index:
    """Return the names in a file, which must differ."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise errors.WrongType(what, type(names), "a list of different names")
    return pd.Index(names)


def _list_classes() -> dict[str, Any]:
    return {kind.__name__: kind for kind in Stored.__subclasses__()}


def _simplify(value: Any, name: str = "") -> Any:
    """Turn a value into what JSON holds; other types are refused, or become their name if ``name`` is empty."""

    def convert(part: Any) -> Any:
        if isinstance(part, np.generic | np.ndarray):
            return part.tolist()
        if name:
            raise errors.WrongType(name, type(part), "of a type that JSON can hold, for the encoder to be saved")
        return type(part).__name__

    return json.loads(json.dumps(value, default=convert, skipkeys=not name))


def _check_types(kind: type[Stored], arguments: dict[str, Any]) -> None:
    """Refuse arguments, as JSON holds them, of other types than the constructor is annotated with."""
    parameters = inspect.signature(kind).parameters
    for name, value in arguments.items():
        annotation = str(parameters[name].annotation) if name in parameters else ""
        parts = annotation.split(" | ")
        types = " ".join(JSON_TYPES.get(part, "") for part in parts).split()
        if JSON_TYPES.keys() >= {*parts} and type(value).__name__ not in types:
            raise errors.WrongType(name, type(value), annotation)
