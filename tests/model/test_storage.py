"""Representations in half precision stay so, those in a file are read once, and what changes is read anew."""

from __future__ import annotations

import copy

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from semiclip import _sides, correction, errors
from semiclip._sides import SideArrays, _are_alike, _hash_rows
from semiclip.model import Baseline, SemiClip
from semiclip.model._shared import project
from semiclip.model._tensors import PairedTensors

REPS = (("rna", "X_pca"), ("image", "X_image"))
RUNS = {
    "PEA": ({}, {}),
    "without PEA": ({}, {"pea": False}),
    "no correction": ({"student_correction": None, "teacher_correction": None}, {"pea": False}),
    "in chunks": ({"teacher_correction": None}, {"datasplitter_kwargs": {"chunk_rows": 64}}),
    "shared directions": ({"n_shared": 3}, {"plan_kwargs": {"lr": 0.01}}),
    "an adapter of the teacher": ({"objective": "clip", "teacher_correction": None}, {}),
}


@pytest.fixture
def train(mdata, setup, quiet, spy):
    def train(dtype, of_model, of_training):
        for name, rep in REPS:
            mdata[name].obsm[rep] = mdata[name].obsm[rep].astype(np.float16).astype(dtype)
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        model, watch = SemiClip(mdata, **of_model), spy()
        model.train(2, batch_size=64, callbacks=[watch], **of_training, **quiet)
        return model, watch.data

    return train


@pytest.mark.parametrize("name", RUNS)
def test_half_precision_trains_to_the_same_bits_as_its_values_in_single_precision(train, name):
    (half, data), (single, of_single) = (train(dtype, *RUNS[name]) for dtype in (np.float16, np.float32))
    for part, weights in single.module.state_dict().items():
        assert torch.equal(half.module.state_dict()[part], weights)
    for curve, frame in single.history.items():
        pd.testing.assert_frame_equal(half.history[curve], frame)
    np.testing.assert_array_equal(half.get_latent_representation(), single.get_latent_representation())
    of_model, of_training = RUNS[name]
    # a correction makes new rows, in single precision, while PEA and no correction read what is stored
    stored = [of_training.get("pea") is not False or "student_correction" in of_model, "teacher_correction" in of_model]
    stored = [torch.float16 if is_stored else torch.float32 for is_stored in stored]
    assert [data.host.student.dtype, data.host.teacher.dtype] == stored
    assert [of_single.host.student.dtype, of_single.host.teacher.dtype] == [torch.float32] * 2
    assert data.validation.student.dtype == torch.float32


def test_rows_are_raised_when_they_are_asked_for():
    rng, key = np.random.default_rng(0), np.array([0, 1, -1, 1])
    half = [rng.normal(size=(4, width)).astype(np.float16) for width in (3, 2)]
    one, other = (
        PairedTensors.from_arrays(*(side.astype(dtype) for side in half), key, np.array([1, 0, 0, -1]))
        for dtype in (np.float16, np.float32)
    )
    assert one.student.data_ptr() != other.student.data_ptr()
    assert other.nbytes - one.nbytes == 2 * (4 * 3 + 3 * 2)
    rows = torch.tensor([0, 1, 3])
    pairs, expected = one.pair(rows, rows, 5), other.pair(rows, rows, 5)
    part = one.part(pairs, torch.device("cpu"))
    assert part.student.dtype == part.teacher.dtype == torch.float16  # half of the bytes are copied
    for found, wanted in (
        (one.seen(pairs), other.seen(expected)),
        (one.taught(pairs), other.taught(expected)),
        (one.centroids(torch.tensor([0, 1])), other.centroids(torch.tensor([0, 1]))),
        (part.student.float(), other.seen(expected)),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("profile", ["clean", "batch", "public", "global"])
def test_corrections_of_half_precision_are_those_of_its_values(profile):
    rng = np.random.default_rng(0)
    half, batch = (3 * rng.normal(size=(120, 5)) + 1).astype(np.float16), np.arange(120) % 3
    control = rng.random(120) < 0.5
    found, expected = (correction.correct(x, batch, control, profile=profile) for x in (half, half.astype(np.float32)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    rows = rng.permutation(120)[:70]
    fitted = correction.fit_correction(half, batch, control, profile=profile)
    places, blocks = zip(*fitted.blocks(half, batch, rows), strict=True)
    np.testing.assert_array_equal(np.sort(np.concatenate(places)), np.arange(70))
    np.testing.assert_allclose(np.concatenate(blocks)[np.argsort(np.concatenate(places))], expected[rows], rtol=1e-5)


@pytest.fixture
def on_disk(mdata, tmp_path, monkeypatch):
    """Put both representations in a file, and list what is read of it."""
    reads = []
    read = h5py.Dataset.__array__
    monkeypatch.setattr(
        h5py.Dataset, "__array__", lambda self, *args, **kw: reads.append(self.name) or read(self, *args, **kw)
    )
    with h5py.File(tmp_path / "reps.h5", "w") as file:
        for name, rep in REPS:
            file[rep] = mdata[name].obsm[rep]
            mdata[name].obsm[rep] = file[rep]
        yield mdata, reads


@pytest.mark.filterwarnings("ignore:student and teacher share no direction")
@pytest.mark.parametrize(("of_model", "times"), [({}, 1), ({"n_shared": "auto"}, 1)])
def test_what_is_in_a_file_is_read_by_training_and_not_by_the_setup(on_disk, setup, quiet, of_model, times):
    mdata, reads = on_disk
    SemiClip.setup_mudata(mdata, **setup)
    assert reads == []
    torch.manual_seed(0)
    model = SemiClip(mdata, **of_model)
    model.train(2, **quiet)
    assert sorted(reads) == ["/X_image"] * times + ["/X_pca"] * times
    for name, rep in REPS:
        mdata[name].obsm[rep] = np.asarray(mdata[name].obsm[rep])
    SemiClip.setup_mudata(mdata, **setup)
    torch.manual_seed(0)
    expected = SemiClip(mdata, **of_model)
    expected.train(2, **quiet)
    np.testing.assert_array_equal(model.get_latent_representation(), expected.get_latent_representation())


def test_what_is_in_a_file_must_be_finite_and_of_numbers(on_disk, setup, quiet, refuses):
    mdata, _ = on_disk
    file = mdata["rna"].obsm["X_pca"].file
    mdata["rna"].obsm["X_pca"][5, 2] = np.nan
    SemiClip.setup_mudata(mdata, **setup)
    with refuses(errors.NotFinite, rows=[mdata["rna"].obs_names[5]]):
        SemiClip(mdata).train(1, **quiet)
    file["text"] = np.full((mdata["rna"].n_obs, 2), b"a")
    mdata["rna"].obsm["X_pca"] = file["text"]
    with refuses(errors.WrongDtype):
        SemiClip.setup_mudata(mdata, **setup)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_means_and_projections_by_blocks_are_those_of_all_corrected_rows(dtype, monkeypatch):
    monkeypatch.setattr("semiclip.correction._correct.BLOCK", 7)  # several blocks of a batch
    rng = np.random.default_rng(0)
    values, batch = (2 * rng.normal(size=(150, 6)) + 1).astype(dtype), np.arange(150) % 4
    side = SideArrays(values, batch, rng.random(150) < 0.5, list("abcd"))
    for method in (None, "center_scale", "tvn"):
        fitted = side.fit(correction.CorrectionSpec(method))
        rows = rng.permutation(150)[:90]
        corrected = fitted(values, batch, rows).astype(np.float64)
        codes = np.append(np.arange(5), rng.integers(0, 5, 85))
        means = [corrected[codes == code].mean(axis=0) for code in range(5)]
        rounding = 1e-12 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(fitted.average(values, batch, rows, codes, 5), means, rtol=rounding, atol=rounding)
        projection = {"mean": rng.normal(size=6), "directions": rng.normal(size=(6, 2))}
        expected = (corrected - projection["mean"]) @ projection["directions"]
        projected = project(side, fitted, rows, projection)
        assert projected.dtype == np.float32
        np.testing.assert_allclose(projected, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def make(shared_study, setup):
    """Make a model of a study, changed before or after the model is made."""

    def leave(mdata):
        pass

    def make(before=leave, after=leave, **columns):
        mdata = shared_study.mdata.copy()
        del mdata["rna"].uns["semiclip"]  # which tells of the encoder's values
        before(mdata)
        SemiClip.setup_mudata(mdata, **{**setup, **columns})
        torch.manual_seed(0)
        model = SemiClip(mdata, n_shared="auto")
        after(mdata)
        torch.manual_seed(1)
        return model

    return make


def swap_batches(mdata):
    obs = mdata["rna"].obs
    obs["batch"] = obs["batch"].to_numpy()[::-1]


def exchange_rows(mdata):
    values = mdata["image"].obsm["X_image"]
    values[[5, 9]] = values[[9, 5]]


def negate(mdata):
    mdata["rna"].obsm["X_pca"] *= -1


def put_another(mdata):
    mdata["rna"].obsm["X_pca"] = mdata["rna"].obsm["X_pca"][:, ::-1].copy()


@pytest.mark.parametrize("change", [swap_batches, exchange_rows, negate, put_another])
def test_what_changes_between_making_and_training_is_read_and_fitted_anew(make, quiet, spy, change):
    first, again, plain = make(after=change), make(before=change), make()
    watches = [spy() for _ in range(3)]
    for model, watch in zip((first, again, plain), watches, strict=True):
        model.split_seed_ = 3
        model.train(1, callbacks=[watch], **quiet)
    found, expected, other = (watch.data.key_means for watch in watches)
    for side in ("student", "teacher"):
        np.testing.assert_allclose(getattr(found, side), getattr(expected, side), rtol=1e-5, atol=1e-6)
    assert max(np.abs(found.student - other.student).max(), np.abs(found.teacher - other.teacher).max()) > 1e-3
    np.testing.assert_array_equal(first.train_indices, again.train_indices)


@pytest.mark.parametrize("split_key", [None, "batch"])
def test_key_means_of_training_rows_are_those_of_a_naive_loop(make, quiet, spy, split_key):
    """Also where rows of a key are on both sides of the split, so that what was counted is of no use."""
    model, watch = make(split_key=split_key), spy()
    model.train(1, callbacks=[watch], **quiet)
    data, means = watch.data, watch.data.key_means
    adata, key = model.adata["rna"], data.host.key.numpy()
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    batch = pd.factorize(adata.obs["batch"], sort=True)[0]
    corrected = correction.correct(
        adata.obsm["X_pca"].astype(np.float64), batch, is_control, profile="batch", ridge=0.5
    )
    torn = [k for k in means.key if set(np.flatnonzero(key == k)) - set(model.train_indices)]
    assert (len(torn) > 0) == (split_key is not None)
    assert set(means.key) == set(key[model.train_indices]) - {-1}
    for place, number in enumerate(means.key):
        rows = [row for row in model.train_indices if key[row] == number]
        np.testing.assert_allclose(means.student[place], corrected[rows].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_data_that_stay_the_same_are_fitted_once(make, quiet, monkeypatch):
    fits = []
    fit = correction.CorrectionSpec.fit
    monkeypatch.setattr(
        correction.CorrectionSpec, "fit", lambda self, x, *args: fits.append(x.shape[1]) or fit(self, x, *args)
    )
    model = make()
    assert len(fits) == 2
    copied = copy.deepcopy(model)  # without what was read
    model.train(1, **quiet)
    assert len(fits) == 2
    for trained in (model, copied):
        fits.clear()
        trained.train(1, **quiet)
        assert len(fits) == 2


@pytest.fixture
def pairings(monkeypatch):
    """Count how often sides are paired."""
    calls, pair = [], _sides.pair_rows
    monkeypatch.setattr(_sides, "pair_rows", lambda *args: calls.append(1) or pair(*args))
    return calls


def test_pairs_of_a_setup_serve_a_model_once_unless_a_column_has_changed(make, quiet, spy, pairings):
    def swap_perturbations(mdata):
        obs, labels = mdata["rna"].obs, mdata["rna"].obs["perturbation"].to_numpy().copy()
        labels[:20] = labels[:20][::-1]
        obs["perturbation"] = labels

    expected, changed = make(before=swap_perturbations), make(after=swap_perturbations)
    assert len(pairings) == 2
    keys = []
    for model, n_pairings in ((expected, 2), (changed, 3)):
        watch = spy()
        model.train(1, callbacks=[watch], **quiet)
        keys.append(watch.data.host.key)
        assert len(pairings) == n_pairings
        assert not hasattr(model.adata_manager, "paired")  # which scvi-tools keeps for good
    assert torch.equal(*keys)
    changed.train(1, **quiet)
    assert len(pairings) == 4


def test_pairs_of_a_setup_serve_a_baseline(mdata, setup, pairings):
    Baseline.setup_mudata(mdata, **setup)
    Baseline(mdata, method="ridge").train()
    assert len(pairings) == 1


def test_pairs_of_other_columns_are_made_anew(mdata, setup, quiet, spy, pairings):
    controls = ["control"]
    SemiClip.setup_mudata(mdata, **setup | {"control": controls})
    controls.append("compound_08")
    SemiClip(mdata).train(1, callbacks=[watch := spy()], **quiet)
    assert len(pairings) == 2
    is_control = mdata["rna"].obs["perturbation"].isin(controls).to_numpy()
    assert (watch.data.host.key.numpy()[is_control] == -1).all()


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint16, np.int32, np.float16, np.float32, np.float64, np.longdouble, ">f4"]
)
def test_every_change_of_a_row_changes_its_hash_alone(dtype):
    x = np.arange(1, 46).reshape(5, 9).astype(dtype)
    before, same = _hash_rows(x), np.asfortranarray(x)
    np.testing.assert_array_equal(_hash_rows(same), before)
    changes = [(slice(2, 5), [1, -2, 1]), (slice(0, 2), [1, -1]), (slice(7, 8), [1])]  # sums of which some stay
    for columns, by in changes:
        other = x.copy()
        other[3, columns] += np.array(by).astype(dtype)
        np.testing.assert_array_equal(_hash_rows(other) != before, np.arange(5) == 3)
    if x.dtype.kind == "f":
        other = x.copy()
        other[1, :2] *= -1
        other[2, 4] = np.nextafter(other[2, 4], other.dtype.type(np.inf))
        np.testing.assert_array_equal(_hash_rows(other) != before, [False, True, True, False, False])


@pytest.mark.parametrize("values", [[["a"]], np.ones((2, 2, 2)), np.ones((2, 2), dtype=complex), pd.DataFrame([[1]])])
def test_what_is_no_table_of_numbers_has_no_hash(values):
    assert _hash_rows(values if isinstance(values, pd.DataFrame) else np.array(values)) is None


def test_labels_of_other_types_are_other_labels():
    whole = pd.DataFrame({"dose": pd.Series([1, 2], dtype=object)})
    assert _are_alike(whole, whole.copy())
    assert not _are_alike(whole, whole.map(float).astype(object))
    mixed = [pd.DataFrame({"dose": pd.Categorical([one, "a"], categories=[one, "a"])}) for one in (1, 1, 1.0, True)]
    assert [_are_alike(mixed[0], other) for other in mixed[1:]] == [True, False, False]


@pytest.mark.parametrize("of_model", [{}, {"n_shared": 3}])
def test_whole_numbers_train_as_their_values(mdata, setup, quiet, spy, of_model):
    held = []
    for dtype in (np.int32, np.float32):
        other = mdata.copy()
        del other["rna"].uns["semiclip"]
        other["rna"].obsm["X_pca"] = np.round(10 * mdata["rna"].obsm["X_pca"]).astype(dtype)
        SemiClip.setup_mudata(other, **setup)
        torch.manual_seed(0)
        watch = spy()
        SemiClip(other, **of_model).train(1, batch_size=64, callbacks=[watch], **quiet)
        held.append(watch.data.tensors.student)
    assert torch.equal(*held)
