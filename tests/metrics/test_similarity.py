from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.metrics import recalled_pairs, relationship_recall, similarity

GENES = [f"G{i:02}" for i in range(30)]


@pytest.fixture
def embedding():
    return np.random.default_rng(0).normal(size=(30, 6))


@pytest.fixture
def annotated():
    two = pd.DataFrame({"database": "two", "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    again = pd.DataFrame({"gene_a": ["G01", "G05", "G07", "G08"], "gene_b": ["G00", "G09", "G07", "?"]})
    return pd.concat([two, again.assign(database="again")], ignore_index=True)


@pytest.mark.parametrize("n_bins", [1, 7, 100])
def test_counts_are_those_of_a_loop(embedding, annotated, n_bins):
    table = similarity(embedding, GENES, annotated, n_bins=n_bins)
    edges = np.linspace(-1, 1, n_bins + 1)
    distinct = {frozenset(pair) for pair in annotated[["gene_a", "gene_b"]].to_numpy() if len(set(pair)) == 2}
    counts = np.zeros((2, n_bins), dtype=int)
    for i, j in combinations(range(30), 2):
        a, b = embedding[i], embedding[j]
        cosine = round(float(a @ b / np.sqrt((a @ a) * (b @ b))), 12)
        which = min(sum(edge <= cosine for edge in edges) - 1, n_bins - 1)
        counts[0, which] += 1
        counts[1, which] += {GENES[i], GENES[j]} in distinct
    np.testing.assert_array_equal(table[["n_all", "n_annotated"]].T, counts)
    np.testing.assert_allclose(table["low"], edges[:-1], atol=1e-15)
    np.testing.assert_allclose(table["high"], edges[1:], atol=1e-15)
    assert table[["n_all", "n_annotated"]].sum().tolist() == [435, 16]  # G00–G01 is in both databases, counted once
    width = table["high"] - table["low"]
    for name in ("all", "annotated"):
        assert (table[name] * width).sum() == pytest.approx(1)
        np.testing.assert_allclose(table[name] * width * table[f"n_{name}"].sum(), table[f"n_{name}"])


@pytest.mark.parametrize("thresholds", [(0.05, 0.95), (0.2, 0.7)])
def test_pairs_beyond_the_cuts_are_the_recalled_ones(embedding, annotated, thresholds):
    table = similarity(embedding, GENES, annotated, thresholds=thresholds)
    low, high = table[["cut_low", "cut_high"]].drop_duplicates().to_numpy()[0]
    pairs = recalled_pairs(embedding, GENES, annotated, thresholds=thresholds)
    np.testing.assert_array_equal((pairs["cosine"] < low) | (pairs["cosine"] > high), pairs["recalled"])
    table = relationship_recall(embedding, GENES, annotated, thresholds=thresholds, n_permutations=0)
    union = table.set_index("key").loc["union"]
    assert union["n_recalled"] == pairs.groupby(["gene_a", "gene_b"])["recalled"].first().sum()


def test_equal_and_opposite_rows_lie_in_the_outermost_bins(annotated):
    table = similarity(np.tile([[1.0, 2.0], [-1.0, -2.0]], (15, 1)), GENES, annotated)
    assert table["n_all"].iloc[[0, -1]].tolist() == [225, 210]
    assert table["n_annotated"].iloc[[0, -1]].tolist() == [15, 1]


def test_neither_order_nor_controls_nor_size_matter(embedding, annotated):
    expected = similarity(embedding, GENES, annotated)
    order = np.random.default_rng(1).permutation(30)
    shuffled = similarity(embedding[order] * 3, np.array(GENES)[order], annotated.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled, expected)
    more, names = np.vstack([embedding, np.ones(6)]), [*GENES, "non-targeting"]
    pd.testing.assert_frame_equal(similarity(more, names, annotated, control=np.arange(31) == 30), expected)


@pytest.mark.parametrize("n_bins", [0, -1, 2.0, True])
def test_refuses_a_number_of_bins_that_is_none(embedding, annotated, refuses, n_bins):
    with refuses(errors.BadValue, name="n_bins", value=n_bins):
        similarity(embedding, GENES, annotated, n_bins=n_bins)
