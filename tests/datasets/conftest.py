from __future__ import annotations

import hashlib
import io
import json

import pooch
import pytest
import requests


class Web:
    """Stands for the network: answers what a test has put under ``pages``, bytes, a status or an error to raise."""

    def __init__(self, cache):
        self.cache, self.pages, self.requests = cache, {}, []

    def get(self, url, **kwargs):
        self.requests.append(url)
        page = self.pages.get(url, 404)
        if isinstance(page, Exception):
            raise page
        reply = requests.Response()
        reply.url = url.replace("doi.org/10.5281/zenodo.", "zenodo.org/records/")
        reply.status_code = page if isinstance(page, int) else 200
        content = b"{}" if isinstance(page, int) else page
        reply.raw, reply.headers["Content-Length"] = io.BytesIO(content), str(len(content))
        return reply

    def publish(self, doi, files, *, md5=None):
        """Publish files, by name, as a record of Zenodo."""
        number = doi.rpartition(".")[2]
        record = []
        for name, content in files.items():
            link, checksum = f"https://zenodo.org/{number}/{name}", f"md5:{md5 or hashlib.md5(content).hexdigest()}"
            record.append({"key": name, "checksum": checksum, "links": {"self": link}})
            self.pages[link] = content
        self.pages[f"https://doi.org/{doi}"] = b""
        self.pages[f"https://zenodo.org/api/records/{number}"] = json.dumps({"files": record}).encode()

    def files(self):
        return sorted(path.name for path in self.cache.rglob("*") if path.is_file())


@pytest.fixture
def web(monkeypatch, tmp_path):
    """No network and an empty cache; no waiting between attempts."""
    web = Web(tmp_path / "cache")
    monkeypatch.setattr("requests.get", web.get)
    monkeypatch.setattr(pooch, "os_cache", lambda _: web.cache)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.delenv("SEMICLIP_DATA_DIR", raising=False)
    return web


@pytest.fixture
def folder(web, monkeypatch, tmp_path):
    """An empty data folder of the user."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
