"""Files of Zenodo records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semiclip.datasets._registry import cache_folder, describe_storage, download, explain, find_provided
from semiclip.errors import DownloadFailed, MissingEntry

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from pooch import Pooch

_CHUNK = 1 << 20  # bytes; pooch's own 1,024 would be written one by one, a million times for each GB


def locate_files(
    alternatives: Sequence[Sequence[str]], dois: Sequence[str], *, progress_bar: bool = True
) -> list[Path]:
    """Return the paths of the first of several sets of file names that is there in full, downloading what is missing.

    Files in ``SEMICLIP_DATA_DIR`` are taken as they are, since only the records know their checksums. Others come from
    the cache or from the records, asked one after another; a download must have the MD5 that its record gives. An
    interrupted download starts again.
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
            return [stored.get(name) or download(records[name], name, downloader) for name in names]
    names = [name for names in alternatives for name in names]
    way_out = "name the right file(s) with files="
    raise MissingEntry(names, records, f"the records {', '.join(dois)}", way_out=way_out)


def _first_complete(alternatives: Sequence[Sequence[str]], names: Container[str]) -> Sequence[str]:
    return next((candidate for candidate in alternatives if all(name in names for name in candidate)), [])


def _find_stored(name: str, dois: Sequence[str]) -> Path | None:
    """Return the file in the user's own folder or, downloaded and checked before, in the cache."""
    cached = (path for doi in dois if (path := _record_folder(doi) / name).is_file())
    return find_provided(name) or next(cached, None)


def _read_record(doi: str) -> Pooch:
    """Ask Zenodo which files a record holds."""
    import pooch

    record = pooch.create(_record_folder(doi), f"doi:{doi}", retry_if_failed=2)
    try:
        record.load_registry_from_doi()
    except (OSError, ValueError, KeyError) as error:
        what, way_out = f"the list of files of {doi}", f"try again later, or {describe_storage('published')}"
        raise DownloadFailed(what, f"https://doi.org/{doi}", explain(error), way_out) from error
    return record


def _record_folder(doi: str) -> Path:
    return cache_folder() / "zenodo" / doi.rpartition(".")[2]
