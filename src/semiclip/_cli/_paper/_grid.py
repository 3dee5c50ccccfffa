"""A printed table: one content as Markdown, LaTeX and HTML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE = "–"
ARROWS = {"up": ("↑ ", r"$\uparrow$ "), "down": ("↓ ", r"$\downarrow$ "), "": ("", "")}
SPECIAL = re.compile(r"([&%$#_{}])")
TEXT = {"±": r"$\pm$", "−": "$-$", "–": "--", "∖": r"$\setminus$", "∪": r"$\cup$", "∩": r"$\cap$", "<": "$<$"}


class Cell(NamedTuple):
    """A number as it is printed, whether it is the best or second of its column, and how it changed."""

    text: str
    place: int = 0
    """1 is the best of the column, 2 the second, 0 any other."""
    arrow: str = ""

    @property
    def html(self) -> tuple[str, str, str]:
        """The arrow, the element and the text."""
        return ARROWS[self.arrow][0], {1: "strong", 2: "u"}.get(self.place, "span"), self.text

    @property
    def markdown(self) -> str:
        """The text with its marks."""
        marked = {1: f"**{self.text}**", 2: f"<u>{self.text}</u>"}.get(self.place, self.text)
        return (ARROWS[self.arrow][0] + marked).replace("|", "\\|")

    @property
    def latex(self) -> str:
        """The text with its marks."""
        text = write_latex(self.text)
        return ARROWS[self.arrow][1] + {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(self.place, text)


class Grid(NamedTuple):
    """A table of cells with a label before each row; columns may stand in groups."""

    caption: str
    groups: list[tuple[str, int]]
    """Titles over columns, and how many columns each has; "" has none."""
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    corner: str = ""

    @property
    def markdown(self) -> str:
        """The table as Markdown, whose groups are part of the titles."""
        over = [title for title, n in self.groups for _ in range(n)] or [""] * len(self.columns)
        titles = [f"{group}, {column}" if group else column for group, column in zip(over, self.columns, strict=True)]
        lines = [[self.corner, *titles], ["---", *["---:"] * len(titles)]]
        lines += [[label, *(cell.markdown for cell in cells)] for label, cells in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.caption}\n"

    @property
    def latex(self) -> str:
        """The table as LaTeX of the package booktabs."""
        lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}", r"\toprule"]
        if any(title for title, _ in self.groups):
            over = [rf"\multicolumn{{{n}}}{{c}}{{{write_latex(title)}}}" for title, n in self.groups]
            lines.append(" & ".join(["", *over]) + r" \\")
        lines.append(" & ".join(map(write_latex, [self.corner, *self.columns])) + r" \\")
        lines.append(r"\midrule")
        lines += [
            " & ".join([write_latex(label), *(cell.latex for cell in cells)]) + r" \\" for label, cells in self.rows
        ]
        lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{write_latex(self.caption)}}}", r"\end{table}"]
        return "\n".join(lines) + "\n"


def write_latex(text: str) -> str:
    """Return a text with what LaTeX takes for commands escaped."""
    text = SPECIAL.sub(r"\\\1", text.replace("\\", r"\textbackslash{}") if "\\" in text else text)
    for sign, command in TEXT.items():
        text = text.replace(sign, command)
    return text


def write_mean(mean: float, sd: float, digits: int = 2) -> str:
    """Write a mean, with its standard deviation if there are several seeds."""
    if np.isnan(mean):
        return NONE
    text = f"{mean:.{digits}f}" if np.isnan(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"
    return text.replace("-", "−")


def place(values: Sequence[float]) -> list[int]:
    """Return 1 for the highest values and 2 for the next, 0 for others and for what is missing."""
    distinct = sorted({round(value, 9) for value in values if not np.isnan(value)}, reverse=True)
    places = {value: number for number, value in enumerate(distinct[:2], start=1)} if len(distinct) > 1 else {}
    return [places.get(round(value, 9), 0) if not np.isnan(value) else 0 for value in values]
