import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from semiclip import errors
from semiclip.metrics import over_representation


@st.composite
def tables(draw):
    total = draw(st.integers(1, 60))
    region, size = draw(st.integers(0, total)), draw(st.integers(0, total))
    return draw(st.integers(max(0, region + size - total), min(region, size))), region, size, total


@given(tables())
@settings(max_examples=100, deadline=None)
def test_equals_fishers_exact_test(table):
    x, n, k, total = table
    expected = fisher_exact([[x, n - x], [k - x, total - n - k + x]], alternative="greater").pvalue
    np.testing.assert_allclose(over_representation(*table), expected, rtol=1e-9)


def test_values():
    assert over_representation(0, 5, 7, 20) == 1
    np.testing.assert_allclose(over_representation(3, 3, 3, 20), 1 / 1140, rtol=1e-12)  # one of all triples
    np.testing.assert_allclose(over_representation(1, 1, 5, 20), 0.25, rtol=1e-12)


def test_broadcasts():
    p = over_representation([[0], [1], [2]], 3, [2, 4], 12)
    assert p.shape == (3, 2)
    assert p[1, 1] == over_representation(1, 3, 4, 12)
    assert over_representation(np.array([], dtype=int), 3, 2, 12).shape == (0,)


def test_more_overlap_is_less_probable_and_never_more_than_certain():
    p = over_representation(np.arange(0, 301), 300, 400, 5000)
    assert (np.diff(p) <= 0).all()
    assert p.min() >= 0
    assert p.max() == 1


@pytest.mark.parametrize(
    "table", [(-1, 3, 4, 12), (4, 3, 4, 12), (5, 6, 4, 12), (1, 3, 13, 12), (1, 13, 4, 12), (1, 8, 8, 12)]
)
def test_refuses_impossible_counts_and_fractions(refuses, table):
    with refuses(errors.Refused, items=[table]):
        over_representation(*table)
    with refuses(errors.WrongDtype, where="counts", dtype=np.float64):
        over_representation(*map(float, table))
