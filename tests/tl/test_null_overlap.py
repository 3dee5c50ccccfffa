import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from semiclip import metrics
from semiclip.correction import correct
from semiclip.tl import _null_overlap, null_overlap, relationship_sets

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
QUIET = {**KEYS, "progress_bar": False}
GENES = [f"GENE{i:02}" for i in range(30)]
COLUMNS = ["representation", "reference", "threshold_low", "threshold_high", "n_recalled", "n_reference"]
COLUMNS += ["n_pairs", "overlap", "null_mean", "null_low", "null_median", "null_high", "p_value", "n_permutations"]


def made(seed, n_controls=30):
    """30 genes, two by two alike, and two control labels, unequally often, in three batches that differ."""
    rng = np.random.default_rng(seed)
    genes = rng.permutation(np.append(np.repeat(GENES, rng.integers(2, 6, 30)), ["EGFP", "LACZ"] * n_controls))
    plate = rng.integers(0, 3, len(genes))
    like = np.random.default_rng(0).normal(size=(15, 8))
    means = dict(zip([*GENES, "EGFP", "LACZ"], [*np.repeat(like, 2, axis=0), 0, 0], strict=True))
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    adata = anndata.AnnData(obs=obs)
    for name in ("tx", "distilled"):
        adata.obsm[name] = np.stack([means[gene] + rng.normal(size=8) for gene in genes]) + 3 * plate[:, None]
    adata.obsm["noise"] = rng.normal(size=(len(obs), 5)).astype(np.float32)
    return adata


@pytest.fixture
def adata():
    return made(1)


@pytest.fixture
def known():
    within = pd.DataFrame({"database": "within", "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    across = pd.DataFrame({"database": "across", "gene_a": GENES[:15], "gene_b": GENES[15:]})
    return pd.concat([within, across, within.head(3).assign(database="across")], ignore_index=True)


def recalled(labels, x, known, level):
    mean = pd.DataFrame(x).groupby(labels).mean()
    pairs = metrics.recalled_pairs(mean.to_numpy(), mean.index, known, thresholds=level)
    return set(pairs.loc[pairs["recalled"], ["gene_a", "gene_b"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("method", ["tvn", None])
def test_equals_the_steps_by_hand(adata, known, method):
    levels, n = [(0.05, 0.95), (0.2, 0.8)], 12
    table = null_overlap(
        adata,
        use_rep="distilled",
        references=["tx", "noise"],
        relationships=known,
        method=method,
        thresholds=levels,
        n_permutations=n,
        rng=3,
        **QUIET,
    )
    assert list(table) == COLUMNS
    assert list(table["reference"]) == ["tx", "tx", "noise", "noise"]
    assert set(table["representation"]) == {"distilled"}
    assert list(zip(table["threshold_low"], table["threshold_high"], strict=True)) == levels * 2

    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    labels = adata.obs["gene"].astype(str).to_numpy()[~control]
    rows = {}
    for key in ("distilled", "tx", "noise"):
        x = adata.obsm[key].astype(float)
        if method is not None:
            x = correct(x, adata.obs["plate"].astype(int).to_numpy(), control, method=method)
        rows[key] = x[~control]
    rng = np.random.default_rng(3)
    exchanges = [labels[rng.permutation(len(labels))] for _ in range(n)]
    for row in table.to_dict("records"):
        level = (row["threshold_low"], row["threshold_high"])
        own, theirs = (recalled(labels, rows[key], known, level) for key in ("distilled", row["reference"]))
        draws = np.array([len(recalled(each, rows["distilled"], known, level) & theirs) for each in exchanges])
        assert row["n_pairs"] == 30  # three pairs are in both databases
        assert (row["n_recalled"], row["n_reference"], row["overlap"]) == (len(own), len(theirs), len(own & theirs))
        low, median, high = np.quantile(draws, [0.025, 0.5, 0.975])
        expected = (draws.mean(), low, median, high, (1 + (draws >= len(own & theirs)).sum()) / (1 + n), n)
        np.testing.assert_allclose([row[name] for name in COLUMNS[8:]], expected, rtol=1e-12)


def test_the_planted_overlap_is_more_than_chance(adata, known):
    table = null_overlap(
        adata, use_rep="distilled", references=["tx", "distilled"], relationships=known, rng=0, **QUIET
    )
    assert list(table["threshold_low"].unique()) == [0.05, 0.1, 0.15, 0.2, 0.25]
    assert (table["n_permutations"] == 100).all()
    table = table.set_index("reference")
    assert (table.loc["tx", "p_value"] < 0.02).all()
    assert (table.loc["tx", "overlap"] > table.loc["tx", "null_high"]).all()
    itself = table.loc["distilled"]
    assert (itself["overlap"] == itself["n_recalled"]).all()
    assert (itself["overlap"] == itself["n_reference"]).all()
    # with wider tails each recalls more, and so does chance
    assert (itself[["n_recalled", "null_mean"]].diff().iloc[1:] > 0).all(axis=None)


def test_agrees_with_the_sets_at_one_pair_of_thresholds(adata, known):
    sets = relationship_sets(adata, use_rep=["distilled", "tx"], relationships=known, **KEYS)
    (row,) = null_overlap(
        adata,
        use_rep="distilled",
        references="tx",
        relationships=known,
        thresholds=(0.05, 0.95),
        n_permutations=1,
        rng=0,
        **QUIET,
    ).to_dict("records")
    assert row["n_recalled"] == sets["distilled"].sum()
    assert row["n_reference"] == sets["tx"].sum()
    assert row["overlap"] == (sets["distilled"] & sets["tx"]).sum()
    assert row["null_low"] == row["null_mean"] == row["null_high"]
    assert row["p_value"] in (0.5, 1.0)


def test_chance_recalls_the_share_of_the_tails(adata, known):
    """Each reference pair is in a null map with the probability of the tails."""
    table = null_overlap(adata, use_rep="distilled", references="tx", relationships=known, rng=0, **QUIET)
    tails = table["threshold_low"] + 1 - table["threshold_high"]
    np.testing.assert_allclose(table["null_mean"] / table["n_reference"], tails, atol=0.06)


def test_p_values_of_noise_are_uniform(known):
    values = []
    for seed in range(30):
        adata = made(seed, n_controls=5)
        rng = np.random.default_rng(100 + seed)
        adata.obsm["other"] = rng.normal(size=(adata.n_obs, 5))
        table = null_overlap(
            adata,
            use_rep="noise",
            references="other",
            relationships=known,
            method=None,
            thresholds=(0.25, 0.75),
            n_permutations=19,
            rng=rng,
            **QUIET,
        )
        values.append(table.loc[0, "p_value"])
    assert kstest(values, "uniform").pvalue > 0.001
    assert np.mean(np.array(values) <= 0.05) < 0.2


def test_references_may_lie_in_another_object_with_other_rows_and_genes(adata, known):
    images = made(2)
    images = images[images.obs["gene"] != "GENE03"].copy()
    images.obsm["X_image"] = images.obsm["tx"]
    how = {"use_rep": "distilled", "relationships": known, "thresholds": (0.1, 0.9), "n_permutations": 5, "rng": 0}
    table = null_overlap(adata, references={"X_image": images, "tx": adata}, **how, **QUIET)
    assert list(table["reference"]) == ["X_image", "tx"]
    same = null_overlap(adata, references=["noise", "tx"], **how, **QUIET)
    pd.testing.assert_frame_equal(table.tail(1), same.tail(1))

    own = relationship_sets(adata, use_rep="distilled", relationships=known, thresholds=(0.1, 0.9), **KEYS)
    theirs = relationship_sets(images, use_rep="X_image", relationships=known, thresholds=(0.1, 0.9), **KEYS)
    both = own.merge(theirs, on=["gene_a", "gene_b"])
    assert list(table["n_pairs"]) == [len(both), len(own)]
    assert len(both) < len(own)
    assert table.loc[0, "n_reference"] == theirs["X_image"].sum()
    assert table.loc[0, "overlap"] == (both["distilled"] & both["X_image"]).sum()


def test_without_controls_every_row_is_exchanged(adata, known, monkeypatch):
    seen = []

    def watched(found, rng):
        moved = _null_overlap_permuted(found, rng)
        seen.append((found.codes, moved.codes))
        return moved

    _null_overlap_permuted = _null_overlap.permuted
    monkeypatch.setattr(_null_overlap, "permuted", watched)
    how = {"use_rep": "distilled", "references": "tx", "relationships": known, "method": "center", "n_permutations": 1}
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    for labels, stays in ((["EGFP", "LACZ"], control), (None, np.zeros(adata.n_obs, dtype=bool))):
        null_overlap(adata, **how, rng=0, **QUIET | {"control": labels})
        before, after = seen.pop()
        np.testing.assert_array_equal(before[stays], after[stays])
        np.testing.assert_array_equal(np.bincount(before), np.bincount(after))  # every group keeps its size
        assert (before[~stays] != after[~stays]).mean() > 0.8


def test_a_seed_gives_the_same_table_and_no_seed_another(adata, known):
    how = {"use_rep": "distilled", "references": "tx", "relationships": known, "n_permutations": 30}
    one, two, three = (null_overlap(adata, **how, rng=seed, **QUIET) for seed in (5, np.random.default_rng(5), 6))
    pd.testing.assert_frame_equal(one, two)
    assert not one["null_mean"].equals(three["null_mean"])
    pd.testing.assert_frame_equal(one.iloc[:, :8], null_overlap(adata, **how, **QUIET).iloc[:, :8])


def test_the_order_of_rows_does_not_matter_to_what_is_recalled(adata, known):
    how = {"use_rep": "distilled", "references": "tx", "relationships": known, "n_permutations": 1}
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)]
    one, two = (null_overlap(data, **how, rng=0, **QUIET).iloc[:, :8] for data in (adata, shuffled))
    pd.testing.assert_frame_equal(one, two)
    assert shuffled.is_view


def test_the_default_relationships_are_those_of_the_datasets(adata, known, monkeypatch):
    monkeypatch.setattr(_null_overlap.datasets, "relationships", lambda: known)
    how = {"use_rep": "distilled", "references": "tx", "n_permutations": 2, "rng": 0}
    pd.testing.assert_frame_equal(
        null_overlap(adata, **how, **QUIET), null_overlap(adata, **how, relationships=known, **QUIET)
    )


def test_progress_has_a_switch(adata, known, capsys):
    how = {"use_rep": "distilled", "references": "tx", "relationships": known, "n_permutations": 2}
    null_overlap(adata, **how, **QUIET)
    assert not capsys.readouterr().err
    null_overlap(adata, **how, **KEYS)
    assert "permutations: 100%" in capsys.readouterr().err


def test_nothing_is_changed(adata, known):
    before, known_before = adata.copy(), known.copy()
    null_overlap(adata, use_rep="tx", references=["distilled"], relationships=known, n_permutations=2, **QUIET)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(known, known_before)
    assert not adata.uns
    for key in before.obsm:
        np.testing.assert_array_equal(adata.obsm[key], before.obsm[key])
    assert set(adata.obsm) == set(before.obsm)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_permutations": 0}, ValueError, "n_permutations=0 must be a whole number of at least 1; 100 or more"),
        ({"n_permutations": 2.5}, ValueError, "n_permutations=2.5 must be a whole number"),
        ({"n_permutations": True}, ValueError, "n_permutations=True must be a whole number"),
        ({"references": []}, ValueError, "references names no representation; pass a key of obsm"),
        ({"references": {}}, ValueError, "references names no representation"),
        ({"references": "X_none"}, KeyError, "use_rep='X_none' is not in obsm, which has tx, distilled, noise"),
        ({"use_rep": "X_none"}, KeyError, "use_rep='X_none' is not in obsm"),
        ({"use_rep": ["tx", "noise"]}, TypeError, r"use_rep=\['tx', 'noise'\] is not one key of obsm"),
        ({"perturbation_key": "guide"}, KeyError, "perturbation_key='guide' is not a column of obs"),
        ({"control": "DMSO"}, ValueError, r"control label\(s\) DMSO match no row"),
        ({"method": "combat"}, ValueError, "no correction method='combat'"),
        ({"thresholds": (0.9, 0.1)}, ValueError, r"thresholds=\(0.9, 0.1\) must be two quantiles"),
        ({"thresholds": [(0.05, 0.95), (0.05, 0.95)]}, ValueError, "repeats a pair"),
    ],
)
def test_refuses(adata, known, change, error, message):
    arguments = {"use_rep": "distilled", "references": "tx", "relationships": known, **QUIET, **change}
    with pytest.raises(error, match=message):
        null_overlap(adata, **arguments)


def test_refuses_a_reference_of_controls_alone(adata, known):
    alone = adata[adata.obs["gene"].isin(["EGFP", "LACZ"])]
    with pytest.raises(ValueError, match="all 60 rows are controls, so there is no perturbation to look at"):
        null_overlap(adata, use_rep="tx", references={"tx": alone}, relationships=known, **QUIET)
