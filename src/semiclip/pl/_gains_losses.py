from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.pl._style import bare, colours, inches, legend_on_top, new_axes
from semiclip.pl._tables import filled, finite, once, single

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

PARTS = {"preserved": "0.65", "gains": "#009E73", "losses": "#D55E00"}
LETTER = 0.07  # inches of small print


def gains_losses(
    table: pd.DataFrame, *, ax: Axes | None = None, palette: Sequence[str] | Mapping[str, str] | None = None
) -> Axes:
    """Draw what each representation recalls beyond a base, what it keeps of it and what it loses (paper Figure 5).

    What a representation recalls grows to the right, preserved pairs and then gains, with their sum at the end; what
    it loses of the base grows to the left.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.gains_losses` returns.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of preserved pairs, gains and losses, in this order or by name.

    Returns
    -------
    The axes.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column does not hold numbers.
    KeyError
        If a column is missing, or ``palette`` lacks a part.
    ValueError
        If the table is empty, has gaps, several bases or a representation twice, or there are too few colours.

    References
    ----------
    Bendidi et al., ICML 2025, Figures 4 and 5, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> counts = {"preserved": 52, "gains": 29, "losses": 9}
    >>> ax = scl.pl.gains_losses(pd.DataFrame({"representation": ["X_semiclip"], "base": "X_scvi"} | counts))
    >>> [text.get_text() for text in ax.texts]
    ['52 + 29 = 81', '9']
    """
    table = filled(table, ["representation", "base", *PARTS], "scl.tl.gains_losses")
    finite(table, list(PARTS))
    base = single(table, "base")
    once(table, ["representation", "base"])
    palette = colours(list(PARTS), PARTS if palette is None else palette)

    preserved, gains, losses = (table[part].to_numpy() for part in PARTS)
    rows = np.arange(len(table))
    ax = new_axes(size=(5.2, 1.4 + 0.45 * len(table)))[0] if ax is None else ax
    starts: dict[str, Any] = {"preserved": 0, "gains": preserved, "losses": -losses}
    bars = [ax.barh(rows, table[part], 0.62, left=starts[part], color=palette[part], label=part) for part in PARTS]
    ax.vlines(0, -0.5, len(rows) - 0.5, color="0.2", linewidth=0.8)
    letters = max(8, int(0.4 * inches(ax)[0] / LETTER))
    ax.set_yticks(
        rows, [fill(str(name), letters, break_long_words=False) for name in table["representation"]], fontsize="small"
    )
    ax.set_ylim(len(rows) - 0.4, -0.6)
    total = sorted({*(preserved + losses).tolist()})
    label = f"Recalled pairs, compared with {base}" + f" ({_written(total[0])})" * (len(total) == 1)
    ax.set_xlabel(fill(label, int(inches(ax)[0] / 0.085)))
    bare(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params("y", length=0)
    legend_on_top(ax, bars)
    digits = len(_written((preserved + gains).max()))
    between = " " if (3 * digits + 6) * LETTER < 0.5 * inches(ax)[0] else "\n"
    sums = [
        f"{_written(kept)} + {_written(new)}{between}= {_written(kept + new)}"
        for kept, new in zip(preserved, gains, strict=True)
    ]
    lost = [_written(count) for count in losses]
    _make_room(ax, losses.max(), (preserved + gains).max(), lost, sums)
    for texts, ends, side in ((sums, preserved + gains, 1), (lost, -losses, -1)):
        for row, text, end in zip(rows, texts, ends, strict=True):
            look: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center", "fontsize": "small"}
            ax.annotate(text, (end, row), (3 * side, 0), textcoords="offset points", **look).set_in_layout(False)
    return ax


def _written(count: float) -> str:
    """Write a count, which is no whole number if it was averaged."""
    return f"{count:,.1f}".removesuffix(".0")


def _widest(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.splitlines())


def _make_room(ax: Axes, left: float, right: float, before: Sequence[str], after: Sequence[str]) -> None:
    """Keep room for texts at both ends of the bars, where the scale has no meaning and no ticks."""
    from matplotlib.ticker import MaxNLocator

    wide = inches(ax)[0]
    margins = np.array([LETTER * _widest(texts) + 0.1 for texts in (before, after)])
    scale = max(left + right, 1) / max(wide - margins.sum(), 0.2 * wide)  # counts per inch
    ax.set_xlim(-left - margins[0] * scale, right + margins[1] * scale)
    most = max(1, int((left + right) / scale / (0.25 + 0.06 * len(_written(max(left, right))))))
    ticks = np.array(MaxNLocator(most, steps=[1, 2, 5, 10], integer=True).tick_values(-left, right))
    ticks = ticks[(ticks >= -left) & (ticks <= right)]
    ax.set_xticks(ticks, [_written(abs(tick)) for tick in ticks])
    ax.spines["bottom"].set_bounds(-left, right)
