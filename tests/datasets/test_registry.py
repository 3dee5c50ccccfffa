from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

from semiclip.datasets import _registry, fetch

NAME = "relationships/Toy.txt"
CONTENT = b"entity1,entity2\nTP53,MDM2\n" * 1000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Serves what the test has put under ``replies``: the bytes and the announced length, or nothing (404)."""

    def __init__(self, *args, replies, **kwargs):
        self.replies = replies
        super().__init__(*args, **kwargs)

    def do_GET(self):
        reply = self.replies.get(self.path)
        self.replies["asked"].append(self.path)
        if reply is None:
            self.send_error(404)
            return
        body, length = reply
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A local server in place of GitHub, a registry with one file, an empty cache, and no waiting between retries."""
    replies = {"asked": []}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, replies=replies))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(_registry, "_GITHUB", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(_registry, "FILES", {NAME: ("owner/repo/commit", CHECKSUM)})
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SEMICLIP_DATA_DIR", raising=False)
    yield replies
    server.shutdown()
    thread.join()
    server.server_close()


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_file_has_a_pinned_address_and_a_checksum():
    assert len(_registry.FILES) == 12
    for folder, checksum in _registry.FILES.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+/[0-9a-f]{40}(/[\w.-]+)*", folder)
        assert re.fullmatch(r"[0-9a-f]{64}", checksum)


@pytest.mark.parametrize("name", _registry.FILES)
def test_published_files_are_found_in_the_data_dir(data_dir, name):
    assert fetch(name) == data_dir / name


def test_unknown_file():
    with pytest.raises(
        KeyError, match=r"no public file is called 'CORUM.txt'; choose one of .*relationships/CORUM.txt"
    ):
        fetch("CORUM.txt")


def test_download_is_cached(site, tmp_path):
    site["/owner/repo/commit/Toy.txt"] = (CONTENT, len(CONTENT))
    path = fetch(NAME)
    assert path == tmp_path / "cache" / NAME
    assert path.read_bytes() == CONTENT
    site.pop("/owner/repo/commit/Toy.txt")
    assert fetch(NAME) == path
    assert site["asked"] == ["/owner/repo/commit/Toy.txt"]


def test_nothing_is_made_before_a_download(site, tmp_path):
    assert not (tmp_path / "cache").exists()


def test_damaged_file_in_the_cache_is_replaced(site, tmp_path):
    path = tmp_path / "cache" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    site["/owner/repo/commit/Toy.txt"] = (CONTENT, len(CONTENT))
    assert fetch(NAME).read_bytes() == CONTENT


def test_data_dir_comes_first_and_is_read_at_call_time(site, tmp_path, monkeypatch):
    path = tmp_path / "own" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(tmp_path / "own"))
    assert fetch(NAME) == path
    assert site["asked"] == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("folder", ["", "empty", "absent"])
def test_file_missing_in_the_data_dir_is_downloaded(site, tmp_path, monkeypatch, folder):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SEMICLIP_DATA_DIR", folder and str(tmp_path / folder))
    site["/owner/repo/commit/Toy.txt"] = (CONTENT, len(CONTENT))
    assert fetch(NAME) == tmp_path / "cache" / NAME
    assert _files(tmp_path / "empty") == []


def test_wrong_checksum_in_the_data_dir(site, tmp_path, monkeypatch):
    path = tmp_path / "own" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(tmp_path / "own"))
    found = hashlib.sha256(b"damaged").hexdigest()
    expected = (
        rf"{re.escape(str(path))} has the SHA-256 {found}, not the published {CHECKSUM}.*Replace it with "
        rf"http://.*/owner/repo/commit/Toy\.txt, or remove it from SEMICLIP_DATA_DIR="
    )
    with pytest.raises(ValueError, match=expected):
        fetch(NAME)
    assert path.read_bytes() == b"damaged"
    assert site["asked"] == []


def test_wrong_checksum_of_the_download(site, tmp_path):
    site["/owner/repo/commit/Toy.txt"] = (b"another version", 15)
    expected = (
        rf"{NAME} from http://.*/Toy.txt is not the published file and was not kept: .*{CHECKSUM}.*"
        rf"store it as {NAME} in a folder of yours.*SEMICLIP_DATA_DIR \(now not set\) to that folder"
    )
    with pytest.raises(ValueError, match=expected):
        fetch(NAME)
    assert len(site["asked"]) == 3
    assert _files(tmp_path / "cache") == []


@pytest.mark.parametrize("reply", [None, (CONTENT[:1000], len(CONTENT))], ids=["no such page", "broken off"])
def test_download_fails(site, tmp_path, monkeypatch, reply):
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(tmp_path))
    site["/owner/repo/commit/Toy.txt"] = reply
    expected = (
        rf"{NAME} could not be downloaded from http://.*/Toy.txt to .*cache: .*store it as {NAME} in a folder of "
        rf"yours.*SEMICLIP_DATA_DIR \(now {re.escape(str(tmp_path))}\) to that folder"
    )
    with pytest.raises(OSError, match=expected):
        fetch(NAME)
    assert _files(tmp_path / "cache") == []


def test_offline(site, tmp_path, monkeypatch):
    # port 9 of this machine answers nothing
    monkeypatch.setattr(_registry, "_GITHUB", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=rf"{NAME} could not be downloaded from http://127.0.0.1:9/.*SEMICLIP_DATA_DIR"):
        fetch(NAME)
    assert _files(tmp_path / "cache") == []


def test_cache_that_cannot_be_written(site, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    site["/owner/repo/commit/Toy.txt"] = (CONTENT, len(CONTENT))
    with pytest.raises(OSError, match=rf"{NAME} could not be downloaded from .* to .*cache: .*SEMICLIP_DATA_DIR"):
        fetch(NAME)


def test_import_is_light():
    heavy = ["anndata", "matplotlib", "mudata", "pooch", "rdata", "scanpy", "scvi", "sklearn", "torch"]
    code = f"import sys, semiclip; semiclip.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
