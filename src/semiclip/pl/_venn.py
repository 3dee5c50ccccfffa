"""How sets overlap: circles of two or three, an UpSet plot of more."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import suppress
from itertools import chain, combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip.errors import Empty, Refused, TooFew, WrongShape, some
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names, measure_text

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

SMALL: dict[str, Any] = {"fontsize": 8}
POINTS: dict[str, Any] = {"textcoords": "offset points"}
SPECK = 0.06  # inches, less than which no region is seen
WIDE = 2.0  # inches of a name in one line
NARROW = 0.13  # inches that a column takes at least
BARE: dict[str, Any] = {"xticks": [], "yticks": []}


def venn(
    sets: pd.DataFrame | Mapping[str, Iterable[Hashable]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    palette: style.Palette = None,
) -> Axes:
    """Draw how sets overlap: two or three as circles in proportion to the counts, more as an UpSet plot.

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
        If there are fewer than two sets, all are empty, a column is not boolean, or labels or colours are too few.

    Examples
    --------
    >>> import semiclip as scl
    >>> ax = scl.pl.venn({"unimodal": {1, 2, 3}, "distilled": {2, 3, 4, 5}})
    >>> [text.get_text() for text in ax.texts if text.get_text().isdigit()]
    ['1', '2', '2']
    """
    members = _read_members(sets)
    if len(members) < 2:
        raise TooFew("sets", len(members), 2, "pass another set, or draw its pairs with scl.pl.relationship_network")
    names = list(members) if labels is None else list(labels)
    if len(names) != len(members):
        raise WrongShape("labels", (len(names),), f"one label per set, ({len(members)},)")
    if not any(members.values()):
        raise Empty(f"members of the sets {some(members)} to draw")
    colours = list(style.pick_colours(list(members), palette).values())
    few, longest = len(members) <= 3, max(measure_text(name, style.SMALL) for name in names)
    row = 0.25 if longest <= WIDE else 0.32  # inches, of one line or of two
    size = (4.8, 4.4) if few else (5.4 + min(longest, WIDE), max(4.0, 2.2 + row * len(names)))
    draw = _draw_circles if few else _draw_upset
    ax = style.take_axes(ax, size=size)[0]
    draw(list(members.values()), names, colours, ax)
    return ax


def _read_members(sets: pd.DataFrame | Mapping[str, Iterable[Hashable]]) -> dict[str, set[Hashable]]:
    if not isinstance(sets, pd.DataFrame):
        return {str(name): set(items) for name, items in sets.items()}
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

    room = 0.45 * style.measure_inches(ax)[0]
    written = fit_names(names, room, 10 if max(measure_text(name, 10) for name in names) <= room else 8, 4)
    titles = [f"{name}\n{len(items):,}" for name, items in zip(written, members, strict=True)]
    draw, layout = {2: (matplotlib_venn.venn2, venn2), 3: (matplotlib_venn.venn3, venn3)}[len(members)]
    options = {"set_colors": colours, "alpha": 0.5, "ax": ax, "subset_label_formatter": "{:,}".format}
    diagram = None
    # the labels of nested circles would lie on top of each other
    if not any(one <= other for one, other in permutations(members, 2)):
        with warnings.catch_warnings(), suppress(UserWarning, VennRegionException):  # no circles have these areas
            warnings.simplefilter("error", UserWarning)
            diagram = draw(members, titles, **options)
    if diagram is not None and not _shows_all(diagram, members, ax):
        for part in filter(None, (*diagram.patches, *diagram.subset_labels, *diagram.set_labels)):
            part.remove()
        diagram = None
    if diagram is None:  # equal circles with every region, and no pretence of scale
        sizes = (1,) * (2 ** len(members) - 1)
        equal = layout.DefaultLayoutAlgorithm(fixed_subset_sizes=sizes)
        diagram = draw(members, titles, layout_algorithm=equal, **options)
        side = "top" if len(members) == 2 else "bottom"  # where no title stands
        ax.annotate(
            "not to scale", (0, side == "top"), xycoords="axes fraction", va=side, color=style.tone(0.35), size="small"
        )
    for title in diagram.set_labels:
        title.set_multialignment("center")
        if "\n" in title.get_text().rsplit("\n", 1)[0]:
            title.set_fontsize(8)
    _make_room(ax)


def _shows_all(diagram: Any, members: Sequence[set[Hashable]], ax: Axes) -> bool:
    """Say whether each combination that holds something has a region and a count, clear of the other counts."""
    counter = _count_combinations(members)
    for inside in counter:
        region = "".join("01"[held] for held in inside)
        label, patch = diagram.get_label_by_id(region), diagram.get_patch_by_id(region)
        if label is None or patch is None or not label.get_text():
            return False
        if min(patch.get_window_extent().size) < SPECK * ax.figure.dpi:
            return False
    texts = [text for text in (*diagram.subset_labels, *diagram.set_labels) if text is not None and text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    return not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def _make_room(ax: Axes) -> None:
    """Widen the limits until all texts lie inside the axes, whose scale changes by this."""
    for text in ax.texts:
        text.set_in_layout(False)
    for _ in range(4):
        style.measure_inches(ax)
        ax.apply_aspect()
        corners = [ax.transData.inverted().transform(text.get_window_extent().padded(6)) for text in ax.texts]
        points = np.concatenate([*corners, *(np.transpose([ax.get_xlim(), ax.get_ylim()]),)])
        ax.set(xlim=(points[:, 0].min(), points[:, 0].max()), ylim=(points[:, 1].min(), points[:, 1].max()))


def _count_combinations(members: Sequence[set[Hashable]]) -> Counter[tuple[bool, ...]]:
    """Count what is in just these sets and no other."""
    return Counter(tuple(item in items for items in members) for item in set(chain.from_iterable(members)))


def _draw_upset(members: Sequence[set[Hashable]], names: Sequence[str], colours: Sequence[str], ax: Axes) -> None:
    """Divide the place of the axes into bars of the combinations, bars of the sets, and the dots between them."""
    ax.set_axis_off()
    wide, high = style.measure_inches(ax)
    longest = max(measure_text(name, style.SMALL) for name in names)
    named = min(0.4, min(longest, WIDE) / wide + 0.03)
    left = min(0.22, 0.9 / wide)
    low = min(0.8, max((0.32 if longest > WIDE else 0.25) * len(names) / high, 0.3), max(0.6, 1 - 1.4 / high))
    start = left + named
    bars = ax.inset_axes((start, low + 0.02, 1 - start, 0.98 - low), label="bars")
    sizes = ax.inset_axes((0.0, 0.0, left, low), label="sizes")
    dots = ax.inset_axes((start, 0.0, 1 - start, low), label="dots")

    # the largest combination first
    counter = _count_combinations(members)
    regions = sorted(counter.items(), key=lambda item: (-item[1], sum(item[0]), [not inside for inside in item[0]]))
    room = max(1, int(wide * (1 - start) / NARROW))
    shown, hidden = regions[:room], regions[room:]
    if hidden:
        note = f"not shown: {len(hidden)} smaller combinations, {sum(count for _, count in hidden):,} in all"
        (text,) = fit_names([note], start * wide - 0.15, style.SMALL, 6)
        ax.text(0, 1, text, transform=ax.transAxes, va="top", color=style.tone(0.35), **SMALL)

    column, row = wide * (1 - start) / len(shown), low * high / len(names)  # inches
    counts = [count for _, count in shown]
    bars.bar(range(len(shown)), counts, 0.7, color=style.tone(0.3))
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
        dots.axhspan(i - 0.5, i + 0.5, color=style.tone(0.95), zorder=0, linewidth=0)
    x, y = np.meshgrid(np.arange(len(held)), rows, indexing="ij")
    dots.scatter(x[~held], y[~held], color=style.tone(0.85), **look)
    for at, inside in enumerate(held):
        dots.plot([at, at], [rows[inside].min(), rows[inside].max()], color=style.tone(0.2), linewidth=1.2)
    dots.scatter(x[held], y[held], color=style.tone(0.2), zorder=3, **look)
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
    points = float(np.clip(72 * row / style.LINE, style.LEAST, style.SMALL))
    lines = max(1, int(72 * row / (style.LINE * points)))
    look = {"va": "center", "fontsize": points, "annotation_clip": False, **POINTS}
    names = fit_names(names, named * wide - 0.1, points, lines)
    for i, name in enumerate(names):
        sizes.annotate(name, (1, i), (4, 0), xycoords=sizes.get_yaxis_transform(), **look)
