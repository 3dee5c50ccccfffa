"""Encoders in files that hold names and numbers alone, so that one from elsewhere can run nothing."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import secrets
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip._damage import DAMAGE, reason
from semiclip.encoders._protocol import check_fitted

if TYPE_CHECKING:
    from semiclip.encoders._protocol import Encoder

FORMAT = 1
SETTINGS, WEIGHTS = "encoder.json", "weights.npz"
FIT_ONLY = {"rng", "train_kwargs"}  # arguments without which a fitted encoder is as good
# what JSON makes of the types that arguments are annotated with
TYPES: dict[str, set[type]] = {
    "None": {type(None)},
    "bool": {bool},
    "int": {int},
    "float": {int, float},
    "str": {str},
    "Path": {str},
    "Sequence[int]": {list},
    "dict[str, Any]": {dict},
    "np.random.Generator": set(),
}


class Stored:
    """An encoder that can be saved. To add one, derive it from this class and write the two methods at the end.

    Its constructor keeps each argument in the attribute of the same name.
    """

    genes_: pd.Index

    @property
    def fingerprint(self) -> str:
        """What tells a fitted encoder from others, 16 hexadecimal digits of all that it learned.

        It stays the same when the encoder is saved and loaded; seeds, devices and the like have no part in it.

        Examples
        --------
        >>> import semiclip as scl
        >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
        >>> one, other = (scl.encoders.MLPEncoder().fit(side["rna"]) for side in (study.mdata, study.knockouts))
        >>> one.fingerprint == other.fingerprint  # both know the same genes, and nothing else
        True
        """
        check_fitted(self)
        state, arrays = self._state()
        shapes = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
        known = {"class": type(self).__name__, "genes": self.genes_.tolist(), "state": state, "arrays": shapes}
        digest = hashlib.sha256(_canonical(known).encode())
        for name in sorted(arrays):
            digest.update(arrays[name].tobytes())  # in C order, whatever the order in memory
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Save the fitted encoder in a folder of its own, for :func:`semiclip.encoders.load`.

        The folder holds ``encoder.json``, with the arguments and the genes, and ``weights.npz``. It appears once it is
        complete. ``rng`` and ``train_kwargs`` are left out where JSON cannot hold them, such as a generator.

        Parameters
        ----------
        folder
            Where to save; folders above it are made.
        overwrite
            Whether to replace an encoder that was saved there. Nothing but a saved encoder is ever replaced.

        Raises
        ------
        RuntimeError
            If the encoder is not fitted.
        FileExistsError
            If the folder exists, unless it is a saved encoder and ``overwrite=True``.
        TypeError
            If an argument is not of its type, JSON cannot hold it, or ``load`` would not know the class.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import semiclip as scl
        >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
        >>> encoder = scl.encoders.MLPEncoder().fit(study.mdata["rna"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     encoder.save(Path(folder) / "mlp")
        ...     sorted(path.name for path in (Path(folder) / "mlp").iterdir())
        ['encoder.json', 'weights.npz']
        """
        check_fitted(self)
        name = type(self).__name__
        if getattr(_kinds().get(name), "__module__", None) != type(self).__module__:  # the class itself may be reloaded
            msg = f"{name} cannot be saved, since load would not know it; derive it from semiclip's Stored itself"
            raise TypeError(msg)
        state, arrays = self._state()
        settings = {
            "format": FORMAT,
            "class": name,
            "arguments": self._arguments(),
            "genes": self.genes_.tolist(),
            "state": _plain(state, "the trained network"),
        }
        _write(Path(folder).absolute(), json.dumps(settings, indent=1), arrays, overwrite=overwrite)

    def _arguments(self) -> dict[str, Any]:
        arguments = {}
        for name in inspect.signature(type(self)).parameters:
            try:
                value = _plain(getattr(self, name), name)
                _check_types(type(self), {name: value})
                arguments[name] = value
            except TypeError:
                if name not in FIT_ONLY:
                    raise
        return arguments

    def _state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what fitting learned besides the genes: plain values and arrays."""
        raise NotImplementedError

    def _restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take what ``_state`` returned; the genes are there already."""
        raise NotImplementedError


def load(folder: str | Path) -> Encoder:
    """Load an encoder that its ``save`` wrote.

    It embeds as the saved one did, to a bit on the same machine. Nothing is unpickled: a file from a stranger can be
    wrong, but it cannot run code.

    Parameters
    ----------
    folder
        The folder that ``save`` was given.

    Returns
    -------
    The fitted encoder, on the CPU.

    Raises
    ------
    FileNotFoundError
        If the folder or a file in it is missing.
    ValueError
        If a file is damaged, does not fit the other or comes from another version.

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
    folder = Path(folder)
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            msg = f"{folder} is not a saved encoder, since it has no {name}; name the folder that save was given"
            raise FileNotFoundError(msg)
    settings = _settings(folder / SETTINGS)
    arrays = _arrays(folder / WEIGHTS)
    try:
        kind = _kinds()[settings["class"]]
        _check_types(kind, settings["arguments"])
        encoder = kind(**settings["arguments"])
        encoder.genes_ = pd.Index(settings["genes"])
        encoder._restore(settings["state"], arrays)
    except DAMAGE as error:
        msg = f"{folder} does not hold one whole encoder: {reason(error)}; save the encoder again"
        raise ValueError(msg) from error
    return encoder


def fitting(arrays: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse arrays of other names or shapes than an encoder needs."""
    if wrong := sorted(arrays.keys() ^ shapes.keys()):
        msg = f"{WEIGHTS} and {SETTINGS} differ in which weights there are: {some(wrong)}"
        raise ValueError(msg)
    for name, shape in shapes.items():
        if not isinstance(arrays[name], np.ndarray) or arrays[name].dtype.kind not in "fi":
            msg = f"{name} in {WEIGHTS} does not hold numbers"
            raise ValueError(msg)
        if arrays[name].shape != shape:
            msg = f"{name} in {WEIGHTS} has shape {arrays[name].shape}, but {SETTINGS} tells of {shape}"
            raise ValueError(msg)


def _kinds() -> dict[str, Any]:
    return {kind.__name__: kind for kind in Stored.__subclasses__()}


def _plain(value: Any, name: str) -> Any:
    """Turn a value into what JSON holds."""

    def simple(part: Any) -> Any:
        if isinstance(part, np.generic | np.ndarray):
            return part.tolist()
        msg = f"the encoder cannot be saved: JSON cannot hold the {type(part).__name__} in {name}"
        raise TypeError(msg)

    return json.loads(json.dumps(value, default=simple))


def _canonical(value: Any) -> str:
    """Write a value as JSON writes it after a file, and what JSON cannot hold as its type."""

    def simple(part: Any) -> Any:
        return part.tolist() if isinstance(part, np.generic | np.ndarray) else type(part).__name__

    return json.dumps(json.loads(json.dumps(value, default=simple, skipkeys=True)), sort_keys=True)


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        version, kind, genes = settings["format"], settings["class"], settings["genes"]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        msg = f"{path} is damaged ({error!r}); save the encoder again"
        raise ValueError(msg) from error
    if version != FORMAT:
        msg = f"{path} has format {version!r}, but this version of semiclip reads {FORMAT}; update semiclip"
        raise ValueError(msg)
    if not isinstance(kind, str) or kind not in _kinds():
        msg = f"{path} is of the class {kind!r}, but the encoders that can be loaded are {some(sorted(_kinds()))}"
        raise ValueError(msg)
    if not isinstance(genes, list) or not all(isinstance(gene, str) for gene in genes) or len({*genes}) < len(genes):
        msg = f"{path} is damaged: its genes are not names that differ; save the encoder again"
        raise ValueError(msg)
    return settings


def _check_types(kind: type[Stored], arguments: dict[str, Any]) -> None:
    """Refuse arguments, as JSON holds them, of other types than the constructor is annotated with."""
    parameters = inspect.signature(kind).parameters
    for name, value in arguments.items():
        annotation = str(parameters[name].annotation) if name in parameters else ""
        parts = annotation.split(" | ")
        known = all(part in TYPES for part in parts)
        if known and not any(type(value) in TYPES[part] for part in parts):
            msg = f"the argument {name}={value!r} is not {annotation}"
            raise TypeError(msg)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as stored:
            entries = stored.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                msg = "save compresses nothing, but this file is compressed"
                raise ValueError(msg)
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                msg = "it claims to hold more than it does"
                raise ValueError(msg)
            return {entry.filename.removesuffix(".npy"): _array(stored, entry) for entry in entries}
    except DAMAGE as error:
        msg = f"{path} is damaged or holds more than plain arrays ({reason(error)}); save the encoder again"
        raise ValueError(msg) from error


def _array(stored: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Read an array, once its header is known to tell the truth, since numpy allocates what the header says."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with stored.open(entry) as file:
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
        claimed, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if claimed != there or dtype.hasobject:
            msg = f"{entry.filename} claims to be {dtype} of shape {shape}, but holds {there} bytes"
            raise ValueError(msg)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _write(folder: Path, settings: str, arrays: dict[str, np.ndarray], *, overwrite: bool) -> None:
    """Write beside the folder and rename, so that there is never half an encoder."""
    there = folder.exists() or folder.is_symlink()
    if there and not overwrite:
        msg = f"{folder} exists; choose another folder, or pass overwrite=True to replace a saved encoder"
        raise FileExistsError(msg)
    if there and not _replaceable(folder):
        msg = f"{folder} is not a saved encoder alone, so overwrite=True does not replace it; choose another folder"
        raise FileExistsError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(8)}") for _ in range(2))
    try:
        new.mkdir()
        (new / SETTINGS).write_text(settings, encoding="utf-8")
        np.savez(new / WEIGHTS, **arrays)  # type: ignore[arg-type]
        if there:
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if there:
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if there:
        shutil.rmtree(old)


def _replaceable(folder: Path) -> bool:
    """Whether a folder is empty or a saved encoder, so that replacing it loses nothing else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return {path.name for path in folder.iterdir()} in (set(), {SETTINGS, WEIGHTS})
