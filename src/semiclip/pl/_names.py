"""Names in pictures: how wide they are, where they break, and how they become shorter without becoming equal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

ELLIPSIS = "…"
HINTED = 1.07  # letters of whole pixels are up to so much wider
# a name breaks after a space, and after signs that join words in labels of columns and gene sets
BREAKS = re.compile(r"(?<=[\s_\-/·+,;:.|])")


@lru_cache(maxsize=10_000)
def measure_text(text: str, size: float) -> float:
    """Return the width in inches of the longest line of a text of so many points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = [
        text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n") if line
    ]
    return HINTED * max(widths, default=0) / 72


def wrap_name(name: str, width: float, size: float) -> list[str]:
    """Break a name into lines of at most so many inches, between words or else within them."""
    lines = [""]
    for part in BREAKS.split(name):
        if measure_text((lines[-1] + part).rstrip(), size) <= width:
            lines[-1] += part
            continue
        if lines[-1]:
            lines.append("")
        for letter in part:
            if lines[-1] and measure_text(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return [line.rstrip() for line in lines]


def fit_names(names: Sequence[str], width: float, size: float, lines: int = 1) -> list[str]:
    """Break names into at most so many lines of a width in inches; what is too long loses its middle.

    Names that differ still differ: where their ends are alike, the part in which they differ is kept, or a number is
    added.
    """
    fitted = {name: _fit(name, name, width, size, lines) for name in dict.fromkeys(names)}
    for rule in (_keep_difference, _number):
        counts = Counter(fitted.values())
        if not (alike := [name for name in fitted if counts[fitted[name]] > 1]):
            break
        shortened = rule(alike, set(fitted.values()), lambda name, short: _fit(name, short, width, size, lines))
        fitted |= dict(zip(alike, shortened, strict=True))
    return [fitted[name] for name in names]


Fit = Callable[[str, str], str]


def _fit(name: str, short: str, width: float, size: float, lines: int) -> str:
    """Break a name; if it has too many lines, cut letters out of the middle of what ``short`` is."""
    if len(parts := wrap_name(name, width, size)) <= lines:
        return "\n".join(parts)
    low, high = 2, len(short)
    while low < high:  # the most letters that fit
        kept = (low + high + 1) // 2
        low, high = (kept, high) if len(wrap_name(_cut(short, kept), width, size)) <= lines else (low, kept - 1)
    return "\n".join(wrap_name(_cut(short, low), width, size))


def _cut(name: str, kept: int) -> str:
    if kept >= len(name):
        return name
    end = kept // 2
    return f"{name[: kept - end].rstrip()}{ELLIPSIS}{name[len(name) - end :].lstrip()}"


def _keep_difference(names: Sequence[str], taken: set[str], fit: Fit) -> list[str]:
    """Drop what the names have in common at both ends, but for a few letters that lead to it."""
    start = next((i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), 0)
    ends = zip(*(name[start:][::-1] for name in names), strict=False)
    end = next((i for i, letters in enumerate(ends) if len(set(letters)) > 1), 0)
    parts = [name[max(0, start - 3) : len(name) - max(0, end - 3)] for name in names]
    return [fit(name, f"{ELLIPSIS}{part}{ELLIPSIS}") for name, part in zip(names, parts, strict=True)]


def _number(names: Sequence[str], taken: set[str], fit: Fit) -> list[str]:
    """Write numbers before the names, which are what a cut keeps."""
    numbered: list[str] = []
    for i, name in enumerate(names, 1):
        text = fit(f"({i}) {name}", f"({i}) {name}")
        numbered.append(text if text not in taken and text.startswith(f"({i})") else f"({i})")
        taken.add(text)
    return numbered
