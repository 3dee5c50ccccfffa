from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import Empty, Refused, TooFew, TooMany, WrongShape, some
from semiclip.pl._style import Palette, pick_colours, take_axes
from semiclip.pl._upset import draw_upset

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

MAX_SETS = 6


def venn(
    sets: pd.DataFrame | Mapping[str, Iterable[Hashable]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    palette: Palette = None,
) -> Axes:
    """Draw how sets overlap: two or three as circles in proportion to the counts, four to six as an UpSet plot.

    An UpSet plot has a bar for each combination of sets, the largest first, with the count of what is in just these
    sets. Dots below say which sets they are, and bars to the left how large each set is.

    Parameters
    ----------
    sets
        What :func:`semiclip.tl.relationship_sets` returns, with a boolean column per set, or a mapping of names to
        sets.
    ax
        Where to draw; by default a new figure.
    labels
        Names to write instead of those of ``sets``, in the same order.
    palette
        Colours of the sets, in their order or by their name in ``sets``.

    Returns
    -------
    The axes. Each circle is labelled with its name and size, each region with its count. The parts of an UpSet plot are
    in its ``child_axes``: bars of the combinations, sizes of the sets, dots.

    Raises
    ------
    KeyError
        If a mapping as ``palette`` lacks a set.
    ValueError
        If there are not two to six sets, all are empty, a column is not boolean, there is not one label per set, or
        there are too few colours.

    Notes
    -----
    Three circles cannot show every combination of counts, so their overlaps are approximate; the written counts are
    exact. Where no circles come close, or a set is empty, the circles are equal and marked "not to scale". An UpSet
    plot leaves out empty combinations; where there are more than fit, it says how many it does not show.

    References
    ----------
    Lex et al., IEEE Transactions on Visualization and Computer Graphics 2014, DOI 10.1109/TVCG.2014.2346248.

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
    colours = list(pick_colours(list(members), palette).values())
    circles = len(members) <= 3
    ax = take_axes(ax, size=(4.8, 4.4) if circles else (6.4, 4.0))[0]
    draw = _draw_circles if circles else draw_upset
    draw(list(members.values()), names, colours, ax)
    return ax


def _read_members(sets: pd.DataFrame | Mapping[str, Iterable[Hashable]]) -> dict[str, set[Hashable]]:
    if not isinstance(sets, pd.DataFrame):
        return {name: set(items) for name, items in sets.items()}
    columns = sets.drop(columns=["gene_a", "gene_b", "databases"], errors="ignore")
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
