from __future__ import annotations

import csv

import pytest

import semiclip as scl
from semiclip.datasets import _relationships

COUNTS = {"CORUM": 37_649, "HuMAP": 58_538, "Reactome": 18_565, "SIGNOR": 11_617, "StringDB": 58_059}


@pytest.fixture(scope="module")
def everything(data_dir):
    return scl.datasets.relationships()


def test_counts(everything):
    assert everything.groupby("database").size().to_dict() == COUNTS
    assert len(everything[["gene_a", "gene_b"]].drop_duplicates()) == 143_252


def test_pairs_are_canonical(everything):
    assert list(everything.columns) == ["database", "gene_a", "gene_b"]
    assert (everything["gene_a"] < everything["gene_b"]).all()
    assert not everything.duplicated().any()
    assert everything.equals(everything.sort_values(["database", "gene_a", "gene_b"], ignore_index=True))


@pytest.mark.parametrize("database", COUNTS)
def test_parity_with_a_plain_loop(data_dir, everything, database):
    with (data_dir / "relationships" / f"{database}.txt").open(newline="") as file:
        rows = [tuple(sorted(row)) for row in list(csv.reader(file))[1:]]
    expected = sorted({(a, b) for a, b in rows if a != b})
    found = everything.loc[everything["database"] == database, ["gene_a", "gene_b"]]
    assert list(found.itertuples(index=False, name=None)) == expected


def test_one_name_or_several(data_dir, everything):
    one = scl.datasets.relationships(databases="SIGNOR")
    assert one.equals(everything[everything["database"] == "SIGNOR"].reset_index(drop=True))
    two = scl.datasets.relationships(databases=["StringDB", "CORUM", "StringDB"])
    assert two.equals(everything[everything["database"].isin(["CORUM", "StringDB"])].reset_index(drop=True))


def test_small_file(tmp_path, monkeypatch):
    path = tmp_path / "CORUM.txt"
    path.write_text("entity1,entity2\nB,A\nA,B\nC,C\nNA,nan\nB,A\n")
    monkeypatch.setattr(_relationships, "fetch", lambda name: path)
    pairs = scl.datasets.relationships(databases="CORUM")
    assert pairs.to_numpy().tolist() == [["CORUM", "A", "B"], ["CORUM", "NA", "nan"]]


@pytest.mark.parametrize("databases", ["KEGG", ("CORUM", "KEGG")])
def test_unknown_database(databases):
    expected = r"unknown database\(s\) 'KEGG'; choose from CORUM, HuMAP, Reactome, SIGNOR, StringDB"
    with pytest.raises(ValueError, match=expected):
        scl.datasets.relationships(databases=databases)


def test_no_database():
    with pytest.raises(ValueError, match="databases names none; choose from CORUM"):
        scl.datasets.relationships(databases=[])
