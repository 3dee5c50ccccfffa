from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from semiclip import errors, metrics
from semiclip.metrics import recalled_pairs


def relationship_recall(*data, n_permutations=0, **options):
    return metrics.relationship_recall(*data, n_permutations=n_permutations, **options)


def names(n):
    return np.array([f"GENE{i:03}" for i in range(n)])


def study(seed, n=40, n_pairs=90):
    rng = np.random.default_rng(seed)
    genes = rng.permutation(names(n))
    labels = np.append(genes, ["ABSENT1", "ABSENT2"])
    annotated = pd.DataFrame({"database": rng.choice(["second", "first"], n_pairs)})
    for name in ("gene_a", "gene_b"):
        annotated[name] = rng.choice(labels, n_pairs)
    return rng.normal(size=(n, 6)), genes, annotated


def naive(embedding, genes, annotated, low, high):
    """Count over all pairs, one annotated pair at a time."""
    rows = dict(zip(genes, embedding, strict=True))

    def cosine(a, b):
        return round(float(rows[a] @ rows[b] / (np.linalg.norm(rows[a]) * np.linalg.norm(rows[b]))), 12)

    null = [cosine(a, b) for a, b in combinations(genes, 2)]
    result = {}
    for database, table in annotated.groupby("database"):
        pairs = {frozenset(pair) for pair in zip(table["gene_a"], table["gene_b"], strict=True)}
        for pair in pairs:
            if len(pair) == 2 and all(gene in rows for gene in pair):
                value = cosine(*pair)
                right = sum(other <= value for other in null) / len(null)
                left = sum(other < value for other in null) / len(null)
                result[database, *sorted(pair)] = right <= low or left >= high
    return result


def exact_cosine(one, other):
    """Return the sign of a cosine times its square, of integers and without any rounding."""
    product, lengths = int(one @ other), int(one @ one) * int(other @ other)
    return Fraction(product * abs(product), lengths) if lengths else Fraction(0)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    d=st.integers(1, 4),
    most=st.integers(1, 3),
    ends=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted),
)
def test_tails_equal_counting_in_fractions(seed, d, most, ends):
    low, high = ends
    x = np.random.default_rng(seed).integers(-most, most + 1, (20, d))  # of small integers many cosines are equal
    every = pd.DataFrame(combinations(names(20), 2), columns=["gene_a", "gene_b"])
    hits = recalled_pairs(x, names(20), every, thresholds=(low / 100, high / 100))["recalled"]
    null = np.array([exact_cosine(one, other) for one, other in combinations(x, 2)])
    for value, hit in zip(null, hits, strict=True):
        right, left = (null <= value).sum() * 100, (null < value).sum() * 100
        assert hit == (right <= low * null.size or left >= high * null.size)


def test_thresholds_are_the_decimals_that_are_written():
    x, every = np.random.default_rng(0).normal(size=(25, 6)), list(combinations(names(25), 2))  # 300 pairs
    every = pd.DataFrame(every, columns=["gene_a", "gene_b"])
    for low, high in ((0.29, 1), (0, 1 - 0.29), (0.07, 1), (0.57, 1)):
        n_recalled = relationship_recall(x, names(25), every, thresholds=(low, high))["n_recalled"]
        assert n_recalled[0] == round(300 * (low + 1 - high))


@pytest.mark.parametrize("thresholds", [(0.05, 0.95), (0.2, 0.7), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_loop(seed, thresholds):
    embedding, genes, annotated = study(seed)
    expected = naive(embedding, genes, annotated, *thresholds)
    pairs = recalled_pairs(embedding, genes, annotated, thresholds=thresholds)
    assert pairs.set_index(["database", "gene_a", "gene_b"])["recalled"].to_dict() == expected

    assert (pairs["gene_a"] < pairs["gene_b"]).all()
    assert list(pairs) == ["database", "gene_a", "gene_b", "cosine", "recalled"]

    table = relationship_recall(embedding, genes, annotated, thresholds=thresholds)
    columns = ["metric", "key", "value", "threshold_low", "threshold_high", "n_pairs", "n_recalled"]
    assert list(table) == [*columns, "error", "ci_low", "ci_high", "chance", "n_genes", "n_annotated", "n_misspelt"]
    table, databases = table.set_index("key"), list(annotated["database"].unique())
    assert list(table.index) == [*databases, "mean", "union"]
    distinct = {key[1:]: hit for key, hit in expected.items()}
    hits = {name: {key[1:]: hit for key, hit in expected.items() if key[0] == name} for name in databases}
    for name, part in (hits | {"mean": distinct, "union": distinct}).items():
        row = table.loc[name]
        share = table.loc[databases, "value"].mean() if name == "mean" else np.mean(list(part.values()))
        assert row["value"] == pytest.approx(share)
        assert (row["n_pairs"], row["n_recalled"]) == (len(part), sum(part.values()))
        assert row["n_annotated"] == len({gene for pair in part for gene in pair})
    assert table["chance"].to_list() == [pytest.approx(thresholds[0] + 1 - thresholds[1])] * 4
    assert set(table["n_genes"]) == {len(genes)}


def test_rows_that_the_mask_marks_are_no_genes():
    embedding, genes, annotated = study(0)
    embedding[5] = 100  # would shift the tails
    mask = np.arange(len(genes)) == 5
    expected = relationship_recall(embedding[~mask], genes[~mask], annotated)
    pd.testing.assert_frame_equal(relationship_recall(embedding, genes, annotated, control=mask), expected)
    pairs = recalled_pairs(embedding, genes, annotated, control=mask.tolist())
    pd.testing.assert_frame_equal(pairs, recalled_pairs(embedding[~mask], genes[~mask], annotated))
    # a repeated control label is no repeated gene
    twice = np.append(genes, [genes[5]])
    marked = np.append(mask, [True])
    doubled = relationship_recall(np.vstack([embedding, embedding[:1]]), twice, annotated, control=marked)
    pd.testing.assert_frame_equal(doubled, expected)


def test_planted_pairs_are_all_recalled_whether_alike_or_opposite():
    rng, genes = np.random.default_rng(0), names(60)
    embedding = np.repeat(rng.normal(size=(30, 64)), 2, axis=0) + 0.1 * rng.normal(size=(60, 64))
    annotated = pd.DataFrame({"gene_a": genes[::2], "gene_b": genes[1::2]})  # 30 of 1,770 pairs
    for sign in (1, -1):
        embedding[::2] *= sign
        table = relationship_recall(embedding, genes, annotated)
        assert table[["value", "error"]].to_numpy().tolist() == [[1, 0]] * 3


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_an_embedding_that_says_nothing_recalls_nothing(value):
    _, genes, annotated = study(0)
    assert relationship_recall(np.full((40, 33), value), genes, annotated)["n_recalled"].to_list() == [0] * 4


def test_random_maps_recall_what_chance_predicts():
    genes, rng = names(200), np.random.default_rng(0)
    pairs = pd.DataFrame(list(combinations(genes, 2)), columns=["gene_a", "gene_b"]).sample(2000, random_state=0)
    table = relationship_recall(rng.normal(size=(200, 64)), genes, pairs, n_permutations=200, rng=0)
    sd = np.sqrt(0.1 * 0.9 / 2000)
    assert table["value"][0] == pytest.approx(0.1, abs=3 * sd)
    assert table["chance_mean"][0] == pytest.approx(0.1, abs=3 * sd / np.sqrt(200))
    assert table["chance_sd"][0] == pytest.approx(sd, rel=0.3)


def test_large_maps_equal_sorting():
    rng = np.random.default_rng(0)
    x, genes = rng.normal(size=(3000, 2)), names(3000)  # of so many pairs order statistics are taken from a sample
    annotated = pd.DataFrame({"gene_a": genes[:-1], "gene_b": genes[1:]})
    pairs = recalled_pairs(x, genes, annotated)
    null = np.sort(1 - pdist(x[np.argsort(genes)], "cosine"))
    low, high = np.quantile(null, [0.05, 0.95])
    clear = (np.abs(pairs["cosine"] - low) > 1e-9) & (np.abs(pairs["cosine"] - high) > 1e-9)
    expected = (pairs["cosine"] < low) | (pairs["cosine"] > high)
    np.testing.assert_array_equal(pairs["recalled"][clear], expected[clear])


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_and_a_rotation_change_nothing(seed):
    embedding, genes, annotated = study(seed)
    table, pairs = relationship_recall(embedding, genes, annotated), recalled_pairs(embedding, genes, annotated)
    order = np.random.default_rng(seed).permutation(len(genes))
    pd.testing.assert_frame_equal(relationship_recall(embedding[order], genes[order], annotated), table)
    pd.testing.assert_frame_equal(recalled_pairs(embedding[order], genes[order], annotated), pairs, check_exact=True)
    rotated = embedding @ ortho_group.rvs(embedding.shape[1], random_state=seed)
    pd.testing.assert_frame_equal(relationship_recall(rotated, genes, annotated), table)
    pd.testing.assert_frame_equal(relationship_recall(7 * embedding, genes, annotated), table)


def test_every_kind_of_column_and_label_gives_the_same():
    embedding, genes, annotated = study(0)
    table = relationship_recall(embedding, genes, annotated)
    for kind in ("category", "string", object):
        pd.testing.assert_frame_equal(relationship_recall(embedding, genes, annotated.astype(kind)), table)
    for labels in (list(genes), pd.Index(genes), pd.Categorical(genes, categories=sorted(genes)[::-1])):
        pd.testing.assert_frame_equal(relationship_recall(pd.DataFrame(embedding), labels, annotated), table)
    twice = pd.concat([annotated, annotated.rename(columns={"gene_a": "gene_b", "gene_b": "gene_a"})])
    pd.testing.assert_frame_equal(relationship_recall(embedding, genes, twice), table)


def test_a_database_outside_the_map_keeps_its_row_and_leaves_the_mean():
    embedding, genes, annotated = study(0)
    outside = pd.DataFrame({"database": "third", "gene_a": ["ABSENT1"], "gene_b": [genes[0]]})
    alone = relationship_recall(embedding, genes, annotated, n_permutations=3, rng=0).set_index("key")
    both = pd.concat([annotated, outside])
    table = relationship_recall(embedding, genes, both, n_permutations=3, rng=0).set_index("key")
    pd.testing.assert_frame_equal(table.drop("third"), alone)
    assert table.loc["third", "n_pairs"] == table.loc["third", "n_recalled"] == 0
    missing = ["value", "error", "ci_low", "ci_high", "chance_mean", "chance_sd", "p_value"]
    assert table.loc["third", missing].isna().all()
    assert table.drop("third").notna().all(axis=None)


def test_permutations_equal_recall_under_exchanged_labels(refuses):
    embedding, genes, annotated = study(3)
    with refuses(errors.BadValue, name="n_permutations", value=1):  # which has no deviation
        relationship_recall(embedding, genes, annotated, n_permutations=1)
    before, pairs = (embedding.copy(), genes.copy(), annotated.copy()), [(0.05, 0.95), (0.2, 0.7), (0.1, 1.0)]
    options = {"n_permutations": 4, "rng": 5}
    single = [relationship_recall(embedding, genes, annotated, thresholds=pair, **options) for pair in pairs]
    tables = relationship_recall(embedding, genes, annotated, thresholds=pairs, **options)
    pd.testing.assert_frame_equal(tables, pd.concat(single, ignore_index=True))
    np.testing.assert_array_equal(embedding, before[0])
    np.testing.assert_array_equal(genes, before[1])
    pd.testing.assert_frame_equal(annotated, before[2])
    table = single[0]
    rng, draws = np.random.default_rng(5), []
    for _ in range(4):  # position i of the sorted genes takes the cosines of position moved[i]
        moved = rng.permutation(len(genes))
        exchanged = np.empty_like(embedding)
        exchanged[np.argsort(genes)] = embedding[np.argsort(genes)][moved]
        draws.append(relationship_recall(exchanged, genes, annotated)["value"])
    np.testing.assert_allclose(table["chance_mean"], np.mean(draws, axis=0))
    np.testing.assert_allclose(table["chance_sd"], np.std(draws, axis=0, ddof=1))
    as_high = (np.array(draws) >= table["value"].to_numpy() - 1e-9).sum(axis=0)
    np.testing.assert_allclose(table["p_value"], (1 + as_high) / 5)
    again = relationship_recall(embedding, genes, annotated, n_permutations=4, rng=np.random.default_rng(5))
    pd.testing.assert_frame_equal(table, again)
