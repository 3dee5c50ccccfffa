import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.metrics import recalled_pairs
from semiclip.metrics._map import distinct_pairs, gene_map, recalled, recalled_elsewhere

GENES = np.array([f"G{i:02}" for i in range(30)], dtype=object)
LEVELS = [(0.05, 0.95), (0.1, 0.9), (0.25, 0.75)]


@pytest.fixture
def annotated():
    """Two databases, which share some pairs."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"gene_a": rng.choice(GENES, 200), "gene_b": rng.choice(GENES, 200)})
    return table.assign(database=np.repeat(["A", "B"], 100))


def by_hand(x, genes, annotated, level):
    """Names of the distinct pairs that a map recalls."""
    table = recalled_pairs(x, genes, annotated, thresholds=level)
    return set(table.loc[table["recalled"], ["gene_a", "gene_b"]].itertuples(index=False, name=None))


def names(cosine_map, pairs, which):
    first, second = (positions[which] for positions in pairs)
    return set(zip(cosine_map.genes[first], cosine_map.genes[second], strict=True))


def test_pairs_are_distinct_and_recalled_as_by_recalled_pairs(annotated):
    order = np.random.default_rng(1).permutation(30)
    x, genes = np.random.default_rng(2).normal(size=(30, 6))[order], GENES[order]
    cosine_map = gene_map(x, genes, annotated)
    pairs = distinct_pairs(cosine_map)
    listed = {tuple(sorted(pair)) for pair in annotated[["gene_a", "gene_b"]].to_numpy() if pair[0] != pair[1]}
    assert names(cosine_map, pairs, slice(None)) == listed
    assert len(pairs[0]) == len(listed) < len(cosine_map.pairs.first)
    hit = recalled(cosine_map, pairs, LEVELS)
    assert hit.shape == (len(listed), 3)
    for level, column in zip(LEVELS, hit.T, strict=True):
        assert names(cosine_map, pairs, column) == by_hand(x, genes, annotated, level)


def test_another_map_recalls_no_pair_of_genes_that_it_lacks(annotated, refuses):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(25, 6)), rng.normal(size=(24, 5))
    cosine_map, other = gene_map(x, GENES[:25], annotated), gene_map(y, GENES[6:], annotated)
    pairs = distinct_pairs(cosine_map)
    hit, totals, n_shared = recalled_elsewhere(other, cosine_map, pairs, LEVELS)
    for level, column, total in zip(LEVELS, hit.T, totals, strict=True):
        expected = by_hand(y, GENES[6:], annotated, level)
        assert total == len(expected)
        assert names(cosine_map, pairs, column) == {pair for pair in expected if pair[0] < "G25" and pair[1] < "G25"}
    assert (hit.sum(axis=0) < totals).any()
    both = names(cosine_map, pairs, slice(None)) & names(other, distinct_pairs(other), slice(None))
    assert n_shared == len(both)

    lower = annotated.assign(gene_a=annotated["gene_a"].str.lower(), gene_b=annotated["gene_b"].str.lower())
    other = gene_map(y, [gene.lower() for gene in GENES[6:]], lower)
    with refuses(errors.NothingShared, one=list(GENES[:25]), what="annotated pair"):
        recalled_elsewhere(other, cosine_map, pairs, LEVELS)
