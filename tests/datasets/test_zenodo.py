"""Files of Zenodo records, as the loaders that need them get them."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import requests

from semiclip import errors
from semiclip.datasets import l1000_crispr, replogle_rpe1

RECORDS = ("10.5281/zenodo.14037432", "10.5281/zenodo.14037465", "10.5281/zenodo.14039051")
NAME = "crispr_l1000.h5ad"
DOI_PAGE = f"https://doi.org/{RECORDS[0]}"
LISTS = [f"https://zenodo.org/api/records/{doi.rpartition('.')[2]}" for doi in RECORDS]
LINKS = [f"https://zenodo.org/{doi.rpartition('.')[2]}/{NAME}" for doi in RECORDS]


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


def _count_rows(**arguments):
    return l1000_crispr(backed=False, **arguments).n_obs


def test_a_download_is_cached_and_used_without_a_network(web, contents):
    web.publish(RECORDS[0], {NAME: contents[0], "readme.txt": b"hello"})
    assert _count_rows() == 4
    assert web.files() == [NAME]
    assert web.asked[-1] == LINKS[0]
    web.pages.clear()
    n_asked = len(web.asked)
    assert _count_rows() == 4
    assert len(web.asked) == n_asked


def test_parts_come_from_their_records_and_are_joined(web, contents):
    for part, (doi, content) in enumerate(zip(RECORDS, contents, strict=True), start=1):
        web.publish(doi, {f"replogle_2022_part{part}.h5ad": content})
    for _ in range(2):
        cells = replogle_rpe1().to_memory()
        assert cells.obs["perturbation"].tolist() == ["control", "TP53"] * 3 + ["control", "TP53", "control"]
        assert cells.obs["batch"].tolist() == ["1"] * 4 + ["2"] * 2 + ["3"] * 3
        assert cells.X[:, 0].tolist() == [1.0] * 4 + [2.0] * 2 + [3.0] * 3
    assert [web.asked.count(address) for address in LISTS] == [2, 2, 2]  # for the list, and for the address of the file


def test_records_are_asked_in_turn_until_one_set_is_there(web, contents):
    web.publish(RECORDS[0], {"one.h5ad": contents[0]})
    web.publish(RECORDS[1], {"two.h5ad": contents[1], "one.h5ad": b"another one"})
    assert _count_rows(files=["one.h5ad", "two.h5ad"]) == 6
    assert LISTS[2] not in web.asked


def test_the_data_dir_comes_first_also_for_a_part_of_a_set(web, own, contents):
    (own / "one.h5ad").write_bytes(contents[0])
    assert _count_rows(files=["one.h5ad"]) == 4
    assert web.asked == []
    web.publish(RECORDS[0], {"one.h5ad": contents[2], "two.h5ad": contents[1]})
    assert _count_rows(files=["one.h5ad", "two.h5ad"]) == 6
    assert [path.name for path in own.iterdir()] == ["one.h5ad"]


def test_names_of_the_records_are_given_when_none_fits(web, contents, refuses):
    for doi, name in zip(RECORDS, "abc", strict=True):
        web.publish(doi, {f"{name}.h5ad": contents[0]})
    with refuses(errors.MissingEntry, key=[NAME, "l1000_crispr.h5ad"]) as caught:
        l1000_crispr()
    assert sorted(caught.value.there) == ["a.h5ad", "b.h5ad", "c.h5ad"]


def test_an_interrupted_download_leaves_nothing(web, contents, monkeypatch):
    web.publish(RECORDS[0], {NAME: contents[0]})

    def interrupt(reply, chunk_size):
        yield contents[0][:2000]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("requests.Response.iter_content", interrupt)
        with pytest.raises(KeyboardInterrupt):
            l1000_crispr()
    assert web.files() == []


def test_a_wrong_checksum(web, contents, refuses):
    web.publish(RECORDS[0], {NAME: contents[0]}, md5="0" * 32)
    with refuses(errors.DamagedFile, path=NAME) as caught:
        l1000_crispr()
    assert "0" * 32 in caught.value.reason
    assert web.asked.count(LINKS[0]) == 3
    assert web.files() == []


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        (LINKS[0], 429),
        (LINKS[0], requests.ConnectionError("no network")),
        (DOI_PAGE, 404),
        (DOI_PAGE, requests.ConnectionError("no network")),
        (LISTS[0], requests.ConnectionError("no network")),
        (LISTS[0], b"<html>"),
        (LISTS[0], b'{"status": 429, "message": "too many requests"}'),
    ],
)
def test_what_cannot_be_had(web, own, contents, page, answer, refuses):
    web.publish(RECORDS[0], {NAME: contents[0]})
    web.pages[page] = answer
    address = f"doi:{RECORDS[0]}/{NAME}" if page == LINKS[0] else DOI_PAGE
    with refuses(errors.DownloadFailed, address=address) as caught:
        l1000_crispr()
    assert str(own) in caught.value.way_out
    assert web.files() == []


def test_a_refusal_between_the_list_and_the_file(web, contents, monkeypatch, refuses):
    web.publish(RECORDS[0], {NAME: contents[0]})
    answers = [web.pages[LISTS[0]], b'{"status": 429, "message": "too many requests"}']

    def get(url, **kwargs):
        if url == LISTS[0]:
            web.pages[url] = answers.pop(0)
        return web.get(url, **kwargs)

    monkeypatch.setattr("requests.get", get)
    with refuses(errors.DownloadFailed, what=NAME):
        l1000_crispr()


def test_the_bar_can_be_hidden(web, contents, capsys):
    web.publish(RECORDS[0], {NAME: contents[0]})
    for shown in (True, False):
        l1000_crispr(progress_bar=shown, backed=False)
        assert bool(re.search(r"100%\|", capsys.readouterr().err)) == shown
        next(web.cache.rglob(NAME)).unlink()
