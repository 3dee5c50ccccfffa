import numpy as np
import pandas as pd
import pytest

from semiclip.metrics import recalled_pairs, similarity
from semiclip.metrics._map import pair_of_thresholds, pairs_of_thresholds

PAIR = (0.05, 0.95)


@pytest.mark.parametrize("one", [PAIR, list(PAIR), np.array(PAIR), [PAIR], np.array([PAIR])])
def test_one_pair_of_thresholds(one):
    assert pairs_of_thresholds(one) == [PAIR]
    assert pair_of_thresholds(one) == PAIR


@pytest.mark.parametrize("several", [[PAIR, (0, 1)], np.array([PAIR, (0, 1)]), (list(PAIR), np.array([0, 1]))])
def test_several_pairs_of_thresholds(several):
    assert pairs_of_thresholds(several) == [PAIR, (0, 1)]
    with pytest.raises(ValueError, match=r"thresholds=.* are 2 pairs, and one is needed here; call once for each"):
        pair_of_thresholds(several)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (0.05, r"\(0.05,\)"),
        ("0.05", r"\('0.05',\)"),
        (("0.05", "0.95"), r"\('0.05', '0.95'\)"),
        ((None, 0.95), r"\(None, 0.95\)"),
        ([0.05, PAIR], r"\(0.05,\)"),
        ([PAIR, 0.05], r"\(0.05,\)"),
        ([[PAIR]], r"\(\(0.05, 0.95\),\)"),
        ([PAIR, ("0.1", "0.9")], r"\('0.1', '0.9'\)"),
        ((0.1, np.nan), r"\(0.1, nan\)"),
    ],
)
def test_other_thresholds_are_refused(wrong, shown):
    for read in (pairs_of_thresholds, pair_of_thresholds):
        with pytest.raises(
            ValueError, match=f"thresholds={shown} must be two quantiles with 0 ≤ low ≤ high ≤ 1, such as"
        ):
            read(wrong)


@pytest.mark.parametrize("measure", [similarity, recalled_pairs])
def test_measures_of_one_pair_say_so(measure):
    known = pd.DataFrame({"gene_a": ["G00"], "gene_b": ["G01"]})
    with pytest.raises(ValueError, match="are 2 pairs, and one is needed here; call once for each"):
        measure(np.ones((30, 2)), [f"G{i:02}" for i in range(30)], known, thresholds=[PAIR, (0.1, 0.9)])
