import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import binomtest
from semiclip.metrics._shares import Shares

from semiclip.metrics import relationship_recall
from semiclip.metrics._map import gene_map, in_tails, tails

GENES = np.array([f"GENE{i:02}" for i in range(40)])


@pytest.fixture
def known():
    rng = np.random.default_rng(0)
    pairs = rng.choice(GENES, (150, 2))
    return pd.DataFrame({"database": rng.choice(["A", "B"], 150), "gene_a": pairs[:, 0], "gene_b": pairs[:, 1]})


@pytest.fixture
def embedding():
    return np.random.default_rng(1).normal(size=(40, 6))


def test_intervals_of_independent_pairs_are_those_of_wilson(embedding):
    apart = pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})
    table = relationship_recall(embedding, GENES, apart, thresholds=(0.3, 0.7)).set_index("key")
    expected = binomtest(int(table.loc["union", "n_recalled"]), 20).proportion_ci(method="wilson")
    for _, row in table.iterrows():
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(expected), abs=1e-12)


def test_intervals_of_pairs_that_share_genes_are_no_shorter(embedding, known):
    table = relationship_recall(embedding, GENES, known).set_index("key")
    for key in ("A", "B", "union"):
        row = table.loc[key]
        low, high = binomtest(int(row["n_recalled"]), int(row["n_pairs"])).proportion_ci(method="wilson")
        assert row["ci_low"] <= low + 1e-12
        assert high - 1e-12 <= row["ci_high"]
    assert ((table["ci_low"] < table["value"]) & (table["value"] < table["ci_high"])).all()


def test_nothing_recalled_of_few_pairs_is_no_certainty(known):
    constant = np.ones((40, 3))
    table = relationship_recall(constant, GENES, known.iloc[:16]).set_index("key")
    assert table.loc["union", "value"] == table.loc["union", "error"] == table.loc["union", "ci_low"] == 0
    n = int(table.loc["union", "n_pairs"])
    assert table.loc["union", "ci_high"] == pytest.approx(binomtest(0, n).proportion_ci(method="wilson").high)


def effects(hit, shares, value):
    """What each pair does to each share, by hand."""
    member, n_pairs = shares.member.toarray(), shares.n_pairs
    databases = [row * (hit - v) / n for row, v, n in zip(member, value, n_pairs[:-1], strict=False)]
    return [*databases, np.mean(databases, axis=0), (hit - value[-1]) / len(hit)]


def found_shares(embedding, known, thresholds=(0.1, 0.9)):
    found = gene_map(embedding, GENES[: len(embedding)], known)
    shares = Shares.of(found)
    hit = in_tails(found.cosine(shares.first, shares.second), tails(found.cosines, [thresholds]))
    return shares, hit, shares(hit)


@pytest.mark.parametrize("seed", range(5))
def test_errors_equal_a_loop_over_pairs_with_a_gene_in_common(known, seed):
    rng = np.random.default_rng(seed)
    shares, hit, value = found_shares(rng.normal(size=(40, 6)) + 2 * (rng.random((40, 1)) < 0.3), known)
    expected = []
    for effect in effects(hit[:, 0], shares, value[:, 0]):
        variance = 0.0
        for p, genes in enumerate(zip(shares.first, shares.second, strict=True)):
            for q, others in enumerate(zip(shares.first, shares.second, strict=True)):
                variance += effect[p] * effect[q] if set(genes) & set(others) else 0
        expected.append(np.sqrt(max(variance, (effect**2).sum())))
    np.testing.assert_allclose(shares.uncertainty(hit[:, 0], value[:, 0])[0], expected)


def test_errors_are_binomial_where_no_gene_is_in_two_pairs(embedding):
    apart = pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})
    table = relationship_recall(embedding, GENES, apart, thresholds=(0.3, 0.7))
    value = table["value"][0]
    assert 0 < value < 1
    assert table["error"].to_list() == [pytest.approx(np.sqrt(value * (1 - value) / 20))] * 3


def test_the_mean_takes_each_database_at_its_own_rate():
    # A: 4 of 8 pairs, B: 2 of 20, no gene in two of them: the variance of the mean is a quarter of the sum of theirs
    n, hit = 28, np.array([True, False] * 4 + [True] * 2 + [False] * 18)
    member = sparse.csr_array(np.array([[1.0] * 8 + [0.0] * 20, [0.0] * 8 + [1.0] * 20]))
    shares = Shares(member, np.arange(n), n + np.arange(n))
    value = shares(hit[:, None])[:, 0]
    assert value.tolist() == [0.5, 0.1, 0.3, 6 / 28]
    error, low, high = shares.uncertainty(hit, value)
    assert error[2] == pytest.approx(np.sqrt((0.5 * 0.5 / 8 + 0.1 * 0.9 / 20) / 4))
    # and its interval is as long as the square root of the sum of the squares of theirs, on either side
    ends = np.array([binomtest(k, n).proportion_ci(method="wilson") for k, n in ((4, 8), (2, 20))])
    assert low[2] == pytest.approx(0.3 - np.linalg.norm(ends[:, 0] - [0.5, 0.1]) / 2)
    assert high[2] == pytest.approx(0.3 + np.linalg.norm(ends[:, 1] - [0.5, 0.1]) / 2)


@pytest.mark.parametrize("recalled", [0, 3, 8])
def test_a_copy_of_a_database_leaves_the_interval_of_the_mean_as_it_is(recalled):
    hit = np.arange(8) < recalled
    once = Shares(sparse.csr_array(np.ones((1, 8))), np.arange(8), 8 + np.arange(8))
    twice = once._replace(member=sparse.csr_array(np.ones((2, 8))))
    one = np.array(once.uncertainty(hit, once(hit[:, None])[:, 0]))
    two = np.array(twice.uncertainty(hit, twice(hit[:, None])[:, 0]))
    np.testing.assert_allclose(two[:, 1:], one, atol=1e-12)
    np.testing.assert_allclose(one[:, 1], one[:, 0], atol=1e-12)  # the mean of one database is that database


@pytest.mark.parametrize("sizes", [[1, 500], [5, 500], [10, 20, 400]])
@pytest.mark.parametrize("rate", [0.03, 0.1, 0.4])
def test_a_small_database_that_recalls_all_or_nothing_is_not_sure(sizes, rate):
    n, rng = sum(sizes), np.random.default_rng(0)
    database = np.repeat(np.arange(len(sizes)), sizes)
    member = sparse.csr_array((np.ones(n), (database, np.arange(n))), shape=(len(sizes), n))
    shares, inside = Shares(member, np.arange(n), n + np.arange(n)), []
    for _ in range(300):
        hit = (rng.random(n) < rate)[:, None]
        value = shares(hit)
        _, low, high = shares.uncertainty(hit[:, 0], value[:, 0])
        inside.append(low[-2] <= rate <= high[-2])
    assert np.mean(inside) > 0.85  # without Wilson's intervals of the small ones 0.00 to 0.92


def covered(draw, n_draws=200):
    """Return the share of intervals of the union that hold its expectation, and the mean error over the true one."""
    tables = [draw(np.random.default_rng(seed)) for seed in range(n_draws)]
    table = pd.concat([table[table["key"] == "union"] for table in tables])
    truth = table["value"].mean()
    inside = (table["ci_low"] <= truth) & (truth <= table["ci_high"])
    return inside.mean(), np.sqrt((table["error"] ** 2).mean()) / table["value"].std()


def test_intervals_hold_the_truth_where_pairs_are_independent():
    genes = np.array([f"GENE{i:03}" for i in range(100)])
    pairs = pd.DataFrame(np.random.default_rng(0).choice(genes, (300, 2)), columns=["gene_a", "gene_b"])
    inside, ratio = covered(lambda rng: relationship_recall(rng.normal(size=(100, 20)), genes, pairs))
    assert inside == pytest.approx(0.95, abs=0.04)
    assert ratio == pytest.approx(1, abs=0.15)


def test_intervals_hold_the_truth_where_the_pairs_of_a_gene_are_recalled_together():
    # ten genes are in all pairs, and three in ten genes, drawn at random, point one way: so do the pairs of such a gene
    genes = np.array([f"GENE{i:03}" for i in range(120)])
    pairs = pd.DataFrame([(a, b) for a in genes[:10] for b in genes[10:70]], columns=["gene_a", "gene_b"])

    def draw(rng):
        x, direction = rng.normal(size=(120, 20)), rng.normal(size=20)
        return relationship_recall(x + (rng.random((120, 1)) < 0.3) * direction, genes, pairs)

    inside, ratio = covered(draw)
    assert inside > 0.87
    assert ratio == pytest.approx(1, abs=0.25)  # the binomial error is half of the true one


def test_a_database_outside_the_map_has_no_interval(embedding, known):
    outside = pd.DataFrame({"database": "C", "gene_a": ["ABSENT"], "gene_b": ["GENE00"]})
    table = relationship_recall(embedding, GENES, pd.concat([known, outside])).set_index("key")
    assert table.loc["C", ["value", "error", "ci_low", "ci_high"]].isna().all()
    assert table.drop("C").notna().all(axis=None)
    without = relationship_recall(embedding, GENES, known).set_index("key")
    pd.testing.assert_frame_equal(table.drop("C"), without)
