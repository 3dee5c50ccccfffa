"""Public files, pinned in ``registry.txt`` or listed by Zenodo, and the folders where they lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip.errors import DamagedFile, DownloadFailed, MissingEntry

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from pooch import Pooch

DATA_DIR = "SEMICLIP_DATA_DIR"
_CHUNK = 1 << 20  # bytes; pooch's own 1,024 would be written one by one, a million times for each GB


def fetch(name: str) -> Path:
    """Path of a public file, which is downloaded if it is not on this machine.

    The folder that the environment variable ``SEMICLIP_DATA_DIR`` names is searched first, then the cache
    (``pooch.os_cache("semiclip")``). A file that is in neither is downloaded into the cache from a pinned commit. The
    SHA-256 must always be the published one. ``TQDM_DISABLE=1`` in the environment hides the progress bar.

    Parameters
    ----------
    name
        Relative path of the file: ``relationships/CORUM.txt`` (HuMAP, Reactome, SIGNOR, StringDB),
        ``genesets/h.all.v7.0.symbols.gmt`` (Hallmark), ``genesets/ReactomePathways_2024-09-18.gmt``, or a file behind
        one of the other loaders.

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

    cache = pooch.create(cache_folder(), "", retry_if_failed=2)
    cache.load_registry(Path(__file__).with_name("registry.txt"))
    if name not in cache.registry:
        raise MissingEntry(name, cache.registry, "the public files", name="name")
    if not (path := _find_provided(name)):
        return _download(cache, name)
    if (sha256 := pooch.file_hash(str(path), alg="sha256")) != cache.registry[name]:
        reason = f"its SHA-256 is {sha256}, not the published {cache.registry[name]}"
        way_out = f"replace it with {cache.get_url(name)}, or remove it so that it is downloaded"
        raise DamagedFile(path, reason, way_out)
    return path


def locate_files(
    alternatives: Sequence[Sequence[str]], dois: Sequence[str], *, progress_bar: bool = True
) -> list[Path]:
    """Return the paths of the first of several sets of file names that is there in full, downloading what is missing.

    Files in ``SEMICLIP_DATA_DIR`` are taken as they are, since only the records know their checksums. Others come from
    the cache or from the records, asked one after another; a download must have the MD5 that its record gives.
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
    way_out = "name the right file(s) with files="
    raise MissingEntry(names, records, f"the records {', '.join(dois)}", way_out=way_out)


def cache_folder(doi: str = "") -> Path:
    """Return the folder of downloaded files, or of those of a Zenodo record; it need not exist."""
    import pooch

    folder = Path(pooch.os_cache("semiclip"))
    return folder / "zenodo" / doi.rpartition(".")[2] if doi else folder


def _first_complete(alternatives: Sequence[Sequence[str]], names: Container[str]) -> Sequence[str]:
    return next((candidate for candidate in alternatives if all(name in names for name in candidate)), [])


def _find_provided(name: str) -> Path | None:
    """Return the path of a file in the user's own folder, if there is one."""
    folder = os.environ.get(DATA_DIR)
    path = Path(folder or "").expanduser() / name
    return path if folder and path.is_file() else None


def _find_stored(name: str, dois: Sequence[str]) -> Path | None:
    """Return the file in the user's own folder or, downloaded and checked before, in the cache."""
    cached = (path for doi in dois if (path := cache_folder(doi) / name).is_file())
    return _find_provided(name) or next(cached, None)


def _read_record(doi: str) -> Pooch:
    """Ask Zenodo which files a record holds."""
    import pooch

    record = pooch.create(cache_folder(doi), f"doi:{doi}", retry_if_failed=2)
    try:
        record.load_registry_from_doi()
    except (OSError, ValueError, KeyError) as error:
        way_out = f"try again later, or {_describe_storage('published')}"
        raise DownloadFailed(
            f"the list of files of {doi}", f"https://doi.org/{doi}", _explain(error), way_out
        ) from error
    return record


def _download(cache: Pooch, name: str, downloader: Any = None) -> Path:
    """Return the path of a file in a cache, which pooch moves there only after the checksum proved right."""
    try:
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
