import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, rankdata, wilcoxon

from semiclip import errors
from semiclip.metrics import over_representation, paired_wilcoxon, rank_p_value, smallest_p

NUMBERS = st.lists(st.integers(-5, 5), min_size=1, max_size=12)
SIDES = ("two-sided", "greater", "less")


@given(values=NUMBERS, null=NUMBERS)
def test_shares_of_a_null_equal_counting(values, null):
    counts = np.array([sum(other >= value for other in null) for value in values])
    np.testing.assert_allclose(rank_p_value(values, null), counts / len(null), atol=1e-15)
    drawn = rank_p_value(values, null, drawn=True)
    np.testing.assert_allclose(drawn, (1 + counts) / (1 + len(null)), rtol=1e-15)


def test_missing_values_and_shapes_of_a_null():
    for drawn, share in ((False, 1 / 2), (True, 2 / 3)):
        for empty in ([], [np.nan]):
            assert np.isnan(rank_p_value([1.0, 2.0], empty, drawn=drawn)).all()
        p = rank_p_value([np.nan, 1.0], [np.nan, 0.0, 1.0], drawn=drawn)
        np.testing.assert_array_equal(p, [np.nan, share])
    null = np.array([2.0, 1.0])
    np.testing.assert_array_equal(rank_p_value([[3.0, 1.0], [2.0, 0.0]], null), [[0, 1], [0.5, 1]])
    assert rank_p_value(1.5, null) == 0.5
    np.testing.assert_array_equal(null, [2, 1])


# ---- over-representation


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


def test_values_of_over_representation():
    np.testing.assert_allclose(over_representation(3, 3, 3, 20), 1 / 1140, rtol=1e-12)  # one of all triples
    p = over_representation([[0], [1], [2]], 3, [2, 4], 12)
    assert p.shape == (3, 2)
    assert p[1, 1] == over_representation(1, 3, 4, 12)
    assert over_representation(np.array([], dtype=int), 3, 2, 12).shape == (0,)
    p = over_representation(np.arange(0, 301), 300, 400, 5000)
    assert (np.diff(p) <= 0).all()
    assert (p.min() >= 0, p.max()) == (True, 1)


@pytest.mark.parametrize(
    "table", [(-1, 3, 4, 12), (4, 3, 4, 12), (5, 6, 4, 12), (1, 3, 13, 12), (1, 13, 4, 12), (1, 8, 8, 12)]
)
def test_refuses_impossible_counts_and_fractions(refuses, table):
    with refuses(errors.Refused, items=[table]):
        over_representation(*table)
    with refuses(errors.WrongDtype, where="counts", dtype=np.float64):
        over_representation(*map(float, table))


# ---- the signed-rank test


def enumerated(differences, alternative):
    """Try all signs of the ranks of the differences that are not zero."""
    differences = np.asarray(differences, dtype=float)
    differences = differences[differences != 0]
    ranks = rankdata(abs(differences))
    seen = ranks[differences > 0].sum()
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))])
    greater, less = np.mean(sums >= seen), np.mean(sums <= seen)
    return {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative]


@pytest.mark.parametrize(("n", "two_sided"), [(5, 0.0625), (6, 0.03125), (15, 6.103515625e-05)])
def test_the_smallest_p_is_reached_when_all_seeds_gain(n, two_sided):
    for gains in (np.random.default_rng(0).uniform(0.1, 1, n), np.full(n, 0.1)):
        assert paired_wilcoxon(gains) == paired_wilcoxon(-gains) == smallest_p(n) == two_sided
        assert paired_wilcoxon(gains, alternative="greater") == smallest_p(n, "greater") == two_sided / 2
        assert paired_wilcoxon(-gains, alternative="less") == smallest_p(n, "less") == two_sided / 2
        assert paired_wilcoxon(gains, alternative="less") == 1
    assert [smallest_p(n) for n in (0, 1, 2)] == [1, 1, 0.5]
    assert [smallest_p(n, "greater") for n in (0, 1, 2)] == [1, 0.5, 0.25]


@pytest.mark.parametrize("alternative", SIDES)
@pytest.mark.parametrize("n", [1, 2, 7, 15, 50, 51, 80])
def test_equals_scipy_without_ties(n, alternative):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.2, 1, n), rng.normal(0, 1, n)
    expected = wilcoxon(a, b, zero_method="wilcox", alternative=alternative).pvalue
    assert paired_wilcoxon(a, b, alternative=alternative) == pytest.approx(expected, rel=1e-9)
    assert paired_wilcoxon(a - b, alternative=alternative) == paired_wilcoxon(a, b, alternative=alternative)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.sampled_from(SIDES))
def test_equals_the_enumeration_of_all_signs_with_ties_and_zeros(differences, alternative):
    p = paired_wilcoxon(differences, alternative=alternative)
    assert p == pytest.approx(enumerated(differences, alternative) if any(differences) else 1, rel=1e-12)
    assert p >= smallest_p(len(differences), alternative)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_differences_that_are_equal_but_for_rounding_are_ties(scale):
    b = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    signs = np.array([1, 1, 1, 1, 1, -1, -1, -1])
    assert len(set(abs(b + 0.1 * signs - b))) > 1
    assert paired_wilcoxon(scale * (b + 0.1 * signs), scale * b) == enumerated(signs, "two-sided")
    assert paired_wilcoxon(scale * (b + 0.1 * signs - b)) == enumerated(signs, "two-sided")
    assert paired_wilcoxon(scale * (b + 0.1 - 0.1), scale * b) == 1


@pytest.mark.parametrize(
    ("a", "b", "error", "data"),
    [
        ([], None, errors.WrongShape, {"shape": (0,)}),
        (1.0, None, errors.WrongShape, {"shape": ()}),
        (np.ones((2, 3)), np.ones((2, 3)), errors.WrongShape, {"shape": (2, 3)}),
        ([1, 2], [1, 2, 3], errors.Mismatch, {"got": (3,), "expected": (2,)}),
        ([1, np.nan, 2], [1, 2, np.inf], errors.NotFinite, {"rows": [1, 2]}),
    ],
)
def test_refuses(refuses, a, b, error, data):
    with refuses(error, **data):
        paired_wilcoxon(a, b)
    for test in (paired_wilcoxon, smallest_p):
        with refuses(errors.UnknownChoice, name="alternative", value="both"):
            test(a, alternative="both")
    with refuses(errors.BadValue, name="n", value=-1):
        smallest_p(-1)
