from itertools import combinations
from math import ceil, floor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from semiclip.metrics import _map, recalled_pairs, relationship_recall
from semiclip.metrics._map import tails


def in_tails(cosines, null, thresholds):
    return _map.in_tails(cosines, tails(null, [thresholds]))[:, 0]


def names(n):
    return np.array([f"GENE{i:03}" for i in range(n)])


def study(seed, n=40, n_pairs=90):
    rng = np.random.default_rng(seed)
    genes = rng.permutation(names(n))
    labels = np.append(genes, ["ABSENT1", "ABSENT2"])
    known = pd.DataFrame(
        {
            "database": rng.choice(["second", "first"], n_pairs),
            "gene_a": rng.choice(labels, n_pairs),
            "gene_b": rng.choice(labels, n_pairs),
        }
    )
    return rng.normal(size=(n, 6)), genes, known


def naive(embedding, genes, known, low, high):
    """Count over all pairs, one annotated pair at a time."""
    rows = dict(zip(genes, embedding, strict=True))

    def cosine(a, b):
        return round(float(rows[a] @ rows[b] / (np.linalg.norm(rows[a]) * np.linalg.norm(rows[b]))), 12)

    null = [cosine(a, b) for a, b in combinations(genes, 2)]
    result = {}
    for database, table in known.groupby("database"):
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
    assert in_tails(null, null, (0.05, 0.95)).sum() == recalled
    assert recalled == floor(n / 20) + n - ceil(19 * n / 20)


def test_five_values():
    null, query = np.arange(1.0, 6.0), np.array([1.0, 5.0])
    assert in_tails(query, null, (0.1, 0.9)).tolist() == [False, False]
    assert in_tails(query, null, (0.2, 0.8)).tolist() == [True, True]


@given(
    null=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    ends=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted),
)
def test_tails_equal_counting(null, ends):
    null, (low, high) = np.array(null, dtype=float), ends
    before = null.copy()
    found = in_tails(null, null, (low / 100, high / 100))
    np.testing.assert_array_equal(null, before)
    for value, hit in zip(null, found, strict=True):  # in integers, so that the reference has no rounding either
        right, left = (null <= value).sum() * 100, (null < value).sum() * 100
        assert hit == (right <= low * null.size or left >= high * null.size)


def test_a_threshold_means_its_decimal_value():
    null = np.arange(100.0)
    assert 0.29 * 100 < 29  # the float is a little low, and so would be its floor
    assert in_tails(null, null, (0.29, 1)).sum() == 29
    assert in_tails(null, null, (0.0, 1 - 0.29)).sum() == 29


@pytest.mark.parametrize("thresholds", [(0.05, 0.95), (0.2, 0.7), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_loop(seed, thresholds):
    embedding, genes, known = study(seed)
    expected = naive(embedding, genes, known, *thresholds)
    pairs = recalled_pairs(embedding, genes, known, thresholds=thresholds)
    assert pairs.set_index(["database", "gene_a", "gene_b"])["recalled"].to_dict() == expected

    table = relationship_recall(embedding, genes, known, thresholds=thresholds).set_index("key")
    values = []
    for database in known["database"].unique():
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
    assert list(table.index) == [*known["database"].unique(), "mean", "union"]
    assert set(table["n_genes"]) == {len(genes)}
    annotated = [
        {gene for key in expected if key[0] == name for gene in key[1:]} for name in known["database"].unique()
    ]
    everyone = len(set.union(*annotated))
    assert table["n_annotated"].to_list() == [*map(len, annotated), everyone, everyone]


def test_several_thresholds_are_as_many_tables():
    embedding, genes, known = study(0)
    pairs = [(0.05, 0.95), (0.2, 0.7), (0.1, 1.0)]
    table = relationship_recall(embedding, genes, known, thresholds=pairs, n_permutations=5, rng=0)
    single = [relationship_recall(embedding, genes, known, thresholds=pair, n_permutations=5, rng=0) for pair in pairs]
    pd.testing.assert_frame_equal(table, pd.concat(single, ignore_index=True))
    assert table[["threshold_low", "threshold_high"]].drop_duplicates().values.tolist() == [
        list(pair) for pair in pairs
    ]


def test_rows_that_the_mask_marks_are_no_genes():
    embedding, genes, known = study(0)
    embedding[5] = 100  # would shift the tails
    mask = np.arange(len(genes)) == 5
    expected = relationship_recall(embedding[~mask], genes[~mask], known)
    pd.testing.assert_frame_equal(relationship_recall(embedding, genes, known, control=mask), expected)
    pairs = recalled_pairs(embedding, genes, known, control=mask.tolist())
    pd.testing.assert_frame_equal(pairs, recalled_pairs(embedding[~mask], genes[~mask], known))
    # a repeated control label is no repeated gene
    twice = np.append(genes, [genes[5]])
    marked = np.append(mask, [True])
    found = relationship_recall(np.vstack([embedding, embedding[:1]]), twice, known, control=marked)
    pd.testing.assert_frame_equal(found, expected)


def test_a_database_named_twice_changes_neither_the_mean_nor_its_error():
    embedding, genes, known = study(0)
    once = known[known["database"] == known["database"].iloc[0]]
    twice = pd.concat([once, once.assign(database="copy")])
    expected = relationship_recall(embedding, genes, once).set_index("key").loc["mean"]
    found = relationship_recall(embedding, genes, twice).set_index("key").loc["mean"]
    pd.testing.assert_series_equal(found, expected)


def test_columns_and_order():
    embedding, genes, known = study(0)
    table = relationship_recall(embedding, genes, known)
    columns = ["metric", "key", "value", "threshold_low", "threshold_high", "n_pairs", "n_recalled"]
    columns += ["error", "ci_low", "ci_high", "chance", "n_genes", "n_annotated"]
    assert list(table) == columns
    permuted = relationship_recall(embedding, genes, known, n_permutations=2)
    assert list(permuted) == [*columns[:-2], "chance_mean", "chance_sd", "p_value", *columns[-2:]]
    assert set(table["metric"]) == {"relationship_recall"}
    pairs = recalled_pairs(embedding, genes, known)
    assert list(pairs) == ["database", "gene_a", "gene_b", "cosine", "recalled"]
    assert (pairs["gene_a"] < pairs["gene_b"]).all()
    assert list(pairs["database"].unique()) == list(known["database"].unique())


def test_pairs_are_unordered_unique_and_never_a_gene_with_itself():
    embedding, genes, _ = study(0)
    a, b, c = np.sort(genes)[:3]
    known = pd.DataFrame({"gene_a": [b, a, a, c, a], "gene_b": [a, b, a, "ABSENT", c]})
    pairs = recalled_pairs(embedding, genes, known)
    assert pairs[["database", "gene_a", "gene_b"]].values.tolist() == [["relationships", a, b], ["relationships", a, c]]


def test_random_maps_recall_what_chance_predicts():
    rng = np.random.default_rng(0)
    genes = names(200)
    pairs = pd.DataFrame(list(combinations(genes, 2)), columns=["gene_a", "gene_b"]).sample(2000, random_state=0)
    table = relationship_recall(rng.normal(size=(200, 64)), genes, pairs, n_permutations=200, rng=0)
    sd = np.sqrt(0.1 * 0.9 / 2000)
    assert table["value"][0] == pytest.approx(0.1, abs=3 * sd)
    assert table["chance_mean"][0] == pytest.approx(0.1, abs=3 * sd / np.sqrt(200))
    assert table["chance_sd"][0] == pytest.approx(sd, rel=0.3)


def planted(seed, n=60):
    rng = np.random.default_rng(seed)
    complexes = np.repeat(rng.normal(size=(n // 2, 64)), 2, axis=0)
    genes = names(n)
    known = pd.DataFrame({"gene_a": genes[::2], "gene_b": genes[1::2]})
    return complexes + 0.1 * rng.normal(size=complexes.shape), genes, known


def test_planted_pairs_are_all_recalled_whether_alike_or_opposite():
    embedding, genes, known = planted(0)  # 30 of 1,770 pairs
    assert relationship_recall(embedding, genes, known)["value"].to_list() == [1.0] * 3
    embedding[::2] *= -1
    table = relationship_recall(embedding, genes, known)
    assert table["value"].to_list() == [1.0] * 3
    assert table["error"].to_list() == [0.0] * 3


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_an_embedding_that_says_nothing_recalls_nothing(value):
    _, genes, known = study(0)
    assert relationship_recall(np.full((40, 33), value), genes, known)["n_recalled"].to_list() == [0] * 4


@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_and_a_rotation_change_nothing(seed):
    embedding, genes, known = study(seed)
    table, pairs = relationship_recall(embedding, genes, known), recalled_pairs(embedding, genes, known)
    order = np.random.default_rng(seed).permutation(len(genes))
    pd.testing.assert_frame_equal(relationship_recall(embedding[order], genes[order], known), table)
    pd.testing.assert_frame_equal(recalled_pairs(embedding[order], genes[order], known), pairs, check_exact=True)
    rotated = embedding @ ortho_group.rvs(embedding.shape[1], random_state=seed)
    pd.testing.assert_frame_equal(relationship_recall(rotated, genes, known), table)
    pd.testing.assert_frame_equal(relationship_recall(7 * embedding, genes, known), table)


def test_every_kind_of_column_and_label_gives_the_same():
    embedding, genes, known = study(0)
    table = relationship_recall(embedding, genes, known)
    for kind in ("category", "string", object):
        pd.testing.assert_frame_equal(relationship_recall(embedding, genes, known.astype(kind)), table)
    for labels in (list(genes), pd.Index(genes), pd.Categorical(genes, categories=sorted(genes)[::-1])):
        pd.testing.assert_frame_equal(relationship_recall(pd.DataFrame(embedding), labels, known), table)
    twice = pd.concat([known, known.rename(columns={"gene_a": "gene_b", "gene_b": "gene_a"})])
    pd.testing.assert_frame_equal(relationship_recall(embedding, genes, twice), table)


def test_a_database_outside_the_map_keeps_its_row_and_leaves_the_mean():
    embedding, genes, known = study(0)
    outside = pd.DataFrame({"database": "third", "gene_a": ["ABSENT1"], "gene_b": [genes[0]]})
    alone = relationship_recall(embedding, genes, known, n_permutations=3, rng=0).set_index("key")
    table = relationship_recall(embedding, genes, pd.concat([known, outside]), n_permutations=3, rng=0).set_index("key")
    pd.testing.assert_frame_equal(table.drop("third"), alone)
    assert table.loc["third", "n_pairs"] == table.loc["third", "n_recalled"] == 0
    assert (
        table.loc["third", ["value", "error", "ci_low", "ci_high", "chance_mean", "chance_sd", "p_value"]].isna().all()
    )


def test_permutations_equal_recall_under_exchanged_labels():
    embedding, genes, known = study(3)
    table = relationship_recall(embedding, genes, known, n_permutations=4, rng=5)
    rng, draws = np.random.default_rng(5), []
    for _ in range(4):  # position i of the sorted genes takes the cosines of position moved[i]
        moved = rng.permutation(len(genes))
        exchanged = np.empty_like(embedding)
        exchanged[np.argsort(genes)] = embedding[np.argsort(genes)][moved]
        draws.append(relationship_recall(exchanged, genes, known)["value"])
    np.testing.assert_allclose(table["chance_mean"], np.mean(draws, axis=0))
    np.testing.assert_allclose(table["chance_sd"], np.std(draws, axis=0, ddof=1))
    as_high = (np.array(draws) >= table["value"].to_numpy() - 1e-9).sum(axis=0)
    np.testing.assert_allclose(table["p_value"], (1 + as_high) / 5)
    pd.testing.assert_frame_equal(
        table, relationship_recall(embedding, genes, known, n_permutations=4, rng=np.random.default_rng(5))
    )


def test_nothing_is_changed():
    embedding, genes, known = study(0)
    before = embedding.copy(), genes.copy(), known.copy()
    relationship_recall(embedding, genes, known, n_permutations=2)
    recalled_pairs(embedding, genes, known)
    np.testing.assert_array_equal(embedding, before[0])
    np.testing.assert_array_equal(genes, before[1])
    pd.testing.assert_frame_equal(known, before[2])


@pytest.mark.parametrize("function", [relationship_recall, recalled_pairs])
class TestRefuses:
    def test_few_genes(self, function):
        embedding, genes, known = study(0)
        function(embedding[:20], genes[:20], known)
        with pytest.raises(ValueError, match="the map has 19 genes; recall looks at the tails .* needs at least 20"):
            function(embedding[:19], genes[:19], known)

    def test_repeated_labels(self, function):
        embedding, genes, known = study(0)
        genes[[3, 7, 9]] = genes[0]
        with pytest.raises(ValueError, match=rf"gene labels repeat: {genes[0]}; average .* scl.metrics.group_mean"):
            function(embedding, genes, known)

    @pytest.mark.parametrize("bad", [np.nan, None, 7])
    def test_labels_that_are_no_strings(self, function, bad):
        embedding, genes, known = study(0)
        with pytest.raises(TypeError, match=r"gene labels must be strings .* these are mixed.*astype\(str\)"):
            function(embedding, [bad, *genes[1:]], known)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, function, bad):
        embedding, genes, known = study(0)
        embedding[4, 1] = bad
        with pytest.raises(ValueError, match=rf"embedding holds NaN or infinite values in 1 row\(s\): {genes[4]}"):
            function(embedding, genes, known)

    def test_lengths_that_differ(self, function):
        embedding, genes, known = study(0)
        with pytest.raises(ValueError, match=r"embedding has shape \(40, 6\) and genes \(39,\)"):
            function(embedding, genes[1:], known)
        with pytest.raises(ValueError, match=r"embedding has shape \(40,\)"):
            function(embedding[:, 0], genes, known)

    @pytest.mark.parametrize("mask", [["control"] * 40, np.zeros(39, bool), np.zeros(40)])
    def test_a_control_that_is_no_mask(self, function, mask):
        embedding, genes, known = study(0)
        with pytest.raises(
            TypeError, match=r"control holds .*; it is a mask with one boolean per gene, of shape \(40,\)"
        ):
            function(embedding, genes, known, control=mask)

    @pytest.mark.parametrize("thresholds", [(-0.1, 0.9), (0.9, 0.1), (0.1, 1.1), (np.nan, 0.9)])
    def test_thresholds(self, function, thresholds):
        embedding, genes, known = study(0)
        with pytest.raises(ValueError, match=r"thresholds=\(.*\) must be two quantiles with 0 ≤ low ≤ high ≤ 1"):
            function(embedding, genes, known, thresholds=thresholds)

    def test_no_pair_in_the_map(self, function):
        embedding, genes, known = study(0)
        strange = known.assign(gene_a=[f"ENSG{i}" for i in range(len(known))])
        with pytest.raises(ValueError, match=r"has genes such as ENSG0, ENSG1, .*, the map GENE000, GENE001, GENE002"):
            function(embedding, genes, strange)
        with pytest.raises(ValueError, match="no annotated pair of two different genes"):
            function(embedding, genes, pd.DataFrame({"gene_a": genes, "gene_b": genes}))
        with pytest.raises(ValueError, match="no annotated pair"):
            function(embedding, genes, known.iloc[:0])

    def test_missing_column(self, function):
        embedding, genes, known = study(0)
        with pytest.raises(KeyError, match="no column 'gene_b', only database, gene_a, other; .*relationships"):
            function(embedding, genes, known.rename(columns={"gene_b": "other"}))

    @pytest.mark.parametrize("column", ["gene_a", "gene_b", "database"])
    def test_missing_label(self, function, column):
        embedding, genes, known = study(0)
        known.loc[[5, 8], column] = np.nan
        with pytest.raises(ValueError, match=r"no gene or no database in 2 row\(s\): 5, 8; .*keep_default_na=False"):
            function(embedding, genes, known)


@pytest.mark.parametrize("n_permutations", [-1, 1])
def test_refuses_a_count_of_permutations_without_a_deviation(n_permutations):
    embedding, genes, known = study(0)
    with pytest.raises(ValueError, match=f"n_permutations={n_permutations}: .* at least 2, and 0 leaves them out"):
        relationship_recall(embedding, genes, known, n_permutations=n_permutations)


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([], r"thresholds=\(\) must be two quantiles"),
        ([0.05], r"thresholds=\(0.05,\) must be two quantiles"),
        ([(0.05, 0.95), (0.9, 0.1)], r"thresholds=\(0.9, 0.1\) must be two quantiles"),
        ([(0.05, 0.95), (0.05, 0.95)], "thresholds=.* repeats a pair"),
    ],
)
def test_refuses_lists_of_thresholds_without_a_meaning(thresholds, message):
    embedding, genes, known = study(0)
    with pytest.raises(ValueError, match=message):
        relationship_recall(embedding, genes, known, thresholds=thresholds)
