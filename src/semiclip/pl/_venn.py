from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.pl._style import colours, new_axes
from semiclip.pl._upset import upset

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

MOST = 6


def venn(
    sets: pd.DataFrame | Mapping[str, Iterable[Hashable]],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    palette: Sequence[str] | Mapping[str, str] | None = None,
) -> Axes:
    """Draw how sets overlap: two or three as circles in proportion to the counts, four to six as an UpSet plot.

    An UpSet plot has a bar for each combination of sets, the largest first, with the count of what is in just these
    sets; dots below say which they are, and bars to the left how large each set is.

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
        If ``palette`` lacks a set.
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
    members: dict[str, set[Hashable]]
    if isinstance(sets, pd.DataFrame):
        columns = sets.drop(columns=["gene_a", "gene_b", "databases"], errors="ignore")
        if wrong := [name for name in columns if not pd.api.types.is_bool_dtype(columns[name].convert_dtypes())]:
            msg = f"column(s) {some(wrong)} are not true or false; draw what scl.tl.relationship_sets returns"
            raise ValueError(msg)
        members = {str(name): set(np.flatnonzero(columns[name].to_numpy(bool))) for name in columns}
    else:
        members = {name: set(items) for name, items in sets.items()}
    if not 2 <= len(members) <= MOST:
        msg = f"{len(members)} sets ({some(members) or 'none'}); the picture shows 2 to {MOST}, so choose among them"
        raise ValueError(msg)
    names = list(members) if labels is None else list(labels)
    if len(names) != len(members):
        msg = f"{len(names)} labels for {len(members)} sets ({some(members)}); pass one label per set"
        raise ValueError(msg)
    if not any(members.values()):
        msg = f"the sets {some(members)} are all empty, so there is nothing to draw"
        raise ValueError(msg)
    shades = list(colours(list(members), palette).values())
    circles = len(members) <= 3
    ax = new_axes(size=(4.8, 4.4) if circles else (6.4, 4.0))[0] if ax is None else ax
    if not circles:
        upset(list(members.values()), names, shades, ax)
        return ax
    titles = [f"{name}\n{len(items):,}" for name, items in zip(names, members.values(), strict=True)]
    _draw(list(members.values()), titles, shades, ax)
    return ax


def _draw(members: list[set[Hashable]], titles: list[str], shades: list[str], ax: Axes) -> None:
    import matplotlib_venn
    from matplotlib_venn._region import VennRegionException
    from matplotlib_venn.layout import venn2, venn3

    draw, layout = {2: (matplotlib_venn.venn2, venn2), 3: (matplotlib_venn.venn3, venn3)}[len(members)]
    options = {"set_colors": shades, "alpha": 0.5, "ax": ax, "subset_label_formatter": "{:,}".format}
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
