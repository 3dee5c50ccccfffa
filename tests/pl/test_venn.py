import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import errors, pl

A, B, C = set(range(60)), set(range(25, 85)), set(range(45, 120)) | set(range(10))


def counts(ax):
    return [text.get_text() for text in ax.texts if text.get_text().replace(",", "").isdigit()]


def titles(ax):
    return [text.get_text() for text in ax.texts if "\n" in text.get_text()]


def is_marked(ax):
    return "not to scale" in [text.get_text() for text in ax.texts]


def regions(sets):
    """Count by going through all combinations, the last set slowest."""
    sizes, everything = {}, set().union(*sets)
    for combination in itertools.product((False, True), repeat=len(sets)):
        region = set(everything)
        for inside, items in zip(combination[::-1], sets, strict=True):
            region = region & items if inside else region - items
        sizes[tuple(np.flatnonzero(combination[::-1]).tolist())] = len(region)
    del sizes[()]
    return sizes


def random_sets(n, size=400, names=None):
    rng = np.random.default_rng(n)
    names = names or [f"set {i}" for i in range(n)]
    return {name: set(np.flatnonzero(rng.random(size) < 0.4).tolist()) for name in names}


def upset_parts(ax):
    """Return the counts of the combinations, the combinations and the sizes of the sets, as they are drawn."""
    bars, sizes, dots = ax.child_axes
    heights = [int(bar.get_height()) for bar in bars.patches]
    full = dots.collections[-1].get_offsets()  # x, row of each full dot
    combinations = [tuple(sorted(int(row) for at, row in full if at == i)) for i in range(len(heights))]
    return heights, combinations, [int(bar.get_width()) for bar in sizes.patches]


@pytest.mark.parametrize("sets", [{"unimodal": A, "distilled": B}, {"a": A, "b": B, "c": C}])
def test_counts_and_titles_of_circles(sets):
    ax = pl.venn(sets)
    assert counts(ax) == [str(n) for n in regions(list(sets.values())).values()]
    assert titles(ax) == [f"{name}\n{len(items)}" for name, items in sets.items()]
    assert not is_marked(ax)


def test_areas_are_in_proportion():
    ax = pl.venn({"a": set(range(400)), "b": set(range(300, 400)) | set(range(1000, 1200))})
    areas = []
    for patch in ax.patches:  # 300 in a alone, 200 in b alone, 100 in both
        x, y = patch.get_path().to_polygons()[0].T
        areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    np.testing.assert_allclose(np.array(areas) / areas[2], [3, 2, 1], rtol=0.01)


def test_takes_the_table_of_relationship_sets():
    rows = {"X_scvi": [True, True, False], "X_semiclip": [True, False, True]}
    genes = {"gene_a": ["A", "B", "C"], "gene_b": ["D", "E", "F"], "databases": "CORUM"}
    sets = pd.DataFrame(genes | rows, index=[0, 0, 0])
    for kind in (bool, object, "boolean"):
        typed = sets.astype(dict.fromkeys(rows, kind))
        before = typed.copy()
        ax = pl.venn(typed)
        assert (counts(ax), titles(ax)) == (["1", "1", "1"], ["X_scvi\n2", "X_semiclip\n2"])
        pd.testing.assert_frame_equal(typed, before)


def test_labels_and_large_counts():
    ax = pl.venn({"a": range(5000), "b": range(3000, 9000)}, labels=["First", "Second"])
    assert titles(ax) == ["First\n5,000", "Second\n6,000"]
    assert counts(ax) == ["3,000", "4,000", "2,000"]


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param([set(range(300)), set(range(10)), set(range(5, 400))], id="no circles come close"),
        pytest.param([set(range(14)), set(range(1, 90)), set(range(1, 14)) | set(range(100, 750))], id="a hole"),
        pytest.param([set(range(300)), set(), set(range(200, 320))], id="an empty set"),
        pytest.param([set(range(60)), {1, *range(25, 85)}, set(range(500)) - {55, 56}], id="a region too small to see"),
    ],
)
def test_what_circles_cannot_show_is_marked_and_still_counted(sets, assert_legible):
    ax = pl.venn(dict(zip("abc", sets, strict=True)))
    assert len(ax.patches) == 7  # nothing is left of the attempt in proportion
    assert counts(ax) == [str(n) for n in regions(sets).values()]
    assert is_marked(ax)
    assert_legible(ax)


@pytest.mark.parametrize("sets", [[A, A, A], [A, set()], [A, set(range(100, 140))], [A, set(range(10))]])
def test_equal_empty_disjoint_and_nested_sets(sets):
    ax = pl.venn(dict(zip("abc", sets, strict=False)))
    assert titles(ax) == [f"{name}\n{len(items)}" for name, items in zip("abc", sets, strict=False)]
    assert max(map(int, counts(ax))) == max(len(sets[0] - sets[1]), len(sets[0] & sets[1]))


@pytest.mark.parametrize("n", [4, 5])
def test_counts_dots_and_sizes_of_many_sets(n, shades):
    sets = random_sets(n)
    ax = pl.venn(sets, ax=plt.subplots(figsize=(9, 5))[1])
    heights, combinations, sizes = upset_parts(ax)
    expected = {combination: size for combination, size in regions(list(sets.values())).items() if size}
    assert dict(zip(combinations, heights, strict=True)) == expected
    assert heights == sorted(heights, reverse=True)
    assert sizes == [len(items) for items in sets.values()]
    bars, totals, dots = ax.child_axes
    assert [text.get_text() for text in bars.texts] == [f"{height:,}" for height in heights]
    assert [text.get_text() for text in totals.texts] == [*(f"{size:,}" for size in sizes), *sets]
    for bar, colour in zip(totals.patches, shades, strict=False):
        assert same_color(bar.get_facecolor(), colour)
    assert len(dots.collections[0].get_offsets()) + len(dots.collections[-1].get_offsets()) == n * len(heights)
    assert not len(ax.texts)


def test_equal_counts_come_in_the_order_of_the_sets_and_empty_sets_keep_their_row():
    ax = pl.venn({"a": {1}, "b": {2}, "c": {3, 4}, "d": {4, 5}})
    assert upset_parts(ax)[:2] == ([1] * 5, [(0,), (1,), (2,), (3,), (2, 3)])
    assert upset_parts(pl.venn({"a": {1}, "b": set(), "c": {1}, "d": {2}}))[2] == [1, 0, 1, 1]


def test_combinations_without_room_are_counted():
    sets = random_sets(6)
    ax = pl.venn(sets, ax=plt.subplots(figsize=(3.2, 2.6), layout="constrained")[1])
    heights, _, _ = upset_parts(ax)
    sizes = sorted(filter(None, regions(list(sets.values())).values()), reverse=True)
    n, left = len(heights), sum(sizes) - sum(heights)
    (note,) = ax.texts
    assert " ".join(note.get_text().split()) == f"not shown: {len(sizes) - n} smaller combinations, {left} in all"
    assert heights == sizes[:n]
    assert left > 0


@pytest.mark.parametrize("size", [None, (2.6, 2.4), (9, 5)])
@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_nothing_is_cut(n, size, assert_legible):
    for names in (None, [f"X_representation_{i}" for i in range(n)] if n > 3 else ["X_scvi", "X_kd", "X_image"][:n]):
        ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
        assert_legible(pl.venn(random_sets(n, 4000, names), ax=ax))


def test_draws_on_given_axes_in_given_colours():
    for palette in (["red", "blue"], {"b": "blue", "a": "red"}):
        ax = plt.subplots()[1]
        assert pl.venn({"a": A, "b": B}, palette=palette, ax=ax) is ax
        assert [same_color(patch.get_facecolor()[:3], "red") for patch in ax.patches] == [True, False, False]
    sets = pd.DataFrame({name: [i in items for i in range(400)] for name, items in random_sets(4).items()})
    sets = sets.assign(gene_a="A", gene_b="B", databases="CORUM")
    figure, axes = plt.subplots(1, 2)
    palette = {f"set {i}": colour for i, colour in enumerate(["red", "blue", "lime", "black"])}
    assert pl.venn(sets, ax=axes[1], palette=palette, labels=list("abcd")) is axes[1]
    assert not axes[0].child_axes
    _, totals, _ = axes[1].child_axes
    assert [text.get_text() for text in totals.texts[4:]] == list("abcd")
    assert all(same_color(bar.get_facecolor(), palette[f"set {i}"]) for i, bar in enumerate(totals.patches))
    frame = axes[1].get_position()
    for part in axes[1].child_axes:
        box = part.get_window_extent().transformed(figure.transFigure.inverted())
        assert frame.x0 - 1e-6 <= box.x0 < box.x1 <= frame.x1 + 1e-6


@pytest.mark.parametrize(
    ("sets", "options", "error", "data"),
    [
        ({"a": A}, {}, errors.TooFew, {"number": 1, "needed": 2}),
        (pd.DataFrame({"gene_a": ["A"], "X": [True]}), {}, errors.TooFew, {"number": 1, "needed": 2}),
        (pd.DataFrame({"a": [True, False], "c": ["x", "y"]}), {}, errors.Refused, {"items": ["c"]}),
        ({"a": A, "b": B}, {"palette": ["red"]}, errors.TooFew, {"number": 1, "needed": 2}),
        ({"a": A, "b": B}, {"palette": {"a": "red"}}, errors.MissingEntry, {"key": ["b"]}),
        ({"a": A, "b": B}, {"labels": ["one"]}, errors.WrongShape, {"where": "labels", "shape": (1,)}),
        ({"a": set(), "b": set()}, {}, errors.Empty, {}),
    ],
)
def test_refuses(sets, options, error, data, refuses):
    with refuses(error, **data):
        pl.venn(sets, **options)


def test_names_of_sets_may_be_numbers():
    texts = [text.get_text() for text in pl.venn({1: {1, 2, 3}, 2: {2, 3, 4}}).texts]
    assert {"1\n3", "2\n3"} <= set(texts)
