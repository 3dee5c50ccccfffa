from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pooch
import pytest
import requests

import semiclip as scl
from semiclip import errors
from semiclip.datasets import fetch

REGISTRY = Path(scl.datasets.__file__).with_name("registry.txt")
FILES = {line.split()[0]: line.split()[1:] for line in REGISTRY.read_text().splitlines()[1:]}
NAME = "relationships/Toy.txt"
ADDRESS = "https://example.org/commit/Toy.txt"
CONTENT = b"entity1,entity2\nTP53,MDM2\n" * 1000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def page(web, monkeypatch):
    """A registry with one file, which the network has."""

    def load(cache, path):
        cache.registry[NAME], cache.urls[NAME] = CHECKSUM, ADDRESS

    monkeypatch.setattr(pooch.Pooch, "load_registry", load)
    web.pages[ADDRESS] = CONTENT
    return web


def test_every_file_has_a_pinned_address_and_a_checksum():
    assert len(FILES) == 12
    for name, (checksum, address) in FILES.items():
        assert re.fullmatch(r"[0-9a-f]{64}", checksum)
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}(/[\w.-]+)*", address)
        assert address.endswith("/" + Path(name).name)


@pytest.mark.parametrize("name", FILES)
def test_published_files_are_found_in_the_data_dir(data_dir, name):
    assert fetch(name) == data_dir / name


def test_unknown_file(refuses):
    with refuses(errors.MissingEntry, key="CORUM.txt", there=list(FILES)):
        fetch("CORUM.txt")


def test_download_is_cached_and_a_damaged_file_replaced(page):
    assert not page.cache.exists()
    path = fetch(NAME)
    assert path == page.cache / NAME
    assert path.read_bytes() == CONTENT
    assert fetch(NAME) == path
    assert page.asked == [ADDRESS]
    path.write_bytes(b"damaged")
    assert fetch(NAME).read_bytes() == CONTENT


def test_data_dir_comes_first_and_is_read_at_call_time(page, own, monkeypatch):
    assert fetch(NAME) == page.cache / NAME
    (own / NAME).parent.mkdir()
    (own / NAME).write_bytes(CONTENT)
    assert fetch(NAME) == own / NAME
    for folder in ("", str(own / "absent")):
        monkeypatch.setenv("SEMICLIP_DATA_DIR", folder)
        assert fetch(NAME) == page.cache / NAME
    assert page.asked == [ADDRESS]


def test_wrong_checksum_in_the_data_dir(page, own, refuses):
    (own / NAME).parent.mkdir()
    (own / NAME).write_bytes(b"damaged")
    with refuses(errors.DamagedFile, path=own / NAME) as caught:
        fetch(NAME)
    assert hashlib.sha256(b"damaged").hexdigest() in caught.value.reason
    assert ADDRESS in caught.value.way_out
    assert (own / NAME).read_bytes() == b"damaged"
    assert page.asked == []


def test_wrong_checksum_of_the_download(page, refuses):
    page.pages[ADDRESS] = b"another version"
    with refuses(errors.DamagedFile, path=NAME) as caught:
        fetch(NAME)
    assert CHECKSUM in caught.value.reason
    assert page.asked == [ADDRESS] * 3
    assert page.files() == []


@pytest.mark.parametrize("answer", [404, 503, requests.ConnectionError("no network")])
def test_download_fails(page, own, answer, refuses):
    page.pages[ADDRESS] = answer
    with refuses(errors.DownloadFailed, what=NAME, address=ADDRESS) as caught:
        fetch(NAME)
    assert str(answer) in caught.value.reason
    assert str(own) in caught.value.way_out
    assert page.files() == []


def test_cache_that_cannot_be_written(page, refuses):
    page.cache.write_text("a file where the folder should be")
    with refuses(errors.DownloadFailed, what=NAME):
        fetch(NAME)


def test_import_is_light():
    heavy = ["anndata", "matplotlib", "mudata", "pooch", "rdata", "scanpy", "scvi", "sklearn", "torch"]
    code = f"import sys, semiclip; semiclip.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
