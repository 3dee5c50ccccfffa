"""The order of the columns of a table that is read as it is printed."""

from collections.abc import Sequence

import pandas as pd


def order_columns(table: pd.DataFrame, first: Sequence[str], last: Sequence[str]) -> pd.DataFrame:
    """Return a table with these columns at its ends, since pandas leaves out the middle of what is wider than a screen.

    What ``first`` or ``last`` names and the table lacks is passed over.
    """
    ends = [*first, *last]
    middle = [name for name in table if name not in ends]
    return table[[name for name in (*first, *middle, *last) if name in table]]
