from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip._report import _about, _page, _report
from semiclip._report._format import count, decimals, interval, listed, p_value, share


@pytest.fixture
def never(monkeypatch):
    """Fail if anything is computed."""

    def computed(*_):
        pytest.fail("the work began")

    monkeypatch.setattr(_report, "computed", computed)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": []}, ValueError, "use_rep names no representation"),
        ({"use_rep": "absent"}, KeyError, "use_rep='absent' is not in obsm"),
        ({"use_rep": list("abcdefg")}, ValueError, r"names 7 representations \(a, .*\); the page shows at most 6"),
        ({"base": "absent"}, KeyError, "base='absent' is not in use_rep, which has planted"),
        ({"n_permutations": 99}, ValueError, "n_permutations=99 must be a whole number of at least 100"),
        ({"n_permutations": True}, ValueError, "n_permutations=True must be"),
        ({"n_permutations": 100.0}, ValueError, "n_permutations=100.0 must be"),
        ({"control": "absent"}, ValueError, r"control label\(s\) absent match no row"),
        ({"batch_key": "absent"}, KeyError, "batch_key='absent' is not a column of obs"),
        ({"gene_sets": "absent.gmt"}, FileNotFoundError, "no gene sets are called 'absent.gmt'"),
        ({"preservation": pd.DataFrame({"value": [1.0]})}, KeyError, "draw what scl.tl.preservation returns"),
        ({"preservation": [1]}, TypeError, "table is a list"),
    ],
)
def test_mistakes_are_refused_before_the_work(tmp_path, adata, known, never, change, error, message, study):
    how = {"use_rep": "planted", "relationships": known, **study.keys, **study.quick} | change
    with pytest.raises(error) as raised:
        scl.report(adata, tmp_path / "report.html", **how)
    assert re.search(message, str(raised.value.args[0]))
    assert not list(tmp_path.iterdir())


def test_paths_are_refused_before_the_work(tmp_path, adata, known, never, monkeypatch, study):
    how = {"use_rep": "planted", "relationships": known, **study.keys, **study.quick}
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file in it, such as .*report\.html"):
        scl.report(adata, tmp_path, **how)
    with pytest.raises(FileNotFoundError, match="absent does not exist; make it first"):
        scl.report(adata, tmp_path / "absent" / "report.html", **how)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"report.html exists; pass overwrite=True"):
        scl.report(adata, tmp_path / "report.html", **how)
    monkeypatch.setattr(_report.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to"):
        scl.report(adata, tmp_path / "other.html", **how)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("old", [None, "mine"])
@pytest.mark.parametrize("where", ["section", "write"])
def test_an_error_in_the_middle_leaves_no_half_page(tmp_path, adata, known, monkeypatch, old, where, study):
    def fails(*_, **__):
        msg = "disk full"
        raise OSError(msg)

    path = tmp_path / "report.html"
    if old:
        path.write_text(old)
    # the pictures take long and are not what this is about
    for name in ("recall", "curve", "similarity"):
        monkeypatch.setattr(_report._recall, name, lambda *_: scl._report._parts.Section("key", "title", []))
    monkeypatch.setattr(_report._overlap, "overlap", lambda *_: scl._report._parts.Section("key", "title", []))
    monkeypatch.setattr(*((_about, "method") if where == "section" else (Path, "replace")), fails)
    with pytest.raises(OSError, match="disk full"):
        scl.report(adata, path, use_rep="planted", relationships=known, overwrite=True, **study.keys, **study.quick)
    assert [part.name for part in tmp_path.iterdir()] == ["report.html"] * bool(old)
    assert old is None or path.read_text() == old


def test_writes_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = _report._writable("~/report.html", overwrite=False)
    assert file == tmp_path / "report.html"
    _report._write(file, "é\n")
    assert file.read_bytes() == "é\n".encode()
    _report._write(_report._writable(str(file), overwrite=True), "again")
    assert file.read_text() == "again"
    monkeypatch.chdir(tmp_path)
    assert _report._writable("other.html", overwrite=False) == Path("other.html")


def test_numbers_as_text():
    assert [share(0.1234), share(np.nan), interval(0.05, 0.5), interval(np.nan, np.nan)] == [
        *["12.3%", "–", "5.0% to 50.0%", "–"]
    ]
    assert [p_value(1.0), p_value(1 / 1001), p_value(3e-7), p_value(np.nan)] == ["1.0", "0.0010", "3.0e-07", "–"]
    assert [decimals(-1234.56, 1), decimals(-0.01, 1), decimals(np.nan, 1)] == ["−1,234.6", "0.0", "–"]
    assert [count(1, "gene"), count(2000, "gene"), listed(["a"]), listed(["a", "b", "c"])] == [
        *["1 gene", "2,000 genes", "a", "a, b and c"]
    ]


def test_only_parts_of_pages_are_rendered():
    with pytest.raises(TypeError, match="no str on a page"):
        _page._html("<b>")
