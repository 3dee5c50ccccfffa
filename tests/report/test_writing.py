from pathlib import Path

import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors


@pytest.fixture
def page(adata, annotated, study):
    """Arguments of a page."""
    return {"adata": adata, "use_rep": "planted", "relationships": annotated, **study.keys, **study.quick}


@pytest.fixture
def never(monkeypatch):
    """Fail if anything is computed."""
    monkeypatch.setattr(scl.tl, "relationship_sets", lambda *_, **__: pytest.fail("the work began"))


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"use_rep": []}, errors.BadValue, {"name": "use_rep"}),
        ({"use_rep": "absent"}, errors.MissingEntry, {"key": "absent", "name": "use_rep", "where": "obsm"}),
        ({"use_rep": list("abcdefghijklmnopq")}, errors.TooMany, {"number": 17, "limit": 16}),
        ({"base": "absent"}, errors.MissingEntry, {"key": "absent", "there": ["planted"], "name": "base"}),
        ({"n_permutations": 99}, errors.BadValue, {"name": "n_permutations", "value": 99}),
        ({"method": "absent"}, errors.UnknownChoice, {"name": "method"}),
        ({"control": "absent"}, errors.UnknownControl, {"labels": ["absent"]}),
        ({"batch_key": "absent"}, errors.MissingColumn, {"key": "absent", "name": "batch_key"}),
        ({"perturbation_key": "absent", "control": None}, errors.MissingColumn, {"name": "perturbation_key"}),
        ({"gene_sets": "absent.gmt"}, FileNotFoundError, {}),
        ({"gene_sets": ["G00"]}, errors.WrongType, {"name": "gene_sets", "got": list}),
        ({"gene_sets": {"mine": "G00"}}, errors.WrongType, {"name": "gene_sets"}),
        ({"preservation": pd.DataFrame({"value": [1.0]})}, errors.MissingColumn, {"where": "preservation"}),
        ({"preservation": [1]}, errors.WrongType, {"name": "preservation", "got": list}),
    ],
)
def test_mistakes_are_refused_before_the_work(tmp_path, page, refuses, change, error, data):
    with refuses(error, **data):
        scl.report(path=tmp_path / "report.html", **page | change)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("never")
def test_paths_are_refused_before_the_work(tmp_path, page, monkeypatch, refuses):
    (tmp_path / "report.html").write_text("mine")
    for path, error, data in (
        (tmp_path, IsADirectoryError, {"filename": str(tmp_path)}),
        (tmp_path / "absent" / "report.html", errors.MissingFile, {"path": tmp_path / "absent"}),
        (tmp_path / "report.html", errors.FileExists, {"path": tmp_path / "report.html"}),
    ):
        with refuses(error, **data):
            scl.report(path=path, **page)
    monkeypatch.setattr("os.access", lambda *_: False)
    with refuses(PermissionError, filename=str(tmp_path)):
        scl.report(path=tmp_path / "other.html", **page)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("old", [None, "mine"])
@pytest.mark.parametrize("where", [(scl.pl, "relationship_network"), (Path, "replace")])
def test_an_error_in_the_middle_leaves_no_half_page(tmp_path, page, monkeypatch, old, where):
    def fail(*_, **__):
        raise OSError("disk full")

    path = tmp_path / "report.html"
    if old:
        path.write_text(old)
    monkeypatch.setattr(*where, fail)
    with pytest.raises(OSError, match="disk full"):
        scl.report(path=path, overwrite=True, **page)
    assert [part.name for part in tmp_path.iterdir()] == ["report.html"] * bool(old)
    assert old is None or path.read_text() == old


def test_writes_where_it_is_told(tmp_path, page, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "report.html").write_text("mine")
    file = scl.report(path="~/report.html", overwrite=True, title="é", **page)
    assert file == tmp_path / "report.html"
    assert "<h1>é</h1>\n".encode() in file.read_bytes()  # UTF-8 with plain line ends everywhere
    monkeypatch.chdir(tmp_path)
    assert scl.report(path="other.html", **page) == Path("other.html")
    assert (tmp_path / "other.html").exists()
