from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from semiclip.errors._base import SemiclipError, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(eq=False)
class BadValue(SemiclipError, ValueError):
    """An argument has a value that means nothing here."""

    name: str
    value: Any
    needed: str
    """What it must be, such as ``"at least 1"``."""
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.name}={self.value!r} must be {self.needed}"


@dataclass(eq=False)
class UnknownChoice(SemiclipError, ValueError):
    """An argument is none of the names that there are."""

    name: str
    value: Any
    choices: Iterable[Any]
    way_out: str = ""

    def __post_init__(self) -> None:
        self.choices = list(self.choices)

    def _sentence(self) -> str:
        near = get_close_matches(str(self.value), map(str, self.choices), 1)
        meant = f"; did you mean {near[0]!r}?" if near and near[0] != self.value else ""
        return f"{self.name}={self.value!r} is not one of {some(self.choices, 20)}{meant}"


@dataclass(eq=False)
class WrongType(SemiclipError, TypeError):
    """An argument is of a type that cannot be used."""

    name: str
    got: type
    needed: str
    """What it must be, such as ``"a DataFrame"``."""
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.name} is of type {self.got.__name__}; it must be {self.needed}"


@dataclass(eq=False)
class UnexpectedArgument(SemiclipError, TypeError):
    """A function does not take an argument of this name, or lacks one that it needs."""

    taker: str
    names: Sequence[str]
    problem: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.taker}: {self.problem}"


@dataclass(eq=False)
class IdleArgument(SemiclipError, TypeError):
    """Arguments would have no effect."""

    names: Sequence[str]
    reason: str
    """Why not, such as ``"without stochastic=True"``."""
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{some(self.names)} would have no effect {self.reason}"


@dataclass(eq=False)
class Conflict(SemiclipError, ValueError):
    """Two things that were asked for cannot go together."""

    first: str
    second: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.first} does not go with {self.second}"
