from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import some
from semiclip.pl._style import bare, colours, legend_on_top, name_groups, new_axes
from semiclip.pl._tables import filled, finite, once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("metric", "representation", "key", "value")
# the score is a mean of the parts on a scale of 100, so that on this scale all three can share an axis
SCALES = {"structural_integrity": 100, "spearman_gene": 100, "preservation": 1}
NAMES = (
    "structural integrity ×\N{NO-BREAK SPACE}100",
    "Spearman per gene ×\N{NO-BREAK SPACE}100",
    "score (mean of both)",
)
BASELINES: dict[str, dict[str, Any]] = {
    "random": {"facecolor": "0.92", "hatch": "....", "edgecolor": "0.5", "linewidth": 0.5},
    "constant": {"facecolor": "0.82", "hatch": "////", "edgecolor": "0.5", "linewidth": 0.5},
    "PCA": {"facecolor": "0.6", "edgecolor": "0.5", "linewidth": 0.5},
}


def preservation(
    table: pd.DataFrame,
    *,
    key: str = "unseen perturbations",
    ax: Axes | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw how much of the expression each representation preserves: the two parts of the score, and the score.

    The score, of 0 to 100 for a useful decoder, is the mean of structural integrity and of the Spearman correlation per
    gene, each times 100; all three stand on this scale. The baselines (``"random"``, ``"constant"``, ``"PCA"``) are
    grey and come first.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.preservation` returns. With a column ``seed`` the bars are means over the seeds and the
        error bars their standard deviations.
    key
        Which test to draw: ``"unseen perturbations"`` or ``"seen perturbations"``.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the representations that are no baselines, in their order in the table or by name.

    Returns
    -------
    The axes.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or its values are not numbers.
    KeyError
        If a column is missing, ``key`` is not in the table, or ``palette`` lacks a representation.
    ValueError
        If the table is empty or has gaps, a representation lacks a part or has it twice, or
        there are too few colours.

    Notes
    -----
    Both parts, and so the score, may be negative: a decoder can do worse than one that always answers the same, which
    has a structural integrity of 0.5 and a score of 25.

    References
    ----------
    Bendidi et al., ICML 2025, section B.2, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> metric = ["structural_integrity", "spearman_gene", "preservation"]
    >>> values = {"value": [0.5, 0.0, 25.0, 0.7, 0.3, 50.0]}
    >>> table = pd.DataFrame({"metric": metric * 2, "representation": ["constant"] * 3 + ["X_scvi"] * 3} | values)
    >>> ax = scl.pl.preservation(table.assign(key="unseen perturbations"))
    >>> [round(float(bar.get_height())) for bar in ax.patches]
    [50, 0, 25, 70, 30, 50]
    """
    table = filled(table, COLUMNS, "scl.tl.preservation")
    if key not in (keys := list(table["key"].unique())):
        msg = f"key={key!r} is not in the table, which has {some(keys)}"
        raise KeyError(msg)
    table = table[(table["key"] == key) & table["metric"].isin(SCALES)]
    finite(table, ["value"])
    once(table, ["metric", "representation", *(["seed"] if "seed" in table else [])])
    runs = table["value"].groupby([table["representation"], table["metric"]], sort=False, observed=True)
    summaries = (runs.agg(how).unstack().reindex(columns=list(SCALES)) for how in ("mean", "std", "count"))
    means, deviations, counts = summaries
    represented = list(table["representation"].unique())
    absent = means.isna()
    if lacks := [f"{part} of {name}" for name in represented for part in SCALES if absent.loc[name, part]]:
        msg = f"the table has no {some(lacks)} for {key}; draw what scl.tl.preservation returns"
        raise ValueError(msg)
    others = [name for name in represented if name not in BASELINES]
    palette = colours(others, palette)
    names = [name for name in BASELINES if name in represented] + others

    ax = new_axes(size=(6.4, 4.0))[0] if ax is None else ax
    width, bars, scales = 0.8 / len(names), [], np.array(list(SCALES.values()))
    for i, name in enumerate(names):
        at = np.arange(3) + (i - (len(names) - 1) / 2) * width
        heights, spread = (rows.loc[name].to_numpy(float, na_value=np.nan) * scales for rows in (means, deviations))
        look = BASELINES.get(name) or {"color": palette[name]}
        error = {"yerr": spread, "error_kw": {"elinewidth": 1, "ecolor": "0.2"}} if np.isfinite(spread).all() else {}
        bars.append(ax.bar(at, heights, width, label=name, **look, **error))
    ax.axhline(0, color="0.2", linewidth=0.8)
    name_groups(ax, NAMES)
    ax.set_xlim(-0.6, 2.6)
    n_seeds = counts.to_numpy()
    said = f"{n_seeds.max():.0f} seeds" if n_seeds.min() == n_seeds.max() else "seeds"
    note = key if n_seeds.max() == 1 else f"{key}\nmean ± sd over {said}"
    ax.set_xlabel(note, fontsize="small", color="0.35")
    ax.set_ylabel("Preservation (perfect: 100)", loc="top")
    bare(ax)
    legend_on_top(ax, bars)
    bottom, top = ax.get_ylim()
    ticks = ax.get_yticks()
    ax.set_yticks(ticks[(ticks >= bottom) & (ticks <= min(top, 100))])  # nothing is better than perfect
    return ax
