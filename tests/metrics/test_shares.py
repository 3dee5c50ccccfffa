import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from semiclip.metrics import relationship_recall
from semiclip.metrics._map import gene_map, in_tails, tails
from semiclip.metrics._shares import Shares

GENES = np.array([f"GENE{i:02}" for i in range(40)])


@pytest.fixture
def known():
    rng = np.random.default_rng(0)
    pairs = rng.choice(GENES, (150, 2))
    return pd.DataFrame({"database": rng.choice(["A", "B"], 150), "gene_a": pairs[:, 0], "gene_b": pairs[:, 1]})


@pytest.fixture
def embedding():
    return np.random.default_rng(1).normal(size=(40, 6))


def test_intervals_of_databases_and_union_are_those_of_wilson(embedding, known):
    table = relationship_recall(embedding, GENES, known).set_index("key")
    for key in ("A", "B", "union"):
        row = table.loc[key]
        expected = binomtest(int(row["n_recalled"]), int(row["n_pairs"])).proportion_ci(method="wilson")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(expected), abs=1e-12)
    assert ((table["ci_low"] < table["value"]) & (table["value"] < table["ci_high"])).all()


def test_nothing_recalled_of_few_pairs_is_no_certainty(known):
    constant = np.ones((40, 3))
    table = relationship_recall(constant, GENES, known.iloc[:16]).set_index("key")
    assert table.loc["union", "value"] == table.loc["union", "error"] == table.loc["union", "ci_low"] == 0
    n = int(table.loc["union", "n_pairs"])
    assert table.loc["union", "ci_high"] == pytest.approx(binomtest(0, n).proportion_ci(method="wilson").high)


def test_the_mean_of_databases_apart_is_worth_its_weights(embedding):
    # A has 10 pairs, B has 40, none in common: the variance of the mean is a quarter of the sum of theirs
    pairs = [(GENES[i], GENES[j]) for i in range(39) for j in range(i + 1, 40)][:50]
    known = pd.DataFrame(pairs, columns=["gene_a", "gene_b"]).assign(database=["A"] * 10 + ["B"] * 40)
    table = relationship_recall(embedding, GENES, known).set_index("key")
    share = table.loc["union", "value"]
    assert table.loc["mean", "error"] == pytest.approx(np.sqrt(share * (1 - share) * (1 / 10 + 1 / 40) / 4))


def test_bootstraps_equal_a_loop_over_drawn_genes(embedding, known):
    found = gene_map(embedding, GENES, known)
    shares = Shares.of(found)
    hit = in_tails(found.cosine(shares.first, shares.second), tails(found.cosines, [(0.1, 0.9)]))
    error, low, high = shares.bootstrapped(hit, 40, 100, np.random.default_rng(7))

    rng, draws = np.random.default_rng(7), []
    for times in rng.multinomial(40, np.full(40, 1 / 40), size=100):
        parts = {"A": [], "B": [], "union": []}
        for pair, (i, j) in enumerate(zip(shares.first, shares.second, strict=True)):
            copies = [hit[pair, 0]] * (times[i] * times[j])  # every copy of one gene with every copy of the other
            parts["union"] += copies
            for name, member in zip(found.pairs.names, shares.member.toarray(), strict=True):
                parts[name] += copies if member[pair] else []
        values = [np.mean(parts[name]) for name in found.pairs.names]
        draws.append([*values, np.mean(values), np.mean(parts["union"])])
    np.testing.assert_allclose(error[:, 0], np.std(draws, axis=0, ddof=1))
    np.testing.assert_allclose(np.stack([low, high])[:, :, 0], np.quantile(draws, [0.025, 0.975], axis=0))


def test_bootstraps_see_that_pairs_share_genes():
    # one gene is in every pair: the pairs are recalled or not together, which the binomial error does not know
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(200, 8))
    genes = np.array([f"GENE{i:03}" for i in range(200)])
    hub = pd.DataFrame({"gene_a": "GENE000", "gene_b": genes[1:]})
    embedding[1:100] = embedding[0] + 0.1 * embedding[1:100]
    table = relationship_recall(embedding, genes, hub, n_bootstraps=200, rng=0)
    plain = relationship_recall(embedding, genes, hub)
    assert (table["value"] == plain["value"]).all()
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["error"] > 0).all()


def test_bootstraps_of_the_same_seed_are_the_same_for_every_block(embedding, known, monkeypatch):
    once = relationship_recall(embedding, GENES, known, n_bootstraps=100, rng=3)
    monkeypatch.setattr("semiclip.metrics._shares.BLOCK", 1_000)
    pd.testing.assert_frame_equal(relationship_recall(embedding, GENES, known, n_bootstraps=100, rng=3), once)


def test_a_database_outside_the_map_has_no_interval(embedding, known):
    outside = pd.DataFrame({"database": "C", "gene_a": ["ABSENT"], "gene_b": ["GENE00"]})
    table = relationship_recall(embedding, GENES, pd.concat([known, outside]), n_bootstraps=100, rng=0).set_index("key")
    assert table.loc["C", ["value", "error", "ci_low", "ci_high"]].isna().all()
    assert table.drop("C").notna().all(axis=None)
