from itertools import combinations
from math import ceil, floor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from semiclip import errors, metrics
from semiclip.metrics import recalled_pairs
from semiclip.metrics._map import in_tails, tails


def relationship_recall(*data, n_permutations=0, **options):
    return metrics.relationship_recall(*data, n_permutations=n_permutations, **options)


def recall_within(null, thresholds):
    return in_tails(null, tails(null, [thresholds]))[:, 0]


def names(n):
    return np.array([f"GENE{i:03}" for i in range(n)])


def study(seed, n=40, n_pairs=90):
    rng = np.random.default_rng(seed)
    genes = rng.permutation(names(n))
    labels = np.append(genes, ["ABSENT1", "ABSENT2"])
    annotated = pd.DataFrame(
        {
            "database": rng.choice(["second", "first"], n_pairs),
            "gene_a": rng.choice(labels, n_pairs),
            "gene_b": rng.choice(labels, n_pairs),
        }
    )
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


@pytest.mark.parametrize(("n", "recalled"), [(20, 2), (100, 10), (101, 10), (19, 0), (45_150, 4_514)])
def test_distinct_values_recall_as_many_as_the_tails_hold(n, recalled):
    null = np.random.default_rng(0).permutation(n) / n
    assert recall_within(null, (0.05, 0.95)).sum() == recalled
    assert recalled == floor(n / 20) + n - ceil(19 * n / 20)


@given(
    null=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    ends=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted),
)
def test_tails_equal_counting(null, ends):
    null, (low, high) = np.array(null, dtype=float), ends
    before = null.copy()
    hits = recall_within(null, (low / 100, high / 100))
    np.testing.assert_array_equal(null, before)
    for value, hit in zip(null, hits, strict=True):  # in integers, so that the reference has no rounding either
        right, left = (null <= value).sum() * 100, (null < value).sum() * 100
        assert hit == (right <= low * null.size or left >= high * null.size)


def test_a_threshold_means_its_decimal_value():
    null = np.arange(100.0)
    assert 0.29 * 100 < 29  # the float is a little low, and so would be its floor
    assert recall_within(null, (0.29, 1)).sum() == 29
    assert recall_within(null, (0.0, 1 - 0.29)).sum() == 29


@pytest.mark.parametrize("thresholds", [(0.05, 0.95), (0.2, 0.7), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_loop(seed, thresholds):
    embedding, genes, annotated = study(seed)
    expected = naive(embedding, genes, annotated, *thresholds)
    pairs = recalled_pairs(embedding, genes, annotated, thresholds=thresholds)
    assert pairs.set_index(["database", "gene_a", "gene_b"])["recalled"].to_dict() == expected

    table = relationship_recall(embedding, genes, annotated, thresholds=thresholds).set_index("key")
    values = []
    for database in annotated["database"].unique():
        hits = [hit for key, hit in expected.items() if key[0] == database]
        row, values = table.loc[database], [*values, np.mean(hits)]
        assert (row["value"], row["n_pairs"], row["n_recalled"]) == (np.mean(hits), len(hits), sum(hits))
    mean = table.loc["mean"]
    assert mean["value"] == pytest.approx(np.mean(values))
    distinct = {key[1:]: hit for key, hit in expected.items()}
    share = np.mean(list(distinct.values()))
    assert (mean["n_pairs"], mean["n_recalled"]) == (len(distinct), sum(distinct.values()))
    union = table.loc["union"]
    assert (union["value"], union["n_pairs"]) == (pytest.approx(share), len(distinct))
    assert table["chance"].to_list() == [pytest.approx(thresholds[0] + 1 - thresholds[1])] * 4
    assert list(table.index) == [*annotated["database"].unique(), "mean", "union"]
    assert set(table["n_genes"]) == {len(genes)}
    per_database = [
        {gene for key in expected if key[0] == name for gene in key[1:]} for name in annotated["database"].unique()
    ]
    everyone = len(set.union(*per_database))
    assert table["n_annotated"].to_list() == [*map(len, per_database), everyone, everyone]


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


def test_a_database_named_twice_changes_neither_the_mean_nor_its_error():
    embedding, genes, annotated = study(0)
    once = annotated[annotated["database"] == annotated["database"].iloc[0]]
    twice = pd.concat([once, once.assign(database="copy")])
    expected = relationship_recall(embedding, genes, once).set_index("key").loc["mean"]
    doubled = relationship_recall(embedding, genes, twice).set_index("key").loc["mean"]
    pd.testing.assert_series_equal(doubled, expected)


def test_columns_and_order():
    embedding, genes, annotated = study(0)
    table = relationship_recall(embedding, genes, annotated)
    columns = ["metric", "key", "value", "threshold_low", "threshold_high", "n_pairs", "n_recalled"]
    columns += ["error", "ci_low", "ci_high", "chance", "n_genes", "n_annotated"]
    assert list(table) == columns
    permuted = relationship_recall(embedding, genes, annotated, n_permutations=2)
    assert list(permuted) == [*columns[:-2], "chance_mean", "chance_sd", "p_value", *columns[-2:]]
    assert set(table["metric"]) == {"relationship_recall"}
    pairs = recalled_pairs(embedding, genes, annotated)
    assert list(pairs) == ["database", "gene_a", "gene_b", "cosine", "recalled"]
    assert (pairs["gene_a"] < pairs["gene_b"]).all()
    assert list(pairs["database"].unique()) == list(annotated["database"].unique())


def test_pairs_are_unordered_unique_and_never_a_gene_with_itself():
    embedding, genes, _ = study(0)
    a, b, c = np.sort(genes)[:3]
    annotated = pd.DataFrame({"gene_a": [b, a, a, c, a], "gene_b": [a, b, a, "ABSENT", c]})
    pairs = recalled_pairs(embedding, genes, annotated)
    assert pairs[["database", "gene_a", "gene_b"]].values.tolist() == [["relationships", a, b], ["relationships", a, c]]


def planted(seed, n=60):
    rng = np.random.default_rng(seed)
    complexes = np.repeat(rng.normal(size=(n // 2, 64)), 2, axis=0)
    genes = names(n)
    annotated = pd.DataFrame({"gene_a": genes[::2], "gene_b": genes[1::2]})
    return complexes + 0.1 * rng.normal(size=complexes.shape), genes, annotated


def test_planted_pairs_are_all_recalled_whether_alike_or_opposite():
    embedding, genes, annotated = planted(0)  # 30 of 1,770 pairs
    assert relationship_recall(embedding, genes, annotated)["value"].to_list() == [1.0] * 3
    embedding[::2] *= -1
    table = relationship_recall(embedding, genes, annotated)
    assert table["value"].to_list() == [1.0] * 3
    assert table["error"].to_list() == [0.0] * 3


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_an_embedding_that_says_nothing_recalls_nothing(value):
    _, genes, annotated = study(0)
    assert relationship_recall(np.full((40, 33), value), genes, annotated)["n_recalled"].to_list() == [0] * 4


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
    table = relationship_recall(embedding, genes, pd.concat([annotated, outside]), n_permutations=3, rng=0).set_index(
        "key"
    )
    pd.testing.assert_frame_equal(table.drop("third"), alone)
    assert table.loc["third", "n_pairs"] == table.loc["third", "n_recalled"] == 0
    assert (
        table.loc["third", ["value", "error", "ci_low", "ci_high", "chance_mean", "chance_sd", "p_value"]].isna().all()
    )


def test_permutations_equal_recall_under_exchanged_labels():
    embedding, genes, annotated = study(3)
    before, pairs = (embedding.copy(), genes.copy(), annotated.copy()), [(0.05, 0.95), (0.2, 0.7), (0.1, 1.0)]
    single = [
        relationship_recall(embedding, genes, annotated, thresholds=pair, n_permutations=4, rng=5) for pair in pairs
    ]
    tables = relationship_recall(embedding, genes, annotated, thresholds=pairs, n_permutations=4, rng=5)
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
    pd.testing.assert_frame_equal(
        table, relationship_recall(embedding, genes, annotated, n_permutations=4, rng=np.random.default_rng(5))
    )


@pytest.mark.parametrize("n_permutations", [-1, 1, 2.0])
def test_refuses_a_count_of_permutations_without_a_deviation(refuses, n_permutations):
    with refuses(errors.BadValue, name="n_permutations", value=n_permutations):
        relationship_recall(*study(0), n_permutations=n_permutations)
