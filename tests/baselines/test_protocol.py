"""What holds for every baseline."""

import subprocess
import sys

import numpy as np
import pytest

from semiclip import baselines, errors
from semiclip.baselines import BASELINES, ClosedForm, Neighbours

every = pytest.mark.parametrize("name", BASELINES)


def make(n=60, n_keys=20, n_student=5, n_teacher=7, seed=0):
    rng = np.random.default_rng(seed)
    key = np.arange(n) % n_keys
    teacher = rng.normal(size=(n_keys, n_teacher))[key]
    return rng.normal(size=(n, n_student)) + teacher[:, :1], teacher, key


def fit(name, student, teacher, key):
    return BASELINES[name]().fit(student, teacher, key, rng=np.random.default_rng(0))


def test_names_and_importing_loads_nothing_heavy():
    assert list(BASELINES) == ["unimodal", "random", "ridge", "cca", "procrustes", "knn"]
    assert {kind.__name__ for kind in BASELINES.values()} | {"BASELINES", "ClosedForm"} == set(baselines.__all__)
    code = "import semiclip.baselines, sys; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "anndata", "sklearn", "scipy"}.isdisjoint(loaded)


@every
def test_learns_arrays_and_leaves_its_input_alone(name):
    data = make()
    before = [array.copy() for array in data]
    baseline = BASELINES[name]()
    assert isinstance(baseline, ClosedForm)
    assert baseline.fitted == {}
    assert baseline.fit(*data, rng=np.random.default_rng(0)) is baseline
    out = baseline.transform(data[0])
    assert out.dtype == np.float32
    assert out.shape == (60, {"unimodal": 5, "cca": 5}.get(name, 7))
    assert np.isfinite(out).all()
    assert not np.shares_memory(out, data[0])
    assert all(isinstance(array, np.ndarray) for array in baseline.fitted.values())
    for array, old in zip(data, before, strict=True):
        np.testing.assert_array_equal(array, old)
    if name == "unimodal":
        np.testing.assert_array_equal(out, data[0].astype(np.float32))


@every
def test_what_was_learned_is_enough(name, tmp_path):
    student, baseline, other = make(seed=1)[0], fit(name, *make()), BASELINES[name]()
    np.savez(tmp_path / "saved.npz", **baseline.fitted)
    with np.load(tmp_path / "saved.npz") as saved:
        other.fitted = dict(saved)
    np.testing.assert_array_equal(other.transform(student), baseline.transform(student))


@every
def test_each_row_is_embedded_for_itself(name):
    student, baseline = make(seed=1)[0], fit(name, *make())
    out = baseline.transform(student)
    for rows in (np.random.default_rng(2).permutation(60), np.arange(7, 9)):
        np.testing.assert_allclose(baseline.transform(student[rows]), out[rows], rtol=1e-5, atol=1e-6)
    assert baseline.transform(student[:0]).shape == (0, out.shape[1])


@every
def test_single_precision_and_a_foreign_layout_give_the_same(name):
    data, student = make(), make(seed=1)[0].astype(np.float32)
    single = fit(name, data[0].astype(np.float32), data[1].astype(np.float32), data[2])
    out = fit(name, *data).transform(student)
    np.testing.assert_allclose(single.transform(np.asfortranarray(student)), out, rtol=1e-3, atol=1e-4)


@every
def test_the_order_of_training_rows_and_the_names_of_keys_do_not_matter(name):
    student, teacher, key = make()
    order = np.random.default_rng(0).permutation(60)
    out = fit(name, student, teacher, key).transform(student)
    again = fit(name, student[order], teacher[order], 3 * key[order] + 5).transform(student)
    # the direction of a canonical variate is free
    turned = np.sign((again * out).sum(axis=0)) if name == "cca" else 1
    np.testing.assert_allclose(again * turned, out, rtol=1e-4, atol=1e-5)


@every
def test_more_rows_than_a_block(name):
    student, teacher, key = make(2**14 + 5, n_student=2, n_teacher=2)
    baseline = fit(name, student, teacher, key)
    out = baseline.transform(student)
    np.testing.assert_allclose(out[-8:], baseline.transform(student[-8:]), rtol=1e-5, atol=1e-6)


@every
def test_two_keys_are_enough_and_one_is_not(name, refuses):
    student, teacher, key = make(n_keys=2)
    if name != "knn":
        assert np.isfinite(fit(name, student, teacher, key).transform(student)).all()
    with refuses(errors.TooFew, number=1, needed=2):
        fit(name, student, teacher, np.zeros(60, dtype=int))


@every
def test_refuses_rows_of_another_width_and_any_before_it_is_fitted(name, refuses):
    baseline = fit(name, *make())
    for shape in [(3, 4), (5,)]:
        with refuses(errors.Mismatch, got=shape, expected=("n", 5)):
            baseline.transform(np.zeros(shape))
    with refuses(errors.NotFitted, what=BASELINES[name].__name__):
        BASELINES[name]().transform(np.zeros((3, 5)))


def test_refuses_training_rows_that_do_not_fit_together(refuses):
    student, teacher, key = make()
    for wrong in [(student[1:], teacher, key), (student, teacher[0], key), (student, teacher, key[:, None])]:
        with refuses(errors.WrongShape, shape=tuple(array.shape for array in wrong)):
            fit("ridge", *wrong)


def test_a_fit_that_fails_leaves_what_was_learned(refuses):
    student, teacher, key = make()
    baseline = Neighbours(n_neighbors=20).fit(student, teacher, key, rng=np.random.default_rng(0))
    before = baseline.fitted
    with refuses(errors.TooMany, number=20, limit=9):
        baseline.fit(student[:9], teacher[:9], key[:9], rng=np.random.default_rng(0))
    assert baseline.fitted is before
