import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from semiclip import errors
from semiclip.metrics import paired_wilcoxon, smallest_p

SIDES = ("two-sided", "greater", "less")


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
    gains = np.random.default_rng(0).uniform(0.1, 1, n)
    assert paired_wilcoxon(gains) == smallest_p(n) == two_sided
    assert paired_wilcoxon(-gains) == two_sided
    assert paired_wilcoxon(gains, alternative="greater") == smallest_p(n, "greater") == two_sided / 2
    assert paired_wilcoxon(-gains, alternative="less") == smallest_p(n, "less") == two_sided / 2
    assert paired_wilcoxon(gains, alternative="less") == 1


def test_the_smallest_p_of_few_pairs():
    assert paired_wilcoxon(np.full(5, 0.1)) == 0.0625  # equal gains too
    assert [smallest_p(n) for n in (0, 1, 2)] == [1, 1, 0.5]
    assert [smallest_p(n, "greater") for n in (0, 1, 2)] == [1, 0.5, 0.25]


@pytest.mark.parametrize("alternative", SIDES)
@pytest.mark.parametrize("n", [1, 2, 7, 15, 50, 51, 80])
def test_equals_scipy_without_ties(n, alternative):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.2, 1, n), rng.normal(0, 1, n)
    expected = wilcoxon(a, b, zero_method="wilcox", alternative=alternative).pvalue
    assert paired_wilcoxon(a, b, alternative=alternative) == pytest.approx(expected, rel=1e-9)


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


def test_pairs_without_a_difference_are_left_out():
    assert paired_wilcoxon([0.0, 0.0]) == paired_wilcoxon([3.0, 0.5], [3.0, 0.5], alternative="less") == 1
    assert paired_wilcoxon([1, 2, 3, 0, 0]) == smallest_p(3) == 0.25


def test_sides_and_order():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9))
    assert paired_wilcoxon(a, b) == paired_wilcoxon(b, a) == paired_wilcoxon(a - b)
    assert paired_wilcoxon(a, b, alternative="greater") == paired_wilcoxon(b, a, alternative="less")
    before = a.copy()
    paired_wilcoxon(a)
    np.testing.assert_array_equal(a, before)


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
