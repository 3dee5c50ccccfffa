import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip.metrics import _cosines


def order_statistics(values, ranks):
    return _cosines.order_statistics(_cosines.Cosines(np.zeros((0, 0)), values.size, values), ranks)


@pytest.mark.parametrize("kind", ["normal", "ascending", "descending", "ties", "constant", "misleading"])
def test_large_arrays_equal_sorting(kind, monkeypatch):
    monkeypatch.setattr(_cosines, "SAMPLE", 64)  # take the way of large arrays for small ones
    monkeypatch.setattr(_cosines, "BLOCK", 100)
    rng, n = np.random.default_rng(0), 5_000
    values = {
        "normal": rng.normal(size=n),
        "ascending": np.sort(rng.normal(size=n)),
        "descending": np.sort(rng.normal(size=n))[::-1],
        "ties": rng.integers(0, 3, n).astype(float),
        "constant": np.full(n, 0.25),
        # every sampled value lies in the upper half, so that the bracket of a low rank holds nothing of it
        "misleading": np.where(np.arange(n) % (n // 64) == 0, 5.0, 0.0) + rng.random(n),
    }[kind]
    before, ranks = values.copy(), [0, 1, 250, 2_500, 4_750, 4_998, 4_999]
    assert order_statistics(values, ranks) == np.sort(values)[ranks].tolist()
    np.testing.assert_array_equal(values, before)


@given(values=st.lists(st.integers(-4, 4), min_size=1, max_size=30), data=st.data())
def test_small_arrays_equal_sorting(values, data):
    values = np.array(values, dtype=float)
    ranks = sorted(data.draw(st.sets(st.integers(0, values.size - 1))))
    before = values.copy()
    assert order_statistics(values, ranks) == np.sort(values)[ranks].tolist()
    np.testing.assert_array_equal(values, before)
