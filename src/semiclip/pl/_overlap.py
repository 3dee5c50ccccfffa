"""Pictures of what sets have in common, and of what would be in common by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.pl import _panels as panels
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names, measure_text
from semiclip.pl._tables import THRESHOLDS, check_once, check_table, read_single, sort_by_share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NUMBERS = ("n_recalled", "overlap", "null_low", "null_median", "null_high", "p_value")
LEVEL = 0.05
SPOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none"}
PARTS = {"preserved": "0.65", "gains": "#009E73", "losses": "#D55E00"}


@document
def null_overlap(
    table: pd.DataFrame, *, recalled: bool = False, ax: Axes | None = None, palette: style.Palette = None
) -> Axes:
    """Draw how many pairs a representation recalls together with references, and how many by chance (Figures 6, 7).

    A solid line counts the pairs that the representation and the reference both recall. Its marker is full where the
    permutation p is at most 0.05. The dashed line is the median over permutations of the perturbation labels, in a band
    that holds 95 % of them.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.null_overlap` returns, with one representation.
    recalled
        Draw also the number of pairs that the representation recalls.
    {drawing}

    {drawn}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> what = {"representation": "X_semiclip", "reference": "X_image", "n_recalled": [80, 130], "overlap": [35, 60]}
    >>> null = {"null_low": [3, 12], "null_median": [8, 20], "null_high": [15, 30], "p_value": 0.01}
    >>> thresholds = {"threshold_low": [0.05, 0.1], "threshold_high": [0.95, 0.9]}
    >>> ax = scl.pl.null_overlap(pd.DataFrame(what | null | thresholds))
    >>> [line.get_label() for line in ax.get_legend().get_lines()]
    ['X_image', 'chance, 95% band']
    """
    check_table(table, ["representation", "reference", *THRESHOLDS], "scl.tl.null_overlap", numbers=NUMBERS)
    representation = read_single(table, "representation")
    names = list(table["reference"].unique())
    table = sort_by_share(table, "reference")
    palette = style.pick_colours(names, palette)
    shares = table["share"].unique()
    alone = len(shares) == 1  # a curve needs two places: then the references have a place each

    ax = style.take_axes(ax, size=(4.8, 4.0))[0]
    if not alone and len(names) > panels.MOST_CURVES:
        _draw_grid(ax, table, palette, recalled=recalled)
        return ax
    handles: list[Any] = []
    for i, name in enumerate(names):
        rows = table[table["reference"] == name]
        if alone:
            _draw_marks(ax, rows, i, palette[name])
        else:
            _draw_curve(ax, rows, palette[name], share=min(1, 3 / len(names)))
        handles.append(style.make_mark(color=palette[name], label=name, **SPOT | {"linestyle": "-"}))
    if len(names) > panels.MOST_CURVES:
        handles = []  # names stand below their places
        style.grow(ax, width=0.22 * len(names) - style.measure_inches(ax)[0])
    handles += _explain(table, alone=alone)
    ends = (-0.5, len(names) - 0.5)
    if recalled:
        whole = table.drop_duplicates("share")
        x, y = (ends, np.repeat(whole["n_recalled"], 2)) if alone else (whole["share"], whole["n_recalled"])
        handles += ax.plot(x, y, label=f"all of {representation}", **style.make_baseline_look())
    if alone:
        style.name_groups(ax, names)
        ax.set(xlim=ends, xlabel=f"{100 * shares[0]:.4g}% of all pairs in the tails")
    else:
        style.write_percent(ax.xaxis)
        ax.set_xlabel("Share of all pairs in the tails")
    ax.set(ylim=(0, None))
    style.write_label(ax.yaxis, _write_label(representation))
    style.finish(ax, handles, most=np.inf)
    return ax


def _write_label(representation: str) -> str:
    return f"Pairs that {representation}\nand the reference recall"


def _draw_marks(ax: Axes, rows: pd.DataFrame, place: int, colour: str) -> None:
    """Draw the overlap at one pair of thresholds, on the range of the permutations."""
    at = rows["share"] * 0 + place
    ax.vlines(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.3, linewidth=8)
    ax.plot(at, rows["null_median"], "_", color=colour, markersize=12)
    _draw_overlap(ax, at, rows, colour)


def _draw_curve(ax: Axes, rows: pd.DataFrame, colour: str, share: float = 1) -> None:
    """Draw the overlap over the thresholds, and the band of the permutations."""
    ax.fill_between(
        rows["share"],
        rows["null_low"],
        rows["null_high"],
        color=colour,
        **style.BAND | {"alpha": share * style.BAND["alpha"]},
    )
    ax.plot(rows["share"], rows["null_median"], color=colour, linestyle="--", linewidth=1)
    _draw_overlap(ax, rows["share"], rows, colour)


def _draw_overlap(ax: Axes, at: pd.Series, rows: pd.DataFrame, colour: str) -> None:
    ax.plot(at, rows["overlap"], color=colour, linewidth=1.4)
    likely = rows["p_value"] > LEVEL
    for which, face in ((~likely, colour), (likely, style.find_ground())):
        ax.plot(at[which], rows["overlap"][which], color=colour, markerfacecolor=face, **SPOT)


def _explain(table: pd.DataFrame, *, alone: bool) -> list[Any]:
    """Return the entries of the legend beside the names."""
    handles = []
    if (table["p_value"] > LEVEL).any():
        hollow = {"color": style.tone(0.35), "markerfacecolor": style.find_ground()}
        handles.append(style.make_mark(label=f"p > {LEVEL}", **hollow, **SPOT))
    chance: dict[str, Any] = {"marker": "_", "linestyle": "none"} if alone else {"linestyle": "--", "linewidth": 1}
    return [*handles, style.make_mark(color=style.tone(0.35), label="chance, 95% band", **chance)]


def _draw_grid(ax: Axes, table: pd.DataFrame, palette: dict[str, str], *, recalled: bool) -> None:
    """Give each of many references a panel."""
    rows = {name: table[table["reference"] == name] for name in palette}
    whole, representation = table.drop_duplicates("share"), table["representation"].iloc[0]

    def draw(part: Axes, name: str) -> list[Any]:
        _draw_curve(part, rows[name], palette[name])
        style.write_percent(part.xaxis)
        look = {"label": f"all of {representation}", **style.make_baseline_look()}
        return part.plot(whole["share"], whole["n_recalled"], **look) if recalled else []

    curves = {name: part[["share", "overlap"]].to_numpy() for name, part in rows.items()}
    labels = ("Share of all pairs in the tails", _write_label(representation))
    panels.draw_grid(ax, curves, draw, labels, _explain(table, alone=False))


@document
def gains_losses(table: pd.DataFrame, *, ax: Axes | None = None, palette: style.Palette = None) -> Axes:
    """Draw what each representation recalls beyond a base, keeps of it and loses (Figures 4, 5 of the paper).

    Pairs that a representation recalls grow to the right, ``preserved`` pairs and then ``gains``, with their sum at the
    end. Pairs of the base that it loses (``losses``) grow to the left.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.gains_losses` returns, with one base, at one pair of thresholds.
    {drawing}

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
    from semiclip.tl._sets import check_single_level

    check_table(table, ["representation", "base"], "scl.tl.gains_losses", numbers=list(PARTS))
    check_single_level(table, "table")
    base = read_single(table, "base")
    check_once(table, ["representation", "base"])
    palette = style.pick_colours(list(PARTS), PARTS if palette is None else palette)

    preserved, gains, losses = (table[part].to_numpy() for part in PARTS)
    recalled, rows = preserved + gains, np.arange(len(table))
    ax = style.take_axes(ax, size=(5.2, 1.4 + 0.45 * len(table)))[0]
    starts: dict[str, Any] = {"preserved": 0, "gains": preserved, "losses": -losses}
    bars = [ax.barh(rows, table[part], 0.62, left=starts[part], color=palette[part], label=part) for part in PARTS]
    ax.vlines(0, -0.5, len(rows) - 0.5, color=style.tone(0.2), linewidth=0.8)
    names = list(map(str, table["representation"]))
    style.grow(ax, width=min(2.4, max(measure_text(name, style.SMALL) for name in names)) - 1)
    names = fit_names(names, min(2.4, max(0.6, 0.4 * style.measure_inches(ax)[0])), style.SMALL, 3)
    ax.set_yticks(rows, names, fontsize=style.SMALL)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    totals = set((preserved + losses).tolist())
    total = f" ({_write_count(totals.pop())})" if len(totals) == 1 else ""
    style.write_label(ax.xaxis, f"Recalled pairs, compared with {base}{total}", lines=4)
    ax.spines["left"].set_visible(False)
    ax.tick_params("y", length=0)
    style.finish(ax, bars)

    wide, longest = style.measure_inches(ax)[0], _write_count(recalled.max())
    between = " " if measure_text(f"{longest} + {longest} = {longest}", style.SMALL) < 0.5 * wide else "\n"
    kept, new, whole, lost = ([_write_count(n) for n in counts] for counts in (preserved, gains, recalled, losses))
    sums = [f"{a} + {b}{between}= {c}" for a, b, c in zip(kept, new, whole, strict=True)]
    # the texts at both ends of the bars have room, where the scale has no meaning and no ticks
    left, right = losses.max(), recalled.max()
    margins = np.array([measure_text("\n".join(texts), style.SMALL) for texts in (lost, sums)]) + 0.1
    scale = max(left + right, 1) / max(wide - margins.sum(), 0.2 * wide)  # counts per inch
    ax.set_xlim(-left - margins[0] * scale, right + margins[1] * scale)
    n_ticks = max(1, int((left + right) / scale / (0.25 + 0.06 * len(_write_count(max(left, right))))))
    ticks = style.choose_ticks(-left, right, n_ticks, integer=True)
    ax.set_xticks(ticks, [_write_count(abs(tick)) for tick in ticks])
    ax.spines["bottom"].set_bounds(-left, right)
    for texts, ends, shift, side in ((sums, recalled, 3, "left"), (lost, -losses, -3, "right")):
        for row, text, end in zip(rows, texts, ends, strict=True):
            style.add_note(ax, text, (end, row), (shift, 0), ha=side, va="center", fontsize=style.SMALL)
    return ax


def _write_count(count: float) -> str:
    """Write a count, which is no whole number if it was averaged."""
    return f"{count:,.1f}".removesuffix(".0")
