import pytest

import semiclip as scl
from semiclip.datasets import gene_sets


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
    assert {name: sorted(genes) for name, genes in sets.items()} == {
        name: sorted(set(genes)) for name, genes in expected.items()
    }
    assert len(sets) == n_sets
    assert len({gene for genes in sets.values() for gene in genes}) == n_genes
    assert gene_sets(data_dir / path) == gene_sets(str(data_dir / path)) == sets


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.gmt"
    path.write_text("\ufeffone\tna\tB\tA\tB\t\n\ntwo sets\t\tNA\n", encoding="utf-8")
    assert gene_sets(path) == {"one": ["B", "A"], "two sets": ["NA"]}
    path.write_bytes(b"one\tna\tB\tA\r\n")
    assert gene_sets(path) == {"one": ["B", "A"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\tna\tA\none two A\n", "line 2 of .*mine.gmt is no gene set: 'one two A'; a name, a description and"),
        ("one\tna\n", r"line 1 of .*mine.gmt is no gene set: 'one\\tna'"),
        ("one\tna\t\t\n", "line 1 of .*mine.gmt is no gene set"),
        ("\tna\tA\n", "line 1 of .*mine.gmt is no gene set"),
        ("one\tna\tA\n\none\tna\tB\n", "line 3 of .*mine.gmt repeats the name 'one' of an earlier gene set"),
        ("\n", "mine.gmt holds no gene set"),
    ],
)
def test_refuses_a_malformed_file(tmp_path, text, message):
    path = tmp_path / "mine.gmt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        gene_sets(path)


def test_refuses_what_is_neither_a_name_nor_a_file(tmp_path):
    message = "no gene sets are called 'kegg', nor is it a file; choose hallmark or reactome, or a GMT file"
    with pytest.raises(FileNotFoundError, match=message):
        gene_sets("kegg")
    with pytest.raises(FileNotFoundError, match="nor is it a file"):
        gene_sets(tmp_path)


def test_is_public():
    assert scl.datasets.gene_sets is gene_sets
