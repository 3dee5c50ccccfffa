import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from semiclip import errors
from semiclip.augment import Expression, ScGFT, _scgft
from semiclip.augment._scgft import amplify

GROUP = np.array([0, 2, 0, -1, 2, 2, 3, 0, -1, 2, 2, 0])


def make(values=None, group=GROUP, normalize=False, n_genes=9):
    group = np.asarray(group)
    if values is None:
        values = np.random.default_rng(7).normal(3, 1, (len(group), n_genes)).astype(np.float32)
    batch = np.zeros(len(group), int)
    return Expression(values, group, batch, pd.RangeIndex(values.shape[1]), normalize=normalize)


def counts(n_genes=9):
    return np.random.default_rng(3).poisson(6, (12, n_genes)).astype(np.float32)


def fit(expression, **kwargs):
    return ScGFT(progress_bar=False, **kwargs).fit(expression, np.random.default_rng(0))


def draw(fitted, rows=None, seed=0):
    rows = np.arange(len(GROUP)) if rows is None else rows
    return fitted.draw(rows, np.random.default_rng(seed))


def naive(values, frequencies, factors):
    """Multiply coefficients and their conjugates one by one in the whole spectrum of each sample."""
    out, n = np.empty(values.shape), values.shape[1]
    for i, value in enumerate(values):
        spectrum = np.fft.fft(value.astype(float))
        for frequency, factor in zip(frequencies[i], factors[i], strict=True):
            for at in {frequency, n - frequency}:
                spectrum[at] *= factor
        back = np.fft.ifft(spectrum)
        assert np.abs(back.imag).max() < 1e-12
        out[i] = back.real
    return out


@given(st.integers(1, 6), st.integers(2, 25), st.integers(0, 2**31), st.data())
@settings(max_examples=150, deadline=None)
def test_amplifying_equals_a_loop_over_whole_spectra(n, n_genes, seed, data):
    rng, most = np.random.default_rng(seed), n_genes // 2
    n_components = data.draw(st.integers(1, most))
    frequencies = np.array([1 + rng.permutation(most)[:n_components] for _ in range(n)])
    values, factors = rng.normal(1, 2, (n, n_genes)), rng.normal(2, 1, (n, n_components))
    out = amplify(values, frequencies, factors)
    np.testing.assert_allclose(out, naive(values, frequencies, factors), atol=1e-12)
    np.testing.assert_allclose(out.mean(axis=1), values.mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("n_genes", [9, 10])
def test_sds_are_of_amplitudes_that_are_scaled_over_the_group(n_genes):
    expression = make(n_genes=n_genes)
    fitted = fit(expression)
    for code in (0, 2):
        values = expression.values[code == GROUP][:, fitted.genes_].astype(float)
        amplitudes = np.abs(np.fft.fft(values, axis=1))[:, 1 : n_genes // 2 + 1]
        scaled = amplitudes / np.sqrt((amplitudes**2).sum(axis=0))
        np.testing.assert_allclose(fitted.sds_[code], scaled.std(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(fitted.sds_[3], np.ones(n_genes // 2))  # a group with one sample
    assert np.isfinite(fitted.sds_).all()  # of group 1 there is none


def test_a_frequency_that_no_sample_has_varies_not_at_all():
    fitted = fit(make(np.ones((4, 6), np.float32), np.zeros(4, int)))
    np.testing.assert_array_equal(fitted.sds_, np.zeros((1, 3)))


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_blocks_of_any_size_give_the_same_fit(group, n_neighbors, seed):
    values = np.random.default_rng(seed).normal(size=(len(group), 7))
    whole = fit(make(values, group), n_neighbors=n_neighbors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_scgft, "BLOCK_ROWS", 4)
        parts = fit(make(values, group), n_neighbors=n_neighbors)
        drawn = draw(parts, np.arange(len(group)))
    np.testing.assert_array_equal(parts.genes_, whole.genes_)
    np.testing.assert_allclose(parts.sds_, whole.sds_, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.sort(parts.neighbors_), np.sort(whole.neighbors_))
    np.testing.assert_allclose(drawn, draw(whole, np.arange(len(group))), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_neighbors", [2, 4, 5, 20])
def test_neighbours_are_the_nearest_of_the_group(n_neighbors):
    expression = make()
    fitted = fit(expression, n_neighbors=n_neighbors, n_variable=6)
    assert fitted.neighbors_.shape == (12, min(n_neighbors, 5) - 1)
    for code in (0, 2, 3):
        rows = np.flatnonzero(code == GROUP)
        values = expression.values[rows][:, fitted.genes_]
        nearest = NearestNeighbors(n_neighbors=min(n_neighbors, len(rows))).fit(values).kneighbors(values)[1]
        for row, near in zip(rows, nearest, strict=True):
            assert set(fitted.neighbors_[row]) - {-1} == set(rows[near]) - {row}
    assert (fitted.neighbors_[GROUP < 0] == -1).all()


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("n_neighbors", [0, 1, 3, 20])
@pytest.mark.parametrize("n_genes", [9, 10])
def test_drawing_equals_a_loop_over_samples(n_genes, n_neighbors, n_components, monkeypatch):
    seen = []
    monkeypatch.setattr(_scgft, "amplify", lambda *arguments: seen.append(arguments) or amplify(*arguments))
    values = counts(n_genes + 4)
    expression = make(values, normalize=True)
    fitted = fit(expression, n_components=n_components, n_neighbors=n_neighbors, n_variable=n_genes)
    rows = np.array([4, 0, 3, 6, 4, 11, 1])
    out = draw(fitted, rows)
    assert out.dtype == np.float32

    logs = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))
    (original, frequencies, factors) = seen[0]
    chosen = rows[GROUP[rows] >= 0]
    np.testing.assert_allclose(original, logs[chosen][:, fitted.genes_], rtol=1e-6)
    assert frequencies.shape == factors.shape == (6, n_components)
    assert all(len(set(row)) == n_components for row in frequencies)
    assert frequencies.min() >= 1
    assert frequencies.max() <= n_genes // 2
    expected = logs[rows]
    edited = iter(naive(original, frequencies, factors))
    for i, row in enumerate(rows):
        if GROUP[row] < 0:
            continue
        parts = [next(edited)]
        if n_neighbors:
            same = np.flatnonzero(GROUP == GROUP[row])
            far = ((logs[same][:, fitted.genes_] - logs[row, fitted.genes_]) ** 2).sum(axis=1)
            parts += [logs[near, fitted.genes_] for near in same[np.argsort(far)][:n_neighbors]]
        mean = np.mean(parts, axis=0)
        expected[i, fitted.genes_] = np.where(mean < 1e-6, 0, mean)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_frequencies_are_chosen_uniformly_and_factors_are_normal(monkeypatch):
    seen = []
    monkeypatch.setattr(_scgft, "amplify", lambda x, f, c: seen.append((f, c)) or x)
    fitted = fit(make(n_genes=11), n_components=2, n_neighbors=0)
    draw(fitted, np.full(10000, 4))
    (frequencies, factors) = seen[0]
    times = np.bincount(frequencies.ravel(), minlength=6)[1:]
    assert np.abs(times - 4000).max() < 5 * np.sqrt(10000 * 0.4 * 0.6)
    assert np.abs(np.bincount(frequencies.min(axis=1), minlength=6)[1:5] - np.array([4, 3, 2, 1]) * 1000).max() < 200
    standard = (factors - 2) / fitted.sds_[2][frequencies - 1]
    assert stats.kstest(standard.ravel(), "norm").pvalue > 1e-4


def test_normalised_values_below_a_millionth_are_not_cut(monkeypatch):
    values = np.array([-1, 0, 5e-7, 2e-6, 1])
    monkeypatch.setattr(_scgft, "amplify", lambda x, f, c: np.tile(values, (len(x), 1)))
    fitted = fit(make(np.ones((12, 5))), n_neighbors=0)
    np.testing.assert_allclose(draw(fitted, np.array([0]))[0, fitted.genes_], values, rtol=1e-6)


def test_other_genes_and_samples_of_no_group_stay_as_they_are():
    expression = make(counts(20), normalize=True)
    fitted = fit(expression, n_variable=7)
    before = expression.values.copy()
    out, read = draw(fitted), expression.read(np.arange(12))
    variances = read.astype(float).var(axis=0)
    np.testing.assert_array_equal(fitted.genes_, np.argsort(-variances)[:7])
    others = np.setdiff1d(np.arange(20), fitted.genes_)
    np.testing.assert_array_equal(out[:, others], read[:, others])
    np.testing.assert_array_equal(out[GROUP < 0], read[GROUP < 0])
    assert (out != read)[GROUP >= 0][:, fitted.genes_].any(axis=1).all()
    np.testing.assert_array_equal(expression.values, before)


def test_the_order_of_the_genes_does_not_matter():
    values, order = counts(12), np.random.default_rng(5).permutation(12)
    out, other = (draw(fit(make(x, normalize=True), n_variable=8)) for x in (values, values[:, order]))
    np.testing.assert_allclose(other, out[:, order], rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before():
    fitted = fit(make(), n_neighbors=3)
    rows = np.array([11, 1, 11, 3])
    first = draw(fitted, rows, seed=4)
    draw(fitted, seed=9)
    np.testing.assert_array_equal(draw(fitted, rows, seed=4), first)
    np.testing.assert_array_equal(draw(fit(make(), n_neighbors=3), rows, seed=4), first)
    assert (draw(fitted, rows, seed=5) != first).any(axis=1).tolist() == [True, True, True, False]
    assert (first[0] != first[2]).any()  # the same sample twice is two draws


@pytest.mark.parametrize("group", [[-1, -1, -1], [0, 1, 2], [5, -1, 5]])
@pytest.mark.parametrize("n_neighbors", [0, 1, 2])
def test_groups_of_every_kind(group, n_neighbors):
    expression, rows = make(counts()[:3], group, normalize=True), np.array([2, 1, 0])
    same = (draw(fit(expression, n_neighbors=n_neighbors), rows) == expression.read(rows)).all(axis=1)
    np.testing.assert_array_equal(same, np.array(group)[::-1] < 0)


def test_holds_a_block_at_a_time(monkeypatch):
    read = []

    class Watched(Expression):
        def read(self, rows):
            read.append(len(rows))
            return super().read(rows)

    monkeypatch.setattr(_scgft, "BLOCK_VALUES", 100)
    values = np.random.default_rng(0).normal(size=(60, 10))
    expression = Watched(values, np.zeros(60, int), np.zeros(60, int), pd.RangeIndex(10), normalize=False)
    draw(fit(expression, n_neighbors=15), np.arange(10))
    assert max(read) == 10


@pytest.mark.parametrize(
    ("options", "error", "data"),
    [
        ({"n_components": 0}, errors.BadValue, {"name": "n_components"}),
        ({"n_neighbors": -1}, errors.BadValue, {"name": "n_neighbors"}),
        ({"n_variable": 1}, errors.BadValue, {"name": "n_variable"}),
        ({"n_components": 5}, errors.TooMany, {"number": 5, "limit": 4}),
        ({"n_components": 4, "n_variable": 7}, errors.TooMany, {"number": 4, "limit": 3}),
    ],
)
def test_refuses_settings_that_are_out_of_range(options, error, data, refuses):
    with refuses(error, **data):
        fit(make(), **options)
