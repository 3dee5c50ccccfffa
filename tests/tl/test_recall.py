import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import metrics
from semiclip.correction import correct, fit_correction
from semiclip.tl import _maps, _recall, _relationship_sets, recall, relationship_sets
from semiclip.tl._baselines import permuted, random
from semiclip.tl._maps import corrected

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
GENES = [f"GENE{i:02}" for i in range(30)]


@pytest.fixture
def adata():
    """30 genes and two control labels, unequally often, in three batches that differ by an offset."""
    rng = np.random.default_rng(0)
    genes = rng.permutation(np.append(np.repeat(GENES, rng.integers(2, 6, 30)), ["EGFP", "LACZ"] * 30))
    plate = rng.integers(0, 3, len(genes))
    means = dict(zip([*GENES, "EGFP", "LACZ"], [*np.repeat(rng.normal(size=(15, 8)), 2, axis=0), 0, 0], strict=True))
    x = np.stack([means[gene] + rng.normal(size=8) for gene in genes]) + 3 * plate[:, None]
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    noise = rng.normal(size=(len(obs), 5)).astype(np.float32)
    return anndata.AnnData(X=np.abs(x).astype(np.float32), obs=obs, obsm={"signal": x, "noise": noise})


@pytest.fixture
def known():
    within = pd.DataFrame({"database": "within", "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    across = pd.DataFrame({"database": "across", "gene_a": GENES[:15], "gene_b": GENES[15:]})
    both = pd.DataFrame({"database": "across", "gene_a": ["GENE01", "EGFP"], "gene_b": ["GENE00", "GENE00"]})
    return pd.concat([within, across, both], ignore_index=True)


def by_hand(adata, known, key, *, method, profile="clean", thresholds=(0.05, 0.95)):
    """The same steps with pandas."""
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x = adata.obsm[key]
    if method is not None:
        x = correct(x, adata.obs["plate"].astype(int).to_numpy(), control, method=method, profile=profile)
    mean = pd.DataFrame(x[~control].astype(float)).groupby(adata.obs["gene"].astype(str).to_numpy()[~control]).mean()
    return metrics.relationship_recall(mean.to_numpy(), mean.index, known, thresholds=thresholds)


@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
@pytest.mark.parametrize("method", ["tvn", "center", "center_scale", None])
def test_equals_the_steps_by_hand(adata, known, method, profile):
    keys = KEYS | {"method": method, "profile": profile, "thresholds": (0.1, 0.9)}
    table = recall(adata, use_rep=["signal", "noise"], relationships=known, **keys)
    for key in ("signal", "noise"):
        part = table[table["representation"] == key].drop(columns=["representation", "rank"]).reset_index(drop=True)
        expected = by_hand(adata, known, key, method=method, profile=profile, thresholds=(0.1, 0.9))
        pd.testing.assert_frame_equal(part, expected)
    assert list(table["representation"].unique()) == ["signal", "noise"]
    assert list(table)[:4] == ["metric", "representation", "key", "value"]
    assert set(table["n_pairs"]) == {15, 16, 30}  # the pair with a control label does not count, a shared one once


def test_the_correction_is_what_finds_the_planted_pairs(adata, known):
    def within(method):
        table = recall(adata, use_rep="signal", relationships=known, method=method, **KEYS)
        return table.set_index("key").loc["within", "value"]

    assert within("tvn") > within(None)
    assert within("center") > 0.5


def test_takes_x_and_sparse_and_a_single_key(adata, known):
    dense = recall(adata, use_rep="X", relationships=known, **KEYS)
    adata.X = sparse.csr_matrix(adata.X)
    pd.testing.assert_frame_equal(recall(adata, use_rep=["X", "X"], relationships=known, **KEYS), dense)


def test_without_controls_every_row_is_reference_and_none_is_dropped(adata, known, monkeypatch):
    seen = []

    def watched(x, batch, control, **kwargs):
        seen.append((control, kwargs["method"]))
        return fit_correction(x, batch, control, **kwargs)

    monkeypatch.setattr(_maps, "fit_correction", watched)
    keys = KEYS | {"control": None}
    table = recall(adata, use_rep="signal", relationships=known, method="center", **keys)
    assert seen[0][0].all()
    assert seen[0][1] == "center"
    assert table.set_index("key").loc["across", "n_pairs"] == 17  # EGFP is now a label like any other
    recall(adata, use_rep="signal", relationships=known, method=None, **keys)
    assert len(seen) == 1


def test_the_batches_reach_the_correction_by_name(adata, known):
    lonely = adata[(adata.obs["plate"] != "2") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])]
    with pytest.raises(ValueError, match=r"1 batch\(es\) have fewer than two controls: 2 \(0\)"):
        recall(lonely, use_rep="signal", relationships=known, **KEYS)
    together = KEYS | {"batch_key": None}
    assert len(recall(lonely, use_rep="signal", relationships=known, **together)) == 4


def test_permutations_are_the_same_for_each_representation(adata, known):
    adata.obsm["again"] = adata.obsm["signal"]
    table = recall(adata, use_rep=["signal", "again"], relationships=known, n_permutations=20, rng=1, **KEYS)
    first, second = (table[table["representation"] == key].iloc[:, 2:] for key in ("signal", "again"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert table["chance_sd"].between(0.01, 0.2).all()


def test_the_default_relationships_are_those_of_the_datasets(adata, known, monkeypatch):
    assert _recall.datasets is _relationship_sets.datasets
    monkeypatch.setattr(_recall.datasets, "relationships", lambda: known)
    for function in (recall, relationship_sets):
        pd.testing.assert_frame_equal(
            function(adata, use_rep="signal", **KEYS), function(adata, use_rep="signal", relationships=known, **KEYS)
        )


def test_sets_hold_each_pair_once_with_its_databases(adata, known):
    sets = relationship_sets(adata, use_rep=["signal", "noise"], relationships=known, **KEYS)
    assert list(sets) == ["gene_a", "gene_b", "databases", "signal", "noise"]
    assert sets["signal"].dtype == sets["noise"].dtype == bool
    assert len(sets) == 30
    databases = sets.set_index(["gene_a", "gene_b"])["databases"]
    assert databases["GENE00", "GENE01"] == "within;across"
    assert databases["GENE02", "GENE03"] == "within"
    assert databases["GENE00", "GENE15"] == "across"

    table = recall(adata, use_rep=["signal", "noise"], relationships=known, **KEYS).set_index(["representation", "key"])
    for key in ("signal", "noise"):
        for database in ("within", "across"):
            member = sets["databases"].str.split(";").map(lambda names, wanted=database: wanted in names)
            assert sets.loc[member, key].sum() == table.loc[(key, database), "n_recalled"]


def test_nothing_is_changed(adata, known):
    before, known_before = adata.copy(), known.copy()
    recall(adata, use_rep=["signal", "noise"], relationships=known, n_permutations=2, **KEYS)
    relationship_sets(adata, use_rep=["signal", "noise"], relationships=known, **KEYS)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(known, known_before)
    assert set(adata.obsm) == {"signal", "noise"}
    assert not adata.uns
    for key in adata.obsm:
        np.testing.assert_array_equal(adata.obsm[key], before.obsm[key])


def test_a_view_does(adata, known):
    view = adata[adata.obs["plate"] != "1"]
    pd.testing.assert_frame_equal(
        recall(view, use_rep="signal", relationships=known, **KEYS),
        recall(view.copy(), use_rep="signal", relationships=known, **KEYS),
    )
    assert view.is_view


@pytest.mark.parametrize("function", [recall, relationship_sets])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": []}, ValueError, "use_rep names no representation"),
        ({"use_rep": ["signal", "X_none"]}, KeyError, "use_rep='X_none' is not in obsm, which has signal, noise"),
        ({"perturbation_key": "guide"}, KeyError, "perturbation_key='guide' is not a column of obs"),
        ({"batch_key": "run"}, KeyError, "batch_key='run' is not a column of obs"),
        ({"control": "DMSO"}, ValueError, r"control label\(s\) DMSO match no row of obs\['gene'\]"),
        ({"control": ["EGFP", "DMSO"]}, ValueError, r"control label\(s\) DMSO match no row"),
        ({"method": "combat"}, ValueError, "no correction method='combat'"),
        ({"thresholds": (0.9, 0.1)}, ValueError, r"thresholds=\(0.9, 0.1\) must be two quantiles"),
        ({"perturbation_key": "plate", "control": "0", "batch_key": None}, ValueError, "the map has 2 genes"),
    ],
)
def test_refuses(adata, known, function, change, error, message):
    arguments = {"use_rep": "signal", "relationships": known, **KEYS, **change}
    with pytest.raises(error, match=message):
        function(adata, **arguments)


def test_refuses_values_and_labels_that_are_missing(adata, known):
    adata.obsm["signal"][3, 0] = np.nan
    with pytest.raises(ValueError, match=r"obsm\['signal'\] holds NaN or infinite values in 1 row\(s\): well3"):
        recall(adata, use_rep="signal", relationships=known, **KEYS)
    adata.obs.loc["well5", "gene"] = np.nan
    with pytest.raises(ValueError, match=r"obs\['gene'\] \(perturbation_key\) has no value in 1 row\(s\): well5"):
        recall(adata, use_rep="noise", relationships=known, **KEYS)


def test_refuses_an_empty_object_before_anything_is_fetched(adata, monkeypatch):
    monkeypatch.setattr(_recall.datasets, "relationships", lambda: pytest.fail("fetched for nothing"))
    with pytest.raises(ValueError, match="the AnnData has no observations"):
        recall(adata[:0], use_rep="signal", **KEYS)


def test_names_that_the_results_need_are_refused(adata, known):
    adata.obsm["databases"] = adata.obsm["signal"]
    with pytest.raises(ValueError, match="a representation is called databases, which is a column of the result"):
        relationship_sets(adata, use_rep=["signal", "databases"], relationships=known, **KEYS)
    for name in ("mean", "union"):
        with pytest.raises(ValueError, match=f"a database called '{name}', a row of the result; rename it"):
            recall(adata, use_rep="signal", relationships=known.assign(database=name), **KEYS)


def test_several_thresholds_reach_the_metric(adata, known):
    pairs = [(0.05, 0.95), (0.1, 0.9)]
    table = recall(adata, use_rep="signal", relationships=known, thresholds=pairs, **KEYS)
    assert len(table) == 8
    for pair, part in table.groupby(["threshold_low", "threshold_high"]):
        once = recall(adata, use_rep="signal", relationships=known, thresholds=pair, **KEYS)
        pd.testing.assert_frame_equal(part.reset_index(drop=True), once)


def test_rank_says_what_whitening_kept(adata, known):
    adata.obsm["twice"] = np.hstack([adata.obsm["signal"], adata.obsm["signal"]])
    keys = {"use_rep": ["signal", "twice"], "relationships": known, **KEYS}
    for profile in ("clean", "public"):
        ranks = recall(adata, **keys, profile=profile).groupby("representation")["rank"].unique()
        assert (ranks["signal"].tolist(), ranks["twice"].tolist()) == ([8], [8])
    assert recall(adata, **keys, method="center").groupby("representation")["rank"].first().to_dict() == {
        "signal": 8, "twice": 16,
    }  # fmt: skip
    assert set(recall(adata, **keys, method=None)["rank"]) == {8, 16}
    few = adata[~adata.obs["gene"].isin(["EGFP", "LACZ"]) | (np.arange(adata.n_obs) % 3 == 0)]
    n_controls = few.obs.loc[few.obs["gene"].isin(["EGFP", "LACZ"]), "plate"].value_counts().min()
    assert n_controls <= 8
    assert set(recall(few, **keys, profile="batch")["rank"]) == {n_controls - 1}
    assert set(recall(few, **keys, profile="batch", ridge=0.5)["rank"]) == {8, 16}


def test_a_ridge_reaches_the_correction(adata, known):
    table = recall(adata, use_rep="signal", relationships=known, profile="batch", ridge=0.5, **KEYS)
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x = correct(adata.obsm["signal"], adata.obs["plate"].astype(int).to_numpy(), control, profile="batch", ridge=0.5)
    adata.obsm["done"] = x
    done = recall(adata, use_rep="done", relationships=known, method=None, **KEYS)
    pd.testing.assert_series_equal(table["value"], done["value"])


class TestBaselines:
    def test_rows_of_their_own(self, adata, known):
        keys = {"use_rep": ["signal", "noise"], "relationships": known, "rng": 0, **KEYS}
        table = recall(adata, **keys, baselines=["permuted", "uniform", "normal"])
        added = ["signal (permuted)", "noise (permuted)", "random (uniform)", "random (normal)"]
        names = list(table["representation"].unique())
        assert sorted(names) == sorted(["signal", "noise", *added])
        plain = table[table["representation"].isin(["signal", "noise"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(plain, recall(adata, **keys))
        pd.testing.assert_frame_equal(table, recall(adata, **keys, baselines=["permuted", "uniform", "normal"]))

    def test_know_nothing(self, adata):
        pairs = pd.DataFrame(
            [(a, b) for i, a in enumerate(GENES) for b in GENES[i + 1 :]], columns=["gene_a", "gene_b"]
        )
        within = pairs[[GENES.index(a) // 2 == GENES.index(b) // 2 for a, b in pairs.to_numpy()]]
        keys = {"use_rep": "signal", "relationships": within, "baselines": ["permuted", "normal"], **KEYS}
        tables = pd.concat([recall(adata, **keys, rng=seed) for seed in range(40)])
        means = tables[tables["key"] == "union"].groupby("representation")["value"].mean()
        assert means["signal"] > 0.5
        sd = np.sqrt(0.1 * 0.9 / 15 / 40)
        assert means["signal (permuted)"] == pytest.approx(0.1, abs=4 * sd)
        assert means["random (normal)"] == pytest.approx(0.1, abs=4 * sd)

    def test_permuted_keeps_controls_and_the_size_of_every_group(self, adata):
        how = {"method": None, "profile": "clean", "ridge": 0.0, "fallback": "raise"}
        (found,) = corrected(adata, "signal", **KEYS, **how)
        other = permuted(found, np.random.default_rng(0))
        control = ~found.treated[found.codes]
        np.testing.assert_array_equal(other.codes[control], found.codes[control])
        np.testing.assert_array_equal(np.bincount(other.codes), np.bincount(found.codes))
        assert (other.codes != found.codes).mean() > 0.3
        assert other.x is found.x

    def test_uniform_values_are_all_positive_and_so_are_alike(self, adata):
        how = {"method": None, "profile": "clean", "ridge": 0.0, "fallback": "raise"}
        (found,) = corrected(adata, "signal", **KEYS, **how)
        drawn = random(found, "uniform", np.random.default_rng(0))
        assert drawn.x.shape == found.x.shape
        assert drawn.x.min() >= 0
        assert abs(random(found, "normal", np.random.default_rng(0)).x.mean()) < 0.1

    def test_uniform_values_recall_genes_of_many_replicates(self):
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

    @pytest.mark.parametrize("baselines", ["permuted", ["permuted", "zeros"]])
    def test_refuses(self, adata, known, baselines):
        with pytest.raises(ValueError, match="baselines: '(permuted|zeros)' is not a list of some of 'permuted', 'nor"):
            recall(adata, use_rep="signal", relationships=known, baselines=baselines, **KEYS)
