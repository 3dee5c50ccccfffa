"""Joins the parts in which a large h5ad file is published, on disk and in blocks of rows."""

from __future__ import annotations

import hashlib
import logging
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some

from ._zenodo import _room, cache

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py

logger = logging.getLogger(__name__)

_BLOCK = 1 << 26  # bytes of a dense block of rows


def joined(paths: Sequence[Path], *, progress_bar: bool = True) -> Path:
    """Return one file with the rows of all parts in their order; written once, beside the downloads.

    ``obs``, ``var``, ``X`` and the layers and ``obsm`` arrays that all parts have are kept. Memory stays at one block
    of rows; the disk holds the parts and the joined file.

    Raises
    ------
    ValueError
        If the parts differ in their genes or in the format of a matrix, or a matrix is stored by columns.
    OSError
        If the disk is too small.
    """
    if len(paths) == 1:
        return paths[0]
    stamps = [f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in paths]
    target = cache() / f"joined_{hashlib.sha256('|'.join(stamps).encode()).hexdigest()[:16]}.h5ad"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _room(target.parent, sum(path.stat().st_size for path in paths), "the file that joins the parts")
    logger.info("joining %d parts into %s", len(paths), target)
    part = target.with_suffix(".part")
    try:
        _write(paths, part, progress_bar=progress_bar)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _write(paths: Sequence[Path], target: Path, *, progress_bar: bool) -> None:
    import anndata
    import h5py
    from anndata.io import read_elem, write_elem
    from tqdm.auto import tqdm

    with ExitStack() as stack:
        parts = [stack.enter_context(h5py.File(path)) for path in paths]
        var = read_elem(parts[0]["var"])
        for path, part in zip(paths, parts, strict=True):
            if not read_elem(part["var"]).index.equals(var.index):
                msg = f"{path} has other genes than {paths[0]}, or another order: they are not parts of one file"
                raise ValueError(msg)
        with warnings.catch_warnings():
            # names that repeat are left to whoever reads the file
            warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
            # anndata unites the categories of a column; pandas would make it text
            obs = anndata.concat([anndata.AnnData(obs=read_elem(part["obs"])) for part in parts], join="outer").obs
        out = stack.enter_context(h5py.File(target, "w"))
        for name, elem in {"obs": obs, "var": var, "layers": {}, "obsm": {}}.items():
            write_elem(out, name, elem)
        out.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        keys = ["X", *(f"{group}/{name}" for group in ("layers", "obsm") for name in parts[0].get(group, ()))]
        hidden: dict[str, Any] = {} if progress_bar else {"disable": True}
        for key in tqdm(keys, "joining", **hidden):
            _stack(out, key, [part[key] for part in parts if key in part], len(parts))


def _stack(out: h5py.File, key: str, sources: list[Any], n_parts: int) -> None:
    """Write the matrices of all parts one below another."""
    kinds = {str(source.attrs.get("encoding-type", "array")) for source in sources}
    if len(sources) < n_parts or kinds not in ({"array"}, {"csr_matrix"}):
        if key == "X":
            msg = (
                f"X of the parts cannot be joined by rows: {len(sources)} of {n_parts} parts have one, as {some(kinds)}"
            )
            raise ValueError(msg)
        logger.warning("%s is left out: it is not a dense or CSR matrix in every part", key)
        return
    if kinds == {"array"}:
        _stack_dense(out, key, sources)
    else:
        _stack_csr(out, key, sources)


def _stack_dense(out: h5py.File, key: str, sources: list[Any]) -> None:
    first = sources[0]
    shape = (sum(source.shape[0] for source in sources), *first.shape[1:])
    rows = max(1, _BLOCK // max(1, first.dtype.itemsize * int(np.prod(first.shape[1:]))))
    stored = out.create_dataset(
        key, shape, np.result_type(*sources), chunks=first.chunks, compression=first.compression
    )
    stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    offset = 0
    for source in sources:
        for start in range(0, source.shape[0], rows):
            block = source[start : start + rows]
            stored[offset : offset + len(block)] = block
            offset += len(block)


def _stack_csr(out: h5py.File, key: str, sources: list[Any]) -> None:
    from anndata.io import sparse_dataset, write_elem

    for source in map(sparse_dataset, sources):
        per_row = max(1, source.group["data"].shape[0] // max(1, source.shape[0])) * 8
        rows = max(1, _BLOCK // per_row)
        for start in range(0, source.shape[0], rows):
            block = source[start : start + rows]
            if key in out:
                sparse_dataset(out[key]).append(block)
            else:
                # the whole may have more values than 32 bits can count
                block.indptr = block.indptr.astype(np.int64)
                group, _, name = key.rpartition("/")  # anndata refuses names with slashes
                write_elem(out[group or "/"], name, block)
