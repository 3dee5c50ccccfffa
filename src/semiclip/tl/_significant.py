from __future__ import annotations

from typing import TYPE_CHECKING

from semiclip._arguments import check_number
from semiclip.errors import Empty, MissingColumn

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ["metric", "representation", "p_value"]


def significant(table: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Return how many perturbations stand out in each representation.

    Parameters
    ----------
    table
        A table with ``metric``, ``representation`` and ``p_value``: what :func:`consistency` and :func:`magnitude`
        return, also concatenated.
    alpha
        Largest p-value that stands out, between 0 and 1. It is also the share that chance alone makes stand out.

    Returns
    -------
    One row per metric and representation, in the order of the table: ``metric``, ``representation``, ``value`` (the
    share with a p-value of at most ``alpha``; NaN if there is none), ``n`` (the p-values, where missing ones do not
    count) and ``n_significant``.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the table is empty or ``alpha`` is no probability.

    References
    ----------
    Celik et al. 2024, DOI 10.1371/journal.pcbi.1012463.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"metric": "consistency", "representation": ["X_pca"] * 4, "p_value": [0.01, 0.2, 0.05, None]}
    ... )
    >>> significant(table).round(2)
            metric representation  value  n  n_significant
    0  consistency          X_pca   0.67  3              2
    """
    if absent := [name for name in NEEDED if name not in table]:
        raise MissingColumn(absent, table.columns, "the table", way_out="pass what scl.tl.consistency returns")
    if table.empty:
        raise Empty("rows in the table")
    check_number("alpha", alpha, above=0, below=1)
    marked = table[NEEDED[:2]].assign(n=table["p_value"].notna(), n_significant=table["p_value"] <= alpha)
    counts = marked.groupby(NEEDED[:2], sort=False, observed=True)[["n", "n_significant"]].sum().reset_index()
    counts.insert(2, "value", counts["n_significant"] / counts["n"])
    return counts
