"""Every picture, with few and many, short and long names, can be read: see ``pictures.py`` for what is drawn.

With ``SEMICLIP_PICTURES`` set to a folder, the pictures that are tested are also written there.
"""

import itertools
import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import Collection
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, StepPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from semiclip import pl
from semiclip.pl import _names

spec = spec_from_file_location("pictures", Path(__file__).with_name("pictures.py"))
pictures = module_from_spec(spec)
spec.loader.exec_module(pictures)

LEAST = 6  # points


def is_shown(artist):
    """Tell whether an artist is drawn: it and all that it lies in are visible, and no tick lies beyond the limits."""
    axes = artist.axes
    return artist.get_visible() and (axes is None or axes.get_visible())


def find_texts(figure):
    """Return all texts that are drawn."""
    texts = list(figure.texts) + ([figure._suptitle] if figure._suptitle else [])
    legends = list(figure.legends)
    for ax in find_axes(figure):
        texts += ax.texts + [ax.title]
        legends += [ax.get_legend()] if ax.get_legend() else []
        if ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                texts.append(axis.label)
                texts += [
                    label
                    for tick in axis.get_major_ticks()
                    if low - 1e-9 <= tick.get_loc() <= high + 1e-9
                    for label in (tick.label1, tick.label2)
                ]
    texts += [text for legend in legends for text in legend.get_texts()]
    return [text for text in dict.fromkeys(texts) if text.get_text().strip() and is_shown(text)]


def find_axes(figure):
    """Return all axes, and those within them."""
    return [part for ax in figure.axes for part in (ax, *ax.child_axes)]


def find_points(ax, figure):
    """Return places in pixels (n, 2) of what axes show, as close along lines as four pixels."""
    clouds = []
    for artist in [*ax.lines, *ax.patches, *ax.collections]:
        if not is_shown(artist) or artist in ax.spines.values():
            continue
        if isinstance(artist, Line2D):
            if artist.get_transform() != ax.transData:  # a line from edge to edge says no more there
                continue
            points = [artist.get_transform().transform(artist.get_xydata())]
        elif isinstance(artist, Collection):
            offsets = artist.get_offset_transform().transform(artist.get_offsets())
            paths = [path for path in artist.get_paths() if len(path.vertices)]
            if len(artist.get_offsets()) and np.any(artist.get_offsets()):
                points = [offsets[[i]] for i in range(len(offsets))]
            else:
                points = [artist.get_transform().transform(path.vertices) for path in paths]
        elif isinstance(artist, Patch) and artist.get_data_transform() == ax.transData:
            if isinstance(artist, StepPatch) or np.allclose(artist.get_window_extent().size, 0):
                points = [artist.get_data_transform().transform(artist.get_path().vertices)]
            else:
                box = artist.get_window_extent()
                x, y = np.meshgrid(np.linspace(box.x0, box.x1, 20), np.linspace(box.y0, box.y1, 20))
                points = [np.stack([x.ravel(), y.ravel()], axis=1)]
        else:
            continue
        for part in points:
            part = part[np.isfinite(part).all(axis=1)]
            for one, other in itertools.pairwise(part):
                n = int(min(200, np.hypot(*(other - one)) / 4)) + 1
                clouds.append(np.linspace(one, other, n, endpoint=False))
            clouds.append(part[-1:])
    frame = ax.get_window_extent()
    points = np.concatenate([*clouds, np.empty((0, 2))])
    return points[np.all((points >= frame.min - 1) & (points <= frame.max + 1), axis=1)]


def assert_inside(figure, artists):
    for artist in artists:
        box = artist.get_window_extent()
        what = artist.get_text() if isinstance(artist, Text) else artist
        assert box.x0 >= -1, f"cut at the left: {what}"
        assert box.y0 >= -1, f"cut at the bottom: {what}"
        assert box.x1 <= figure.bbox.width + 1, f"cut at the right: {what}"
        assert box.y1 <= figure.bbox.height + 1, f"cut at the top: {what}"


def assert_apart(texts):
    """No two texts cover each other; slanted ones are upright in a frame that is turned with them."""
    for angle in {text.get_rotation() % 180 for text in texts}:
        turn = np.radians(angle if angle % 90 else 0)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        boxes = []
        for text in texts:
            turned = text.get_rotation() % 180
            if turned == angle or not (angle % 90 or turned % 90):
                if turn:  # the size that the text has before it is turned
                    corner = text.get_transform().transform(text.get_position()) @ matrix.T
                    text.set_rotation(0)
                    width, height = text.get_window_extent().size
                    text.set_rotation(np.degrees(turn))
                    box = Bbox.from_bounds(corner[0] - width, corner[1] - height / 2, width, height)
                else:
                    box = text.get_window_extent()
                boxes.append((text.get_text(), box.padded(-1)))
        boxes.sort(key=lambda item: item[1].y0)
        for i, (one, box) in enumerate(boxes):
            for other, second in boxes[i + 1 :]:
                if second.y0 > box.y1:
                    break
                assert not (box.x0 < second.x1 and second.x0 < box.x1), f"{one!r} and {other!r} cover each other"


def identifies(text, name):
    """Tell whether a text is a name, or what is left of it when its middle was cut."""
    plain = re.sub(r"[\s_]+", "", text)
    parts = plain.split(_names.ELLIPSIS)
    pattern = ".*".join(map(re.escape, parts))
    return re.search(pattern, re.sub(r"[\s_]+", "", name)) is not None if any(parts) else False


def assert_named(texts, names):
    """Each name stands somewhere, in a text that no other name could be."""
    written = {text.get_text() for text in texts}
    missing = []
    for name in names:
        plain = re.sub(r"[\s_]+", "", name)
        whole = [text for text in written if plain in re.sub(r"[\s_]+", "", text)]
        cut = [
            text
            for text in written
            if _names.ELLIPSIS in text and [other for other in names if identifies(text, other)] == [name]
        ]
        if not whole and not cut:
            missing.append(name)
    assert not missing


def assert_legible(figure):
    figure.draw_without_rendering()
    texts = find_texts(figure)
    small = {text.get_text(): text.get_fontsize() for text in texts if text.get_fontsize() < LEAST}
    assert not small
    legends = [legend for legend in figure.findobj(Legend) if is_shown(legend)]
    assert_inside(figure, [*texts, *legends])
    assert_apart(texts)
    for legend in legends:
        box = legend.get_window_extent().padded(-1)
        for ax in find_axes(figure):
            points = find_points(ax, figure)
            covered = np.all((points > box.min) & (points < box.max), axis=1)
            assert not covered.any(), f"the legend covers {covered.sum()} places"
    return texts


def test_every_picture_is_in_the_table():
    assert sorted(pictures.PICTURES) == sorted(pl.__all__)


def list_cases():
    """List pictures, numbers and lengths of names; the fewest and shortest, and the most and longest, are quick."""
    for name, n, length in itertools.product(pl.__all__, pictures.NUMBERS, pictures.LENGTHS):
        quick = (n, length) in ((1, "short"), (30, "long"))
        yield pytest.param(name, n, length, marks=[pytest.mark.slow] * (not quick))


@pytest.mark.parametrize(("name", "n", "length"), list(list_cases()))
def test_can_be_read(name, n, length, refuses):
    names = pictures.make_names(n, length)
    if error := pictures.LIMITS.get((name, n)):
        with refuses(error):
            pictures.PICTURES[name](names)
        return
    drawn = pictures.PICTURES[name](names)
    figure = np.ravel(np.array(drawn, dtype=object))[0].get_figure(root=True)
    if folder := os.environ.get("SEMICLIP_PICTURES"):
        figure.savefig(Path(folder) / f"{name}_{n}_{length}.png", dpi=80)
    texts = assert_legible(figure)
    if name not in pictures.UNWRITTEN:
        assert_named(texts, names)
    plt.close(figure)
