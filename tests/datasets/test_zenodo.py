from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pooch
import pytest
from anndata import AnnData

from semiclip.datasets import _crispr, _zenodo
from semiclip.datasets._zenodo import download, listing, locate

DOI, OTHER = "10.5281/zenodo.11", "10.5281/zenodo.22"
CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
NAME = "cells.h5ad"
PART = f"{NAME}.{MD5[:8]}.part"


class _Handler(BaseHTTPRequestHandler):
    """Answers as Zenodo does; a test bends the next answers to a path by a list of settings in ``site.bent``."""

    def __init__(self, *args, site, **kwargs):
        self.site = site
        super().__init__(*args, **kwargs)

    def do_GET(self):
        asked = self.headers.get("Range")
        self.site.asked.append((self.path, asked))
        bent = self.site.bent.get(self.path, [])
        how = bent.pop(0) if bent else {}
        if self.path not in self.site.pages and "status" not in how:
            how = {"status": 404}
        body = how.get("body", self.site.pages.get(self.path, b""))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and how.get("ranges", True) else 0
        total = len(body)
        status = how.get("status", (206 if start < total else 416) if start else 200)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", how.get("span", f"bytes {start}-{total - 1}/{total}"))
        for key, value in how.get("headers", {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(total - start if status < 400 else 0))
        self.end_headers()
        if status >= 400:
            return
        # to break is to close the connection before the announced length has been sent
        self.wfile.write(body[start : how.get("until", total)])
        threading.Event().wait(how.get("stall", 0))

    def log_message(self, *args):
        pass


class _Site:
    def __init__(self, folder):
        self.folder, self.pages, self.bent, self.asked, self.url = folder, {}, {}, [], ""

    def publish(self, doi=DOI, *, name=NAME, content=CONTENT, md5=None):
        number = doi.rpartition(".")[2]
        record = json.loads(self.pages.get(f"/records/{number}", b'{"files": []}'))
        path = f"/records/{number}/files/{name}/content"
        checksum = f"md5:{md5 or hashlib.md5(content).hexdigest()}"
        file = {"key": name, "size": len(content), "checksum": checksum, "links": {"self": self.url + path}}
        record["files"].append(file)
        self.pages[f"/records/{number}"] = json.dumps(record).encode()
        self.pages[path] = content
        return path

    def ranges(self):
        return [asked for path, asked in self.asked if path.endswith("/content")]

    def files(self):
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A local Zenodo, an empty cache, no waiting between attempts."""
    site = _Site(tmp_path / "cache")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, site=site))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(_zenodo, "_API", f"{site.url}/records")
    monkeypatch.setattr(_zenodo, "_CHUNK", 1000)
    monkeypatch.setattr(pooch, "os_cache", lambda _: site.folder)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.delenv("SEMICLIP_DATA_DIR", raising=False)
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def _left(site, content):
    """Leave a part of an earlier download."""
    part = site.folder / "zenodo" / "11" / PART
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    return part


def test_listing_names_sizes_and_checksums_and_is_asked_for_once(site):
    path = site.publish()
    site.publish(name="readme.txt", content=b"hello")
    for _ in range(2):
        files = listing(DOI)
    assert list(files) == [NAME, "readme.txt"]
    assert files[NAME] == _zenodo.Published(DOI, NAME, 300_000, MD5, site.url + path)
    assert site.asked == [("/records/11", None)]
    assert site.files() == ["files.json"]


def test_download_is_cached_with_its_listing(site):
    site.publish()
    (path,) = locate([[NAME]], [DOI])
    assert path == site.folder / "zenodo" / "11" / NAME
    assert path.read_bytes() == CONTENT
    site.pages.clear()
    assert locate([[NAME]], [DOI]) == [path]
    assert len(site.asked) == 2
    assert site.files() == [NAME, "files.json"]


def test_broken_connections_go_on_in_the_same_call(site, caplog):
    caplog.set_level(logging.INFO, logger="semiclip")
    path = site.publish()
    site.bent[path] = [{"until": 100_000}, {"until": 100_000}, {"until": 250_000}]
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    first, second, third, fourth = site.ranges()
    assert first is None
    assert second == third == "bytes=100000-"
    assert fourth == "bytes=250000-"
    assert "broke off at 250000 bytes" in caplog.text


def test_a_later_call_goes_on_from_what_is_there(site):
    site.publish()
    part = _left(site, CONTENT[:123_456])
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == ["bytes=123456-"]
    assert not part.exists()


def test_a_complete_part_needs_no_request(site):
    site.publish()
    _left(site, CONTENT)
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == []


def test_a_server_without_ranges_starts_again(site):
    path = site.publish()
    _left(site, b"x" * 1000)  # would spoil the file if it were gone on with
    site.bent[path] = [{"ranges": False}]
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == ["bytes=1000-"]


def test_no_byte_in_five_attempts(site):
    path = site.publish()
    site.bent[path] = [{"until": 5000}, *[{"until": 0}] * 9]
    expected = (
        rf"{NAME} could not be downloaded from http://.*/content to .*11: 5 attempts in a row brought no byte, lastly: "
        r".*5,000 of 300,000 bytes are kept; call again to go on\. To get .*SEMICLIP_DATA_DIR \(now not set\) to it"
    )
    with pytest.raises(OSError, match=expected):
        download(listing(DOI)[NAME])
    assert site.files() == [PART, "files.json"]
    assert (site.folder / "zenodo" / "11" / PART).read_bytes() == CONTENT[:5000]
    site.bent.clear()
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT


def test_errors_of_the_server_may_pass(site):
    path = site.publish()
    site.bent[path] = [{"status": 503}, {"status": 502}]
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert len(site.ranges()) == 3


def test_a_server_that_falls_silent(site, monkeypatch):
    monkeypatch.setattr(_zenodo, "_TIMEOUT", (5, 0.2))
    path = site.publish()
    site.bent[path] = [{"until": 100_000, "stall": 1}]
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == [None, "bytes=100000-"]


def test_interruption_leaves_the_part(site, monkeypatch):
    site.publish()
    file = listing(DOI)[NAME]
    monkeypatch.setattr("requests.Response.iter_content", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(file)
    assert site.files() == [PART, "files.json"]
    assert (site.folder / "zenodo" / "11" / PART).read_bytes() == CONTENT[:2000]


def _interrupted(reply, size):
    yield CONTENT[:2000]
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "bend",
    [
        {"headers": {"ETag": '"md5:0123"'}},
        {"span": "bytes 7-9/10"},
        {"body": CONTENT[:500]},
        {"body": CONTENT[::-1]},
        {"body": CONTENT + b"!", "span": "bytes 1000-299999/300000"},
    ],
    ids=["another tag", "another span", "a shorter file", "another content", "more bytes"],
)
def test_a_changed_file_is_dropped_and_fetched_again_once(site, bend):
    path = site.publish()
    _left(site, CONTENT[:1000])
    site.bent[path] = [bend]
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == ["bytes=1000-", None]
    assert site.files() == [NAME, "files.json"]


def test_a_wrong_checksum_twice(site):
    site.publish(md5="0" * 32)
    expected = (
        rf"{NAME} from http://.* is not the file that {DOI} lists, and was not kept: .*0{{32}}.*If the record has "
        r"changed, remove .*11/files\.json and call again\. .*store under the published name"
    )
    with pytest.raises(ValueError, match=expected):
        download(listing(DOI)[NAME])
    assert site.ranges() == [None, None]
    assert site.files() == ["files.json"]


def test_an_old_part_too_long_is_dropped(site):
    site.publish()
    _left(site, CONTENT + b"more")
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT
    assert site.ranges() == [None]


def test_a_cached_file_of_another_size_is_replaced(site):
    site.publish()
    path = download(listing(DOI)[NAME])
    path.write_bytes(b"damaged")
    assert download(listing(DOI)[NAME]).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        ({"status": 404}, "answers 404 Not Found"),
        (
            {"status": 429, "headers": {"Retry-After": "59"}},
            "answers 429 Too Many Requests: too many requests, or no permission. Try again in 59 seconds",
        ),
        ({"status": 403}, "answers 403 Forbidden: too many requests, or no permission. Try again later"),
    ],
)
def test_refusals_are_final_and_keep_the_part(site, bend, message):
    path = site.publish()
    files = listing(DOI)
    part = _left(site, CONTENT[:1000])
    site.bent[path] = [bend] * 3
    with pytest.raises(OSError, match=rf"{message}\. 1,000 of 300,000 bytes are kept; call again"):
        download(files[NAME])
    assert len(site.ranges()) == 1
    assert part.read_bytes() == CONTENT[:1000]
    site.bent["/records/22"] = [bend]
    with pytest.raises(OSError, match=rf"the list of files of {OTHER} could not be read from http://.*22: .*{message}"):
        listing(OTHER)
    assert site.files() == [PART, "files.json"]


def _record(key, checksum):
    return json.dumps({"files": [{"key": key, "size": 1, "checksum": checksum, "links": {"self": "x"}}]}).encode()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (b"<html>", "does not answer with a Zenodo record and its files"),
        (b'{"metadata": {}}', r"does not answer with a Zenodo record and its files \(KeyError: 'files'\)"),
        (_record("../x", "md5:0"), "lists files without a plain name or an MD5: ../x"),
        (_record("x", "sha1:0"), "lists files without a plain name or an MD5: x"),
    ],
)
def test_a_page_that_is_no_record(site, page, message):
    site.pages["/records/11"] = page
    with pytest.raises(ValueError, match=message):
        listing(DOI)
    assert site.files() == []


def test_offline(site, monkeypatch):
    site.publish()
    files = listing(DOI)
    monkeypatch.setattr(_zenodo, "_API", "http://127.0.0.1:9")  # answers nothing
    with pytest.raises(OSError, match=rf"the list of files of {OTHER} could not be read from http://127.0.0.1:9/22"):
        listing(OTHER)
    lost = _zenodo.Published(DOI, NAME, 10, MD5, "http://127.0.0.1:9/x")
    with pytest.raises(OSError, match=r"5 attempts in a row brought no byte.*\. To get cells.h5ad by other means"):
        download(lost)
    assert download(files[NAME]).read_bytes() == CONTENT


def test_a_disk_too_small_is_found_before_the_download(site, monkeypatch):
    site.publish()
    file = listing(DOI)[NAME]
    _left(site, CONTENT[:100_000])
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 199_999}))
    with pytest.raises(OSError, match=rf"{NAME} needs 0\.00 GB more, but .*11 has 0\.00 GB free.*100,000 of 300,000"):
        download(file)
    assert site.ranges() == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 200_000}))
    assert download(file).read_bytes() == CONTENT


def test_the_bar_starts_at_what_is_there_and_can_be_hidden(site, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE")
    path = site.publish()
    _left(site, CONTENT[:150_000])
    site.bent[path] = [{"until": 200_000}]
    first = download(listing(DOI)[NAME])
    shown = re.findall(r"cells.h5ad: +(\d+)%\|", capsys.readouterr().err)
    assert shown[0] == "50"
    assert shown[-1] == "100"
    first.unlink()
    download(listing(DOI)[NAME], progress_bar=False)
    assert "cells.h5ad:" not in capsys.readouterr().err


def test_tqdm_disable(site):
    # tqdm reads the environment when it is imported, hence a process of its own
    code = (
        f"import pooch; from pathlib import Path; pooch.os_cache = lambda _: Path({str(site.folder)!r}); "
        "from semiclip.datasets._zenodo import Published, download; "
        f"download(Published({DOI!r}, {NAME!r}, {len(CONTENT)}, {MD5!r}, {site.url + site.publish()!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (site.folder / "zenodo" / "11" / NAME).read_bytes() == CONTENT
    assert "%|" not in done.stderr


def test_records_are_asked_in_turn_until_one_set_is_there(site):
    site.publish(DOI, name="one.h5ad", content=b"1")
    site.publish(OTHER, name="two.h5ad", content=b"22")
    site.publish(OTHER, name="one.h5ad", content=b"another one")
    paths = locate([["three.h5ad"], ["one.h5ad", "two.h5ad"]], [DOI, OTHER, "10.5281/zenodo.33"])
    assert [path.read_bytes() for path in paths] == [b"1", b"22"]
    assert ("/records/33", None) not in site.asked


def test_the_data_dir_comes_first_also_for_a_part_of_a_set(site, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("SEMICLIP_DATA_DIR", str(own))
    (own / "one.h5ad").write_bytes(b"mine")
    assert locate([["one.h5ad"]], [DOI]) == [own / "one.h5ad"]
    assert site.asked == []
    site.publish(name="one.h5ad", content=b"1")
    site.publish(name="two.h5ad", content=b"22")
    assert locate([["one.h5ad", "two.h5ad"]], [DOI]) == [own / "one.h5ad", site.folder / "zenodo" / "11" / "two.h5ad"]
    assert [path.name for path in own.iterdir()] == ["one.h5ad"]


def test_an_empty_file(site):
    site.publish(content=b"")
    assert download(listing(DOI)[NAME]).read_bytes() == b""


def test_from_the_records_to_the_cells(site, tmp_path, monkeypatch):
    n_obs = [4, 2, 3]
    for part, (doi, n) in enumerate(zip(_crispr._RECORDS, n_obs, strict=True), start=1):
        genes = (["non-targeting", "TP53"] * n)[:n]
        obs = pd.DataFrame({"gene_name": genes, "dataset_batch_num": part}, index=[f"{part}_{row}" for row in range(n)])
        adata = AnnData(np.full((n, 2), part, np.float32), obs, pd.DataFrame(index=["ACTB", "GAPDH"]))
        adata.write_h5ad(tmp_path / "part.h5ad")
        content = (tmp_path / "part.h5ad").read_bytes()
        site.bent[site.publish(doi, name=f"replogle_2022_part{part}.h5ad", content=content)] = [{"until": 3000}]
    for asked in (9, 9):
        cells = _crispr.replogle_rpe1().to_memory()
        assert cells.obs["perturbation"].tolist() == ["control", "TP53"] * 3 + ["control", "TP53", "control"]
        assert cells.obs["batch"].tolist() == ["1"] * 4 + ["2"] * 2 + ["3"] * 3
        assert cells.X[:, 0].tolist() == [1.0] * 4 + [2.0] * 2 + [3.0] * 3
        assert len(site.asked) == asked  # three listings, three files in two pieces each; then nothing more
