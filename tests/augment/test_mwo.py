import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from semiclip import errors
from semiclip.augment import MWO, Expression


def make(group, batch=None, values=None, normalize=False):
    """Expression whose sample i is the i-th unit vector, so that what is drawn shows the weights."""
    group = np.asarray(group)
    values = np.eye(len(group)) if values is None else values
    batch = np.zeros(len(group), int) if batch is None else np.asarray(batch)
    return Expression(values, group, batch, pd.RangeIndex(values.shape[1]), normalize=normalize)


def draw(expression, k=2, rows=None, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.arange(len(expression.group)) if rows is None else rows
    return MWO(k=k).fit(expression, rng).draw(rows, rng)


def partners(group, batch, i):
    """Samples that sample i may be mixed with, found one by one."""
    if group[i] < 0:
        return set()
    same = {j for j in range(len(group)) if j != i and group[j] == group[i]}
    return {j for j in same if batch[j] == batch[i]} or same


design = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=25)


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of samples without another
@given(design, st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_mixes_the_sample_with_others_of_its_perturbation_and_if_possible_batch(codes, k, seed):
    group, batch = np.array(codes).T
    assume((group < 0).all() or any(partners(group, batch, i) for i in range(len(group))))
    rows = np.random.default_rng(seed).integers(0, len(group), 30)
    weights = draw(make(group, batch), k, rows, seed)
    assert weights.dtype == np.float32
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    for row, mixture in zip(rows, weights, strict=True):
        allowed = partners(group, batch, row)
        others = set(np.flatnonzero(mixture)) - {row}
        assert mixture[row] > 0
        assert others <= allowed
        assert len(others) == min(k - 1, len(allowed))


def test_says_how_many_samples_have_no_other_to_be_mixed_with(warned, refuses):
    draw(make([0, 0, 1, -1, 2, 1, 7]))
    (message,) = warned()
    assert "2 of 6 samples" in message
    draw(make([0, 0, -1], batch=[0, 1, 0]))
    draw(make([-1, -1]))
    assert not warned()
    for group in ([0], [4, -1, 0, -1, 2]):
        with refuses(errors.Refused):
            draw(make(group))


def test_sets_of_others_are_uniform():
    weights = draw(make(np.zeros(5, int)), 3, np.zeros(6000, int))
    sets = (weights[:, 1:] > 0) @ 2 ** np.arange(4)
    distinct, times = np.unique(sets, return_counts=True)
    assert len(distinct) == 6
    assert stats.chisquare(times).pvalue > 1e-4


@pytest.mark.parametrize(("k", "size"), [(2, 9), (3, 9), (4, 9), (9, 3)])
def test_weights_are_uniform_over_all_mixtures(k, size):
    weights = draw(make(np.zeros(size, int)), k, np.full(4000, 1))
    mixed = min(k, size)
    # each weight of a uniform mixture of m samples is Beta(1, m - 1)
    assert stats.kstest(weights[:, 1], stats.beta(1, mixed - 1).cdf).pvalue > 1e-4
    other = weights[weights[:, 0] > 0, 0]
    assert stats.kstest(other, stats.beta(1, mixed - 1).cdf).pvalue > 1e-4


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_mixes_in_log_space(convert):
    values = np.random.default_rng(0).poisson(5, (9, 6)).astype(np.float32)
    group, batch = np.repeat([0, 1, 2], 3), np.array([0, 0, 1] * 3)
    weights = draw(make(group, batch), k=2)
    expression = make(group, batch, convert(values), normalize=True)
    logs = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(draw(expression, k=2), weights @ logs, rtol=1e-5)


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before():
    expression, rows = make(np.arange(20) % 4), np.array([3, 19, 3, 0])
    first = draw(expression, 3, rows, seed=5)
    fitted = MWO(k=3).fit(expression, np.random.default_rng(9))
    fitted.draw(np.arange(7), np.random.default_rng(1))
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(fitted.draw(rows, rng), first)
    assert (draw(expression, 3, rows, seed=6) != first).any(axis=1).all()
    assert (first[0] != first[2]).any()  # the same sample twice is two draws


def test_no_rows_and_no_samples():
    assert draw(make([0, 0]), rows=np.array([], dtype=int)).shape == (0, 2)
    assert draw(make(np.array([], dtype=int))).shape == (0, 0)


def test_holds_a_block_at_a_time():
    read = []

    class Watched(Expression):
        def read(self, rows):
            read.append(len(rows))
            return super().read(rows)

    n = 400
    expression = Watched(np.ones((n, 3)), np.zeros(n, int), np.zeros(n, int), pd.RangeIndex(3), normalize=False)
    draw(expression, k=4, rows=np.arange(50))
    assert read == [50] * 4


@pytest.mark.parametrize("k", [1, 0, -3])
def test_refuses_to_mix_fewer_than_two(k, refuses):
    with refuses(errors.BadValue, name="k", value=k):
        MWO(k=k)
