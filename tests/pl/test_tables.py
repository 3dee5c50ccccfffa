import numpy as np
import pandas as pd
import pytest

from semiclip.pl._tables import by_share, filled, finite, once, single


@pytest.fixture
def table():
    return pd.DataFrame({"name": ["a", "b", "a"], "x": [1.0, 2, 3], "threshold_low": [0.1, 0.1, 0.05]}).assign(
        threshold_high=lambda rows: 1 - rows["threshold_low"]
    )


def test_filled(table):
    assert filled(table, ["name"], "scl.tl.f") is table
    with pytest.raises(TypeError, match="table is a NoneType, not a DataFrame; draw what scl.tl.f returns"):
        filled(None, [], "scl.tl.f")
    with pytest.raises(KeyError, match="the table has no column y, z; draw what scl.tl.f returns"):
        filled(table, ["y", "x", "z"], "scl.tl.f")
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to draw"):
        filled(table.iloc[:0], ["x"], "scl.tl.f")
    with pytest.raises(ValueError, match="no luck, so there is nothing to draw"):
        filled(table.iloc[:0], ["x"], "scl.tl.f", empty="no luck")


@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_finite(table, gap):
    finite(table, ["x"])
    finite(table.convert_dtypes(), ["x"])
    with pytest.raises(ValueError, match=r"column 'x' has no value in 1 row\(s\): 1; drop them first"):
        finite(table.assign(x=[1, gap, 2]), ["x"])
    with pytest.raises(ValueError, match=r"column 'x' has no value in 1 row\(s\): 1"):
        finite(table.assign(x=pd.array([1, None, 2], dtype="Int64")), ["x"])
    with pytest.raises(TypeError, match="column 'name' holds .* values, not numbers"):
        finite(table, ["name"])


def test_once_and_single(table):
    once(table, ["name", "x"])
    with pytest.raises(ValueError, match="several values for a of 1; average them first, or give each run its own"):
        once(table.assign(x=1), ["name", "x"])
    assert single(table.iloc[:1], "name") == "a"
    with pytest.raises(ValueError, match="the table has several names as name, a, b; draw one at a time"):
        single(table, "name")


def test_by_share(table):
    before = table.copy()
    np.testing.assert_array_equal(by_share(table, "name")["share"], [0.1, 0.2, 0.2])
    pd.testing.assert_frame_equal(table, before)
    with pytest.raises(ValueError, match="several values for a of 20%"):
        by_share(table.assign(threshold_low=0.1, threshold_high=0.9), "name")
    with pytest.raises(ValueError, match="column 'threshold_low' has no value"):
        by_share(table.assign(threshold_low=np.nan), "name")
