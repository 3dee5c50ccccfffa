from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_whole
from semiclip._docs import document
from semiclip.errors import Refused
from semiclip.pl import _style as style
from semiclip.pl._tables import check_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEVELS = (0.05, 0.01)
NUMBERS = ("n_overlap", "n_set", "p_value", "p_adjusted")


@document
def enrichment(table: pd.DataFrame, *, n_top: int = 10, adjusted: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the gene sets that are most enriched among the genes of a region (Table 3 of the paper).

    A dot stands at −log10 p. Its area is the number of genes of the region in the set, and that number is written
    beside the dot with the size of the set. Dashed lines are p = 0.05 and 0.01. Long names are shortened.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.enrich` returns.
    n_top
        Number of gene sets to draw, those with the smallest p.
    adjusted
        Draw the p that is adjusted for the number of gene sets; ``False`` draws the raw one.
    ax
        Where to draw; by default a new figure.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = {"gene_set": ["Notch signalling", "Apoptosis"], "n_overlap": [6, 3], "n_set": [40, 55]}
    >>> ax = scl.pl.enrichment(pd.DataFrame(sets | {"p_value": [1e-4, 0.01], "p_adjusted": [0.001, 0.05]}))
    >>> [text.get_text() for text in ax.texts if "/" in text.get_text()]
    ['6/40', '3/55']
    """
    check_whole("n_top", n_top)
    check_table(table, ["gene_set"], "scl.tl.enrich", numbers=NUMBERS)
    column = "p_adjusted" if adjusted else "p_value"
    if (wrong := ~table[column].between(0, 1)).any():
        raise Refused(f"column {column!r} is not between 0 and 1", table.loc[wrong, "gene_set"].tolist())
    top = table.sort_values(["p_adjusted", "p_value"], kind="stable").head(n_top)
    height = -np.log10(np.maximum(top[column].to_numpy(float), np.finfo(float).tiny)) + 0.0  # no minus zero

    ax = style.take_axes(ax, size=(5.8, 1.2 + 0.34 * len(top)))[0]
    of_all = f"\n{len(top)} of {len(table):,} gene sets" if len(top) < len(table) else ""
    ax.set_xlabel(f"−log₁₀ {'adjusted p' if adjusted else 'p'}{of_all}")
    wide, high = style.measure_inches(ax)
    rows = np.arange(len(top))
    line = min(8, 2.2 * wide, 60 * high / len(top))  # points of a name
    two_lines = high / len(top) > 2.6 * line / 72
    letters = max(10, int(0.45 * wide / (0.0085 * line)))
    ax.set_yticks(rows, [_shorten(name, letters, 1 + two_lines) for name in top["gene_set"]], fontsize=line)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for level, text, side in zip(LEVELS, ("p = 0.05 ", " 0.01"), ("right", "left"), strict=True):
        ax.axvline(-np.log10(level), **style.CHANCE | {"linewidth": 0.9, "zorder": 0})
        look: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": side, "va": "bottom", "fontsize": 7}
        ax.text(-np.log10(level), 1, text, color=style.CHANCE["color"], **look)
    ax.hlines(rows, 0, height, color=style.OKABE_ITO[0], linewidth=1.5)
    area = 90 * top["n_overlap"] / top["n_overlap"].max()
    ax.scatter(height, rows, s=np.maximum(area, 6), color=style.OKABE_ITO[0], zorder=3, clip_on=False)
    shares = [f"{n:,}/{of:,}" for n, of in zip(top["n_overlap"], top["n_set"], strict=True)]
    for row, at, share in zip(rows, height, shares, strict=True):
        style.add_note(ax, share, (at, row), (7, 0), va="center", fontsize=7)
    end = max(height.max(), -np.log10(min(LEVELS)) + 0.15)
    margin = 0.065 * max(map(len, shares)) + 0.15  # inches
    ax.set_xlim(0, end / max(0.3, 1 - margin / style.measure_inches(ax)[0]))
    style.strip_spines(ax)
    return ax


def _shorten(name: object, letters: int, lines: int) -> str:
    """Break a name between words; what does not fit becomes an ellipsis."""
    parts = wrap(str(name).replace("_", " "), letters)
    if len(parts) > lines:
        rest = " ".join(parts[lines - 1 :])
        parts = [*parts[: lines - 1], f"{rest[: letters - 1].rstrip()}…"]
    return "\n".join(parts)
