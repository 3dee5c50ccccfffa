import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from sklearn.metrics import average_precision_score

from semiclip import errors, metrics
from semiclip.correction import correct
from semiclip.tl import cross_modal_retrieval, knn_accuracy, replicate_retrieval

KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
PAIRED = {"student_rep": "X_noisy", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **KEYS}
IN_BATCHES = pytest.mark.parametrize(
    ("measure", "options"), [(replicate_retrieval, {}), (knn_accuracy, {"label_key": "pathway", "n_permutations": 0})]
)


@pytest.fixture
def knockouts(small_study):
    return small_study.knockouts["image"].copy()


@pytest.fixture
def aligned(small_study):
    """A MuData whose student has the teacher's rows with some noise, and one key less."""
    rng = np.random.default_rng(0)
    image = small_study.mdata["image"]
    student = image[image.obs["perturbation"] != "compound_00"].copy()
    student.obs_names, student.var_names = "rna_" + student.obs_names, "rna_" + student.var_names
    student.obsm["X_same"] = student.obsm["X_image"].copy()
    noise = rng.normal(size=student.obsm["X_image"].shape).astype(np.float32)
    student.obsm["X_noisy"] = student.obsm["X_image"] + 2 * noise
    student.obsm["X_noise"] = noise
    return MuData({"rna": student, "image": image.copy()})


def correct_by_hand(adata, key, method):
    """Return the treated rows, their perturbations and their batches."""
    control = (adata.obs["perturbation"] == "control").to_numpy()
    batch = pd.factorize(adata.obs["batch"], sort=True)[0]
    x = adata.obsm[key] if method is None else correct(adata.obsm[key], batch, control, method=method)
    return x[~control].astype(float), adata.obs["perturbation"].astype(str).to_numpy()[~control], batch[~control]


# ---- one modality


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_replicates_equal_sklearn_by_hand(knockouts, method, across):
    table = replicate_retrieval(knockouts, use_rep="X_image", method=method, across_batches=across, **KEYS)
    assert list(table) == ["representation", "key", "metric", "n_obs", "chance", "value"]
    assert table.iloc[0, :3].tolist() == ["X_image", "mean_average_precision", "replicate_retrieval"]
    x, labels, batch = correct_by_hand(knockouts, "X_image", method)
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


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_neighbours_equal_the_steps_by_hand(knockouts, method, across):
    options, correction = (
        {"n_neighbors": 3, "n_permutations": 5, "rng": 1},
        {"method": method, "across_batches": across},
    )
    (row,) = knn_accuracy(knockouts, use_rep="X_image", label_key="pathway", **correction, **options, **KEYS).to_dict(
        "records"
    )
    x, _, batch = correct_by_hand(knockouts, "X_image", method)
    labels = knockouts.obs["pathway"].to_numpy()[knockouts.obs["perturbation"] != "control"]
    scores = metrics.knn_accuracy(x, labels, batch if across else None, **options)
    names = {"metric": "knn_accuracy", "representation": "X_image", "key": "pathway"}
    assert row == names | scores
    assert list(row) == ["representation", "key", "metric", "n_obs", "chance_mean", "chance_sd", "chance", "value"]


def test_controls_need_no_label_and_others_do(knockouts, refuses):
    options = {"use_rep": "X_image", "label_key": "pathway", "n_permutations": 0, **KEYS}
    expected = knn_accuracy(knockouts, **options)
    control = knockouts.obs["perturbation"] == "control"
    knockouts.obs.loc[control, "pathway"] = np.nan
    pd.testing.assert_frame_equal(knn_accuracy(knockouts, **options), expected)
    row = knockouts.obs_names[~control][3]
    knockouts.obs.loc[row, "pathway"] = np.nan
    with refuses(errors.MissingValues, rows=[row]):
        knn_accuracy(knockouts, **options)
    with refuses(errors.MissingColumn, key="target", name="label_key"):
        knn_accuracy(knockouts, **options | {"label_key": "target"})


@IN_BATCHES
def test_without_batches_all_other_rows_are_candidates(knockouts, measure, options):
    knockouts.obs["one"] = "all"
    keys = {"use_rep": "X_image", "method": None, **KEYS, **options}
    together = measure(knockouts, across_batches=False, **keys)
    assert together["n_obs"][0] == (knockouts.obs["perturbation"] != "control").sum()
    for change in ({"batch_key": None}, {"batch_key": "one", "across_batches": False}):
        pd.testing.assert_frame_equal(measure(knockouts, **keys | change), together)
    with pytest.raises((errors.TooFew, errors.Empty)):  # where there is no other batch
        measure(knockouts, **keys | {"batch_key": "one"})


def test_refuses_data_without_replicates(knockouts):
    lone = knockouts[(knockouts.obs["perturbation"] == "control") | ~knockouts.obs["perturbation"].duplicated()]
    for across in (True, False):
        with pytest.raises(errors.Empty):
            replicate_retrieval(lone, use_rep="X_image", across_batches=across, **KEYS)


# ---- two modalities


@pytest.mark.parametrize("teacher_correction", ["tvn", None])
@pytest.mark.parametrize("student_correction", ["center", None])
def test_modalities_equal_the_steps_by_hand(aligned, student_correction, teacher_correction):
    methods = {"student_correction": student_correction, "teacher_correction": teacher_correction}
    before = aligned.copy()
    table = cross_modal_retrieval(aligned, ks=(1, 3), **methods, **PAIRED)
    for name in before.mod:
        pd.testing.assert_frame_equal(aligned[name].obs, before[name].obs)
        np.testing.assert_array_equal(aligned[name].obsm["X_image"], before[name].obsm["X_image"])
    assert list(table) == ["representation", "key", "metric", "n_obs", "chance", "value"]
    means = []
    for name, key, method in (("rna", "X_noisy", student_correction), ("image", "X_image", teacher_correction)):
        x, _, _ = correct_by_hand(aligned[name], key, method)
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
    options = {"student_rep": ["X_same", "X_noise"], "teacher_correction": None, "ks": (1, 100)}
    table = cross_modal_retrieval(aligned, **PAIRED | options).set_index(["representation", "key"])
    swapped = {"student_rep": "X_image", "teacher_rep": "X_same", "modalities": {"student": "image", "teacher": "rna"}}
    assert cross_modal_retrieval(aligned, teacher_correction=None, **PAIRED | swapped)["value"][0] == 0
    assert table.loc[("X_same", "mean_rank_percentile"), "value"] == 0
    assert table.loc[("X_same", "recall_at_1"), "value"] == 1
    assert table.loc[("X_noise", "mean_rank_percentile"), "value"] == pytest.approx(0.5, abs=4 / np.sqrt(12 * 69))
    assert (table.loc[(slice(None), "recall_at_100"), ["value", "chance"]] == 1).all(axis=None)


def test_each_modality_may_have_its_own_control_label(aligned):
    expected = cross_modal_retrieval(aligned, **PAIRED)
    names = aligned["rna"].obs["perturbation"].astype(str)
    aligned["rna"].obs["perturbation"] = names.where(names != "control", "vehicle")
    both = PAIRED | {"control": ["control", "vehicle"]}
    pd.testing.assert_frame_equal(cross_modal_retrieval(aligned, **both), expected)


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"student_rep": []}, errors.BadValue, {"name": "student_rep"}),
        ({"student_rep": "X_none"}, errors.MissingEntry, {"key": "X_none", "name": "student_rep"}),
        ({"teacher_rep": "X_none"}, errors.MissingEntry, {"key": "X_none", "name": "teacher_rep"}),
        ({"modalities": {"student": "protein"}}, errors.MissingEntry, {"key": "protein"}),
        ({"modalities": {"tutor": "image"}}, errors.UnknownChoice, {"name": "modalities", "value": "tutor"}),
        ({"pair_on": "well"}, KeyError, {}),
        ({"control": "DMSO"}, ValueError, {}),
        ({"teacher_correction": "combat"}, errors.UnknownChoice, {"name": "method", "value": "combat"}),
        ({"profile": "public"}, errors.BadValue, {"name": "profile"}),
        ({"ks": (0,)}, ValueError, {}),
        ({"ks": 5}, TypeError, {}),
    ],
)
def test_modalities_refuse(aligned, refuses, change, error, data):
    with refuses(error, **data):
        cross_modal_retrieval(aligned, **PAIRED | change)


def test_refuses_spaces_that_differ_and_a_single_key(mdata, aligned, refuses):
    with refuses(errors.Mismatch, got=8, expected=16):
        cross_modal_retrieval(mdata, **PAIRED | {"student_rep": "X_pca"})
    rows = {name: aligned[name].obs["perturbation"].isin(["control", "compound_01"]) for name in aligned.mod}
    one = MuData({name: aligned[name][rows[name]].copy() for name in aligned.mod})
    with refuses(errors.TooFew, number=1, needed=2):
        cross_modal_retrieval(one, **PAIRED | {"pair_on": "perturbation"})


def test_rows_whose_label_names_nothing_are_left_out_with_a_warning(aligned, warned):
    names = {"compound_01": "nan", "compound_02": "unassigned"}
    for adata in aligned.mod.values():
        adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(names)
    counts = {name: aligned[name].obs["perturbation"].value_counts() for name in aligned.mod}
    every = cross_modal_retrieval(aligned, **PAIRED, unlabelled=())
    assert set(every["n_obs"]) == {69}
    assert warned() == []
    table = cross_modal_retrieval(aligned, **PAIRED)
    assert set(table["n_obs"]) == {69 - 2 * 3}  # three doses
    messages = warned()
    assert [message.split(" rows in ")[1].split()[0] for message in messages] == ["rna", "image"]
    for message, n_rows in zip(messages, counts.values(), strict=True):
        assert f"'nan' ({n_rows['nan']} rows)" in message
        assert f"'unassigned' ({n_rows['unassigned']} rows)" in message
    one = cross_modal_retrieval(aligned, **PAIRED, unlabelled="nan")
    assert set(one["n_obs"]) == {69 - 3}
    assert len(warned()) == 2


def test_combinations_in_another_order_are_one_if_one_says_so(aligned):
    expected = cross_modal_retrieval(aligned, **PAIRED)
    for name, label in (("rna", "a+b"), ("image", "b + a")):
        obs = aligned[name].obs
        obs["perturbation"] = obs["perturbation"].astype(str).replace({"compound_01": label})
    assert set(cross_modal_retrieval(aligned, **PAIRED)["n_obs"]) == {69 - 3}
    both = cross_modal_retrieval(aligned, **PAIRED, separator="+")
    pd.testing.assert_frame_equal(both, expected, rtol=1e-9)  # keys are in another order
