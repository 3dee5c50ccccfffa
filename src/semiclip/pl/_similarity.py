from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import BadValue, MissingEntry, Refused
from semiclip.pl import _style as style
from semiclip.pl._tables import check_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

NUMBERS = ("low", "high", "n_all", "n_annotated", "all", "annotated", "cut_low", "cut_high")


@document
def similarity(
    table: pd.DataFrame,
    *,
    representation: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> Axes | np.ndarray:
    """Draw the cosines of annotated pairs and of all pairs; annotated pairs in the shaded tails are recalled.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.similarity` returns.
    representation
        Representation or representations to draw, a panel each; by default all in the table.
    ax
        Where to draw, one axes per representation; by default a new figure.
    palette
        Colours of the representations, in the order drawn or by name.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> bins = {"representation": "X_semiclip", "low": [-1.0, 0.0], "high": [0.0, 1.0], "cut_low": -0.4}
    >>> counts = {"n_all": [50, 50], "n_annotated": [2, 8], "all": 0.5, "annotated": [0.2, 0.8], "cut_high": 0.4}
    >>> ax = scl.pl.similarity(pd.DataFrame(bins | counts))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['100 pairs', '10 annotated', 'recalled']
    """
    check_table(table, ["representation"], "scl.tl.similarity", numbers=NUMBERS)
    present = list(table["representation"].unique())
    chosen = present if representation is None else representation
    names = [chosen] if isinstance(chosen, str) else list(chosen)
    if absent := [name for name in names if name not in present]:
        raise MissingEntry(absent, present, "the table", "representation")
    if not names:
        raise BadValue("representation", representation, "one or more representations of the table")
    panels = {name: table[table["representation"] == name].sort_values("low", kind="stable") for name in names}
    for name, rows in panels.items():
        if not np.allclose(rows["low"].to_numpy()[1:], rows["high"].to_numpy()[:-1]):
            raise Refused(f"the bins of {name} overlap or leave gaps", way_out="draw what scl.tl.similarity returns")
    palette = style.pick_colours(names, palette)
    axes = style.take_axes(ax, len(names), size=(1 + 2.8 * len(names), 3.0), panels=names)
    for panel, (name, rows) in zip(axes, panels.items(), strict=True):
        _draw_panel(panel, rows, palette[name])
        panel.set_title(name, fontsize="medium")
    return axes[0] if len(names) == 1 else axes


def _draw_panel(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    edges = [*rows["low"], rows["high"].iloc[-1]]
    filled_bins = rows[rows["n_all"] > 0]
    left, right = filled_bins["low"].min(), filled_bins["high"].max()
    n_all, n_annotated = (f"{rows[name].sum():,}" for name in ("n_all", "n_annotated"))
    everything = ax.stairs(rows["all"], edges, fill=True, color="0.8", label=f"{n_all} pairs")
    annotated = ax.stairs(rows["annotated"], edges, color=colour, linewidth=1.6, label=f"{n_annotated} annotated")
    tail: dict[str, Any] = {"color": colour, "alpha": 0.12, "linewidth": 0, "zorder": 0, "label": "recalled"}
    ax.axvspan(left, rows["cut_low"].iloc[0], **tail)
    recalled = ax.axvspan(rows["cut_high"].iloc[0], right, **tail)
    ax.set(xlim=(left, right), ylim=(0, None), xlabel="Cosine", ylabel="Density")
    style.finish(ax, [everything, annotated, recalled], most=np.inf)
