"""Joins the parts in which a large h5ad file is published, on disk and in blocks of rows."""

from __future__ import annotations

import hashlib
import logging
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.datasets._files import cache_folder
from semiclip.errors import Mismatch, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import h5py

logger = logging.getLogger(__name__)

_BLOCK = 1 << 26  # bytes of a block of rows


def join_parts(paths: Sequence[Path]) -> Path:
    """Return the path of one file with the rows of all parts in their order; it is written once, into the cache.

    ``obs``, ``var``, ``X`` and the layers and ``obsm`` arrays that all parts have are kept. Memory holds one block of
    rows. (``anndata.experimental.concat_on_disk`` needs dask for dense matrices and reads sparse parts whole.)
    """
    if len(paths) == 1:
        return paths[0]
    stamps = [f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in paths]
    name = f"joined_{hashlib.sha256('|'.join(stamps).encode()).hexdigest()[:16]}.h5ad"
    target = cache_folder() / "zenodo" / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("joining %d parts into %s", len(paths), target)
    unfinished = target.with_suffix(".part")
    try:
        _write_joined(paths, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _write_joined(paths: Sequence[Path], target: Path) -> None:
    import anndata
    import h5py
    from anndata.io import read_elem, write_elem

    with ExitStack() as stack:
        parts = [stack.enter_context(h5py.File(path)) for path in paths]
        var = read_elem(parts[0]["var"])
        for path, part in zip(paths, parts, strict=True):
            if not read_elem(part["var"]).index.equals(var.index):
                raise Refused("parts do not hold the same genes in the same order", [paths[0], path])
        with warnings.catch_warnings():
            # names that repeat are left to whoever reads the file
            warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
            # anndata unites the categories of a column; pandas would make it text
            obs = anndata.concat([anndata.AnnData(obs=read_elem(part["obs"])) for part in parts], join="outer").obs
        joined = stack.enter_context(h5py.File(target, "w"))
        for name, elem in {"obs": obs, "var": var, "layers": {}, "obsm": {}}.items():
            write_elem(joined, name, elem)
        joined.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        keys = ["X", *(f"{group}/{name}" for group in ("layers", "obsm") for name in parts[0].get(group, ()))]
        for key in keys:
            matrices = [part.get(key) for part in parts]
            formats = {None if matrix is None else matrix.attrs.get("encoding-type", "array") for matrix in matrices}
            if formats == {"array"}:
                _stack_dense(joined, key, matrices)
            elif formats == {"csr_matrix"}:
                _stack_csr(joined, key, matrices)
            elif key == "X":
                raise Mismatch("the format of X", sorted(map(str, formats)), "array or csr_matrix in every part")
            else:
                logger.warning("%s is left out: it is not a dense or CSR matrix in every part", key)


def _stack_dense(joined: h5py.File, key: str, matrices: list[Any]) -> None:
    first, dtype = matrices[0], np.result_type(*matrices)
    shape = (sum(matrix.shape[0] for matrix in matrices), *first.shape[1:])
    stored = joined.create_dataset(key, shape, dtype, chunks=first.chunks, compression=first.compression)
    stored.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    start = 0
    for block in _read_blocks(matrices, first.dtype.itemsize * int(np.prod(first.shape[1:]))):
        stored[start : start + len(block)] = block
        start += len(block)


def _stack_csr(joined: h5py.File, key: str, matrices: list[Any]) -> None:
    from anndata.io import sparse_dataset, write_elem

    n_rows = sum(matrix.attrs["shape"][0] for matrix in matrices)
    bytes_per_row = 8 * sum(matrix["data"].shape[0] for matrix in matrices) // max(1, n_rows)
    for block in _read_blocks([sparse_dataset(matrix) for matrix in matrices], bytes_per_row):
        if key in joined:
            sparse_dataset(joined[key]).append(block)
        else:
            # the whole may have more values than 32 bits can count
            block.indptr = block.indptr.astype(np.int64)
            group, _, name = key.rpartition("/")  # anndata refuses names with slashes
            write_elem(joined[group or "/"], name, block)


def _read_blocks(matrices: list[Any], bytes_per_row: int) -> Iterator[Any]:
    for matrix in matrices:
        for rows in row_blocks(matrix.shape[0], rows_at_once(_BLOCK, bytes_per_row)):
            yield matrix[rows]
