from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import some
from semiclip.pl._style import bare, colours, legend_on_top, new_axes
from semiclip.pl._tables import filled, finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

NUMBERS = ("low", "high", "n_all", "n_annotated", "all", "annotated", "cut_low", "cut_high")


def similarity(
    table: pd.DataFrame,
    *,
    representation: str | Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes | np.ndarray:
    """Draw the cosines of annotated pairs against those of all pairs; pairs in the shaded tails are recalled.

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

    Returns
    -------
    The axes; an array of them if there are several representations.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column does not hold numbers.
    KeyError
        If a column is missing, a representation is not in the table, or ``palette`` lacks one.
    ValueError
        If the table is empty or has gaps, the bins of a representation do not follow each other, ``ax`` does not hold
        one axes per representation, or there are too few colours.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317.

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
    table = filled(table, ["representation", *NUMBERS], "scl.tl.similarity")
    there = list(table["representation"].unique())
    names = (
        there
        if representation is None
        else [representation]
        if isinstance(representation, str)
        else list(representation)
    )
    if absent := [name for name in names if name not in there]:
        msg = f"representation={some(absent)} is not in the table, which has {some(there)}"
        raise KeyError(msg)
    if not names:
        msg = f"representation names none; choose among {some(there)}"
        raise ValueError(msg)
    finite(table, NUMBERS)
    panels = {name: table[table["representation"] == name].sort_values("low", kind="stable") for name in names}
    for name, rows in panels.items():
        if not np.allclose(rows["low"].to_numpy()[1:], rows["high"].to_numpy()[:-1]):
            msg = f"the bins of {name} overlap or leave gaps; draw what scl.tl.similarity returns"
            raise ValueError(msg)
    palette = colours(names, palette)
    axes = (
        new_axes(len(names), size=(1 + 2.8 * len(names), 3.0)) if ax is None else np.ravel(np.array(ax, dtype=object))
    )
    if len(axes) != len(names):
        msg = f"ax holds {len(axes)} axes; {len(names)} are needed, one for each of {some(names)}"
        raise ValueError(msg)
    for panel, (name, rows) in zip(axes, panels.items(), strict=True):
        _draw(panel, rows, palette[name])
        panel.set_title(name, fontsize="medium")
    return axes[0] if len(names) == 1 else np.array(axes, dtype=object)


def _draw(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    edges = [*rows["low"], rows["high"].iloc[-1]]
    filled_bins = rows[rows["n_all"] > 0]
    left, right = filled_bins["low"].min(), filled_bins["high"].max()
    everything = ax.stairs(rows["all"], edges, fill=True, color="0.8", label=f"{rows['n_all'].sum():,} pairs")
    known = ax.stairs(
        rows["annotated"], edges, color=colour, linewidth=1.6, label=f"{rows['n_annotated'].sum():,} annotated"
    )
    tails = [
        ax.axvspan(start, end, color=colour, alpha=0.12, linewidth=0, zorder=0, label="recalled")
        for start, end in ((left, rows["cut_low"].iloc[0]), (rows["cut_high"].iloc[0], right))
    ]
    ax.set_xlim(left, right)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Cosine")
    ax.set_ylabel("Density")
    bare(ax)
    top = ax.get_ylim()[1]
    legend_on_top(ax, [everything, known, tails[1]])
    ticks = ax.get_yticks()
    ax.set_yticks(ticks[(ticks >= 0) & (ticks <= top)])
