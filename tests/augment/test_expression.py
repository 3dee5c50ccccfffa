import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from semiclip import errors
from semiclip.augment import AUGMENTATIONS, Expression, ExpressionAugmentation


def make(values, normalize=True):
    n, n_genes = values.shape
    genes = pd.Index([f"gene{i}" for i in range(n_genes)])
    return Expression(values, np.zeros(n, int), np.zeros(n, int), genes, normalize=normalize)


def counts(seed=0, n=12, n_genes=7, dtype=np.float32):
    values = np.random.default_rng(seed).poisson(4, (n, n_genes)).astype(dtype)
    values[3] = 0
    return values


def test_reads_log_of_ten_thousand_counts_of_each_sample():
    values = counts(dtype=np.float64)
    rows = np.array([5, 0, 3, 5])
    totals = values[rows].sum(axis=1, keepdims=True)
    expected = np.log1p(1e4 * values[rows] / np.where(totals == 0, 1, totals))
    out = make(values).read(rows)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_array_equal(out[2], np.zeros(7))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_sparse_equals_dense(convert, normalize, dtype):
    values = counts(dtype=dtype)
    dense, thin = make(values, normalize), make(convert(values), normalize)
    rows = np.array([11, 3, 4])
    np.testing.assert_allclose(thin.read(rows), dense.read(rows), rtol=1e-6)
    drawn = np.random.default_rng(1).gamma(2, size=(3, 7)).astype(np.float32)
    np.testing.assert_array_equal(thin.restore(rows, drawn), dense.restore(rows, drawn))
    assert thin.whole == dense.whole == normalize
    assert (thin.n_genes, dense.n_genes) == (7, 7)


@pytest.mark.parametrize("normalize", [True, False])
def test_reading_gives_a_new_array_which_may_be_empty(normalize):
    values, before = counts(), counts()
    make(values, normalize).read(np.arange(12))[:] = -1
    np.testing.assert_array_equal(values, before)
    for stored in (values, sparse.csr_matrix(values)):
        out = make(stored, normalize).read(np.array([], dtype=int))
        assert (out.shape, out.dtype) == ((0, 7), np.float32)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_says_once_that_counts_are_not_whole(convert, warned):
    for values, normalize in ((counts(), True), (np.log1p(counts()), False)):
        make(convert(values), normalize).read(np.arange(12))
    assert not warned()
    data = make(convert(np.log1p(counts())))
    assert not data.whole
    for row in range(12):
        data.restore(np.array([row]), data.read(np.array([row])))
    assert len(warned()) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1])
def test_a_row_that_cannot_be_read_is_refused_where_it_is_read(bad, refuses):
    values = counts()
    values[4, 1] = bad
    expression = make(values)
    expression.read(np.array([3, 5]))
    with refuses(errors.NotCounts if bad == -1 else errors.NotFinite, rows=["row 4"]):
        expression.read(np.array([5, 4]))


def test_what_is_normalised_already_is_neither_scaled_nor_restored():
    values = np.random.default_rng(0).normal(size=(5, 7))
    expression = make(values, normalize=False)
    rows = np.array([4, 1])
    out = expression.read(rows)
    np.testing.assert_array_equal(out, values[rows].astype(np.float32))
    assert expression.restore(rows, out) is out
    assert expression.restore(rows, out, np.random.default_rng(0)) is out


@given(st.integers(0, 2**31), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_restoring_what_was_read_gives_the_counts_back(seed, n_genes):
    values = np.random.default_rng(seed).poisson(3, (6, n_genes))
    rows = np.random.default_rng(seed).permutation(6)
    expression = make(values)
    np.testing.assert_allclose(expression.restore(rows, expression.read(rows)), values[rows], rtol=1e-4, atol=1e-4)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_restored_counts_are_not_negative_and_sum_to_the_rows_own(seed):
    values = counts(seed)
    drawn = np.random.default_rng(seed).normal(1, 2, (12, 7)).astype(np.float32)
    drawn[:, 0] = np.abs(drawn[:, 0]) + 0.1  # so that something is drawn in each row
    drawn[5] = -1  # but not in this one
    out = make(values).restore(np.arange(12), drawn)
    assert out.dtype == np.float32
    assert out.min() >= 0
    values[5] = 0
    np.testing.assert_allclose(out.sum(axis=1), values.sum(axis=1), rtol=1e-5)


def test_counts_are_rounded_at_random_and_right_on_average():
    values = counts()
    drawn = np.random.default_rng(2).gamma(2, size=(12, 7)).astype(np.float32)
    expression, rows, rng = make(values), np.arange(12), np.random.default_rng(3)
    exact = expression.restore(rows, drawn)
    many = np.stack([expression.restore(rows, drawn, rng) for _ in range(4000)])
    assert many.dtype == np.float32
    np.testing.assert_array_equal(many, np.round(many))
    assert np.abs(many - exact).max() < 1
    # a rounded count varies by at most 1/2, so that its mean has a standard error of at most 0.008
    np.testing.assert_allclose(many.mean(axis=0), exact, atol=0.04)
    again = expression.restore(rows, drawn, np.random.default_rng(3))
    np.testing.assert_array_equal(again, many[0])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_what_is_known_by_name_is_an_augmentation_and_not_fitted_at_first(name, refuses):
    augmentation = AUGMENTATIONS[name]()
    assert isinstance(augmentation, ExpressionAugmentation)
    assert not isinstance(make(counts()), ExpressionAugmentation)
    with refuses(errors.NotFitted, what=type(augmentation).__name__):
        augmentation.draw(np.arange(3), np.random.default_rng(0))


@pytest.mark.parametrize("name", ["group", "batch"])
def test_there_is_one_code_for_each_sample(name, refuses):
    codes = {"group": np.zeros(4, int), "batch": np.zeros(4, int), name: np.zeros(3, int)}
    with refuses(errors.WrongShape, where=name, shape=(3,)):
        Expression(np.zeros((4, 2)), **codes, genes=pd.Index(["a", "b"]))
