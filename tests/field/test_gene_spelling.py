"""Tables of annotated pairs that spell genes otherwise than the map does."""

import numpy as np
import pandas as pd
import pytest

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
    assert message.startswith("2 annotated pair(s) are lost by spelling: 'GENE04 ' is 'GENE04' in the map, ")


def test_a_pair_that_another_line_spells_right_is_not_lost(embedding):
    table = recall(embedding, annotate([("GENE00", "GENE01"), ("gene01", "gene00"), ("gene00", "GENE00")]))
    assert table["n_misspelt"].tolist() == [0, 0, 0]


def test_databases_are_counted_apart_and_their_union_once(embedding, warned):
    first = annotate([("GENE00", "GENE01"), ("gene02", "GENE03"), ("gene04", "GENE05")], "A")
    second = annotate([("GENE00", "GENE01"), ("Gene03", "Gene02"), ("GENE04", "GENE05")], "B")
    table = recall(embedding, pd.concat([first, second]))
    assert table["n_misspelt"].to_dict() == {"A": 2, "B": 1, "mean": 1, "union": 1}
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
