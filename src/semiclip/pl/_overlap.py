"""Pictures of what sets have in common, and of what would be in common by chance."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import suppress
from itertools import chain, permutations
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._docs import document
from semiclip.errors import Empty, Refused, TooFew, TooMany, WrongShape, some
from semiclip.pl import _style as style
from semiclip.pl._tables import THRESHOLDS, check_once, check_table, read_single, sort_by_share

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

NUMBERS = ("n_recalled", "overlap", "null_low", "null_median", "null_high", "p_value")
LEVEL = 0.05
SPOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgewidth": 1.2, "linestyle": "none"}
PARTS = {"preserved": "0.65", "gains": "#009E73", "losses": "#D55E00"}
LETTER = 0.07  # inches of small print
MAX_SETS = 6
SMALL: dict[str, Any] = {"fontsize": 8}
POINTS: dict[str, Any] = {"textcoords": "offset points"}
NARROW = 0.13  # inches that a column takes at least
BARE: dict[str, Any] = {"xticks": [], "yticks": []}


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
    handles: list[Any] = []
    for i, name in enumerate(names):
        rows, colour = table[table["reference"] == name], palette[name]
        at = rows["share"] * 0 + i if alone else rows["share"]
        if alone:
            ax.vlines(at, rows["null_low"], rows["null_high"], color=colour, alpha=0.3, linewidth=8)
            ax.plot(at, rows["null_median"], "_", color=colour, markersize=12)
        else:
            ax.fill_between(at, rows["null_low"], rows["null_high"], color=colour, **style.BAND)
            ax.plot(at, rows["null_median"], color=colour, linestyle="--", linewidth=1)
        ax.plot(at, rows["overlap"], color=colour, linewidth=1.4)
        likely = rows["p_value"] > LEVEL
        for which, face in ((~likely, colour), (likely, "white")):
            ax.plot(at[which], rows["overlap"][which], color=colour, markerfacecolor=face, **SPOT)
        handles.append(style.make_mark(color=colour, label=name, **SPOT | {"linestyle": "-"}))
    if (table["p_value"] > LEVEL).any():
        handles.append(style.make_mark(color="0.35", markerfacecolor="white", label=f"p > {LEVEL}", **SPOT))
    chance = {"marker": "_", "linestyle": "none"} if alone else {"linestyle": "--", "linewidth": 1}
    handles.append(style.make_mark(color="0.35", label="chance, 95% band", **chance))
    ends = (-0.5, len(names) - 0.5)
    if recalled:
        whole = table.drop_duplicates("share")
        x, y = (ends, np.repeat(whole["n_recalled"], 2)) if alone else (whole["share"], whole["n_recalled"])
        handles += ax.plot(x, y, label=f"all of {representation}", **style.BASELINE)
    if alone:
        style.name_groups(ax, names)
        ax.set(xlim=ends, xlabel=f"{100 * shares[0]:.4g}% of all pairs in the tails")
    else:
        style.write_percent(ax.xaxis)
        ax.set_xlabel("Share of all pairs in the tails")
    ax.set(ylim=(0, None), ylabel=f"Pairs that {representation}\nand the reference recall")
    style.finish(ax, handles, most=np.inf)
    return ax


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
    ax.vlines(0, -0.5, len(rows) - 0.5, color="0.2", linewidth=0.8)
    room = max(8, int(0.4 * style.measure_inches(ax)[0] / LETTER))
    names = [fill(str(name), room, break_long_words=False) for name in table["representation"]]
    ax.set_yticks(rows, names, fontsize="small")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    totals = set((preserved + losses).tolist())
    total = f" ({_write_count(totals.pop())})" if len(totals) == 1 else ""
    ax.set_xlabel(fill(f"Recalled pairs, compared with {base}{total}", int(style.measure_inches(ax)[0] / 0.085)))
    ax.spines["left"].set_visible(False)
    ax.tick_params("y", length=0)
    style.finish(ax, bars)

    wide, longest = style.measure_inches(ax)[0], len(_write_count(recalled.max()))
    between = " " if (3 * longest + 6) * LETTER < 0.5 * wide else "\n"
    kept, new, whole, lost = ([_write_count(n) for n in counts] for counts in (preserved, gains, recalled, losses))
    sums = [f"{a} + {b}{between}= {c}" for a, b, c in zip(kept, new, whole, strict=True)]
    # the texts at both ends of the bars have room, where the scale has no meaning and no ticks
    left, right = losses.max(), recalled.max()
    letters = [max(map(len, "\n".join(texts).splitlines())) for texts in (lost, sums)]
    margins = np.array(letters) * LETTER + 0.1
    scale = max(left + right, 1) / max(wide - margins.sum(), 0.2 * wide)  # counts per inch
    ax.set_xlim(-left - margins[0] * scale, right + margins[1] * scale)
    n_ticks = max(1, int((left + right) / scale / (0.25 + 0.06 * len(_write_count(max(left, right))))))
    ticks = style.choose_ticks(-left, right, n_ticks, integer=True)
    ax.set_xticks(ticks, [_write_count(abs(tick)) for tick in ticks])
    ax.spines["bottom"].set_bounds(-left, right)
    for texts, ends, shift, side in ((sums, recalled, 3, "left"), (lost, -losses, -3, "right")):
        for row, text, end in zip(rows, texts, ends, strict=True):
            style.add_note(ax, text, (end, row), (shift, 0), ha=side, va="center", fontsize="small")
    return ax


def _write_count(count: float) -> str:
    """Write a count, which is no whole number if it was averaged."""
    return f"{count:,.1f}".removesuffix(".0")


def venn(
    sets: pd.DataFrame | Mapping[str, Iterable[Hashable]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    palette: style.Palette = None,
) -> Axes:
    """Draw how sets overlap: two or three as circles in proportion to the counts, four to six as an UpSet plot.

    An UpSet plot has a bar for each combination of sets, the largest first, with the count of what is in just these
    sets (Lex et al. 2014, DOI 10.1109/TVCG.2014.2346248). Dots below say which sets they are, and bars to the left how
    large each set is. Empty combinations are left out, and combinations without room are counted.

    Three circles cannot show every combination of counts, so their overlaps are approximate; the written counts are
    exact. Where no circles come close, or a set is empty, the circles are equal and marked "not to scale".

    Parameters
    ----------
    sets
        What :func:`semiclip.tl.relationship_sets` returns at one pair of thresholds, with a boolean column per set, or
        a mapping of names to sets.
    ax
        Where to draw; by default a new figure.
    labels
        Names to write instead of the names in ``sets``, in the same order.
    palette
        Colours of the sets, in their order or by their name in ``sets``.

    Returns
    -------
    The axes. Each circle is labelled with its name and size, each region with its count. The parts of an UpSet plot are
    in its ``child_axes``: bars of the combinations, sizes of the sets, dots.

    Raises
    ------
    ValueError
        If there are not two to six sets, all are empty, a column is not boolean, or labels or colours are too few.

    Examples
    --------
    >>> import semiclip as scl
    >>> ax = scl.pl.venn({"unimodal": {1, 2, 3}, "distilled": {2, 3, 4, 5}})
    >>> [text.get_text() for text in ax.texts if text.get_text().isdigit()]
    ['1', '2', '2']
    """
    members = _read_members(sets)
    if len(members) < 2:
        raise TooFew("sets", len(members), 2)
    if len(members) > MAX_SETS:
        raise TooMany("sets", len(members), MAX_SETS, f"choose among {some(members)}")
    names = list(members) if labels is None else list(labels)
    if len(names) != len(members):
        raise WrongShape("labels", (len(names),), f"one label per set, ({len(members)},)")
    if not any(members.values()):
        raise Empty(f"members of the sets {some(members)} to draw")
    colours = list(style.pick_colours(list(members), palette).values())
    draw, size = (_draw_circles, (4.8, 4.4)) if len(members) <= 3 else (_draw_upset, (6.4, 4.0))
    ax = style.take_axes(ax, size=size)[0]
    draw(list(members.values()), names, colours, ax)
    return ax


def _read_members(sets: pd.DataFrame | Mapping[str, Iterable[Hashable]]) -> dict[str, set[Hashable]]:
    if not isinstance(sets, pd.DataFrame):
        return {name: set(items) for name, items in sets.items()}
    from semiclip.tl._sets import NOT_SETS, check_single_level

    check_single_level(sets, "sets")
    columns = sets.drop(columns=NOT_SETS, errors="ignore")
    if wrong := [name for name in columns if not pd.api.types.is_bool_dtype(columns[name].convert_dtypes())]:
        raise Refused("columns are not true or false", wrong, "draw what scl.tl.relationship_sets returns")
    return {str(name): set(np.flatnonzero(columns[name].to_numpy(bool))) for name in columns}


def _draw_circles(members: Sequence[set[Hashable]], names: Sequence[str], colours: Sequence[str], ax: Axes) -> None:
    import matplotlib_venn
    from matplotlib_venn._region import VennRegionException
    from matplotlib_venn.layout import venn2, venn3

    titles = [f"{name}\n{len(items):,}" for name, items in zip(names, members, strict=True)]
    draw, layout = {2: (matplotlib_venn.venn2, venn2), 3: (matplotlib_venn.venn3, venn3)}[len(members)]
    options = {"set_colors": colours, "alpha": 0.5, "ax": ax, "subset_label_formatter": "{:,}".format}
    diagram = None
    # the labels of nested circles would lie on top of each other
    if not any(one <= other for one, other in permutations(members, 2)):
        with warnings.catch_warnings(), suppress(UserWarning, VennRegionException):  # no circles have these areas
            warnings.simplefilter("error", UserWarning)
            diagram = draw(members, titles, **options)
    if diagram is None:  # equal circles with every region, and no pretence of scale
        sizes = (1,) * (2 ** len(members) - 1)
        equal = layout.DefaultLayoutAlgorithm(fixed_subset_sizes=sizes)
        diagram = draw(members, titles, layout_algorithm=equal, **options)
        side = "top" if len(members) == 2 else "bottom"  # where no title stands
        ax.annotate("not to scale", (0, side == "top"), xycoords="axes fraction", va=side, color="0.35", size="small")
    for title in diagram.set_labels:
        title.set_multialignment("center")


def _draw_upset(members: Sequence[set[Hashable]], names: Sequence[str], colours: Sequence[str], ax: Axes) -> None:
    """Divide the place of the axes into bars of the combinations, bars of the sets, and the dots between them."""
    ax.set_axis_off()
    wide, high = style.measure_inches(ax)
    texts = [ax.text(0, 0, name, **SMALL) for name in names]
    longest = max(text.get_window_extent().width for text in texts) / ax.figure.dpi + 0.12  # with a margin
    for text in texts:
        text.remove()
    named = min(0.4, longest / wide + 0.02)
    left = min(0.22, 0.9 / wide)
    low = min(0.6, max(0.25 * len(names) / high, 0.3))
    start = left + named
    bars = ax.inset_axes((start, low + 0.02, 1 - start, 0.98 - low), label="bars")
    sizes = ax.inset_axes((0.0, 0.0, left, low), label="sizes")
    dots = ax.inset_axes((start, 0.0, 1 - start, low), label="dots")

    # what is in just these sets and no other, the largest combination first
    counter = Counter(tuple(item in items for items in members) for item in set(chain.from_iterable(members)))
    regions = sorted(counter.items(), key=lambda item: (-item[1], sum(item[0]), [not inside for inside in item[0]]))
    room = max(1, int(wide * (1 - start) / NARROW))
    shown, hidden = regions[:room], regions[room:]
    if hidden:
        note = f"not shown: {len(hidden)} smaller combinations, {sum(count for _, count in hidden):,} in all"
        letters = max(1, int(start * wide / 0.065))
        ax.text(0, 1, fill(note, letters), transform=ax.transAxes, va="top", color="0.35", **SMALL)

    column, row = wide * (1 - start) / len(shown), low * high / len(names)  # inches
    counts = [count for _, count in shown]
    bars.bar(range(len(shown)), counts, 0.7, color="0.3")
    fits = len(f"{max(counts):,}") * 0.075 < column
    look: dict[str, Any] = {"ha": "center", "va": "bottom", "rotation": 0 if fits else 90, **POINTS, **SMALL}
    for at, count in enumerate(counts):
        bars.annotate(f"{count:,}", (at, count), (0, 2), **look)
    bars.set(**BARE, ylim=(0, max(counts) * (1.12 if fits else 1.25)))
    bars.spines[["left", "right", "top"]].set_visible(False)

    # a column of dots for each combination; the dots of its sets are dark and joined
    held, rows = np.array([inside for inside, _ in shown]), np.arange(len(names))
    look = {"s": min(60, 40 * (column / 0.2) ** 2, 40 * (row / 0.2) ** 2), "linewidths": 0}
    for i in rows[::2]:
        dots.axhspan(i - 0.5, i + 0.5, color="0.95", zorder=0, linewidth=0)
    x, y = np.meshgrid(np.arange(len(held)), rows, indexing="ij")
    dots.scatter(x[~held], y[~held], color="0.85", **look)
    for at, inside in enumerate(held):
        dots.plot([at, at], [rows[inside].min(), rows[inside].max()], color="0.2", linewidth=1.2)
    dots.scatter(x[held], y[held], color="0.2", zorder=3, **look)
    for panel in (bars, dots):
        panel.set_xlim(-0.6, len(shown) - 0.4)

    totals = [len(items) for items in members]
    sizes.barh(range(len(totals)), totals, 0.55, color=list(colours))
    for i, total in enumerate(totals):
        sizes.annotate(f"{total:,}", (total, i), (-2, 0), ha="right", va="center", **POINTS, **SMALL)
    # the bars grow to the left, and what their numbers take of the width stays free
    share = min(0.7, 0.07 * (len(f"{max(totals):,}") + 1) / (left * wide))
    sizes.set_xlim(max(totals) / (1 - share), 0)
    for panel in (dots, sizes):
        panel.set(**BARE, ylim=(len(names) - 0.5, -0.5))
        panel.spines[:].set_visible(False)
    points = min(8.0, 8 * named * wide / longest)
    look = {"va": "center", "fontsize": points, "annotation_clip": False, **POINTS}
    for i, name in enumerate(names):
        sizes.annotate(name, (1, i), (4, 0), xycoords=sizes.get_yaxis_transform(), **look)
