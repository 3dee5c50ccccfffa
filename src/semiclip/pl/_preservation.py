from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import Refused
from semiclip.pl import _style as style
from semiclip.pl._tables import check_numbers, check_once, check_table, select_rows

if TYPE_CHECKING:
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


@document
def preservation(
    table: pd.DataFrame, *, key: str = "unseen perturbations", ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw how much of the expression each representation preserves: the two parts of the score, and the score.

    The score is the mean of structural integrity and of the Spearman correlation per gene, each times 100. All three
    share this scale, on which a useful decoder lies between 0 and 100. The baselines (``"random"``, ``"constant"``,
    ``"PCA"``) are grey and come first.

    Both parts, and so the score, may be negative. A decoder can do worse than one that always answers the same, which
    has a structural integrity of 0.5 and a score of 25.

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

    {drawn}

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
    check_table(table, COLUMNS, "scl.tl.preservation")
    table = select_rows(table, "key", key)
    table = table[table["metric"].isin(SCALES)]
    check_numbers(table, ["value"])
    check_once(table, ["metric", "representation", *(["seed"] if "seed" in table else [])])
    runs = table["value"].groupby([table["representation"], table["metric"]], sort=False, observed=True)
    means, deviations, counts = (
        runs.agg(summary).unstack().reindex(columns=list(SCALES)) for summary in ("mean", "std", "count")
    )
    present, absent = list(table["representation"].unique()), means.isna()
    if lacks := [f"{part} of {name}" for name in present for part in SCALES if absent.loc[name, part]]:
        raise Refused(f"the table lacks figures for {key}", lacks, "draw what scl.tl.preservation returns")
    others = [name for name in present if name not in BASELINES]
    palette = style.pick_colours(others, palette)
    names = [name for name in BASELINES if name in present] + others

    ax = style.take_axes(ax, size=(6.4, 4.0))[0]
    width, bars, scales = 0.8 / len(names), [], np.array(list(SCALES.values()))
    for i, name in enumerate(names):
        at = np.arange(3) + style.shift_in_group(i, len(names), width)
        heights, spread = (rows.loc[name].to_numpy(float, na_value=np.nan) * scales for rows in (means, deviations))
        look = BASELINES.get(name) or {"color": palette[name]}
        error = {"yerr": spread, "error_kw": style.ERROR} if np.isfinite(spread).all() else {}
        bars.append(ax.bar(at, heights, width, label=name, **look, **error))
    ax.axhline(0, color="0.2", linewidth=0.8)
    style.name_groups(ax, NAMES)
    n_seeds = counts.to_numpy()
    seeds = f"{n_seeds.max():.0f} seeds" if n_seeds.min() == n_seeds.max() else "seeds"
    note = key if n_seeds.max() == 1 else f"{key}\nmean ± sd over {seeds}"
    ax.set_xlim(-0.6, 2.6)
    ax.set_xlabel(note, fontsize="small", color="0.35")
    ax.set_ylabel("Preservation (perfect: 100)", loc="top")
    style.finish(ax, bars, most=100)  # nothing is better than perfect
    return ax
