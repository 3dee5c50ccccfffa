from __future__ import annotations

import gzip
import logging

import pytest

from semiclip import errors
from semiclip.datasets import gene_aliases

# as in HGNC's complete set, with quotes around several names, and columns in another order
TABLE = """hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\tname
HGNC:7133\tKMT2D\tApproved\t"ALR|MLL4|CAGL114"\t"TNRC21|MLL2"\tlysine methyltransferase 2D
HGNC:15840\tKMT2B\tApproved\t"MLL2|TRX2|MLL4|HRX2"\t\tlysine methyltransferase 2B
HGNC:12637\tKDM6A\tApproved\t\tUTX\tlysine demethylase 6A
HGNC:11998\tTP53\tApproved\t"p53|LFS1"\t\ttumor protein p53
HGNC:6971\tMDM2\tApproved\t"HDM2|MGC5370"\t\tMDM2 proto-oncogene
HGNC:1\tNAGLU\tApproved\t"NA| nan "\tNAGLU\tnames that pandas takes for gaps, and its own
HGNC:2\tHDM2\tApproved\tNAG\t\ta symbol that is an alias of another gene
HGNC:3\tOLD1~withdrawn\tEntry Withdrawn\tUTX\t\twithdrawn
"""
EXPECTED = {
    "ALR": "KMT2D", "CAGL114": "KMT2D", "HRX2": "KMT2B", "LFS1": "TP53", "MGC5370": "MDM2", "NA": "NAGLU",
    "NAG": "HDM2", "TNRC21": "KMT2D", "TRX2": "KMT2B", "UTX": "KDM6A", "nan": "NAGLU", "p53": "TP53",
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    (tmp_path / "hgnc.txt").write_text(TABLE, encoding="utf-8")
    return tmp_path / "hgnc.txt"


def test_other_names_of_one_gene_alone(path, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        aliases = gene_aliases(path)
    assert aliases.to_dict() == EXPECTED
    assert aliases.index.is_unique
    assert aliases.index.is_monotonic_increasing
    assert (aliases.name, aliases.index.name) == ("symbol", "alias")
    # MLL2 and MLL4 are names of two genes, and HDM2 is an alias of MDM2 and a gene of its own
    assert aliases.attrs["summary"] == {"genes": 7, "aliases": 12, "of_several": 2, "of_symbols": 1}
    assert caplog.messages == [
        "7 genes have 12 other names; left out: 2 that several genes have, 1 that are the symbol of another gene"
    ]


def test_equals_a_plain_loop(path):
    symbols, genes_of = set(), {}
    for line in TABLE.splitlines()[1:-1]:
        _, symbol, _, alias, former, _ = line.split("\t")
        symbols.add(symbol)
        for name in "|".join([alias.strip('"'), former.strip('"')]).split("|"):
            genes_of.setdefault(name.strip(), set()).add(symbol)
    alone = {name: genes.pop() for name, genes in genes_of.items() if name and len(genes) == 1 and name not in symbols}
    assert gene_aliases(str(path)).to_dict() == alone == EXPECTED


def test_ambiguity_is_judged_without_case(tmp_path):
    genes = ["CAD\t\tCad", "OTHER\t\tcad|Oth", "A1\t\tp21", "B1\tP21\t", "C1\tx1\tX1"]
    (tmp_path / "hgnc.txt").write_text("\n".join(["symbol\tprev_symbol\talias_symbol", *genes]))
    aliases = gene_aliases(tmp_path / "hgnc.txt")
    assert aliases.to_dict() == {"Oth": "OTHER", "X1": "C1", "x1": "C1"}
    assert aliases.attrs["summary"] == {"genes": 5, "aliases": 3, "of_several": 3, "of_symbols": 1}


def test_a_gzipped_file(path, tmp_path):
    (tmp_path / "hgnc.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert gene_aliases(tmp_path / "hgnc.txt.gz").to_dict() == EXPECTED


def test_by_default_the_pinned_file_of_the_folder_or_the_network(folder, web, refuses):
    name = "genes/hgnc_complete_set_2026-10-02.txt"
    (folder / "genes").mkdir()
    (folder / name).write_text(TABLE, encoding="utf-8")
    with refuses(errors.DamagedFile, path=folder / name):  # it is not the published one
        gene_aliases()
    (folder / name).unlink()
    with refuses(errors.DownloadFailed, what=name):  # the network of this test has no file
        gene_aliases()
    assert {address.rpartition("/")[2] for address in web.requests} == {"hgnc_complete_set_2026-10-02.txt"}


@pytest.mark.parametrize(
    ("text", "error", "data"),
    [
        ("symbol\tname\nTP53\tx\n", errors.MissingColumn, {"key": ["prev_symbol", "alias_symbol"]}),
        (
            "Approved symbol\tPrevious symbols\n",
            errors.MissingColumn,
            {"there": ["Approved symbol", "Previous symbols"]},
        ),
        ("symbol\tprev_symbol\talias_symbol\n", errors.Empty, {}),
        ("", errors.MissingColumn, {}),
        ('symbol\tprev_symbol\talias_symbol\nA\tB\tC\tD\tE\nF\t"G\n', errors.DamagedFile, {}),
    ],
)
def test_refuses_another_file(tmp_path, refuses, text, error, data):
    (tmp_path / "mine.txt").write_text(text)
    with refuses(error, **data):
        gene_aliases(tmp_path / "mine.txt")
    with refuses(errors.MissingFile, path=tmp_path / "none.txt"):
        gene_aliases(tmp_path / "none.txt")
