import subprocess
import sys

import pytest

from semiclip.pl._style import OKABE_ITO, colours, inches, legend_on_top, name_groups, new_axes, percent


def test_importing_pl_leaves_matplotlib_alone():
    code = "import sys, semiclip.pl; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_colours_by_order_and_by_name():
    assert colours(["a", "b"]) == {"a": OKABE_ITO[0], "b": OKABE_ITO[1]}
    assert colours(["a", "b"], ["red", "blue", "green"]) == {"a": "red", "b": "blue"}
    assert colours(["b"], {"a": "red", "b": "blue"}) == {"b": "blue"}
    assert len(set(OKABE_ITO)) == 7


def test_colours_refuse():
    with pytest.raises(KeyError, match="palette has no colour for b; add them"):
        colours(["a", "b"], {"a": "red"})
    with pytest.raises(ValueError, match=r"2 names \(a, b\) but 1 colours; pass more as palette="):
        colours(["a", "b"], ["red"])
    with pytest.raises(ValueError, match="8 names"):
        colours(list("abcdefgh"))


def test_inches():
    ax = new_axes(size=(4, 2))[0]
    ax.set_position([0, 0, 0.5, 0.5])
    assert inches(ax) == pytest.approx((2, 1))


def test_inches_are_those_of_the_picture_to_come():
    ax = new_axes(size=(4, 3))[0]
    wide, high = inches(ax)
    ax.set_ylabel("label")
    ax.set_xlabel("three\nlines\nlong")
    before = inches(ax)
    ax.figure.canvas.draw()
    assert before == pytest.approx(inches(ax))
    assert before[0] < wide - 0.1
    assert before[1] < high - 0.4


@pytest.mark.parametrize(
    ("names", "size", "written", "rotation"),
    [
        (["a", "b c"], 4, ["a", "b c"], 0),
        (["base", "one word after another"], 3, ["base", "one word\nafter another"], 0),
        (["base", "incomprehensibilities"], 3, ["base", "incomprehensibilities"], 30),
    ],
)
def test_names_are_broken_between_words_or_slanted(names, size, written, rotation):
    ax = new_axes(size=(size, 2))[0]
    name_groups(ax, names)
    assert [label.get_text() for label in ax.get_xticklabels()] == written
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {rotation}


def test_a_legend_keeps_room_below_it():
    ax = new_axes(size=(4, 3))[0]
    lines = ax.plot([0, 1], label="line")
    ax.margins(y=0)
    legend_on_top(ax, lines, below=0.5)
    ax.figure.canvas.draw()
    gap = ax.get_legend().get_window_extent().y0 - ax.transData.transform((0, 1))[1]
    assert 0.5 <= gap / ax.figure.dpi < 0.7


def test_groups_stand_where_told_and_shares_are_percentages():
    ax = new_axes(size=(4, 2))[0]
    name_groups(ax, ["a", "b"], at=[0, 1.5])
    assert list(ax.get_xticks()) == [0, 1.5]
    percent(ax.yaxis)
    ax.set_yticks([0.125, 1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["12.5%", "100%"]
