import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from sklearn.metrics import average_precision_score

from semiclip import metrics
from semiclip.correction import correct
from semiclip.tl._retrieval import cross_modal_retrieval, replicate_retrieval

KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
PAIRED = {"pair_on": ["perturbation", "dose"], **KEYS}


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["image"].copy()


@pytest.fixture
def aligned(small_study):
    """A MuData whose student has the teacher's rows with some noise, and one key more."""
    rng = np.random.default_rng(0)
    image = small_study.mdata["image"]
    student = image[image.obs["perturbation"] != "compound_00"].copy()
    student.obs_names, student.var_names = "rna_" + student.obs_names, "rna_" + student.var_names
    student.obsm["X_same"] = student.obsm["X_image"].copy()
    noise = rng.normal(size=student.obsm["X_image"].shape).astype(np.float32)
    student.obsm["X_noisy"] = student.obsm["X_image"] + 2 * noise
    student.obsm["X_noise"] = noise
    return MuData({"rna": student, "image": image.copy()})


def treated(adata, key, method):
    control = (adata.obs["perturbation"] == "control").to_numpy()
    batch = pd.factorize(adata.obs["batch"], sort=True)[0]
    x = adata.obsm[key] if method is None else correct(adata.obsm[key], batch, control, method=method)
    return x[~control].astype(float), adata.obs["perturbation"].astype(str).to_numpy()[~control], batch[~control]


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_replicates_equal_sklearn_by_hand(knockouts, method, across):
    table = replicate_retrieval(knockouts, use_rep="X_image", method=method, across_batches=across, **KEYS)
    assert list(table) == ["metric", "representation", "key", "value", "n_obs", "chance"]
    assert table.iloc[0, :3].tolist() == ["replicate_retrieval", "X_image", "mean_average_precision"]
    x, labels, batch = treated(knockouts, "X_image", method)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = []
    for i in range(len(x)):
        candidates = batch != batch[i] if across else np.arange(len(x)) != i
        if (relevant := labels[candidates] == labels[i]).any():
            scores.append(average_precision_score(relevant, unit[candidates] @ unit[i]))
    assert table["value"][0] == pytest.approx(np.mean(scores), rel=1e-6)
    assert table["n_obs"][0] == len(scores)


def test_noise_finds_replicates_as_often_as_chance(knockouts):
    knockouts.obsm["noise"] = np.random.default_rng(0).normal(size=(knockouts.n_obs, 20))
    table = replicate_retrieval(knockouts, use_rep=["X_image", "noise"], **KEYS).set_index("representation")
    assert table["chance"].nunique() == 1
    assert table.loc["noise", "value"] == pytest.approx(table.loc["noise", "chance"], abs=0.03)
    assert table.loc["X_image", "value"] > 2 * table.loc["X_image", "chance"]


def test_replicates_without_batches(knockouts):
    keys = KEYS | {"batch_key": None, "method": None}
    found = replicate_retrieval(knockouts, use_rep="X_image", **keys)
    together = replicate_retrieval(knockouts, use_rep="X_image", method=None, across_batches=False, **KEYS)
    pd.testing.assert_frame_equal(found, together)
    assert found["n_obs"][0] == (knockouts.obs["perturbation"] != "control").sum()


def test_nothing_is_changed_and_views_do(knockouts):
    before = knockouts.copy()
    view = knockouts[knockouts.obs["pathway"] != "pathway_0"]
    pd.testing.assert_frame_equal(
        replicate_retrieval(view, use_rep="X_image", **KEYS),
        replicate_retrieval(view.copy(), use_rep="X_image", **KEYS),
    )
    assert view.is_view
    pd.testing.assert_frame_equal(knockouts.obs, before.obs)
    np.testing.assert_array_equal(knockouts.obsm["X_image"], before.obsm["X_image"])


def test_refuses_data_without_replicates(knockouts):
    lone = knockouts[(knockouts.obs["perturbation"] == "control") | ~knockouts.obs["perturbation"].duplicated()]
    with pytest.raises(ValueError, match="no perturbation has a second row in another batch; across_batches=False"):
        replicate_retrieval(lone, use_rep="X_image", **KEYS)
    with pytest.raises(ValueError, match="no perturbation has a second row$"):
        replicate_retrieval(lone, use_rep="X_image", across_batches=False, **KEYS)


def test_replicates_refuse_what_all_measures_refuse(knockouts):
    with pytest.raises(KeyError, match="use_rep='X_none' is not in obsm"):
        replicate_retrieval(knockouts, use_rep="X_none", **KEYS)
    with pytest.raises(ValueError, match=r"control label\(s\) DMSO match no row"):
        replicate_retrieval(knockouts, use_rep="X_image", **KEYS | {"control": "DMSO"})


@pytest.mark.parametrize("teacher_correction", ["tvn", None])
@pytest.mark.parametrize("student_correction", ["center", None])
def test_modalities_equal_the_steps_by_hand(aligned, student_correction, teacher_correction):
    table = cross_modal_retrieval(
        aligned, student_rep="X_noisy", teacher_rep="X_image", ks=(1, 3),
        student_correction=student_correction, teacher_correction=teacher_correction, **PAIRED,
    )  # fmt: skip
    assert list(table) == ["metric", "representation", "key", "value", "n_obs", "chance"]
    means = []
    for name, key, method in (("rna", "X_noisy", student_correction), ("image", "X_image", teacher_correction)):
        x, _, _ = treated(aligned[name], key, method)
        obs = aligned[name].obs
        obs = obs[obs["perturbation"] != "control"]
        unit = pd.DataFrame(x / np.linalg.norm(x, axis=1, keepdims=True), index=obs.index)
        means.append(unit.groupby([obs["perturbation"].astype(str), obs["dose"]]).mean())
    shared = means[0].index.intersection(means[1].index)
    query, candidates = (part.loc[shared].to_numpy() for part in means)
    expected = metrics.retrieval(query, candidates, np.arange(len(shared)), ks=(1, 3))
    assert table["key"].tolist() == list(expected)
    assert table["value"].tolist() == pytest.approx(list(expected.values()), abs=1e-6)
    assert set(table["n_obs"]) == {69}
    assert table["chance"].tolist() == [0.5, 1 / 69, 3 / 69]


def test_the_same_is_found_and_noise_is_not(aligned):
    table = cross_modal_retrieval(
        aligned,
        student_rep=["X_same", "X_noise"],
        teacher_rep="X_image",
        teacher_correction=None,
        ks=(1, 100),
        **PAIRED,
    ).set_index(["representation", "key"])
    assert table.loc[("X_same", "mean_rank_percentile"), "value"] == 0
    assert table.loc[("X_same", "recall_at_1"), "value"] == 1
    assert table.loc[("X_noise", "mean_rank_percentile"), "value"] == pytest.approx(0.5, abs=4 / np.sqrt(12 * 69))
    assert (table.loc[(slice(None), "recall_at_100"), ["value", "chance"]] == 1).all(axis=None)


def test_modalities_are_left_as_they_are(aligned):
    before = {name: aligned[name].copy() for name in aligned.mod}
    cross_modal_retrieval(aligned, student_rep="X_noisy", teacher_rep="X_image", **PAIRED)
    for name, adata in before.items():
        pd.testing.assert_frame_equal(aligned[name].obs, adata.obs)
        for key in adata.obsm:
            np.testing.assert_array_equal(aligned[name].obsm[key], adata.obsm[key])


def test_the_roles_can_be_played_by_others(aligned):
    found = cross_modal_retrieval(
        aligned, student_rep="X_image", teacher_rep="X_same", modalities={"student": "image", "teacher": "rna"},
        teacher_correction=None, **PAIRED,
    )  # fmt: skip
    assert found["value"][0] == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"student_rep": []}, ValueError, "student_rep names no representation"),
        ({"student_rep": "X_none"}, KeyError, "student_rep='X_none' is not in obsm"),
        ({"teacher_rep": "X_none"}, KeyError, "teacher_rep='X_none' is not in obsm"),
        ({"modalities": {"student": "protein"}}, KeyError, "no modality 'protein'"),
        ({"modalities": {"tutor": "image"}}, ValueError, "modalities names tutor"),
        ({"pair_on": "well"}, KeyError, r"pair_on='well' is not a column of obs"),
        ({"control": "DMSO"}, ValueError, r"control label\(s\) DMSO match no row"),
        ({"teacher_correction": "combat"}, ValueError, "no correction method='combat'"),
        ({"ks": (0,)}, ValueError, r"ks=\(0,\) has 0"),
    ],
)
def test_modalities_refuse(aligned, change, error, message):
    with pytest.raises(error, match=message):
        cross_modal_retrieval(aligned, **{"student_rep": "X_noisy", "teacher_rep": "X_image", **PAIRED, **change})


def test_spaces_that_differ_are_refused(mdata):
    message = r"student_rep='X_pca' has 8 dimensions and teacher_rep='X_image' has 16; .* 'semiclip' learns from this"
    with pytest.raises(ValueError, match=message):
        cross_modal_retrieval(mdata, student_rep="X_pca", teacher_rep="X_image", **PAIRED)


def test_a_single_key_is_refused(aligned):
    one = {
        name: aligned[name][aligned[name].obs["perturbation"].isin(["control", "compound_01"])] for name in aligned.mod
    }
    with pytest.raises(ValueError, match="the modalities share 1 key on perturbation, but a ranking needs at least 2"):
        cross_modal_retrieval(
            MuData({name: part.copy() for name, part in one.items()}),
            student_rep="X_noisy", teacher_rep="X_image", **PAIRED | {"pair_on": "perturbation"},
        )  # fmt: skip


def test_a_correction_that_turns_the_space_is_refused(aligned):
    how = {"student_rep": "X_noisy", "teacher_rep": "X_image", **PAIRED}
    with pytest.raises(ValueError, match="profile='public' turns each side .*; pass profile='clean'"):
        cross_modal_retrieval(aligned, profile="public", **how)
    # directions without variation stay where they are, as zeros
    image = aligned["image"]
    image.obsm["X_flat"] = image.obsm["X_image"] * (np.arange(image.obsm["X_image"].shape[1]) > 0)
    assert len(cross_modal_retrieval(aligned, **how | {"teacher_rep": "X_flat"})) == 4


def test_a_single_k_is_refused(aligned):
    with pytest.raises(TypeError, match="ks=5 is not a list of numbers"):
        cross_modal_retrieval(aligned, student_rep="X_noisy", teacher_rep="X_image", ks=5, **PAIRED)
