import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semiclip.metrics import rank_p_value

NUMBERS = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


@given(values=NUMBERS, null=NUMBERS)
def test_equals_the_definition(values, null):
    ranks = [np.searchsorted(np.sort(null), value, side="left") for value in values]
    np.testing.assert_allclose(rank_p_value(values, null), [1 - rank / len(null) for rank in ranks], atol=1e-15)
    counted = [(1 + sum(other >= value for other in null)) / (1 + len(null)) for value in values]
    np.testing.assert_allclose(rank_p_value(values, null, drawn=True), counted, rtol=1e-15)


def test_an_empty_null_says_nothing():
    for drawn in (False, True):
        assert np.isnan(rank_p_value([1.0, 2.0], [], drawn=drawn)).all()
        assert np.isnan(rank_p_value([1.0, 2.0], [np.nan], drawn=drawn)).all()


def test_missing_values_are_left_out():
    np.testing.assert_array_equal(rank_p_value([np.nan, 1.0], [np.nan, 0.0, 1.0]), [np.nan, 0.5])
    np.testing.assert_array_equal(rank_p_value([np.nan, 1.0], [np.nan, 0.0, 1.0], drawn=True), [np.nan, 2 / 3])


def test_keeps_the_shape_and_changes_nothing():
    values, null = np.array([[3.0, 1.0], [2.0, 0.0]]), np.array([2.0, 1.0])
    np.testing.assert_array_equal(rank_p_value(values, null), [[0, 1], [0.5, 1]])
    np.testing.assert_array_equal(null, [2, 1])
    assert rank_p_value(1.5, null) == 0.5
