from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.pl import _style as style
from semiclip.pl._tables import check_once, check_table, read_single

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

PARTS = {"preserved": "0.65", "gains": "#009E73", "losses": "#D55E00"}
LETTER = 0.07  # inches of small print


@document
def gains_losses(table: pd.DataFrame, *, ax: Axes | None = None, palette: style.Palette = None) -> Axes:
    """Draw what each representation recalls beyond a base, keeps of it and loses (Figures 4, 5 of the paper).

    Pairs that a representation recalls grow to the right, preserved pairs and then gains, with their sum at the end.
    Pairs of the base that it loses grow to the left.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.gains_losses` returns, with one base.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of preserved pairs, gains and losses, in this order or by name.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> counts = {"preserved": 52, "gains": 29, "losses": 9}
    >>> ax = scl.pl.gains_losses(pd.DataFrame({"representation": ["X_semiclip"], "base": "X_scvi"} | counts))
    >>> [text.get_text() for text in ax.texts]
    ['52 + 29 = 81', '9']
    """
    check_table(table, ["representation", "base"], "scl.tl.gains_losses", numbers=list(PARTS))
    base = read_single(table, "base")
    check_once(table, ["representation", "base"])
    palette = style.pick_colours(list(PARTS), PARTS if palette is None else palette)

    preserved, gains, losses = (table[part].to_numpy() for part in PARTS)
    recalled, rows = preserved + gains, np.arange(len(table))
    ax = style.take_axes(ax, size=(5.2, 1.4 + 0.45 * len(table)))[0]
    starts: dict[str, Any] = {"preserved": 0, "gains": preserved, "losses": -losses}
    bars = [ax.barh(rows, table[part], 0.62, left=starts[part], color=palette[part], label=part) for part in PARTS]
    ax.vlines(0, -0.5, len(rows) - 0.5, color="0.2", linewidth=0.8)
    letters = max(8, int(0.4 * style.measure_inches(ax)[0] / LETTER))
    names = [fill(str(name), letters, break_long_words=False) for name in table["representation"]]
    ax.set_yticks(rows, names, fontsize="small")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    totals = set((preserved + losses).tolist())
    label = f"Recalled pairs, compared with {base}"
    label += f" ({_write_count(totals.pop())})" if len(totals) == 1 else ""
    ax.set_xlabel(fill(label, int(style.measure_inches(ax)[0] / 0.085)))
    ax.spines["left"].set_visible(False)
    ax.tick_params("y", length=0)
    style.finish(ax, bars)
    digits = len(_write_count(recalled.max()))
    between = " " if (3 * digits + 6) * LETTER < 0.5 * style.measure_inches(ax)[0] else "\n"
    sums = [
        f"{_write_count(kept)} + {_write_count(new)}{between}= {_write_count(kept + new)}"
        for kept, new in zip(preserved, gains, strict=True)
    ]
    lost = [_write_count(count) for count in losses]
    _make_room(ax, losses.max(), recalled.max(), lost, sums)
    for texts, ends, sign, side in ((sums, recalled, 3, "left"), (lost, -losses, -3, "right")):
        for row, text, end in zip(rows, texts, ends, strict=True):
            style.add_note(ax, text, (end, row), (sign, 0), ha=side, va="center", fontsize="small")
    return ax


def _write_count(count: float) -> str:
    """Write a count, which is no whole number if it was averaged."""
    return f"{count:,.1f}".removesuffix(".0")


def _make_room(ax: Axes, left: float, right: float, before: Sequence[str], after: Sequence[str]) -> None:
    """Keep room for texts at both ends of the bars, where the scale has no meaning and no ticks."""
    from matplotlib.ticker import MaxNLocator

    wide = style.measure_inches(ax)[0]
    longest = (max(len(line) for text in texts for line in text.splitlines()) for texts in (before, after))
    margins = np.array([LETTER * letters + 0.1 for letters in longest])
    scale = max(left + right, 1) / max(wide - margins.sum(), 0.2 * wide)  # counts per inch
    ax.set_xlim(-left - margins[0] * scale, right + margins[1] * scale)
    n_ticks = max(1, int((left + right) / scale / (0.25 + 0.06 * len(_write_count(max(left, right))))))
    ticks = np.array(MaxNLocator(n_ticks, steps=[1, 2, 5, 10], integer=True).tick_values(-left, right))
    ticks = ticks[(ticks >= -left) & (ticks <= right)]
    ax.set_xticks(ticks, [_write_count(abs(tick)) for tick in ticks])
    ax.spines["bottom"].set_bounds(-left, right)
