from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semiclip.errors._base import SemiclipError, several, shown, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(eq=False)
class MissingColumn(SemiclipError, KeyError):
    """A table has no column of this name."""

    key: Any
    """The name, or several."""
    there: Iterable[Any]
    """The columns that there are."""
    where: str = "obs"
    name: str = ""
    """The argument that named the column."""
    way_out: str = ""

    def __post_init__(self) -> None:
        self.there = list(self.there)

    def _sentence(self) -> str:
        asked = f"{self.name}={self.key!r}" if self.name else some(self.key) if several(self.key) else repr(self.key)
        verb = "are not columns" if several(self.key) and len(self.key) > 1 else "is not a column"
        return f"{asked} {verb} of {self.where}, which has {some(self.there, 10) or 'none'}"


@dataclass(eq=False)
class MissingEntry(SemiclipError, KeyError):
    """A container, such as ``obsm``, ``layers`` or a registry, has no entry of this name."""

    key: Any
    there: Iterable[Any]
    where: str = "obsm"
    name: str = ""
    way_out: str = ""

    def __post_init__(self) -> None:
        self.there = list(self.there)

    def _sentence(self) -> str:
        asked = f"{self.name}={self.key!r}" if self.name else some(self.key) if several(self.key) else repr(self.key)
        return f"{asked} is not in {self.where}, which has {some(self.there, 10) or 'nothing'}"


@dataclass(eq=False)
class MissingValues(SemiclipError, ValueError):
    """Rows lack a value, such as a label."""

    where: str
    rows: Sequence[Any]
    way_out: str = "fill or drop them"

    def _sentence(self) -> str:
        return f"{self.where} has no value in {len(self.rows)} row(s): {some(self.rows)}"


@dataclass(eq=False)
class NotFinite(SemiclipError, ValueError):
    """Rows hold NaN or infinity."""

    where: str
    rows: Sequence[Any]
    way_out: str = "drop or mend these rows first"

    def _sentence(self) -> str:
        return f"{self.where} holds NaN or infinite values in {len(self.rows)} row(s): {some(self.rows)}"


@dataclass(eq=False)
class NotCounts(SemiclipError, ValueError):
    """Expression is not what a model of raw counts can read."""

    rows: Sequence[Any]
    reason: str = "negative, fractional or not finite"
    way_out: str = "name the layer that holds the counts"

    def _sentence(self) -> str:
        where = f" in {len(self.rows)} row(s): {some(self.rows)}" if len(self.rows) else ""
        return f"raw counts are needed, but expression is {self.reason}{where}"


@dataclass(eq=False)
class WrongDtype(SemiclipError, TypeError):
    """Values are of a type that cannot be computed with."""

    where: str
    dtype: Any
    needed: str = "real numbers"
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.where} holds {self.dtype} values, not {self.needed}"


@dataclass(eq=False)
class NotInMemory(SemiclipError, TypeError):
    """Values lie in a file or are not computed yet."""

    where: str
    way_out: str = "load it with adata = adata.to_memory()"

    def _sentence(self) -> str:
        return f"{self.where} is not in memory"


@dataclass(eq=False)
class WrongShape(SemiclipError, ValueError):
    """An array does not have the shape that it needs."""

    where: str
    shape: Any
    needed: str
    """Which shape that is and of what, such as ``"one label per row, (10,)"``."""
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.where} has shape {self.shape}; needed is {self.needed}"


@dataclass(eq=False)
class Mismatch(SemiclipError, ValueError):
    """What was given is not what a fitted object, or the other side, has."""

    what: str
    got: Any
    expected: Any
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.what} is {shown(self.got)}, but {shown(self.expected)} is expected"
