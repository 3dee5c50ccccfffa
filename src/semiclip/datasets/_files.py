"""Public files, pinned in ``registry.txt`` or listed by Zenodo, where they lie, and how parts of one are joined."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._damage import say_reason
from semiclip._messages import warn
from semiclip._numerics import row_blocks, rows_at_once
from semiclip._storage import write_file
from semiclip.errors import DamagedFile, DownloadFailed, Mismatch, MissingEntry, Refused

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import h5py
    from pooch import Pooch

logger = logging.getLogger(__name__)

DATA_DIR = "SEMICLIP_DATA_DIR"
_CHUNK = 1 << 20  # bytes; pooch's own 1,024 would be written one by one, a million times for each GB
_BLOCK = 1 << 26  # bytes of a block of rows of parts that are joined


def fetch(name: str) -> Path:
    """Path of a public file, which is downloaded if it is not on this machine.

    It is looked for in the folder that the environment variable ``SEMICLIP_DATA_DIR`` names, then in the cache
    (``pooch.os_cache("semiclip")``). If it is in neither, it is downloaded from a pinned commit or a dated
    release. The SHA-256 must always be the published one. ``TQDM_DISABLE=1`` in the environment hides the progress bar.

    Parameters
    ----------
    name
        Relative path of the file: ``relationships/CORUM.txt`` (HuMAP, Reactome, SIGNOR, StringDB),
        ``genesets/h.all.v7.0.symbols.gmt`` (Hallmark), ``genesets/ReactomePathways_2024-09-18.gmt``,
        ``genes/hgnc_complete_set_2026-10-02.txt`` (HGNC), or a file behind one of the other loaders.

    Returns
    -------
    Path of the file.

    Raises
    ------
    ValueError
        If a checksum is wrong. A file in ``SEMICLIP_DATA_DIR`` is never replaced.
    OSError
        If the file cannot be downloaded or stored. The cache never holds a part of a file.

    Examples
    --------
    >>> import semiclip as scl
    >>> scl.datasets.fetch("genesets/h.all.v7.0.symbols.gmt").name  # doctest: +SKIP
    'h.all.v7.0.symbols.gmt'
    """
    import pooch

    cache = pooch.create(_cache_folder(), "", retry_if_failed=2)
    cache.load_registry(Path(__file__).with_name("registry.txt"))
    if name not in cache.registry:
        raise MissingEntry(name, cache.registry, "the public files", name="name")
    if not (path := _find_stored(name)):
        return _download(cache, name)
    if (sha256 := pooch.file_hash(str(path), alg="sha256")) != cache.registry[name]:
        reason = f"its SHA-256 is {sha256}, not the published {cache.registry[name]}"
        way_out = f"replace it with {cache.get_url(name)}, or remove it so that it is downloaded"
        raise DamagedFile(path, reason, way_out)
    return path


def locate_files(
    alternatives: Sequence[Sequence[str]], dois: Sequence[str], *, progress_bar: bool = True
) -> list[Path]:
    """Return the paths of the first of several sets of file names that is there in full.

    What neither the user's folder nor the cache has is downloaded, with the MD5 that the first record with it gives.
    """
    import pooch

    stored = {name: path for names in alternatives for name in names if (path := _find_stored(name, dois))}
    if names := _first_complete(alternatives, stored):
        return [stored[name] for name in names]
    records: dict[str, Pooch] = {}  # of each file the first record that holds it
    for doi in dois:
        record = _read_record(doi)
        records = {**dict.fromkeys(record.registry, record), **records}
        if names := _first_complete(alternatives, {**records, **stored}):
            downloader = pooch.DOIDownloader(progressbar=progress_bar, chunk_size=_CHUNK)
            return [stored.get(name) or _download(records[name], name, downloader) for name in names]
    names = [name for names in alternatives for name in names]
    where, way_out = f"the records {', '.join(dois)}", "name the right file(s) with files="
    raise MissingEntry(names, records, where, way_out=way_out)


def _cache_folder(doi: str = "") -> Path:
    """Return the folder of downloaded files, or of those of a Zenodo record; it need not exist."""
    import pooch

    folder = Path(pooch.os_cache("semiclip"))
    return folder / "zenodo" / doi.rpartition(".")[2] if doi else folder


def _first_complete(alternatives: Sequence[Sequence[str]], names: Container[str]) -> Sequence[str]:
    return next((candidate for candidate in alternatives if all(name in names for name in candidate)), [])


def _find_stored(name: str, dois: Sequence[str] = ()) -> Path | None:
    """Return the path of a file in the user's own folder or, downloaded and checked before, in the cache of records."""
    own = os.environ.get(DATA_DIR)
    folders = [*([Path(own).expanduser()] if own else []), *map(_cache_folder, dois)]
    return next((path for folder in folders if (path := folder / name).is_file()), None)


def _read_record(doi: str) -> Pooch:
    """Ask Zenodo which files a record holds."""
    import pooch

    record = pooch.create(_cache_folder(doi), f"doi:{doi}", retry_if_failed=2)
    try:
        record.load_registry_from_doi()
    except (OSError, ValueError, KeyError) as error:
        what, way_out = f"the list of files of {doi}", f"try again later, or {_describe_storage('published')}"
        raise DownloadFailed(what, f"https://doi.org/{doi}", _explain(error), way_out) from error
    return record


def _download(cache: Pooch, name: str, downloader: Any = None) -> Path:
    """Return the path of a file in a cache, which pooch moves there only after the checksum proved right."""
    try:
        # processes may fill a cache at the same time, and pooch takes a folder that another one just made for an error
        (Path(cache.abspath) / name).parent.mkdir(parents=True, exist_ok=True)
        return Path(cache.fetch(name, downloader=downloader, progressbar=True))
    except (OSError, KeyError) as error:
        raise DownloadFailed(name, cache.get_url(name), _explain(error), _describe_storage(name)) from error
    except ValueError as error:
        raise DamagedFile(name, str(error), _describe_storage(name)) from error


def _explain(error: Exception) -> str:
    """Return the reason of an error; a KeyError of pooch is a refusal of Zenodo, which lists no files."""
    return f"no {error} in the answer, as if the server was busy" if isinstance(error, KeyError) else str(error)


def _describe_storage(name: str) -> str:
    """Return what helps without a network."""
    return (
        f"get the file by other means, store it as {name} in a folder of yours, and set the environment variable "
        f"{DATA_DIR} (now {os.environ.get(DATA_DIR) or 'not set'}) to that folder"
    )


def check_h5ad(path: Path) -> None:
    """Refuse a file that is no HDF5, is cut short or holds no AnnData."""
    import h5py

    try:
        with h5py.File(path) as file:
            if missing := [name for name in ("obs", "var", "X") if name not in file]:
                raise Refused("an h5ad file has more than this one, which lacks", missing)
    except PermissionError:
        raise
    except (OSError, Refused) as error:
        raise DamagedFile(path, say_reason(error), "remove it, so that it is downloaded again") from error


def join_parts(paths: Sequence[Path]) -> Path:
    """Return the path of one file in the cache, written once, with all rows of the parts and what all parts have."""
    # anndata.experimental.concat_on_disk needs dask for dense matrices and reads sparse parts whole
    if len(paths) == 1:
        return paths[0]
    stamps = [f"{path.resolve()}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in paths]
    digest = hashlib.sha256("|".join(stamps).encode()).hexdigest()[:16]
    target = _cache_folder() / "zenodo" / f"joined_{digest}.h5ad"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("joining %d parts into %s", len(paths), target)
    write_file(target, partial(_write_joined, paths))  # under a name of this process, which others may do as well
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
                warn(f"{key} is left out: it is not a dense or CSR matrix in every part")


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
