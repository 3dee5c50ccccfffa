from __future__ import annotations

import csv

import pytest

from semiclip import errors
from semiclip.datasets import gene_sets, relationships

COUNTS = {"CORUM": 37_649, "HuMAP": 58_538, "Reactome": 18_565, "SIGNOR": 11_617, "StringDB": 58_059}


@pytest.mark.parametrize(
    ("source", "path", "n_sets", "n_genes"),
    [
        ("hallmark", "genesets/h.all.v7.0.symbols.gmt", 50, 4_384),
        ("reactome", "genesets/ReactomePathways_2024-09-18.gmt", 2_694, 11_668),
    ],
)
def test_published_sets_equal_a_plain_loop(data_dir, source, path, n_sets, n_genes):
    sets = gene_sets(source)
    lines = (data_dir / path).read_text(encoding="utf-8").splitlines()
    expected = {line.split("\t")[0]: line.split("\t")[2:] for line in lines}
    assert sets == {name: list(dict.fromkeys(filter(None, genes))) for name, genes in expected.items()}
    assert len(sets) == n_sets
    assert len({gene for genes in sets.values() for gene in genes}) == n_genes
    assert gene_sets(data_dir / path) == gene_sets(str(data_dir / path)) == sets


def test_a_gene_set_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.gmt"
    path.write_text("\ufeffone\tna\tB\tA\tB\t\n\ntwo sets\t\tNA\n", encoding="utf-8")
    assert gene_sets(path) == {"one": ["B", "A"], "two sets": ["NA"]}
    path.write_bytes(b"one\tna\tB\tA\r\n")
    assert gene_sets(path) == {"one": ["B", "A"]}


@pytest.mark.parametrize(
    ("text", "error", "data"),
    [
        ("one\tna\tA\none two A\n", errors.DamagedFile, {}),
        ("one\tna\n", errors.DamagedFile, {}),
        ("one\tna\t\t\n", errors.DamagedFile, {}),
        ("\tna\tA\n", errors.DamagedFile, {}),
        ("one\tna\tA\n\none\tna\tB\n", errors.Repeated, {"items": ["one"]}),
        ("\n", errors.Empty, {}),
    ],
)
def test_refuses_a_malformed_gene_set_file(tmp_path, refuses, text, error, data):
    (tmp_path / "mine.gmt").write_text(text)
    with refuses(error, **data):
        gene_sets(tmp_path / "mine.gmt")
    for source in ("kegg", tmp_path):
        with refuses(errors.MissingFile, path=str(source)):
            gene_sets(source)


@pytest.fixture(scope="module")
def everything(data_dir):
    return relationships()


def test_relationships_are_canonical(everything):
    assert list(everything.columns) == ["database", "gene_a", "gene_b"]
    assert everything.groupby("database").size().to_dict() == COUNTS
    assert len(everything[["gene_a", "gene_b"]].drop_duplicates()) == 143_252
    assert (everything["gene_a"] < everything["gene_b"]).all()
    assert everything["database"].is_monotonic_increasing


def test_relationships_equal_a_plain_loop(data_dir, everything):
    for database, table in everything.groupby("database"):
        with (data_dir / "relationships" / f"{database}.txt").open(newline="") as file:
            rows = [tuple(sorted(row)) for row in list(csv.reader(file))[1:]]
        expected = sorted({(database, a, b) for a, b in rows if a != b})
        assert list(table.itertuples(index=False, name=None)) == expected


def test_one_database_or_several(everything):
    one = relationships(databases="SIGNOR")
    assert one.equals(everything[everything["database"] == "SIGNOR"].reset_index(drop=True))
    two = relationships(databases=["StringDB", "CORUM", "StringDB"])
    assert two.equals(everything[everything["database"].isin(["CORUM", "StringDB"])].reset_index(drop=True))


def test_symbols_that_spell_a_missing_value(folder, monkeypatch):
    (folder / "relationships").mkdir()
    (folder / "relationships" / "CORUM.txt").write_text("entity1,entity2\nB,A\nA,B\nC,C\nNA,nan\nB,A\n")
    # whatever the file holds, its checksum shall be right
    checksum = "edaafc77a184ef452996d211e9fe1699615315a36e1efc9d602042c06168a695"
    monkeypatch.setattr("pooch.file_hash", lambda *args, **kwargs: checksum)
    pairs = relationships(databases="CORUM")
    assert pairs.to_numpy().tolist() == [["CORUM", "A", "B"], ["CORUM", "NA", "nan"]]


def test_refuses_databases(refuses):
    for databases in ("KEGG", ("CORUM", "KEGG")):
        with refuses(errors.UnknownChoice, name="databases", value="KEGG", choices=list(COUNTS)):
            relationships(databases=databases)
    with refuses(errors.BadValue, name="databases", value=[]):
        relationships(databases=[])
