import subprocess
import sys

import pytest

from semiclip.pl._style import OKABE_ITO, colours, inches, new_axes


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
