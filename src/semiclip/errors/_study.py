from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semiclip.errors._base import SemiclipError, several, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(eq=False)
class Repeated(SemiclipError, ValueError):
    """Names that must differ do not."""

    what: str
    items: Iterable[Any]
    way_out: str = ""

    def __post_init__(self) -> None:
        self.items = list(self.items)

    def _sentence(self) -> str:
        return f"{self.what} repeat: {some(self.items)}"


@dataclass(eq=False)
class NameTaken(SemiclipError, ValueError):
    """A name is already that of something else, which would be lost or confused."""

    items: Any
    holder: str
    """Whose name it is, such as ``"a column of the result"``."""
    way_out: str = "choose another name"

    def _sentence(self) -> str:
        return f"{some(self.items) if several(self.items) else repr(self.items)} is already the name of {self.holder}"


@dataclass(eq=False)
class CannotWrite(SemiclipError, ValueError):
    """A result cannot be kept where it should go."""

    target: str
    reason: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"cannot write {self.target}: {self.reason}"


@dataclass(eq=False)
class Empty(SemiclipError, ValueError):
    """There is nothing of what is needed."""

    what: str
    """What there is none of, such as ``"rows in the table"``."""
    way_out: str = ""

    def _sentence(self) -> str:
        return f"there are no {self.what}"


@dataclass(eq=False)
class TooFew(SemiclipError, ValueError):
    """There is less of something than is needed."""

    what: str
    number: Any
    needed: Any
    way_out: str = ""

    def _sentence(self) -> str:
        return f"there are {self.number} {self.what}, but at least {self.needed} are needed"


@dataclass(eq=False)
class TooMany(SemiclipError, ValueError):
    """There is more of something than can be used."""

    what: str
    number: Any
    limit: Any
    way_out: str = ""

    def _sentence(self) -> str:
        return f"there are {self.number} {self.what}, but at most {self.limit} can be used"


@dataclass(eq=False)
class NoVariation(SemiclipError, ValueError):
    """Values that should vary are all alike."""

    what: str
    items: Sequence[Any] = ()
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.what} do not vary" + (f": {some(self.items)}" if len(self.items) else "")


@dataclass(eq=False)
class TooFewControls(SemiclipError, ValueError):
    """Batches have fewer controls than a correction can be fitted on."""

    batches: Mapping[Any, int]
    """Controls of each of these batches."""
    needed: int
    total: int
    """Controls of all batches."""
    way_out: str = ""

    def _sentence(self) -> str:
        shown = some(f"{name} ({count})" for name, count in self.batches.items())
        mend = "mark their controls, drop these batches"
        mend += ', or pass fallback="pooled"' if self.total >= self.needed else f" (there are {self.total} in all)"
        return f"{len(self.batches)} batch(es) have fewer than {self.needed} controls: {shown}; {mend}"


@dataclass(eq=False)
class UnknownControl(SemiclipError, ValueError):
    """Control labels match no row, or none are named."""

    labels: Sequence[Any]
    perturbation_key: str | None
    frequent: Sequence[Any] = ()
    """The most frequent labels that there are."""
    way_out: str = "pass the right label(s) as control=, or control=None for data without controls"

    def _sentence(self) -> str:
        if self.perturbation_key is None:
            return f"control={some(self.labels)} needs perturbation_key=, the obs column that holds this label"
        if not self.labels:
            return "control names no label"
        return (
            f"control label(s) {some(self.labels)} match no row of obs[{self.perturbation_key!r}], whose most frequent "
            f"labels are {some(self.frequent)}"
        )


@dataclass(eq=False)
class NothingShared(SemiclipError, ValueError):
    """Two sides have nothing in common that could be paired or compared."""

    what: str
    one: Iterable[Any]
    other: Iterable[Any]
    sides: tuple[str, str] = ("the one", "the other")
    way_out: str = ""

    def __post_init__(self) -> None:
        self.one, self.other = list(self.one), list(self.other)

    def _sentence(self) -> str:
        one, other = (some(items) or "none" for items in (self.one, self.other))
        return f"no {self.what} is shared: {self.sides[0]} has {one}; {self.sides[1]} has {other}"


@dataclass(eq=False)
class Refused(SemiclipError, ValueError):
    """Something that cannot work, for a reason of its own."""

    problem: str
    items: Sequence[Any] = ()
    """The rows or names concerned."""
    way_out: str = ""

    def _sentence(self) -> str:
        return self.problem + (f": {some(self.items)}" if len(self.items) else "")
