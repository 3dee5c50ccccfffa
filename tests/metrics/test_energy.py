import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from scipy.stats import energy_distance as in_one_dimension

from semiclip.metrics import _energy, energy_distance
from semiclip.metrics._energy import _exchanged, energy_distances, permuted_energy_distances


def by_hand(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scipy(dtype, monkeypatch):
    monkeypatch.setattr(_energy, "BLOCK", 50)  # a few rows at a time
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 6)).astype(dtype), rng.normal(0.5, 2, size=(31, 6)).astype(dtype)
    assert energy_distance(x, y) == pytest.approx(by_hand(x.astype(float), y.astype(float)), rel=1e-12)
    assert energy_distance(y, x) == pytest.approx(energy_distance(x, y), rel=1e-12)


def test_is_twice_the_squared_distance_of_the_distributions_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12), rng.normal(1, 2, size=20)
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(in_one_dimension(x, y) ** 2, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2, 13, 500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_sets_have_no_distance(n, dtype):
    x = np.random.default_rng(n).normal(3, 1, size=(n, 7)).astype(dtype)
    assert energy_distance(x, x.copy()) == 0
    assert 0 <= energy_distance(x, np.repeat(x, 3, axis=0)[::-1]) < 1e-12


def test_moves_with_the_offset_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)), rng.normal(size=(15, 3))
    assert energy_distance(x + 5, y + 5) == pytest.approx(energy_distance(x, y))
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * energy_distance(x, y))
    assert energy_distance(np.zeros((4, 2)), np.tile([3.0, 4.0], (6, 1))) == 10


def test_many_samples_share_the_term_of_the_reference(monkeypatch):
    calls = []
    sums = _energy._sums
    monkeypatch.setattr(_energy, "_sums", lambda x, y: calls.append((len(x), len(y))) or sums(x, y))
    rng = np.random.default_rng(0)
    samples, reference = [rng.normal(size=(n, 3)) for n in (5, 8, 1)], rng.normal(size=(20, 3))
    found = energy_distances(iter(samples), reference)
    np.testing.assert_allclose(found, [by_hand(x, reference) for x in samples], rtol=1e-12)
    assert calls.count((20, 20)) == 1


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_exchanges_compare_random_parts_with_the_rest(monkeypatch, block):
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(24, 3)).astype(np.float32)
    own = cdist(reference.astype(float), reference.astype(float))
    batch, drawn, exchanged = (rng.integers(0, 3, 5), rng.integers(0, 3, 24)), [], _energy._exchanged

    def watched(*args):
        found = exchanged(*args)
        drawn.append(found)
        return found

    monkeypatch.setattr(_energy, "BLOCK", block)
    monkeypatch.setattr(_energy, "_exchanged", watched)
    value, null = permuted_energy_distances(x, reference, own, batch, 20, np.random.default_rng(1))
    everything, rows = np.concatenate([x, reference]), np.concatenate(drawn)
    assert len(rows) == 21
    expected = [by_hand(everything[each], np.delete(everything, each, axis=0)) for each in rows]
    np.testing.assert_allclose([value, *null], expected, rtol=1e-9)
    assert value == pytest.approx(energy_distance(x, reference))


def test_exchanges_stay_within_batches():
    batch, others = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 3])
    rows = _exchanged(batch, others, 200, np.random.default_rng(0))
    everywhere = np.append(batch, others)
    np.testing.assert_array_equal(everywhere[rows], np.tile(batch, (200, 1)))
    assert all(len(set(row)) == 4 for row in rows.tolist())
    assert set(rows[:, 3]) == {3}  # no other row of batch 2
    assert set(rows[:, 0]) == {0, 4, 5}


def test_exchanges_draw_every_set_alike():
    rng = np.random.default_rng(0)
    x, reference = np.arange(2.0)[:, None], 10 ** np.arange(1.0, 5.0)[:, None]
    one = np.zeros(2, int), np.zeros(4, int)
    _, null = permuted_energy_distances(x, reference, cdist(reference, reference), one, 3000, rng)
    _, counts = np.unique(null.round(6), return_counts=True)
    assert len(counts) == 15  # two of six rows
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), r"x has shape \(3, 2\) and y \(3, 4\); both need rows of the same width"),
        (np.ones(3), np.ones((3, 1)), r"x has shape \(3,\)"),
        (np.ones((0, 2)), np.ones((3, 2)), "0 and 3 rows; each of the two sets needs at least one"),
        (np.ones((3, 2)), np.ones((0, 2)), "3 and 0 rows"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), r"x holds NaN or infinite values in 3 row\(s\)"),
        (np.ones((3, 2)), np.full((1, 2), np.inf), r"y holds NaN or infinite values in 1 row\(s\): 0"),
    ],
)
def test_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        energy_distance(x, y)


def test_takes_lists_and_data_frames():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    assert energy_distance(x.tolist(), pd.DataFrame(y)) == energy_distance(x, y)
