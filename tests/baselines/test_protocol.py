"""What holds for every baseline."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from semiclip import baselines
from semiclip.baselines import BASELINES, ClosedForm, Neighbours
from semiclip.baselines._protocol import BLOCK, blocks

PLAIN = {"unimodal", "random", "procrustes"}


def make(n=60, n_keys=20, n_student=5, n_teacher=7, seed=0):
    rng = np.random.default_rng(seed)
    key = np.arange(n) % n_keys
    teacher = rng.normal(size=(n_keys, n_teacher))[key]
    return rng.normal(size=(n, n_student)) + teacher[:, :1], teacher, key


def fitted(name, dtype=np.float64, seed=0, **given):
    student, teacher, key = make(**given)
    return BASELINES[name]().fit(student.astype(dtype), teacher.astype(dtype), key, rng=np.random.default_rng(seed))


def test_names():
    assert list(BASELINES) == ["unimodal", "random", "ridge", "cca", "procrustes", "knn"]
    assert baselines.__all__ == sorted(baselines.__all__)
    assert {made.__name__ for made in BASELINES.values()} | {"BASELINES", "ClosedForm"} == set(baselines.__all__)
    assert not isinstance(object(), ClosedForm)


def test_importing_loads_nothing_heavy():
    code = "import semiclip.baselines, sys; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "anndata", "sklearn", "scipy"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", BASELINES)
def test_keeps_to_the_protocol(name):
    student, teacher, key = make()
    before = [array.copy() for array in (student, teacher, key)]
    baseline = BASELINES[name]()
    assert isinstance(baseline, ClosedForm)
    assert baseline.fitted == {}
    assert baseline.fit(student, teacher, key, rng=np.random.default_rng(0)) is baseline
    out = baseline.transform(student)
    assert out.dtype == np.float32
    assert out.shape == (60, {"unimodal": 5, "cca": 5}.get(name, 7))
    assert np.isfinite(out).all()
    assert all(isinstance(array, np.ndarray) for array in baseline.fitted.values())
    for array, old in zip((student, teacher, key), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("name", BASELINES)
def test_what_was_learned_is_enough(name, tmp_path):
    student, _, _ = make(seed=1)
    baseline = fitted(name)
    np.savez(tmp_path / "saved.npz", **baseline.fitted)
    other = BASELINES[name]()
    with np.load(tmp_path / "saved.npz") as saved:
        other.fitted = dict(saved)
    np.testing.assert_array_equal(other.transform(student), baseline.transform(student))


@pytest.mark.parametrize("name", BASELINES)
def test_each_row_is_embedded_for_itself(name):
    student, _, _ = make(seed=1)
    baseline = fitted(name)
    out = baseline.transform(student)
    order = np.random.default_rng(2).permutation(60)
    np.testing.assert_allclose(baseline.transform(student[order]), out[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(baseline.transform(student[7:9]), out[7:9], rtol=1e-5, atol=1e-6)
    assert baseline.transform(student[:0]).shape == (0, out.shape[1])


@pytest.mark.parametrize("name", BASELINES)
def test_single_precision_and_a_foreign_layout_give_the_same(name):
    student, _, _ = make(seed=1)
    single = student.astype(np.float32)
    out = fitted(name).transform(single)
    np.testing.assert_allclose(fitted(name, np.float32).transform(np.asfortranarray(single)), out, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_the_order_of_training_rows_and_the_names_of_keys_do_not_matter(name):
    student, teacher, key = make()
    order = np.random.default_rng(0).permutation(60)
    out = fitted(name).transform(student)
    again = BASELINES[name]().fit(student[order], teacher[order], 3 * key[order] + 5, rng=np.random.default_rng(0))
    # the direction of a canonical variate is free
    turned = np.sign((again.transform(student) * out).sum(axis=0)) if name == "cca" else 1
    np.testing.assert_allclose(again.transform(student) * turned, out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_more_rows_than_a_block(name):
    n = BLOCK + 5
    student, teacher, key = make(n, n_student=2, n_teacher=2)
    baseline = BASELINES[name]().fit(student, teacher, key, rng=np.random.default_rng(0))
    out = baseline.transform(student)
    np.testing.assert_allclose(out[-8:], baseline.transform(student[-8:]), rtol=1e-5, atol=1e-6)


def test_blocks_are_all_rows_once():
    assert [list(range(7))[block] for block in blocks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert not list(blocks(0))


@pytest.mark.parametrize("name", BASELINES)
def test_refuses_to_transform_unfitted(name):
    student, teacher, _ = make()
    baseline = BASELINES[name]()
    with pytest.raises(ValueError, match="2 pairing keys"):
        baseline.fit(student, teacher, np.zeros(60, dtype=int), rng=np.random.default_rng(0))
    message = "this baseline is not fitted; call .fit(student, teacher, key, rng=rng) on the training rows first"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        baseline.transform(student)


@pytest.mark.parametrize("name", BASELINES)
def test_refuses_rows_of_another_width(name):
    baseline = fitted(name)
    for shape in [(3, 4), (5,)]:
        message = f"student has shape {shape}, but the baseline was fitted on rows of 5 dimensions"
        with pytest.raises(ValueError, match=re.escape(message)):
            baseline.transform(np.zeros(shape))


@pytest.mark.parametrize("name", BASELINES)
def test_refuses_training_rows(name):
    student, teacher, key = make()
    rng = np.random.default_rng(0)
    message = "learned from rows of at least 2 pairing keys, but the 60 row(s) have 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        BASELINES[name]().fit(student, teacher, np.zeros(60, dtype=int), rng=rng)
    for wrong in [(student[1:], teacher, key), (student, teacher[0], key), (student, teacher, key[:, None])]:
        shapes = "not {}, {} and {}".format(*(array.shape for array in wrong))
        message = f"student (n, d), teacher (n, D) and key (n,) are needed, {shapes}"
        with pytest.raises(ValueError, match=re.escape(message)):
            BASELINES[name]().fit(*wrong, rng=rng)


@pytest.mark.parametrize("name", sorted(PLAIN | {"ridge", "cca"}))
def test_two_keys_are_enough(name):
    student, teacher, key = make(n_keys=2)
    assert np.isfinite(
        BASELINES[name]().fit(student, teacher, key, rng=np.random.default_rng(0)).transform(student)
    ).all()


def test_a_fit_that_fails_leaves_what_was_learned():
    student, teacher, key = make()
    baseline = Neighbours(n_neighbors=20).fit(student, teacher, key, rng=np.random.default_rng(0))
    before = baseline.fitted
    with pytest.raises(ValueError, match="n_neighbors=20"):
        baseline.fit(student[:9], teacher[:9], key[:9], rng=np.random.default_rng(0))
    assert baseline.fitted is before
