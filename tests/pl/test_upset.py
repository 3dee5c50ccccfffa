import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl
from semiclip.pl._style import OKABE_ITO


def random_sets(n, size=400, names=None):
    rng = np.random.default_rng(n)
    names = names or [f"set {i}" for i in range(n)]
    return {name: set(np.flatnonzero(rng.random(size) < 0.4).tolist()) for name in names}


def parts(ax):
    """Return the counts of the combinations, the combinations and the sizes of the sets, as they are drawn."""
    bars, sizes, dots = ax.child_axes
    heights = [int(bar.get_height()) for bar in bars.patches]
    full = dots.collections[-1].get_offsets()  # x, row of each full dot
    combinations = [tuple(sorted(int(row) for at, row in full if at == i)) for i in range(len(heights))]
    return heights, combinations, [int(bar.get_width()) for bar in sizes.patches]


def naive(sets):
    """Count by going through all combinations."""
    counts, everything = {}, set().union(*sets.values())
    for held in itertools.product((True, False), repeat=len(sets)):
        region = set(everything)
        for inside, items in zip(held, sets.values(), strict=True):
            region = region & items if inside else region - items
        if region:
            counts[tuple(np.flatnonzero(held).tolist())] = len(region)
    return counts


@pytest.mark.parametrize("n", [4, 5])
def test_counts_dots_and_sizes(n):
    sets = random_sets(n)
    ax = pl.venn(sets, ax=plt.subplots(figsize=(9, 5))[1])
    heights, combinations, sizes = parts(ax)
    assert dict(zip(combinations, heights, strict=True)) == naive(sets)
    assert heights == sorted(heights, reverse=True)
    assert sum(heights) == len(set().union(*sets.values()))
    assert sizes == [len(items) for items in sets.values()]
    bars, totals, dots = ax.child_axes
    assert [text.get_text() for text in bars.texts] == [f"{height:,}" for height in heights]
    assert [text.get_text() for text in totals.texts] == [*(f"{size:,}" for size in sizes), *sets]
    for bar, colour in zip(totals.patches, OKABE_ITO, strict=False):
        assert same_color(bar.get_facecolor(), colour)
    assert len(dots.collections[0].get_offsets()) + len(dots.collections[-1].get_offsets()) == n * len(heights)
    assert not len(ax.texts)


def test_equal_counts_come_in_the_order_of_the_sets():
    ax = pl.venn({"a": {1}, "b": {2}, "c": {3, 4}, "d": {4, 5}})
    assert parts(ax)[:2] == ([1] * 5, [(0,), (1,), (2,), (3,), (2, 3)])


def test_what_has_no_room_is_counted():
    sets = random_sets(6)
    ax = pl.venn(sets, ax=plt.subplots(figsize=(3.2, 2.6), layout="constrained")[1])
    heights, _, _ = parts(ax)
    counts = naive(sets)
    (note,) = ax.texts
    left = sum(counts.values()) - sum(heights)
    words = " ".join(note.get_text().split())
    assert words == f"not shown: {len(counts) - len(heights)} smaller combinations, {left} in all"
    assert left > 0
    assert min(heights) >= sorted(counts.values(), reverse=True)[len(heights)]


@pytest.mark.parametrize("size", [None, (3.2, 2.6), (9, 5)])
@pytest.mark.parametrize("n", [4, 6])
def test_nothing_is_cut(n, size, assert_legible):
    for names in (None, [f"X_representation_{i}" for i in range(n)]):
        ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
        assert_legible(pl.venn(random_sets(n, 4000, names), ax=ax))


def test_takes_the_table_on_given_axes_in_given_colours():
    table = pd.DataFrame(random_sets(4).items()).set_index(0)[1]
    sets = pd.DataFrame({name: [i in items for i in range(400)] for name, items in table.items()})
    sets = sets.assign(gene_a="A", gene_b="B", databases="CORUM")
    before = sets.copy()
    figure, axes = plt.subplots(1, 2)
    palette = {f"set {i}": colour for i, colour in enumerate(["red", "blue", "lime", "black"])}
    assert pl.venn(sets, ax=axes[1], palette=palette, labels=list("abcd")) is axes[1]
    assert not axes[0].child_axes
    assert plt.get_fignums() == [figure.number]
    _, totals, _ = axes[1].child_axes
    assert [text.get_text() for text in totals.texts[4:]] == list("abcd")
    assert all(same_color(bar.get_facecolor(), palette[f"set {i}"]) for i, bar in enumerate(totals.patches))
    pd.testing.assert_frame_equal(sets, before)
    frame = axes[1].get_position()
    for part in axes[1].child_axes:
        box = part.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x0 >= frame.x0 - 1e-6
        assert box.x1 <= frame.x1 + 1e-6


def test_an_empty_set_keeps_its_row():
    assert parts(pl.venn({"a": {1}, "b": set(), "c": {1}, "d": {2}}))[2] == [1, 0, 1, 1]
