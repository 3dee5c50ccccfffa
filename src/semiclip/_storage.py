"""Folders of JSON and safetensors: reading one runs nothing, and a process that dies leaves the old contents whole.

A folder has one index, ``{name}.json``, which names the other files. Their names hold a part of a checksum, so that new
files lie beside the old ones until the new index replaces the old one, in one step. What the index does not name is
removed by the same save or the next one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip import errors
from semiclip._damage import say_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

FORMAT = 3  # format 2 of encoders had one name for all weights; models were pickles
PART = r"{}[A-Za-z]+-[0-9a-f]{{12}}\.(?:safetensors|h5ad|h5mu)"  # names that only this module gives, after a prefix
PARTIAL = re.compile(r"\..+\.(\d+)\.partial")


def save_folder(
    folder: str | os.PathLike[str],
    name: str,
    contents: Mapping[str, Any],
    *,
    prefix: str = "",
    overwrite: bool = False,
    replaces: Sequence[str] = (),
    data: tuple[str, Callable[[Path], object]] | None = None,
) -> None:
    """Save nested values, arrays and tensors in ``folder``, with ``{prefix}{name}.json`` as the index.

    Parameters
    ----------
    folder
        Where to save; it is made, with the folders above it.
    name, prefix
        Name of the index; saves with several prefixes share a folder.
    contents
        What :func:`pack` takes.
    overwrite
        Whether to replace an earlier save. Any other folder that is not empty is refused, and files of others stay.
    replaces
        Names of files of earlier formats, which are removed in the end.
    data
        Name and writer of one more file, such as ``("mdata.h5mu", mdata.write)``.
    """
    from safetensors import torch as safetensors  # torch is heavy

    from semiclip._packing import pack

    folder = Path(folder).absolute()
    tensors: dict[str, torch.Tensor] = {}
    packed = pack(contents, tensors)
    weights = safetensors.save(tensors)
    digest = hashlib.sha256(weights).hexdigest()
    index: dict[str, Any] = {
        "format": FORMAT,
        "files": [f"{prefix}weights-{digest[:12]}.safetensors"],
        "weights": digest,
    }
    if data is not None:
        index["files"] += [f"{prefix}{data[0].replace('.', f'-{digest[:12]}.')}"]
    index["contents"] = packed

    _check_replaceable(folder, (f"{name}.json", *replaces), overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if data is not None:
            write_file(folder / index["files"][1], data[1])
        write_file(folder / index["files"][0], weights)
        write_file(folder / f"{prefix}{name}.json", json.dumps({"sha256": _digest(index), **index}, indent=1).encode())
    finally:
        _remove_leftovers(folder, name, prefix)
    for old in replaces:
        (folder / f"{prefix}{old}").unlink(missing_ok=True)


def load_folder(folder: str | os.PathLike[str], name: str, *, prefix: str = "") -> tuple[dict[str, Any], Path | None]:
    """Return what :func:`save_folder` saved, on the CPU, and the path of the one more file if there is one."""
    from safetensors import torch as safetensors

    from semiclip._packing import unpack

    folder = Path(folder)
    path = folder / f"{prefix}{name}.json"  # that is read, for errors
    try:
        index = _read_index(path)
        files = [folder / file for file in index["files"]]
        path = files[0]
        weights = path.read_bytes()
        if hashlib.sha256(weights).hexdigest() != index["weights"]:
            raise errors.Refused("its checksum is wrong")
        contents = unpack(index["contents"], safetensors.load(weights))
    except FileNotFoundError as error:
        raise errors.MissingFile(path, "name the folder that save was given") from error
    except OSError:  # such as a folder that may not be read: the file is not to blame
        raise
    except Exception as error:  # crafted files raise anything
        raise errors.DamagedFile(path, say_reason(error), "take another copy, or make and save it again") from error
    return contents, files[1] if len(files) > 1 else None


def remove_folder(folder: Path, name: str) -> None:
    """Remove what :func:`save_folder` saved without a prefix, and the folder if nothing else is there."""
    if (folder / f"{name}.json").is_file():
        (folder / f"{name}.json").unlink()
        _remove_leftovers(folder, name, "")
        with suppress(OSError):  # where there are files of others
            folder.rmdir()


def write_file(path: Path, contents: bytes | Callable[[Path], object]) -> None:
    """Write a file under another name, see it on the disk, and rename it: ``path`` is never half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if isinstance(contents, bytes):
            partial.write_bytes(contents)
        else:
            contents(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        error.add_note(f"{path} is as it was before")
        raise
    for leftover in path.parent.glob(f".{path.name}.*.partial"):  # of processes that were killed
        _remove_partial(leftover)


def _read_index(path: Path) -> dict[str, Any]:
    index = json.loads(path.read_bytes())
    if index["format"] != FORMAT:
        raise errors.Mismatch("the format", index["format"], FORMAT)
    if index.pop("sha256") != _digest(index):
        raise errors.Refused("its checksum is wrong")
    if wrong := [file for file in index["files"] if not re.fullmatch(PART.format(".*"), file) or "/" in file]:
        raise errors.Refused("no file of a save has this name", wrong)
    return index


def _digest(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _check_replaceable(folder: Path, indices: tuple[str, ...], *, overwrite: bool) -> None:
    """Refuse a path that holds anything but an earlier save, or the leftovers of one that was killed."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else [folder.name] if folder.exists() else []
    names = [file for file in names if not re.fullmatch(PART.format(".*"), file) and not PARTIAL.fullmatch(file)]
    replaceable = overwrite and folder.is_dir() and any(file.endswith(indices) for file in names)
    if names and not replaceable:
        way_out = "pass overwrite=True to replace what save wrote, or choose another folder: nothing else is replaced"
        raise errors.FileExists(folder, way_out)


def _remove_leftovers(folder: Path, name: str, prefix: str) -> None:
    """Remove files that a save with this prefix made and the index does not name."""
    named: list[str] = []
    with suppress(Exception):
        named = _read_index(folder / f"{prefix}{name}.json")["files"]
    for path in folder.iterdir():
        if PARTIAL.fullmatch(path.name):
            _remove_partial(path)
        elif re.fullmatch(PART.format(re.escape(prefix)), path.name) and path.name not in named:
            path.unlink(missing_ok=True)


def _remove_partial(path: Path) -> None:
    """Remove a half-written file, unless the process that writes it is alive: one for each device may save at once."""
    process = int(PARTIAL.fullmatch(path.name)[1])  # type: ignore[index]  # the name was matched before
    with suppress(OSError):
        if process != os.getpid() and os.name == "posix":
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                path.unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
