import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import errors, metrics
from semiclip.correction import correct
from semiclip.tl import recall, relationship_sets, similarity

GENES = [f"GENE{i:02}" for i in range(30)]
KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}


def correct_by_hand(adata, key, method, **options):
    """Return the treated rows and their genes."""
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x, genes = adata.obsm[key].astype(float), adata.obs["gene"].astype(str).to_numpy()
    if method is not None:
        x = correct(adata.obsm[key], adata.obs["plate"].astype(int).to_numpy(), control, method=method, **options)
    return x[~control].astype(float), genes[~control]


def average(x, genes):
    mean = pd.DataFrame(x).groupby(genes).mean()
    return mean.to_numpy(), mean.index


@pytest.mark.parametrize(
    ("method", "correction"),
    [
        *(("tvn", {"profile": profile}) for profile in ("clean", "batch", "public")),
        ("tvn", {"profile": "batch", "ridge": 0.3}),
        ("tvn", {"fallback": "pooled"}),
        ("center", {}),
        ("center_scale", {"profile": "batch"}),
        (None, {}),
    ],
)
def test_equals_the_steps_by_hand(adata, known, method, correction):
    if "fallback" in correction:  # of a plate without controls
        adata = adata[(adata.obs["plate"] != "2") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])]
    options = {"use_rep": ["signal", "noise"], "relationships": known, "method": method, **correction, **KEYS}
    table = recall(adata, thresholds=(0.1, 0.9), n_permutations=5, rng=0, **options)
    bins = similarity(adata, thresholds=(0.1, 0.9), n_bins=10, **options)
    assert [*list(table)[:2], *list(table)[-3:]] == ["representation", "key", "ci_low", "ci_high", "value"]
    assert [*list(bins)[:4], *list(bins)[-3:]] == [
        "representation", "low", "high", "n_all", "n_annotated", "all", "annotated",
    ]  # fmt: skip
    assert set(table["n_pairs"]) == {15, 18, 30}  # the pair with a control does not count, a shared one once
    for key in ("signal", "noise"):
        means = average(*correct_by_hand(adata, key, method, **correction))
        part = table[table["representation"] == key].drop(columns=["representation", "rank"]).reset_index(drop=True)
        expected = metrics.relationship_recall(*means, known, thresholds=(0.1, 0.9), n_permutations=5, rng=0)
        pd.testing.assert_frame_equal(part, expected, check_like=True)
        part = bins[bins["representation"] == key].drop(columns="representation").reset_index(drop=True)
        expected = metrics.similarity(*means, known, thresholds=(0.1, 0.9), n_bins=10)
        pd.testing.assert_frame_equal(part, expected, check_like=True)


def test_takes_x_and_several_thresholds(adata, known):
    options = {"relationships": known, "n_permutations": 0, **KEYS}
    table = recall(adata, use_rep="X", thresholds=[(0.05, 0.95), (0.1, 0.9)], **options)
    adata.X = sparse.csr_matrix(adata.X)
    assert len(table) == 8
    for pair, part in table.groupby(["threshold_low", "threshold_high"]):
        alone = recall(adata, use_rep="X", thresholds=pair, **options)
        pd.testing.assert_frame_equal(part.reset_index(drop=True), alone)


def test_planted_pairs_are_found_and_chance_is_measured_unless_told_otherwise(adata, known):
    options = {"use_rep": "signal", "relationships": known, "baselines": ["permuted"], "rng": 0, **KEYS}
    table, without = recall(adata, **options), recall(adata, n_permutations=0, **options)
    assert table["p_value"].min() == 1 / 1001
    assert "p_value" not in without
    pd.testing.assert_frame_equal(table[list(without)], without)
    value = table[table["key"] == "within"].set_index("representation")["value"]
    assert value["signal (permuted)"] < 0.3 < 0.5 < value["signal"]


def test_without_controls_every_row_is_reference_and_none_is_dropped(adata, known):
    options = {"use_rep": "signal", "relationships": known, "n_permutations": 0, **KEYS, "control": None}
    plate, genes = adata.obs["plate"].astype(int).to_numpy(), adata.obs["gene"].astype(str).to_numpy()
    for method in ("center", None):
        x = adata.obsm["signal"]
        x = x if method is None else correct(x, plate, np.ones(adata.n_obs, dtype=bool), method=method)
        table = recall(adata, method=method, **options)
        expected = metrics.relationship_recall(*average(x, genes), known, n_permutations=0)
        pd.testing.assert_frame_equal(table[list(expected)], expected)
        assert table.set_index("key").loc["across", "n_pairs"] == 19  # EGFP is now a label like any other


def test_sets_hold_each_pair_once_with_its_databases(adata, known):
    options = {"use_rep": ["signal", "noise"], "relationships": known, **KEYS}
    sets = relationship_sets(adata, **options)
    assert list(sets) == ["gene_a", "gene_b", "databases", "signal", "noise"]
    assert sets["signal"].dtype == sets["noise"].dtype == bool
    assert len(sets) == 30
    databases = sets.set_index(["gene_a", "gene_b"])["databases"]
    assert databases["GENE00", "GENE01"] == "within;across"
    assert databases["GENE06", "GENE07"] == "within"
    assert databases["GENE00", "GENE15"] == "across"
    table = recall(adata, n_permutations=0, **options).set_index(["representation", "key"])
    for key in ("signal", "noise"):
        for database in ("within", "across"):
            member = sets["databases"].str.split(";").apply(set).ge({database})
            assert sets.loc[member, key].sum() == table.loc[(key, database), "n_recalled"]


def test_the_bins_are_of_the_map_that_recall_judges(adata, known):
    table = similarity(adata, use_rep="signal", relationships=known, **KEYS)
    union = recall(adata, use_rep="signal", relationships=known, n_permutations=0, **KEYS).set_index("key").loc["union"]
    assert table["n_annotated"].sum() == union["n_pairs"]
    assert table["n_all"].sum() == union["n_genes"] * (union["n_genes"] - 1) // 2
    surely = (table["high"] < table["cut_low"]) | (table["low"] > table["cut_high"])
    perhaps = (table["low"] < table["cut_low"]) | (table["high"] > table["cut_high"])
    counts = table["n_annotated"]
    assert counts[surely].sum() <= union["n_recalled"] <= counts[perhaps].sum()


def test_rank_says_what_whitening_kept(adata, known):
    adata.obsm["twice"] = np.hstack([adata.obsm["signal"], adata.obsm["signal"]])
    keys = {"use_rep": ["signal", "twice"], "relationships": known, "n_permutations": 0, **KEYS}

    def ranks(data, **options):
        return recall(data, **keys, **options).groupby("representation")["rank"].unique().map(list).to_dict()

    assert ranks(adata) == ranks(adata, profile="public") == {"signal": [8], "twice": [8]}
    assert ranks(adata, method="center") == ranks(adata, method=None) == {"signal": [8], "twice": [16]}
    few = adata[~adata.obs["gene"].isin(["EGFP", "LACZ"]) | (np.arange(adata.n_obs) % 3 == 0)]
    n_controls = few.obs.loc[few.obs["gene"].isin(["EGFP", "LACZ"]), "plate"].value_counts().min()
    assert n_controls <= 8
    assert ranks(few, profile="batch", ridge=0) == {"signal": [n_controls - 1], "twice": [n_controls - 1]}
    assert ranks(few, profile="batch") == {"signal": [8], "twice": [16]}


def test_the_progress_of_exchanges_is_shown_and_can_be_silenced(adata, known, monkeypatch):
    bars = []

    def watch(exchanges, what, n, *, disable, **_):
        bars.append((what, n, disable))
        return exchanges

    monkeypatch.setattr("tqdm.auto.tqdm", watch)
    options = {"use_rep": ["signal", "noise"], "relationships": known, "n_permutations": 7, "rng": 0, **KEYS}
    shown, silent = recall(adata, **options), recall(adata, progress_bar=False, **options)
    assert bars == [("permutations", 7, False)] * 2 + [("permutations", 7, True)] * 2
    pd.testing.assert_frame_equal(shown, silent)


def test_baselines_equal_the_steps_by_hand(adata, known):
    kinds = ["permuted", "uniform", "normal"]
    options = {"use_rep": ["signal", "noise"], "relationships": known, "rng": 7, "n_permutations": 0, **KEYS}
    table = recall(adata, baselines=kinds, **options).set_index("representation")
    names = ["signal", "signal (permuted)", "noise", "noise (permuted)", "random (uniform)", "random (normal)"]
    assert list(table.index.unique()) == names
    plain = table.loc[["signal", "noise"]].reset_index()
    pd.testing.assert_frame_equal(plain, recall(adata, **options))
    x, genes = correct_by_hand(adata, "signal", "tvn")
    treated = ~adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    drawn = {
        "signal (permuted)": (x, np.random.default_rng(7).permutation(genes)),
        "random (uniform)": (np.random.default_rng(7).random((adata.n_obs, 8))[treated], genes),
        "random (normal)": (np.random.default_rng(7).normal(size=(adata.n_obs, 8))[treated], genes),
    }
    for name, rows in drawn.items():
        expected = metrics.relationship_recall(*average(*rows), known)["value"]
        assert table.loc[name, "value"].tolist() == pytest.approx(expected.tolist(), nan_ok=True)


def test_uniform_values_recall_genes_of_many_replicates():
    # means of many positive values are all alike, so that annotated genes with more wells than others are recalled
    n_wells = np.where(np.arange(60) < 20, 30, 2)
    genes = np.repeat([f"GENE{i:02}" for i in range(60)], n_wells)
    obs = pd.DataFrame({"gene": genes}, index=[f"well{i}" for i in range(len(genes))])
    adata = anndata.AnnData(obs=obs, obsm={"noise": np.random.default_rng(0).normal(size=(len(genes), 16))})
    pairs = [(f"GENE{i:02}", f"GENE{j:02}") for i in range(20) for j in range(i)][::2]
    known = pd.DataFrame(pairs, columns=["gene_a", "gene_b"])
    keys = {"use_rep": "noise", "perturbation_key": "gene", "control": None, "relationships": known, "method": None}
    table = recall(adata, **keys, baselines=["permuted", "normal", "uniform"], n_permutations=99, rng=0)
    union = table[table["key"] == "union"].set_index("representation")
    assert union.loc["random (uniform)", "value"] > 0.3
    assert union.loc["random (uniform)", "p_value"] == 0.01
    others = union.drop(index="random (uniform)")
    assert (others["value"] - 0.1).abs().max() < 4 * np.sqrt(0.1 * 0.9 / len(pairs))


def test_refuses(adata, known, refuses):
    options = {"relationships": known, **KEYS}
    for baselines in ("zeros", ["permuted", "zeros"]):
        with refuses(errors.UnknownChoice, name="baselines"):
            recall(adata, use_rep="signal", baselines=baselines, **options)
    adata.obsm["databases"] = adata.obsm["signal"]
    with refuses(errors.NameTaken, items=["databases"]):
        relationship_sets(adata, use_rep=["signal", "databases"], **options)
