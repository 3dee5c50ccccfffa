"""Reads image files as (channels, height, width); nothing in a file is ever executed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semiclip.errors import DamagedFile, MissingExtra
from semiclip.io._tables import refuse_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

TIFF, PICTURE = (".tif", ".tiff"), (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG", "TIFF")  # of Pillow
WAY_OUT = "mend it or drop its row"
# photometric interpretation, bits, sample format (unsigned, float) and samples that Pillow reads as they are; 0 is any
EXACT = {
    ("MINISBLACK", 8, 1, 0),
    ("RGB", 8, 1, 0),
    ("YCBCR", 8, 1, 3),
    ("MINISBLACK", 16, 1, 1),
    ("MINISBLACK", 32, 3, 1),
}
EXTRA = '".[images]" in a clone of semiclip'


class Source(NamedTuple):
    """An image file, or one page of it."""

    path: Path
    page: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.page is None else f"{self.path} (page {self.page})"


def read_shape(source: Source) -> tuple[int, int, int] | DamagedFile:
    """Return channels, height and width from the header, or the error, so that all faults can be told together."""
    try:
        with refuse_damage(source, WAY_OUT, extra=EXTRA):
            if source.path.suffix.lower() in TIFF:
                return _read_tiff(source, header_only=True)
            import PIL.Image

            with PIL.Image.open(source.path, formats=FORMATS) as image:
                _check_depth(source, image)
                return (3 if _read_mode(image.mode) == "RGB" else 1, image.height, image.width)
    except DamagedFile as error:
        return error


def read_pixels(source: Source) -> np.ndarray:
    """Return the channels, height and width of an image, finite numbers."""
    with refuse_damage(source, WAY_OUT, extra=EXTRA):
        values = _read_tiff(source) if source.path.suffix.lower() in TIFF else _read_picture(source)
    if values.dtype.kind not in "buif":
        raise DamagedFile(source, f"it holds {values.dtype}, not numbers", WAY_OUT)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DamagedFile(source, "it holds NaN or infinite values", WAY_OUT)
    return values


def map_in_order(work: Callable[[Any], Any], jobs: Iterable[Any], *, n_threads: int, ahead: int) -> Iterator[Any]:
    """Do jobs in threads and yield their results in order; at most ``ahead`` are begun or wait to be taken."""
    begun: deque[Any] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for job in jobs:
            begun.append(pool.submit(work, job))
            if len(begun) == ahead:
                yield begun.popleft().result()
        yield from (future.result() for future in begun)


def _read_tiff(source: Source, *, header_only: bool = False) -> Any:
    import tifffile

    # each file is an image of its own, also where its metadata names others as parts of one series
    with tifffile.TiffFile(source.path, _multifile=False) as file:
        stored: Any = _choose_series(source, file) if source.page is None else _choose_page(source, file)
        pages = [stored] if source.page is not None else stored.pages
        colours = _find_colours(stored)
        sides = [len(colours) if axis == "S" else side for axis, side in zip(stored.axes, stored.shape, strict=True)]
        order, shape = _arrange(source, stored.axes, sides)
        if header_only:
            _check_extent(source, stored, pages, file.filehandle.size)
            return shape
        try:
            values = stored.asarray()
        except (ImportError, KeyError, NotImplementedError, ValueError) as error:
            if not isinstance(error, ImportError | NotImplementedError) and "imagecodecs" not in str(error):
                raise
            return _read_without_codecs(source, stored, pages, shape, error)
        if sides != list(stored.shape):
            values = values.take(colours, axis=stored.axes.index("S"))
        return values.transpose(order).reshape(shape)


def _choose_series(source: Source, file: Any) -> Any:
    """Return the largest image of a file, which may hold thumbnails, labels and lower resolutions beside it."""
    areas = [
        int(np.prod([side for axis, side in zip(one.axes, one.shape, strict=True) if axis in "YX"]))
        for one in file.series
    ]
    largest = [one for one, area in zip(file.series, areas, strict=True) if area == max(areas)]
    if len(largest) > 1:
        reason = f"it holds {len(largest)} images of one size: choose a page in a column Frame_<channel>"
        raise DamagedFile(source, reason)
    return largest[0]


def _choose_page(source: Source, file: Any) -> Any:
    _check_page(source, len(file.pages))
    return file.pages[source.page]


def _read_without_codecs(
    source: Source, stored: Any, pages: Any, shape: tuple[int, ...], error: Exception
) -> np.ndarray:
    """Return pixels as Pillow reads them, where these are the ones that the file holds."""
    page = stored.keyframe
    kind = (page.photometric.name, page.bitspersample, page.sampleformat, page.samplesperpixel)
    is_plain = page.planarconfig == 1 and tuple(page.extrasamples) in ((), (2,)) and page.fillorder == 1
    in_chain = all(one is not None and len(one.treeindex) == 1 for one in pages)
    if is_plain and in_chain and (kind in EXACT or (*kind[:3], 0) in EXACT):
        try:
            values = _read_picture(source, [one.index for one in pages])
        except Exception:  # noqa: BLE001 - Pillow lacks the compression too
            values = np.empty(0)
        if values.shape == shape and values.dtype == stored.dtype.newbyteorder("="):
            return values
    what = f"{page.compression.name}, {kind[0]}, {kind[1]} bits"
    raise MissingExtra("imagecodecs", f"reading {source} ({what})", EXTRA) from error


def _find_colours(stored: Any) -> list[int]:
    """Return which samples of a pixel are colours or channels: all but those that the file calls transparency."""
    n_samples = stored.shape[stored.axes.index("S")] if "S" in stored.axes else 1
    extra = stored.keyframe.extrasamples  # the last ones; 1 and 2 are kinds of alpha, 0 may be anything
    alpha = {n_samples - len(extra) + i for i, kind in enumerate(extra) if kind in (1, 2)}
    return [i for i in range(n_samples) if i not in alpha] or list(range(n_samples))


def _arrange(source: Source, axes: str, sides: Sequence[int]) -> tuple[list[int], tuple[int, int, int]]:
    """Return the order of axes that puts channels first, and the shape with the channels as one axis."""
    if axes.count("Y") != 1 or axes.count("X") != 1 or 0 in sides:
        raise DamagedFile(source, f"its axes {axes} have lengths {sides}, but one image has one Y and one X", WAY_OUT)
    others = [i for i, axis in enumerate(axes) if axis not in "YX"]
    # C, S, I and Q are channels, samples of a colour, pages, and what the file does not say
    if stacked := [axes[i] for i in others if sides[i] > 1 and axes[i] not in "CSIQ"]:
        reason = f"it is a stack along {', '.join(stacked)}: project it, or choose a page in a column Frame_<channel>"
        raise DamagedFile(source, reason)
    y, x = axes.index("Y"), axes.index("X")
    n_channels = int(np.prod([sides[i] for i in others], dtype=int))
    return [*others, y, x], (n_channels, sides[y], sides[x])


def _check_extent(source: Source, stored: Any, pages: Any, size: int) -> None:
    """Refuse a file that ends before the pixels of a page, or of a series of pages, do."""
    ends = [0]
    for page in pages:
        if page is not None:
            ends += map(sum, zip(page.dataoffsets, page.databytecounts, strict=False))
    if stored is not pages[0] and stored.dataoffset is not None:
        ends.append(stored.dataoffset + stored.nbytes)  # all pages in one piece, which may have a single header
    if any(page is None for page in pages) or max(ends) > size:
        raise DamagedFile(source, "it is truncated", WAY_OUT)


def _check_depth(source: Source, image: Any) -> None:
    """Refuse colours of 16 bits, of which Pillow would keep 8."""
    if image.mode in ("LA", "RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile):
        raise DamagedFile(source, "its colours have 16 bits, of which 8 would be lost", "save it as TIFF")


def _check_page(source: Source, n_pages: int) -> None:
    if source.page is not None and not 0 <= source.page < n_pages:
        raise DamagedFile(source, f"it has pages 0 to {n_pages - 1}", WAY_OUT)


def _read_picture(source: Source, chosen: Sequence[int] | None = None) -> np.ndarray:
    import PIL.Image

    with PIL.Image.open(source.path, formats=FORMATS) as image:
        n_pages = getattr(image, "n_frames", 1)
        _check_page(source, n_pages)
        planes = []
        for page in chosen or (range(n_pages) if source.page is None else [source.page]):
            image.seek(page)
            plane = np.asarray(image.convert(_read_mode(image.mode)))
            planes.append(plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1))
    values = np.concatenate(planes)
    return values.astype(values.dtype.newbyteorder("="))


def _read_mode(mode: str) -> str:
    """Return the mode in which an image is read, without transparency and palette."""
    if mode in ("L", "I", "F", "RGB") or mode.startswith("I;16"):
        return mode
    return "L" if mode in ("1", "LA", "La") else "RGB"
