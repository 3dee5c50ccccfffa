"""Gene lists as people have them: read from a spreadsheet, with blanks around names and empty cells."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

import semiclip as scl
from semiclip.errors import MissingValues, Repeated, WrongType

GENES = [f"G{i:02}" for i in range(40)]
SET = {"complex": GENES[:6]}


@pytest.fixture
def pairs():
    table = pd.DataFrame({"gene_a": GENES[0:40:2], "gene_b": GENES[1:40:2]})
    return table.assign(distilled=[i < 3 for i in range(20)])


def enrich(pairs, **options):
    return scl.tl.enrich(pairs, inside="distilled", **{"gene_sets": SET, "background": GENES, **options})


def test_blanks_around_a_gene_make_no_second_gene(pairs):
    spelt = [*GENES, *(f"{gene} " for gene in GENES), " G05"]
    table = enrich(pairs, background=spelt)
    assert table.loc[0, "n_background"] == 40
    assert table.loc[0, "p_value"] == pytest.approx(hypergeom.sf(5, 40, 6, 6))
    pd.testing.assert_frame_equal(table, enrich(pairs))


def test_blanks_in_a_gene_set_lose_no_gene(pairs):
    table = enrich(pairs, gene_sets={"complex": [" G00", "G00", "G01\t", "G02", "G03 ", "G04", "G05"]})
    assert table.loc[0, ["n_overlap", "n_set"]].tolist() == [6, 6]


def test_blanks_in_the_table_lose_no_gene_either(pairs):
    blank = pairs.assign(gene_a=pairs["gene_a"] + " ", gene_b=" " + pairs["gene_b"])
    for listed in (GENES, [f"{gene} " for gene in GENES]):
        options = {"background": listed, "gene_sets": {"complex": listed[:6]}}
        pd.testing.assert_frame_equal(enrich(blank, **options), enrich(pairs))
    genes = pd.DataFrame({"gene": GENES, "distilled": [i < 6 for i in range(40)]})
    expected = enrich(genes)
    assert expected.loc[0, ["n_overlap", "n_set", "n_background"]].tolist() == [6, 6, 40]
    pd.testing.assert_frame_equal(enrich(genes.assign(gene=genes["gene"] + "\t")), expected)


def test_genes_that_blanks_alone_tell_apart_are_one(pairs, refuses):
    genes = pd.DataFrame({"gene": [*GENES, "G00 "], "distilled": True})
    with refuses(Repeated, items=["G00"]):
        enrich(genes)


@pytest.mark.parametrize("empty", [np.nan, None, pd.NA, "", " ", "nan", "<NA>"])
def test_an_empty_cell_is_no_gene(pairs, refuses, empty):
    with refuses(MissingValues, where="background", rows=[40]):
        enrich(pairs, background=[*GENES, empty])
    with refuses(MissingValues, where="gene_sets['complex']", rows=[1]):
        enrich(pairs, gene_sets={"complex": ["G00", empty, "G01", "G02"]})


@pytest.mark.parametrize("sets", [None, GENES, {"gene_a": GENES}])
def test_what_is_no_table_is_refused(refuses, sets):
    with refuses(WrongType, name="sets"):
        enrich(sets)
