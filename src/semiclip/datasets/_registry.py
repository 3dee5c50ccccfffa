"""The public files, pinned by address and checksum in ``registry.txt``, and the folders where they lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip.errors import DamagedFile, DownloadFailed, MissingEntry

if TYPE_CHECKING:
    from pooch import Pooch

DATA_DIR = "SEMICLIP_DATA_DIR"


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
    KeyError
        If no file has this name.
    ValueError
        If a checksum is wrong. A file in ``SEMICLIP_DATA_DIR`` is never replaced.
    OSError
        If the file cannot be downloaded or stored. The cache never holds a part of a file.

    Examples
    --------
    >>> from semiclip.datasets import fetch
    >>> fetch("genesets/h.all.v7.0.symbols.gmt").name  # doctest: +SKIP
    'h.all.v7.0.symbols.gmt'
    """
    import pooch

    cache = pooch.create(cache_folder(), "", retry_if_failed=2)
    cache.load_registry(Path(__file__).with_name("registry.txt"))
    if name not in cache.registry:
        raise MissingEntry(name, cache.registry, "the public files", name="name")
    address, checksum = cache.get_url(name), cache.registry[name]
    if not (path := find_provided(name)):
        return download(cache, name)
    if (sha256 := pooch.file_hash(str(path), alg="sha256")) != checksum:
        reason = f"its SHA-256 is {sha256}, not the published {checksum}"
        raise DamagedFile(path, reason, f"replace it with {address}, or remove it so that it is downloaded")
    return path


def find_provided(name: str) -> Path | None:
    """Return the path of a file in the user's own folder, if there is one."""
    folder = os.environ.get(DATA_DIR)
    path = Path(folder or "").expanduser() / name
    return path if folder and path.is_file() else None


def cache_folder() -> Path:
    """Return the folder of downloaded files; it need not exist."""
    import pooch

    return Path(pooch.os_cache("semiclip"))


def download(cache: Pooch, name: str, downloader: Any = None) -> Path:
    """Return the path of a file in a cache, which pooch moves there only after the checksum proved right."""
    try:
        return Path(cache.fetch(name, downloader=downloader, progressbar=True))
    except (OSError, KeyError) as error:
        raise DownloadFailed(name, cache.get_url(name), explain(error), describe_storage(name)) from error
    except ValueError as error:
        raise DamagedFile(name, str(error), describe_storage(name)) from error


def explain(error: Exception) -> str:
    """Return the reason of an error; a KeyError of pooch is a refusal of Zenodo, which lists no files."""
    return f"no {error} in the answer, as if the server was busy" if isinstance(error, KeyError) else str(error)


def describe_storage(name: str) -> str:
    """Return what helps without a network."""
    return (
        f"get the file by other means, store it as {name} in a folder of yours, and set the environment variable "
        f"{DATA_DIR} (now {os.environ.get(DATA_DIR) or 'not set'}) to that folder"
    )
