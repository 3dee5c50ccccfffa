import numpy as np
import pandas as pd
import pytest

from semiclip.tl import significant


@pytest.fixture
def table():
    p = [0.05, 0.0500001, np.nan, 0.001, np.nan, np.nan, 0.2, 0.01]
    metric = ["magnitude"] * 3 + ["consistency"] * 5
    representation = ["b", "b", "b", "b", "a", "a", "c", "c"]
    return pd.DataFrame({"metric": metric, "representation": representation, "key": list("stuvwxyz"), "p_value": p})


def test_counts_what_is_there(table):
    expected = pd.DataFrame(
        {
            "metric": ["magnitude", "consistency", "consistency", "consistency"],
            "representation": ["b", "b", "a", "c"],
            "value": [0.5, 1.0, np.nan, 0.5],
            "n": [2, 1, 0, 2],
            "n_significant": [1, 1, 0, 1],
        }
    )
    pd.testing.assert_frame_equal(significant(table), expected)
    assert significant(table, alpha=0.2)["n_significant"].tolist() == [2, 1, 0, 2]
    pd.testing.assert_frame_equal(significant(table.astype({"metric": "category"}))[["n"]], expected[["n"]])


def test_nothing_is_changed(table):
    before = table.copy()
    significant(table)
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(KeyError, match="table has no column representation, p_value, only metric, key"):
        significant(table[["metric", "key"]])
    with pytest.raises(ValueError, match="table has no row"):
        significant(table[:0])
    for alpha in (0, 1, np.nan):
        with pytest.raises(ValueError, match=f"alpha={alpha} must lie between 0 and 1"):
            significant(table, alpha=alpha)
