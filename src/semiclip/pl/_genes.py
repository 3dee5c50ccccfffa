"""A picture of what genes contribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip._docs import document
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names
from semiclip.pl._tables import check_once, check_table

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

COLOURS = {"up": "#D55E00", "down": "#0072B2", "mixed": "0.55", "none": "0.8"}
SMALLEST = 6.0  # points of a name that can still be read
LINE = 1.25  # heights of letters that a line takes
NAMES = 0.5  # share of the width that names take at most


@document
def gene_attribution(
    table: pd.DataFrame, *, n_top: int = 20, ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw the genes that contribute most, of either sign, as bars.

    Colours say whether the gene's expression is up or down against the controls, or against the average of all rows
    where there are none, or in a pair up in one and down in the other (mixed). The label of the axis says how many of
    all genes are drawn, on low axes fewer than ``n_top``, so that names stay legible. Long names are broken, then lose
    their middle.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.gene_attribution` returns.
    n_top
        Number of genes to draw at most, those with the largest contributions of either sign.
    ax
        Where to draw; by default a new figure.
    palette
        Colours of the directions that are drawn, in the order ``"up"``, ``"down"``, ``"mixed"``, ``"none"``, or by
        name.

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> columns = {"gene": ["TP53", "MYC", "ACTB"], "attribution": [2.0, -0.5, 0.1], "direction": ["up", "down", "up"]}
    >>> ax = scl.pl.gene_attribution(pd.DataFrame(columns), n_top=2)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['TP53', 'MYC']
    """
    check_whole("n_top", n_top)
    check_table(table, ["gene", "direction"], "scl.tl.gene_attribution", numbers=("attribution",))
    check_once(table, ["gene"])
    for direction in table["direction"].unique():
        check_choice("direction", direction, COLOURS)
    top = table.iloc[np.argsort(-table["attribution"].abs().to_numpy(float), kind="stable")[:n_top]]
    drawn = [name for name in COLOURS if (top["direction"] == name).any()]
    colours = COLOURS if palette is None else style.pick_colours(drawn, palette)

    ax = style.take_axes(ax, size=(5.2, 1.1 + 0.21 * len(top)))[0]
    while True:  # the words below and above the bars take room, and are fewer or more with fewer bars
        drawn = [name for name in drawn if (top["direction"] == name).any()]
        of_all = f"\n{len(top):,} of {len(table):,} genes" if len(top) < len(table) else ""
        ax.set_xlabel(f"attribution{of_all}")
        style.write_heading(ax, _write_subject(table.attrs))
        wide, high = style.measure_inches(ax)
        handles = _explain(drawn, colours, table.attrs)
        high -= style.arrange_legend([h.get_label() for h in handles], (1 - NAMES) * wide, 4, high)[3] + 0.1
        if len(top) <= (room := max(1, int(72 * high / (LINE * SMALLEST)))):
            break
        top = top.iloc[:room]
    points = min(8.0, 72 * high / len(top) / LINE)
    lines = max(1, min(3, int(72 * high / len(top) / (LINE * points))))

    rows, values = np.arange(len(top)), top["attribution"].to_numpy(float)
    ax.barh(rows, values, 0.72, color=[colours[name] for name in top["direction"]])
    ax.plot([0, 0], [-0.5, len(top) - 0.5], color=style.tone(0.2), linewidth=0.8)  # not through the legend
    ax.set_yticks(rows, fit_names([str(name) for name in top["gene"]], NAMES * wide, points, lines), fontsize=points)
    ax.set_ylim(len(top) - 0.4, -0.6)
    low, up = min(0.0, values.min()), max(0.0, values.max())
    margin = 0.04 * (up - low) or 1.0
    ax.set_xlim(low - margin * (low < 0 or up == 0), up + margin * (up > 0 or low == 0))
    left, right = ax.get_xlim()
    ax.set_xticks(style.choose_ticks(left, right, max(2, min(7, int(style.measure_inches(ax)[0] / 0.6)))))
    ax.tick_params("y", length=0)
    style.finish(ax, handles, columns=4)
    ax.spines["left"].set_visible(False)
    return ax


def _write_subject(attrs: Mapping[Hashable, Any]) -> str:
    """Say whose genes these are and in which representation, as far as the table knows."""
    of = attrs.get("perturbations", [])
    parts = [" and ".join(map(str, of)), attrs.get("use_rep")]
    return ", ".join(str(part) for part in parts if part)


def _explain(drawn: Sequence[str], colours: Any, attrs: Mapping[Hashable, Any]) -> list[Any]:
    """Return an entry of the legend for each direction; the first says what goes up or down, and against what."""
    from matplotlib.patches import Patch

    average = attrs.get("reference") == "all rows"
    words = {"up": "above", "down": "below"} if average else {}
    labels = [words.get(name, name) for name in drawn]
    labels[0] = f"{labels[0]} average" if labels[0] in words.values() else f"expression {labels[0]}"
    return [Patch(color=colours[name], label=label) for name, label in zip(drawn, labels, strict=True)]
