"""Tables of annotated pairs that spell genes otherwise than the map does."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl
from semiclip.metrics import relationship_recall

GENES = [f"GENE{i:02}" for i in range(40)]


@pytest.fixture
def embedding():
    return np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)


def recall(embedding, relationships, genes=GENES):
    return relationship_recall(embedding, genes, relationships, n_permutations=0).set_index("key")


def annotate(pairs, database="complexes"):
    return pd.DataFrame(pairs, columns=["gene_a", "gene_b"]).assign(database=database)


def test_pairs_lost_by_case_and_blanks_are_counted(embedding, warned):
    spelt = [("GENE00", "GENE01"), ("gene02", "GENE03"), ("GENE04 ", "gene05"), ("gene06", "elsewhere")]
    table = recall(embedding, annotate(spelt))
    assert table["n_pairs"].tolist() == [1, 1, 1]
    assert table["n_misspelt"].tolist() == [2, 2, 2]
    (message,) = warned()
    assert message.startswith("2 annotated pair(s) are lost by spelling: 'gene02' is 'GENE02' in the map, ")
    assert message.endswith("'gene05' is 'GENE05' in the map; rename them in relationships")


def test_a_pair_that_another_line_spells_right_is_not_lost(embedding):
    table = recall(embedding, annotate([("GENE00", "GENE01"), ("gene01", "gene00"), ("gene00", "GENE00")]))
    assert table["n_misspelt"].tolist() == [0, 0, 0]


def test_databases_are_counted_apart_and_their_union_once(embedding, warned):
    first = annotate([("GENE00", "GENE01"), ("gene02", "GENE03"), ("gene04", "GENE05")], "A")
    second = annotate([("GENE00", "GENE01"), ("Gene03", "Gene02"), ("GENE04", "GENE05")], "B")
    table = recall(embedding, pd.concat([first, second]))
    assert table["n_misspelt"].to_dict() == {"A": 2, "B": 1, "mean": 1, "union": 1}
    (message,) = warned()
    assert message.startswith("2 annotated pair(s) are lost by spelling: ")  # of either database


def test_a_pair_that_another_database_has_is_lost_from_its_own(embedding, warned):
    first = annotate([("GENE00", "GENE01"), ("gene02", "GENE03")], "A")
    second = annotate([("GENE02", "GENE03")], "B")
    table = recall(embedding, pd.concat([first, second]))
    assert table["n_misspelt"].to_dict() == {"A": 1, "B": 0, "mean": 0, "union": 0}
    (message,) = warned()
    assert message.startswith("1 annotated pair(s) are lost by spelling: 'gene02' is 'GENE02' in the map; ")


def test_only_spellings_that_lose_a_pair_are_named(embedding, warned):
    rows = [("GENE00", "GENE01"), ("gene00", "GENE01"), ("gene02", "elsewhere"), ("gene04", "GENE04")]
    recall(embedding, annotate([*rows, ("gene08", "GENE09"), ("GENE09", "gene06")]))
    (message,) = warned()
    told = "'gene06' is 'GENE06' in the map, 'gene08' is 'GENE08' in the map"
    assert message == f"2 annotated pair(s) are lost by spelling: {told}; rename them in relationships"


def test_labels_of_several_types_are_named(embedding, warned):
    genes = [*GENES[:-1], "5"]
    recall(
        embedding, annotate([("GENE00", "GENE01"), (5, "GENE03"), ("gene04", "GENE05"), ("Gene04", "GENE06")]), genes
    )
    (message,) = warned()
    told = "5 is '5' in the map, 'Gene04' is 'GENE04' in the map, 'gene04' is 'GENE04' in the map"
    assert message == f"3 annotated pair(s) are lost by spelling: {told}; rename them in relationships"


def test_one_table_of_several_representations_warns_once(embedding, warned):
    adata = AnnData(
        obs=pd.DataFrame({"gene": GENES}, index=GENES), obsm={"one": embedding, "other": embedding[::-1].copy()}
    )
    spelt = annotate([("GENE00", "GENE01"), ("gene02", "GENE03")])
    options = {"use_rep": ["one", "other"], "perturbation_key": "gene", "control": None, "method": None}
    table = scl.tl.recall(
        adata, relationships=spelt, baselines=["permuted", "normal"], n_permutations=0, rng=0, **options
    )
    assert table["n_misspelt"].tolist() == [1] * 15
    assert len(warned()) == 1


def test_two_genes_that_differ_in_case_alone_are_not_guessed(embedding):
    genes = [*GENES[:-1], "gene00"]
    table = recall(embedding, annotate([("GENE00", "GENE01"), ("Gene00", "GENE02")]), genes)
    assert table["n_misspelt"].tolist() == [0, 0, 0]


def test_renamed_as_the_warning_says_nothing_is_lost(embedding, warned):
    spelt = annotate([("GENE00", "GENE01"), ("gene02", "GENE03 "), ("GENE04", "gene05")])
    assert recall(embedding, spelt)["n_misspelt"].tolist() == [2, 2, 2]
    warned()
    renamed = spelt.assign(**{name: spelt[name].str.strip().str.upper() for name in ("gene_a", "gene_b")})
    table = recall(embedding, renamed)
    assert table[["n_pairs", "n_misspelt"]].to_numpy().tolist() == [[3, 0]] * 3
    assert not warned()
