from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

DIFFICULTIES = ("easy", "medium", "hard")
FEW = {"rng": 0, "n_compounds": 12, "n_knockouts": 24, "n_pathways": 6, "n_genes": 50, "n_image_features": 16}
FEW |= {"n_batches": 4, "n_knockout_batches": 3, "n_controls": 10}
KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


@pytest.fixture(scope="module")
def study():
    return scl.datasets.simulate(**FEW)


@pytest.fixture(scope="module")
def whole():
    """The default study."""
    return scl.datasets.simulate(rng=0)


def parts(study):
    mdatas = {"mdata": study.mdata, "knockouts": study.knockouts}
    return {(name, modality): adata for name, mdata in mdatas.items() for modality, adata in mdata.mod.items()}


def test_shapes(study, whole):
    few = [(12 * 3 * 4 + 4 * 10, 50), (12 * 3 * 3 + 4 * 10, 16), (24 * 6 + 3 * 10, 50), (24 * 6 + 3 * 10, 16)]
    assert [adata.shape for adata in parts(study).values()] == few
    many = [(300 * 3 * 4 + 192, 600), (300 * 3 * 3 + 192, 128), (150 * 6 + 192, 600), (150 * 6 + 192, 128)]
    assert [adata.shape for adata in parts(whole).values()] == many
    assert len(whole.relationships) == 30 * 10
    for (_, modality), adata in parts(study).items():
        assert adata.X.dtype == np.float32
        assert np.isfinite(adata.X).all()
        assert list(adata.obsm) == (["X_image"] if modality == "image" else [])
        if modality == "image":
            np.testing.assert_array_equal(adata.obsm["X_image"], adata.X)


def test_each_compound_at_each_dose_and_each_knockout(study):
    for (name, modality), adata in parts(study).items():
        obs = adata.obs[adata.obs["perturbation"] != "control"]
        counts = obs.groupby(["perturbation", "dose"], observed=True).size()
        assert set(counts) == {6 if name == "knockouts" else {"rna": 4, "image": 3}[modality]}
        if name == "mdata":
            assert set(counts.index) == {(f"compound_{i:02}", dose) for i in range(12) for dose in (0.1, 1.0, 10.0)}
        else:
            assert set(counts.index) == {(f"gene_{i:02}", 0.0) for i in range(24)}
            assert set(obs["perturbation"]) <= set(study.knockouts["rna"].var_names)
        assert (adata.obs.loc[adata.obs["perturbation"] == "control", "dose"] == 0).all()
        assert list(obs) == ["perturbation", "dose", *(["pathway"] if name == "knockouts" else []), "batch"]


def test_every_batch_has_its_controls_and_is_nobody_elses(study):
    assert pd.Index(np.concatenate([adata.obs_names for adata in parts(study).values()])).is_unique
    batches = {}
    for key, adata in parts(study).items():
        control = adata.obs["perturbation"] == "control"
        assert set(control.groupby(adata.obs["batch"], observed=False).sum()) == {10}
        sizes = adata.obs["batch"][~control].value_counts()
        assert sizes.max() - sizes.min() <= 1
        batches[key] = set(adata.obs["batch"])
        assert len(batches[key]) == (4 if key[0] == "mdata" else 3)
    for one, other in combinations(batches.values(), 2):
        assert not one & other


@pytest.mark.parametrize("n_knockouts", [24, 20])  # pathways of equal size, and of three or four genes
def test_relationships_are_the_pairs_of_genes_that_share_a_pathway(n_knockouts):
    study = scl.datasets.simulate(**FEW | {"n_knockouts": n_knockouts})
    labels, images = (
        set(zip(adata.obs["perturbation"], adata.obs["pathway"], strict=True)) for adata in study.knockouts.mod.values()
    )
    assert labels == images
    pathway = dict(labels)
    assert len(pathway) == len(labels) == n_knockouts + 1
    assert pathway.pop("control") == "none"
    assert len(set(pathway.values())) == 6
    expected = {frozenset(pair) for pair in combinations(pathway, 2) if pathway[pair[0]] == pathway[pair[1]]}
    assert list(study.relationships) == ["database", "gene_a", "gene_b"]
    pairs = list(zip(study.relationships["gene_a"], study.relationships["gene_b"], strict=True))
    assert len(pairs) == len(expected) == {24: 6 * 6, 20: 4 * 3 + 2 * 6}[n_knockouts]
    assert {frozenset(pair) for pair in pairs} == expected


def test_the_same_seed_gives_the_same_study(study):
    again = scl.datasets.simulate(**FEW)
    rng = np.random.default_rng(0)
    drawn, moved_on = (scl.datasets.simulate(**FEW | {"rng": rng}) for _ in range(2))
    unseeded = scl.datasets.simulate(**FEW | {"rng": None})
    for key, adata in parts(study).items():
        for same in (again, drawn):
            np.testing.assert_array_equal(parts(same)[key].X, adata.X)
            pd.testing.assert_frame_equal(parts(same)[key].obs, adata.obs)
        for other in (moved_on, unseeded):
            assert (parts(other)[key].X != adata.X).mean() > 0.3
            assert (parts(other)[key].obs["batch"] != adata.obs["batch"]).any()
    pd.testing.assert_frame_equal(again.relationships, study.relationships)


def test_studies_of_one_seed_differ_in_their_difficulty_alone():
    easy, hard = (scl.datasets.simulate(**FEW, difficulty=level) for level in ("easy", "hard"))
    for key, adata in parts(easy).items():
        pd.testing.assert_frame_equal(parts(hard)[key].obs, adata.obs)
        assert (parts(hard)[key].X != adata.X).any()


def test_counts_are_counts_of_about_two_thousand(whole):
    for name in ("mdata", "knockouts"):
        adata = getattr(whole, name)["rna"]
        assert (adata.X >= 0).all()
        np.testing.assert_array_equal(adata.X, np.round(adata.X))
        totals = adata.X.sum(axis=1, dtype=float)
        assert np.median(totals) == pytest.approx(2000, rel=0.03)
        assert totals.mean() == pytest.approx(2000 * np.exp(0.3**2 / 2), rel=0.03)
        assert 0.3 < np.log(totals).std() < 0.4  # that of the library size, and that of the counting


def test_counts_scatter_more_than_poisson(whole):
    """The variance of a negative binomial is the mean plus a fifth of its square, and cells differ in state as well."""
    adata = whole.mdata["rna"]
    controls = adata[(adata.obs["perturbation"] == "control") & (adata.obs["batch"] == "rna_batch_0")].X
    mean, variance = controls.mean(axis=0, dtype=float), controls.var(axis=0, dtype=float, ddof=1)
    frequent = mean > 10
    assert frequent.sum() > 20
    excess = (variance - mean)[frequent] / mean[frequent] ** 2
    assert 0.2 < np.median(excess) < 0.8


def test_batches_have_offsets_and_scales_of_their_own(whole):
    for mdata in (whole.mdata, whole.knockouts):
        rna, image = (adata[adata.obs["perturbation"] == "control"] for adata in mdata.mod.values())
        batches = pd.DataFrame(image.X.astype(float)).groupby(image.obs["batch"].to_numpy())
        # offsets have standard deviation 2, beside which a mean of 32 controls is exact to about 0.6
        assert batches.mean().std().mean() == pytest.approx(np.hypot(2, 3.2 / np.sqrt(32)), rel=0.15)
        assert np.log(batches.std().mean(axis=1) / 3.2).std() == pytest.approx(0.2, abs=0.1)

        logs = pd.DataFrame(np.log1p(1e4 * rna.X / rna.X.sum(axis=1, keepdims=True)))
        between = logs.groupby(rna.obs["batch"].to_numpy()).mean().std(ddof=0)
        assert (between > logs.std(ddof=0) / np.sqrt(32)).mean() > 0.9


def test_effects_grow_with_the_dose(whole):
    image = whole.mdata["image"].copy()
    scl.pp.pea_correct(image, use_rep="X_image", **KEYS, method="center")
    strength = np.linalg.norm(image.obsm["X_image_center"], axis=1)
    mean = pd.Series(strength).groupby(image.obs["dose"].to_numpy()).mean()
    assert list(mean.index) == [0.0, 0.1, 1.0, 10.0]
    assert mean.is_monotonic_increasing
    assert mean[10.0] > 1.2 * mean[0.0]


def test_recall_by_difficulty_and_modality(whole):
    rows = []
    for difficulty in DIFFICULTIES:
        for seed in range(3):
            default = difficulty == "medium" and seed == 0
            study = whole if default else scl.datasets.simulate(difficulty=difficulty, rng=seed)
            rna, image = study.knockouts["rna"].copy(), study.knockouts["image"]
            encoder = scl.encoders.PCAEncoder(n_components=64).fit(study.mdata["rna"])
            rna.obsm["X_pca"] = encoder.encode(rna)
            for name, adata, key in (("rna", rna, "X_pca"), ("image", image, "X_image")):
                table = scl.tl.recall(adata, use_rep=key, relationships=study.relationships, **KEYS, n_permutations=0)
                rows.append((difficulty, seed, name, table.set_index("key").loc["mean", "value"]))
    recalls = pd.DataFrame(rows, columns=["difficulty", "seed", "modality", "recall"])
    wide = recalls.pivot_table(index=["difficulty", "seed"], columns="modality", values="recall")
    assert wide.loc["medium", "rna"].between(0.25, 0.55).all()  # room for distillation
    assert (wide["rna"] < wide["image"] - 0.2).all()
    mean = wide.groupby("difficulty").mean()
    assert (mean.loc["easy"] > mean.loc["medium"]).all()
    assert (mean.loc["medium"] > mean.loc["hard"]).all()
    assert (mean.loc["hard"] > 0.13).all()


def test_the_smallest_study():
    sizes = {"n_compounds": 1, "n_knockouts": 6, "n_pathways": 3, "n_genes": 6, "n_image_features": 1}
    study = scl.datasets.simulate(**sizes, n_batches=1, n_knockout_batches=1, n_controls=2, doses=(0.5,))
    assert study.mdata["rna"].shape == (6, 6)
    assert study.knockouts["image"].shape == (38, 1)
    assert len(study.relationships) == 3
    assert set(study.mdata["rna"].obs["batch"]) == {"rna_batch_0"}
    assert set(study.mdata["rna"].obs["dose"]) == {0.0, 0.5}


def test_the_genes_of_a_pathway_are_those_that_its_knockouts_move(whole):
    rna = whole.knockouts["rna"]
    loadings = rna.varm["pathways"]
    pd.testing.assert_frame_equal(loadings, whole.mdata["rna"].varm["pathways"])
    assert list(loadings) == sorted(set(rna.obs["pathway"]) - {"none"})
    assert list(loadings.index) == list(rna.var_names)
    assert (loadings != 0).to_numpy().mean() == pytest.approx(0.1, abs=0.01)
    assert loadings.to_numpy()[loadings.to_numpy() != 0].std() == pytest.approx(1, abs=0.05)
    share = np.log1p(1e4 * rna.X / rna.X.sum(axis=1, keepdims=True))
    means = pd.DataFrame(share, columns=rna.var_names).groupby(rna.obs["pathway"].to_numpy()).mean()
    for pathway in loadings:
        change = means.loc[pathway] - means.loc["none"]
        own = np.corrcoef(change, loadings[pathway])[0, 1]
        assert own > 0.3
        assert own > np.corrcoef(change, loadings.drop(columns=pathway).T)[0, 1:].max()


BAD_SIZES = [(name, 0) for name in ("n_compounds", "n_image_features", "n_batches", "n_knockout_batches")]
BAD_SIZES += [("n_pathways", 2), ("n_knockouts", 11), ("n_genes", 23), ("n_controls", 1), ("n_controls", 2.5)]


@pytest.mark.parametrize(("name", "value"), [*BAD_SIZES, ("doses", ())])
def test_refuses(refuses, name, value):
    with refuses(errors.BadValue, name=name, value=value):
        scl.datasets.simulate(**FEW | {name: value})


def test_refuses_a_dose_and_a_difficulty(refuses):
    for dose in (0.0, -1.0, np.nan):
        with refuses(errors.BadValue, name="doses"):
            scl.datasets.simulate(**FEW, doses=(1.0, dose))
    with refuses(errors.UnknownChoice, name="difficulty", value="extreme", choices=list(DIFFICULTIES)):
        scl.datasets.simulate(**FEW, difficulty="extreme")
