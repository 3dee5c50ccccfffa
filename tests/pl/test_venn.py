import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl

A, B, C = set(range(60)), set(range(25, 85)), set(range(45, 120)) | set(range(10))


def counts(ax):
    return [text.get_text() for text in ax.texts if text.get_text().replace(",", "").isdigit()]


def titles(ax):
    return [text.get_text() for text in ax.texts if "\n" in text.get_text()]


def note(ax):
    return "not to scale" in [text.get_text() for text in ax.texts]


def assert_inside(ax):
    figure = ax.figure
    figure.canvas.draw()
    for text in ax.texts:
        if text.get_text():
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height


def test_two_sets():
    ax = pl.venn({"unimodal": A, "distilled": B})
    assert counts(ax) == [str(len(A - B)), str(len(B - A)), str(len(A & B))]
    assert titles(ax) == ["unimodal\n60", "distilled\n60"]
    assert not note(ax)


def test_three_sets():
    ax = pl.venn({"a": A, "b": B, "c": C})
    regions = [A - B - C, B - A - C, A & B - C, C - A - B, A & C - B, B & C - A, A & B & C]
    assert counts(ax) == [str(len(region)) for region in regions]
    assert sum(map(int, counts(ax))) == len(A | B | C)
    assert titles(ax) == ["a\n60", "b\n60", "c\n85"]
    assert not note(ax)


def test_areas_are_in_proportion():
    ax = pl.venn({"a": set(range(400)), "b": set(range(300, 400)) | set(range(1000, 1200))})
    areas = []
    for patch in ax.patches:  # 300 in a alone, 200 in b alone, 100 in both
        x, y = patch.get_path().to_polygons()[0].T
        areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    np.testing.assert_allclose(np.array(areas) / areas[2], [3, 2, 1], rtol=0.01)


def test_takes_the_table_of_relationship_sets():
    sets = pd.DataFrame(
        {
            "gene_a": ["A", "B", "C"],
            "gene_b": ["D", "E", "F"],
            "databases": "CORUM",
            "X_scvi": [True, True, False],
            "X_semiclip": [False, True, False],
        }
    )
    before = sets.copy()
    ax = pl.venn(sets)
    assert counts(ax)[0] == "1"
    assert counts(ax)[-1] == "1"
    assert titles(ax) == ["X_scvi\n2", "X_semiclip\n1"]
    pd.testing.assert_frame_equal(sets, before)


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
    ],
)
def test_what_circles_cannot_show_is_marked_and_still_counted(sets):
    a, b, c = sets
    ax = pl.venn({"a": a, "b": b, "c": c})
    assert len(ax.patches) == 7  # nothing is left of the attempt in proportion
    regions = [a - b - c, b - a - c, a & b - c, c - a - b, a & c - b, b & c - a, a & b & c]
    assert counts(ax) == [str(len(region)) for region in regions]
    assert note(ax)
    assert_inside(ax)


@pytest.mark.parametrize("size", [None, (2.4, 2.2), (8, 8)])
@pytest.mark.parametrize("sets", [{"X_scvi": A, "X_semiclip": B}, {"X_scvi": A, "X_semiclip": B, "X_image": C}])
def test_nothing_is_cut(sets, size):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    assert_inside(pl.venn(sets, ax=ax))


@pytest.mark.parametrize("sets", [[A, A, A], [A, set()], [A, set(range(100, 140))], [A, set(range(10))]])
def test_equal_empty_disjoint_and_nested_sets(sets):
    ax = pl.venn(dict(zip("abc", sets, strict=False)))
    assert titles(ax) == [f"{name}\n{len(items)}" for name, items in zip("abc", sets, strict=False)]
    assert max(map(int, counts(ax))) == max(len(sets[0] - sets[1]), len(sets[0] & sets[1]))


def test_draws_on_given_axes():
    figure, axes = plt.subplots(1, 2)
    assert pl.venn({"a": A, "b": B}, ax=axes[1]) is axes[1]
    assert not axes[0].patches
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ({"a": A}, {}, r"1 sets \(a\); the picture shows 2 to 6, so choose among them"),
        ({}, {}, r"0 sets \(none\); the picture"),
        (dict.fromkeys("abcdefg", A), {}, r"7 sets \(a, b, c, d, e, … \(7 in all\)\); the picture"),
        (pd.DataFrame({"gene_a": ["A"], "X": [True]}), {}, r"1 sets \(X\)"),
        ({"a": A, "b": B}, {"palette": ["red"]}, "2 names .* 1 colours"),
        ({"a": A, "b": B}, {"labels": ["one"]}, r"1 labels for 2 sets \(a, b\)"),
        ({"a": set(), "b": set()}, {}, "the sets a, b are all empty"),
    ],
)
def test_refuses(sets, options, message):
    with pytest.raises(ValueError, match=message):
        pl.venn(sets, **options)
    assert plt.get_fignums() == []


def test_rows_count_whatever_their_names_and_the_kind_of_truth():
    frame = pd.DataFrame({"a": [True, True, False], "b": [True, False, True]}, index=[0, 0, 0])
    for sets in (frame, frame.astype(object), frame.astype("boolean")):
        assert [text.get_text() for text in pl.venn(sets).texts if text.get_text().isdigit()] == ["1", "1", "1"]
    with pytest.raises(ValueError, match=r"column\(s\) c are not true or false"):
        pl.venn(frame.assign(c=["x", "y", "z"]))


def test_colours():
    for palette in (["red", "blue"], {"b": "blue", "a": "red"}):
        ax = pl.venn({"a": A, "b": B}, palette=palette)
        reds = [same_color(patch.get_facecolor()[:3], "red") for patch in ax.patches]
        assert reds == [True, False, False]
    with pytest.raises(KeyError, match="palette has no colour for b"):
        pl.venn({"a": A, "b": B}, palette={"a": "red"})
