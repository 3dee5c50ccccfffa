"""Files of Zenodo records: what a record holds, and downloads that go on after a break."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._checks import some

from ._registry import DATA_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from requests import Response

logger = logging.getLogger(__name__)

_API = "https://zenodo.org/api/records"
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets
_TRIES = 5  # in a row without a new byte
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Published:
    """A file of a record: name, size in bytes, MD5 (the only checksum that Zenodo publishes) and address."""

    doi: str
    name: str
    size: int
    md5: str
    url: str


def locate(alternatives: Sequence[Sequence[str]], dois: Sequence[str], *, progress_bar: bool = True) -> list[Path]:
    """Return the paths of the first set of names that is there in full, downloading what is not on this machine.

    The folder named by ``SEMICLIP_DATA_DIR`` is looked at first; its files are taken as they are, since their checksums
    are known to the record alone. The rest comes from the cache or, checked, from the records.

    Parameters
    ----------
    alternatives
        Sets of file names, in order of preference.
    dois
        Records that may hold them, asked one after another.
    progress_bar
        Whether a bar shows the bytes; ``TQDM_DISABLE=1`` in the environment hides it too.

    Raises
    ------
    KeyError
        If the records hold none of the sets; the names that they hold are named.
    ValueError
        If a record cannot be understood, or a download twice has a wrong checksum.
    OSError
        If a record or a file cannot be read, or the disk is too small. What has arrived of a file is kept.
    """
    for names in alternatives:
        provided = [path for name in names if (path := _provided(name))]
        if len(provided) == len(names):
            return provided
    published: dict[str, Published] = {}
    for doi in dois:
        published = listing(doi) | published
        for names in alternatives:
            if all(name in published for name in names):
                return [_provided(name) or download(published[name], progress_bar=progress_bar) for name in names]
    wanted = " or ".join(some(names, len(names)) for names in alternatives)
    msg = (
        f"the records {some(dois, len(dois))} do not hold {wanted}, but "
        f"{some(published, len(published)) or 'nothing'}; name the right file(s) with files="
    )
    raise KeyError(msg)


def listing(doi: str) -> dict[str, Published]:
    """Return the files of a record by name; asked for once, then kept beside the files."""
    stored = _folder(doi) / "files.json"
    if not stored.is_file():
        address = f"{_API}/{_number(doi)}"
        try:
            with _get(address) as reply:
                files = _files(reply)
            stored.parent.mkdir(parents=True, exist_ok=True)
            fresh = stored.with_suffix(".json.part")
            fresh.write_text(json.dumps(files, indent=1))
            fresh.replace(stored)
        except OSError as error:
            msg = f"the list of files of {doi} could not be read from {address}: {error}. {_mend('the files')}"
            raise OSError(msg) from error
    return {name: Published(doi, name, **file) for name, file in json.loads(stored.read_text()).items()}


def download(file: Published, *, progress_bar: bool = True) -> Path:
    """Return a file of a record in the cache; its MD5 is checked once, after the download, and its size ever after."""
    import pooch

    folder = _folder(file.doi)
    if (path := folder / file.name).is_file() and path.stat().st_size == file.size:
        return path
    cache = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"md5:{file.md5}"},
        urls={file.name: file.url},
        retry_if_failed=1,  # of a wrong checksum; breaks are the downloader's own affair
    )
    part = folder / f"{file.name}.{file.md5[:8]}.part"  # what is left of another version is never gone on with
    try:
        return Path(cache.fetch(file.name, downloader=_Resumable(file, part, progress_bar=progress_bar)))
    except OSError as error:
        kept = f" {_size(part):,} of {file.size:,} bytes are kept; call again to go on." if _size(part) else ""
        msg = f"{file.name} could not be downloaded from {file.url} to {folder}: {error}.{kept} {_mend(file.name)}"
        raise OSError(msg) from error
    except ValueError as error:
        msg = (
            f"{file.name} from {file.url} is not the file that {file.doi} lists, and was not kept: {error}. If the "
            f"record has changed, remove {folder / 'files.json'} and call again. {_mend(file.name)}"
        )
        raise ValueError(msg) from error


class _Resumable:
    """Downloader for pooch that writes to ``part``, goes on from what is there, and gives it out when complete."""

    def __init__(self, file: Published, part: Path, *, progress_bar: bool) -> None:
        self.file, self.part, self.progress_bar = file, part, progress_bar

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        from requests import RequestException
        from tqdm.auto import tqdm

        size = self.file.size
        if _size(self.part) > size:
            self.part.unlink()
        _room(self.part.parent, size - _size(self.part), self.file.name)
        logger.info("downloading %s (%.2f GB) from %s", self.file.name, size / 1e9, self.file.doi)
        # an explicit disable=False would overrule TQDM_DISABLE
        hidden: dict[str, Any] = {} if self.progress_bar else {"disable": True}
        failures = 0
        start = _size(self.part)
        with tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=self.file.name, **hidden) as bar:
            while (have := _size(self.part)) < size or not self.part.exists():
                try:
                    self._receive(url, have, bar)
                except RequestException as error:
                    failures = 1 if _size(self.part) > have else failures + 1
                    if failures >= _TRIES:
                        msg = f"{_TRIES} attempts in a row brought no byte, lastly: {error}"
                        raise OSError(msg) from error
                    logger.info("%s broke off at %d bytes and goes on", self.file.name, _size(self.part))
                    time.sleep(2 ** (failures - 1))
        self.part.replace(output_file)

    def _receive(self, url: str, have: int, bar: Any) -> None:
        """Append what the server sends from byte ``have`` on, or all of it when it knows no ranges."""
        from requests import ConnectionError as Broken

        with _get(url, {"Range": f"bytes={have}-"} if have else {}) as reply:
            self._same_version(reply, have)
            if reply.status_code != 206:
                have = 0
            bar.n = have
            bar.refresh()
            with self.part.open("ab" if have else "wb") as file:
                for chunk in reply.iter_content(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
                    if have > self.file.size:
                        break
        if have > self.file.size:
            self._drop(f"more than the {self.file.size:,} bytes of the record arrive")
        if have < self.file.size:
            msg = f"the connection ended after {have:,} of {self.file.size:,} bytes"
            raise Broken(msg)

    def _same_version(self, reply: Response, have: int) -> None:
        """Refuse bytes that do not belong to what is there, before they are written."""
        tag = reply.headers.get("ETag", "").strip('"')  # on Zenodo the MD5
        if tag.startswith("md5:") and tag != f"md5:{self.file.md5}":
            self._drop(f"the server has another version, {tag}")
        if reply.status_code == 416:
            self._drop(f"its file on the server has no byte {have}")
        if reply.status_code == 206:
            span = reply.headers.get("Content-Range", "")
            if span != f"bytes {have}-{self.file.size - 1}/{self.file.size}":
                self._drop(f"asked for bytes {have}-{self.file.size - 1}, the server sends {span or 'an unnamed part'}")

    def _drop(self, reason: str) -> None:
        self.part.unlink(missing_ok=True)
        raise ValueError(reason)


def _get(url: str, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of success; an error of the server is raised as one that may pass, any other for good."""
    import requests

    # a file must arrive as it is stored, or its bytes could not be counted
    sent = {"Accept-Encoding": "identity", "User-Agent": "semiclip (python-requests)"} | (headers or {})
    reply = requests.get(url, headers=sent, stream=True, timeout=_TIMEOUT)
    code = reply.status_code
    if code in (200, 206) or (code == 416 and "Range" in sent):
        return reply
    reply.close()
    answer = f"{reply.url} answers {code} {reply.reason}"
    if code >= 500:
        raise requests.HTTPError(answer)
    if code in (403, 429):
        wait = reply.headers.get("Retry-After")
        answer += f": too many requests, or no permission. Try again {f'in {wait} seconds' if wait else 'later'}"
    raise OSError(answer)


def _files(reply: Response) -> dict[str, dict[str, Any]]:
    """Return size, MD5 and address by file name; pooch's own listing has no sizes and looks at no status."""
    try:
        entries = [
            (str(file["key"]), int(file["size"]), str(file["checksum"]), str(file["links"]["self"]))
            for file in reply.json()["files"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{reply.url} does not answer with a Zenodo record and its files ({type(error).__name__}: {error})"
        raise ValueError(msg) from error
    if odd := [name for name, _, checksum, _ in entries if Path(name).name != name or not checksum.startswith("md5:")]:
        msg = f"{reply.url} lists files without a plain name or an MD5: {some(odd)}"
        raise ValueError(msg)
    return {name: {"size": size, "md5": md5.removeprefix("md5:"), "url": url} for name, size, md5, url in entries}


def cache() -> Path:
    """Return the folder of all records in the cache; it need not exist."""
    import pooch

    return Path(pooch.os_cache("semiclip")) / "zenodo"


def _folder(doi: str) -> Path:
    return cache() / _number(doi)


def _number(doi: str) -> str:
    number = doi.rpartition("/zenodo.")[2]
    if not number.isdigit():
        msg = f"{doi!r} is not the DOI of a Zenodo record, such as 10.5281/zenodo.14037432"
        raise ValueError(msg)
    return number


def _provided(name: str) -> Path | None:
    """Return the file in the user's own folder, if there is one."""
    folder = os.environ.get(DATA_DIR)
    path = Path(folder or "").expanduser() / name
    return path if folder and path.is_file() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _room(folder: Path, needed: int, name: str) -> None:
    """Refuse what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = f"{name} needs {needed / 1e9:,.2f} GB more, but {folder} has {free / 1e9:,.2f} GB free"
        raise OSError(msg)


def _mend(what: str) -> str:
    return (
        f"To get {what} by other means, store under the published name in a folder of yours and set the environment "
        f"variable {DATA_DIR} (now {os.environ.get(DATA_DIR) or 'not set'}) to it"
    )
