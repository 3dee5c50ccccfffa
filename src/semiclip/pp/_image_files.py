"""Reads image files as (channels, height, width); nothing in a file is ever executed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semiclip._damage import DAMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

TIFF, PICTURE = (".tif", ".tiff"), (".png", ".jpg", ".jpeg")


class Source(NamedTuple):
    """An image file, or one page of it."""

    path: Path
    page: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.page is None else f"{self.path} (page {self.page})"


def shape(source: Source) -> tuple[int, int, int]:
    """Return channels, height and width from the header, which must not promise more than the file holds."""
    if source.path.suffix.lower() in TIFF:
        return _tiff(source, header_only=True)
    with _picture(source) as image:
        n_channels = 3 if _mode(image.mode) == "RGB" else 1
        return (n_channels, image.height, image.width)


def read(source: Source) -> np.ndarray:
    """Return the channels, height and width of an image."""
    return _tiff(source) if source.path.suffix.lower() in TIFF else _pixels(source)


def in_order(work: Callable[[Any], Any], jobs: Iterable[Any], *, n_threads: int, ahead: int) -> Iterator[Any]:
    """Do jobs in threads and yield their results in order; at most ``ahead`` are begun or wait to be taken."""
    begun: deque[Any] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        for job in jobs:
            begun.append(pool.submit(work, job))
            if len(begun) == ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        msg = f'images need {name}, which comes with the extra "images": pip install ".[images]" in a clone of semiclip'
        raise ImportError(msg) from error


def _tiff(source: Source, *, header_only: bool = False) -> Any:
    tifffile = _library("tifffile")
    # each file is an image of its own, also where its metadata names others as parts of one series
    with tifffile.TiffFile(source.path, _multifile=False) as file:
        stored: Any = file.series[0]
        if source.page is not None:
            _check_page(source.page, len(file.pages))
            stored = file.pages[source.page]
        colours = _colours(stored)
        sides = [len(colours) if axis == "S" else side for axis, side in zip(stored.axes, stored.shape, strict=True)]
        order, arranged = _arrangement(stored.axes, sides)
        if header_only:
            _check_extent(stored, stored.pages if source.page is None else [stored], file.filehandle.size)
            return arranged
        try:
            values = stored.asarray()
            if sides != list(stored.shape):
                values = values.take(colours, axis=stored.axes.index("S"))
            return values.transpose(order).reshape(arranged)
        except (KeyError, ValueError) as error:
            if "imagecodecs" not in str(error):
                raise
            needed = error
    try:
        return _pixels(source)  # Pillow knows the common compressions
    except DAMAGE as error:
        msg = f"{needed}; pip install imagecodecs"
        raise ValueError(msg) from error


def _colours(stored: Any) -> list[int]:
    """Return which samples of a pixel are colours or channels: all but those that the file calls transparency."""
    n_samples = stored.shape[stored.axes.index("S")] if "S" in stored.axes else 1
    extra = stored.keyframe.extrasamples  # the last ones; 1 and 2 are kinds of alpha, 0 may be anything
    alpha = {n_samples - len(extra) + i for i, kind in enumerate(extra) if kind in (1, 2)}
    return [i for i in range(n_samples) if i not in alpha] or list(range(n_samples))


def _arrangement(axes: str, sides: Sequence[int]) -> tuple[list[int], tuple[int, int, int]]:
    """Return the order of axes that puts channels first, and the shape with these as one axis."""
    if axes.count("Y") != 1 or axes.count("X") != 1:
        msg = f"its axes are {axes}; one image has one Y and one X"
        raise ValueError(msg)
    others = [i for i, axis in enumerate(axes) if axis not in "YX"]
    # channels, samples of a colour, pages, and what is not said
    if stacked := [axes[i] for i in others if sides[i] > 1 and axes[i] not in "CSIQ"]:
        msg = f"it is a stack along {', '.join(stacked)}; project it, or choose a page with a column Frame_<channel>"
        raise ValueError(msg)
    y, x = axes.index("Y"), axes.index("X")
    n_channels = int(np.prod([sides[i] for i in others], dtype=int))
    return [*others, y, x], (n_channels, sides[y], sides[x])


def _check_extent(stored: Any, pages: Any, size: int) -> None:
    """Refuse a file that ends before the pixels of a page, or of a series of pages, do."""
    missing = any(page is None for page in pages)
    ends = [
        offset + count
        for page in pages
        if page is not None
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if stored is not pages[0] and (start := stored.dataoffset) is not None:
        ends.append(start + stored.nbytes)  # the pixels of all pages in one piece, which may have a single header
    if missing or max(ends, default=0) > size:
        msg = "it is truncated"
        raise ValueError(msg)


def _check_page(page: int, n_pages: int) -> None:
    if not 0 <= page < n_pages:
        msg = f"it has pages 0 to {n_pages - 1}"
        raise ValueError(msg)


def _picture(source: Source) -> Any:
    Image = _library("PIL.Image")
    try:
        return Image.open(source.path, formats=("PNG", "JPEG", "TIFF"))
    except Image.DecompressionBombError as error:  # the one error of Pillow that is of no common kind
        raise ValueError(str(error)) from error


def _pixels(source: Source) -> np.ndarray:
    with _picture(source) as image:
        n_pages = getattr(image, "n_frames", 1)
        if source.page is not None:
            _check_page(source.page, n_pages)
        planes = []
        for page in range(n_pages) if source.page is None else [source.page]:
            image.seek(page)
            mode = _mode(image.mode)
            plane = np.asarray(image if image.mode == mode else image.convert(mode))
            planes.append(plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1))
    values = np.concatenate(planes)
    return values.astype(values.dtype.newbyteorder("="))


def _mode(mode: str) -> str:
    """Return what to read an image as, by what Pillow calls its pixels: transparency and palettes go."""
    if mode in ("L", "I", "F", "RGB") or mode.startswith("I;16"):
        return mode
    return "L" if mode in ("1", "LA", "La") else "RGB"
