"""Public files: those of the registry through `fetch`, those of Zenodo through the loaders that need them."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pooch
import pytest
import requests

import semiclip as scl
from semiclip import errors
from semiclip.datasets import fetch, l1000_crispr, replogle_rpe1

REGISTRY = Path(scl.datasets.__file__).with_name("registry.txt")
FILES = {line.split()[0]: line.split()[1:] for line in REGISTRY.read_text().splitlines()[1:]}
TOY, ADDRESS = "relationships/Toy.txt", "https://example.org/commit/Toy.txt"
CONTENT = b"entity1,entity2\nTP53,MDM2\n" * 1000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
OFFLINE = requests.ConnectionError("no network")

RECORDS = ("10.5281/zenodo.14037432", "10.5281/zenodo.14037465", "10.5281/zenodo.14039051")
NAME = "crispr_l1000.h5ad"
DOI_PAGE = f"https://doi.org/{RECORDS[0]}"
LISTS = [f"https://zenodo.org/api/records/{doi.rpartition('.')[2]}" for doi in RECORDS]
LINK = f"https://zenodo.org/14037432/{NAME}"
BUSY = b'{"status": 429, "message": "too many requests"}'


@pytest.fixture
def page(web, monkeypatch):
    """A registry with one file, which the network has."""

    def load(cache, path):
        cache.registry[TOY], cache.urls[TOY] = CHECKSUM, ADDRESS

    monkeypatch.setattr(pooch.Pooch, "load_registry", load)
    web.pages[ADDRESS] = CONTENT
    return web


def test_every_file_has_a_pinned_address_and_a_checksum(refuses):
    assert len(FILES) == 15
    pinned = r"raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}(/[\w.-]+)*"  # at a commit, or of a date
    dated = r"storage\.googleapis\.com(/[\w-]+)*/archive/monthly/tsv/hgnc_complete_set_\d{4}-\d{2}-\d{2}\.txt"
    for name, (checksum, address) in FILES.items():
        assert re.fullmatch(r"[0-9a-f]{64}", checksum)
        assert re.fullmatch(f"https://({pinned}|{dated})", address)
        assert address.endswith("/" + Path(name).name)
    with refuses(errors.MissingEntry, key="CORUM.txt", there=list(FILES)):
        fetch("CORUM.txt")


def test_published_files_are_found_in_the_data_dir(data_dir):
    # no test needs the names of HGNC, which such a folder may lack
    names = [name for name in FILES if not name.startswith("genes/") or (data_dir / name).is_file()]
    assert [fetch(name) for name in names] == [data_dir / name for name in names]


def test_download_is_cached_and_a_damaged_file_replaced(page):
    path = fetch(TOY)
    assert path == page.cache / TOY
    assert path.read_bytes() == CONTENT
    assert fetch(TOY) == path
    assert page.requests == [ADDRESS]
    path.write_bytes(b"damaged")
    assert fetch(TOY).read_bytes() == CONTENT


def test_data_dir_comes_first_and_is_read_at_call_time(page, folder, monkeypatch, refuses):
    assert fetch(TOY) == page.cache / TOY
    (folder / TOY).parent.mkdir()
    (folder / TOY).write_bytes(CONTENT)
    assert fetch(TOY) == folder / TOY
    (folder / TOY).write_bytes(b"damaged")
    with refuses(errors.DamagedFile, path=folder / TOY) as caught:
        fetch(TOY)
    assert hashlib.sha256(b"damaged").hexdigest() in caught.value.reason
    assert ADDRESS in caught.value.way_out
    assert (folder / TOY).read_bytes() == b"damaged"
    for other in ("", str(folder / "absent")):
        monkeypatch.setenv("SEMICLIP_DATA_DIR", other)
        assert fetch(TOY) == page.cache / TOY
    assert page.requests == [ADDRESS]


def test_wrong_checksum_of_the_download(page, refuses):
    page.pages[ADDRESS] = b"another version"
    with refuses(errors.DamagedFile, path=TOY) as caught:
        fetch(TOY)
    assert CHECKSUM in caught.value.reason
    assert page.requests == [ADDRESS] * 3
    assert page.files() == []


@pytest.mark.parametrize("answer", [404, 503, OFFLINE])
def test_download_fails(page, folder, answer, refuses):
    page.pages[ADDRESS] = answer
    with refuses(errors.DownloadFailed, what=TOY, address=ADDRESS) as caught:
        fetch(TOY)
    assert str(answer) in caught.value.reason
    assert str(folder) in caught.value.way_out
    assert page.files() == []
    shutil.rmtree(page.cache, ignore_errors=True)
    page.cache.write_text("a file where the folder should be")
    with refuses(errors.DownloadFailed, what=TOY):
        fetch(TOY)


def test_import_is_light():
    heavy = ["anndata", "matplotlib", "mudata", "pooch", "rdata", "scanpy", "scvi", "sklearn", "torch"]
    code = f"import sys, semiclip; semiclip.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Three files as bytes, of 4, 2 and 3 rows."""
    path = tmp_path_factory.mktemp("made") / "made.h5ad"
    contents = []
    for part, n in enumerate((4, 2, 3), start=1):
        genes = (["non-targeting", "TP53"] * n)[:n]
        obs = pd.DataFrame({"gene_name": genes, "dataset_batch_num": part}, index=[f"{part}_{row}" for row in range(n)])
        ad.AnnData(np.full((n, 2), part, np.float32), obs, pd.DataFrame(index=["ACTB", "GAPDH"])).write_h5ad(path)
        contents.append(path.read_bytes())
    return contents


@pytest.fixture
def record(web, contents):
    """A record that holds the file of L1000."""
    web.publish(RECORDS[0], {NAME: contents[0], "readme.txt": b"hello"})
    return web


def count_rows(*files):
    return l1000_crispr(backed=False, files=files or None).n_obs


def test_a_record_is_cached_and_used_without_a_network(record):
    assert count_rows() == 4
    assert record.files() == [NAME]
    assert record.requests[-1] == LINK
    record.pages.clear()
    n_requests = len(record.requests)
    assert count_rows() == 4
    assert len(record.requests) == n_requests


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of so few cells
def test_parts_come_from_their_records_and_are_joined(web, contents):
    for part, (doi, content) in enumerate(zip(RECORDS, contents, strict=True), start=1):
        web.publish(doi, {f"replogle_2022_part{part}.h5ad": content})
    for _ in range(2):
        cells = replogle_rpe1().to_memory()
        assert cells.obs["perturbation"].tolist() == ["control", "TP53"] * 3 + ["control", "TP53", "control"]
        assert cells.obs["batch"].tolist() == ["1"] * 4 + ["2"] * 2 + ["3"] * 3
        assert cells.X[:, 0].tolist() == [1.0] * 4 + [2.0] * 2 + [3.0] * 3
    assert [web.requests.count(address) for address in LISTS] == [2, 2, 2]  # for the list, and the file's address


def test_records_are_searched_in_turn_after_the_data_dir(web, folder, contents):
    web.publish(RECORDS[0], {"one.h5ad": contents[0]})
    web.publish(RECORDS[1], {"two.h5ad": contents[1], "one.h5ad": b"another one"})
    assert count_rows("one.h5ad", "two.h5ad") == 6
    assert LISTS[2] not in web.requests
    web.requests.clear()
    (folder / "three.h5ad").write_bytes(contents[2])
    assert count_rows("three.h5ad") == count_rows("three.h5ad") == 3
    assert web.requests == []
    web.publish(RECORDS[0], {"three.h5ad": contents[1], "four.h5ad": contents[0]})
    assert count_rows("three.h5ad", "four.h5ad") == 7
    assert [path.name for path in folder.iterdir()] == ["three.h5ad"]


def test_names_of_the_records_are_told_when_none_fits(web, contents, refuses):
    for doi, name in zip(RECORDS, "abc", strict=True):
        web.publish(doi, {f"{name}.h5ad": contents[0]})
    with refuses(errors.MissingEntry, key=[NAME, "l1000_crispr.h5ad"]) as caught:
        l1000_crispr()
    assert sorted(caught.value.there) == ["a.h5ad", "b.h5ad", "c.h5ad"]


def test_an_interrupted_download_leaves_nothing(record, contents, monkeypatch):
    def interrupt(reply, chunk_size):
        yield contents[0][:2000]
        raise KeyboardInterrupt

    monkeypatch.setattr("requests.Response.iter_content", interrupt)
    with pytest.raises(KeyboardInterrupt):
        l1000_crispr()
    assert record.files() == []


def test_a_wrong_checksum_in_a_record(web, contents, refuses):
    web.publish(RECORDS[0], {NAME: contents[0]}, md5="0" * 32)
    with refuses(errors.DamagedFile, path=NAME) as caught:
        l1000_crispr()
    assert "0" * 32 in caught.value.reason
    assert web.requests.count(LINK) == 3
    assert web.files() == []


@pytest.mark.parametrize(
    ("page", "answer"),
    [(LINK, 429), (LINK, OFFLINE), (DOI_PAGE, 404), (DOI_PAGE, OFFLINE)]
    + [(LISTS[0], answer) for answer in (OFFLINE, b"<html>", BUSY)],
)
def test_a_record_that_cannot_be_had(record, folder, page, answer, refuses):
    record.pages[page] = answer
    address = f"doi:{RECORDS[0]}/{NAME}" if page == LINK else DOI_PAGE
    with refuses(errors.DownloadFailed, address=address) as caught:
        l1000_crispr()
    assert str(folder) in caught.value.way_out
    assert record.files() == []


def test_a_refusal_between_the_list_and_the_file(record, monkeypatch, refuses):
    answers = [record.pages[LISTS[0]], BUSY]

    def get(url, **kwargs):
        if url == LISTS[0]:
            record.pages[url] = answers.pop(0)
        return record.get(url, **kwargs)

    monkeypatch.setattr("requests.get", get)
    with refuses(errors.DownloadFailed, what=NAME):
        l1000_crispr()


def test_the_bar_can_be_hidden(record, capsys):
    for shown in (True, False):
        l1000_crispr(progress_bar=shown, backed=False)
        assert bool(re.search(r"100%\|", capsys.readouterr().err)) == shown
        next(record.cache.rglob(NAME)).unlink()
