import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from semiclip.metrics import recalled_pairs, relationship_recall

GENES = np.array([f"GENE{i:02}" for i in range(40)])
APART = pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})  # no gene in two pairs


def recall(*data, **options):
    return relationship_recall(*data, n_permutations=0, **options).set_index("key")


def wilson(n_recalled, n_pairs):
    return tuple(binomtest(int(n_recalled), int(n_pairs)).proportion_ci(method="wilson"))


def recall_of(hit, database):
    """Recall of pairs without a common gene, of which those that ``hit`` marks are recalled."""
    first = np.arange(len(hit))
    genes = np.array([f"G{i:03}" for i in range(2 * len(hit))])
    direction = np.append(first, np.where(hit, first, len(hit) + first))  # both genes of such a pair point one way
    annotated = pd.DataFrame({"database": database, "gene_a": genes[first], "gene_b": genes[len(hit) + first]})
    return recall(np.eye(2 * len(hit))[direction], genes, annotated, thresholds=(0, 0.9))


@pytest.fixture
def annotated():
    rng = np.random.default_rng(0)
    pairs = rng.choice(GENES, (150, 2))
    return pd.DataFrame({"database": rng.choice(["A", "B"], 150), "gene_a": pairs[:, 0], "gene_b": pairs[:, 1]})


@pytest.fixture
def embedding():
    return np.random.default_rng(1).normal(size=(40, 6))


def test_errors_and_intervals_of_independent_pairs_are_binomial_and_those_of_wilson(embedding):
    table = recall(embedding, GENES, APART, thresholds=(0.3, 0.7))
    value = table["value"].iloc[0]
    assert 0 < value < 1
    assert table["error"].to_list() == [pytest.approx(np.sqrt(value * (1 - value) / 20))] * 3
    expected = wilson(table.loc["union", "n_recalled"], 20)
    for _, row in table.iterrows():
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected, abs=1e-12)


def test_intervals_of_pairs_that_share_genes_are_no_shorter(embedding, annotated):
    table = recall(embedding, GENES, annotated)
    for key in ("A", "B", "union"):
        row = table.loc[key]
        low, high = wilson(row["n_recalled"], row["n_pairs"])
        assert row["ci_low"] <= low + 1e-12
        assert high - 1e-12 <= row["ci_high"]
    assert ((table["ci_low"] < table["value"]) & (table["value"] < table["ci_high"])).all()


def test_nothing_recalled_of_few_pairs_is_no_certainty(annotated):
    union = recall(np.ones((40, 3)), GENES, annotated.iloc[:16]).loc["union"]
    assert union["value"] == union["error"] == union["ci_low"] == 0
    assert union["ci_high"] == pytest.approx(wilson(0, union["n_pairs"])[1])


@pytest.mark.parametrize("seed", range(5))
def test_errors_equal_a_loop_over_pairs_with_a_gene_in_common(annotated, seed):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(40, 6)) + 2 * (rng.random((40, 1)) < 0.3), GENES, annotated
    table, pairs = recall(*data, thresholds=(0.1, 0.9)), recalled_pairs(*data, thresholds=(0.1, 0.9))
    effects = {}  # what each pair does to each share
    for key in ("A", "B"):
        inside = pairs[pairs["database"] == key].set_index(["gene_a", "gene_b"])["recalled"]
        effects[key] = (inside - table.loc[key, "value"]) / len(inside)
    everyone = effects["A"].index.union(effects["B"].index)
    effects["mean"] = sum(effects[key].reindex(everyone, fill_value=0) / 2 for key in "AB")
    union = pairs.groupby(["gene_a", "gene_b"])["recalled"].first()
    effects["union"] = (union - union.mean()) / len(union)
    for key, effect in effects.items():
        variance = 0.0
        for genes, one in effect.items():
            for others, other in effect.items():
                variance += one * other if set(genes) & set(others) else 0
        assert table.loc[key, "error"] == pytest.approx(np.sqrt(max(variance, (effect**2).sum())))


def test_the_mean_takes_each_database_at_its_own_rate():
    # A: 4 of 8 pairs, B: 2 of 20, no gene in two of them: the variance of the mean is a quarter of the sum of theirs
    hit = np.array([True, False] * 4 + [True] * 2 + [False] * 18)
    table = recall_of(hit, np.repeat(["A", "B"], [8, 20]))
    assert table["value"].tolist() == pytest.approx([0.5, 0.1, 0.3, 6 / 28])
    mean = table.loc["mean"]
    assert mean["error"] == pytest.approx(np.sqrt((0.5 * 0.5 / 8 + 0.1 * 0.9 / 20) / 4))
    # and its interval is as long as the square root of the sum of the squares of theirs, on either side
    ends = np.array([wilson(4, 8), wilson(2, 20)])
    assert mean["ci_low"] == pytest.approx(0.3 - np.linalg.norm(ends[:, 0] - [0.5, 0.1]) / 2)
    assert mean["ci_high"] == pytest.approx(0.3 + np.linalg.norm(ends[:, 1] - [0.5, 0.1]) / 2)


@pytest.mark.parametrize("n_recalled", [0, 3, 8])
def test_a_copy_of_a_database_leaves_the_interval_of_the_mean_as_it_is(n_recalled):
    genes = np.array([f"GENE{i:02}" for i in range(32)])
    x = np.eye(32)
    x[16 : 16 + n_recalled] = x[:n_recalled]
    annotated = pd.DataFrame({"database": "A", "gene_a": genes[:8], "gene_b": genes[16:24]})
    columns = ["error", "ci_low", "ci_high"]
    once = recall(x, genes, annotated, thresholds=(0, 0.95))[columns]
    twice = recall(x, genes, pd.concat([annotated, annotated.assign(database="B")]), thresholds=(0, 0.95))[columns]
    np.testing.assert_allclose(twice.loc["mean"], once.loc["mean"], atol=1e-12)
    np.testing.assert_allclose(once.loc["mean"], once.loc["A"], atol=1e-12)  # the mean of one database is that database


def measure_coverage(draw, n_draws=200):
    """Return the share of intervals of the union that hold its expectation, and the mean error over the true one."""
    table = pd.DataFrame([draw(np.random.default_rng(seed)).loc["union"] for seed in range(n_draws)])
    truth = table["value"].mean()
    inside = (table["ci_low"] <= truth) & (truth <= table["ci_high"])
    return inside.mean(), np.sqrt((table["error"] ** 2).mean()) / table["value"].std()


def test_intervals_hold_the_truth_where_pairs_are_independent():
    genes = np.array([f"GENE{i:03}" for i in range(100)])
    pairs = pd.DataFrame(np.random.default_rng(0).choice(genes, (300, 2)), columns=["gene_a", "gene_b"])
    inside, ratio = measure_coverage(lambda rng: recall(rng.normal(size=(100, 20)), genes, pairs))
    assert inside == pytest.approx(0.95, abs=0.04)
    assert ratio == pytest.approx(1, abs=0.15)


def test_intervals_hold_the_truth_where_the_pairs_of_a_gene_are_recalled_together():
    # ten genes are in all pairs, and three in ten genes, drawn at random, point one way: so do the pairs of such a gene
    genes = np.array([f"GENE{i:03}" for i in range(120)])
    pairs = pd.DataFrame([(a, b) for a in genes[:10] for b in genes[10:70]], columns=["gene_a", "gene_b"])

    def draw(rng):
        x, direction = rng.normal(size=(120, 20)), rng.normal(size=20)
        return recall(x + (rng.random((120, 1)) < 0.3) * direction, genes, pairs)

    inside, ratio = measure_coverage(draw)
    assert inside > 0.87
    assert ratio == pytest.approx(1, abs=0.25)  # the binomial error is half of the true one
