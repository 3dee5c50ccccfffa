from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from semiclip._docs import document
from semiclip._seed_table import name_run, read_grid, read_runs
from semiclip.errors import NameTaken, Repeated, TooFew, UnknownChoice
from semiclip.metrics import paired_wilcoxon, smallest_p
from semiclip.metrics._p_values import Alternative
from semiclip.tl._columns import order_columns

THRESHOLDS = ("threshold_low", "threshold_high")  # which figures other than recall do not have
WITHIN = ("metric", "key", "dataset", *THRESHOLDS)  # the columns that tell figures apart where the caller names none
RESULTS = ("mean", "sd", "n_seeds", "difference", "difference_sd", "p_value", "p_min")
EQUAL = 1e-12  # scores whose range is a smaller share of their size are equal but for rounding


@document
def compare(
    table: pd.DataFrame,
    *,
    base: str,
    by: str = "representation",
    value: str = "value",
    seed: str = "seed",
    within: str | Sequence[str] | None = None,
    alternative: Alternative = "two-sided",
) -> pd.DataFrame:
    """Return how methods differ from a base over seeds, figure by figure, as Table 1 of the paper does.

    Parameters
    ----------
    table
        One row per method, seed and figure: for example what :func:`recall` returns for each seed, with a column of the
        seed, stacked by :func:`pandas.concat`, without the databases that have no value.
    base
        The method to compare the others with.
    by, value, seed
        Columns of the methods, of the scores and of the seeds. Within a figure every method needs the same seeds.
    within
        Column or columns that tell the figures apart; by default ``metric``, ``key``, ``dataset``, ``threshold_low``
        and ``threshold_high`` if the table has them. Figures without thresholds have gaps there.
    alternative
        ``"two-sided"``: a method differs from the base; ``"greater"``: it scores higher; ``"less"``: lower.

    Returns
    -------
    One row per figure and method, in the order of the table: the columns of ``within`` and ``by``, ``mean`` and ``sd``
    (of the scores over the seeds, ddof 1; NaN for one seed), ``n_seeds``, ``difference`` (of the mean from the base's),
    ``difference_sd`` (of the differences seed by seed), ``p_value`` (:func:`semiclip.metrics.paired_wilcoxon` over the
    seeds, not corrected for the number of tests) and ``p_min`` (the smallest that so many seeds can reach, see
    :func:`semiclip.metrics.smallest_p`). The base has the difference 0 and the p-value 1.

    Raises
    ------
    ValueError
        If a figure lacks the base or has a single method, or a method lacks a seed that others have or has it twice.

    {paper}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> runs = {"representation": ["plain"] * 6 + ["PEA"] * 6, "seed": [*range(6)] * 2}
    >>> recall = [0.40, 0.42, 0.41, 0.38, 0.45, 0.39, 0.44, 0.47, 0.45, 0.43, 0.46, 0.44]
    >>> result = scl.tl.compare(pd.DataFrame(runs | {"value": recall}), base="plain")
    >>> result.loc[1, ["mean", "difference", "p_value", "p_min"]].astype(float).round(3).tolist()
    [0.448, 0.04, 0.031, 0.031]
    """
    figures = list(_read_figures(table, by, value, seed, within))
    if base not in (methods := list(table[by].unique())):
        raise UnknownChoice("base", base, methods)
    results = []
    for figure, values, methods in figures:
        if base not in methods:
            raise UnknownChoice("base", base, methods, f"run it for {name_run(figure, figure.values())}")
        scores = values[methods.index(base)]
        differences = values - scores
        result = {**figure, by: methods, **_summarise(values), "difference": differences.mean(axis=1)}
        result["difference_sd"] = _summarise(differences)["sd"]
        result["p_value"] = [paired_wilcoxon(row, scores, alternative=alternative) for row in values]
        results.append(pd.DataFrame({**result, "p_min": smallest_p(values.shape[1], alternative)}))
    return order_columns(pd.concat(results, ignore_index=True), [by], ["mean", "difference", "p_value"])


@document
def zscores(
    table: pd.DataFrame,
    *,
    by: str = "representation",
    value: str = "value",
    seed: str = "seed",
    within: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return standardised scores of methods, so that figures of different scales can be compared (paper Figure 2a).

    For each figure and seed, the scores of all methods are brought to mean 0 and standard deviation 1 (ddof 0). What a
    seed does to all methods alike leaves no trace.

    Parameters
    ----------
    table, by, value, seed, within
        As in :func:`compare`, which refuses the same tables.

    Returns
    -------
    One row per figure and method, as in :func:`compare`: the columns of ``within`` and ``by``, ``mean`` and ``sd`` of z
    over the seeds, and ``n_seeds``. Where all methods score the same under a seed, z is 0.

    {paper}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> runs = {"representation": ["KD", "KD", "CLIP", "CLIP", "DCCA", "DCCA"], "seed": [0, 1] * 3}
    >>> scl.tl.zscores(pd.DataFrame(runs | {"value": [0.1, 0.2, 0.3, 0.4, 0.2, 0.5]}))["mean"].round(2).tolist()
    [-1.28, 0.75, 0.53]
    """
    results = []
    for figure, values, methods in _read_figures(table, by, value, seed, within):
        equal = np.ptp(values, axis=0) <= EQUAL * np.abs(values).max(axis=0)
        z = (values - values.mean(axis=0)) / np.where(equal, 1, values.std(axis=0))
        results.append(pd.DataFrame({**figure, by: methods, **_summarise(np.where(equal, 0, z))}))
    return order_columns(pd.concat(results, ignore_index=True), [by], ["mean", "sd", "n_seeds"])


def _read_figures(
    table: pd.DataFrame, by: str, value: str, seed: str, within: str | Sequence[str] | None
) -> Iterator[tuple[dict[str, object], np.ndarray, list]]:
    """Yield what tells each figure apart, its scores of shape (methods, seeds), and the methods."""
    if within is None:
        within = [name for name in WITHIN if name in getattr(table, "columns", ()) and name not in (by, seed, value)]
    columns = [within] if isinstance(within, str) else list(within)
    for name in columns:
        if name not in THRESHOLDS or name not in table:  # thresholds may have gaps
            read_runs(table, values={}, keys={"within": name})
    read_runs(table, values={"value": value}, keys={"by": by, "seed": seed})
    names = [by, seed, value, *columns]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise Repeated("columns named by by=, seed=, value= and within=", repeated)
    if taken := [name for name in (by, *columns) if name in RESULTS]:
        raise NameTaken(taken, "a column of the result", "rename the column of the table")
    groups = table[names].groupby(columns, sort=False, observed=True, dropna=False) if columns else [((), table[names])]
    for keys, rows in groups:
        part = name_run(columns, keys)
        values, (methods, _) = read_grid(rows, value, [by, seed], part=part)
        if len(methods) < 2:
            raise TooFew(f"values of {by} in {part or 'the table'}", 1, 2, f"add another beside {methods[0]}")
        yield dict(zip(columns, keys, strict=True)), values, methods


def _summarise(values: np.ndarray) -> dict[str, object]:
    n_methods, n_seeds = values.shape
    sd = values.std(axis=1, ddof=1) if n_seeds > 1 else np.full(n_methods, np.nan)
    return {"mean": values.mean(axis=1), "sd": sd, "n_seeds": n_seeds}
