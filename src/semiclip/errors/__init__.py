"""Errors that carry their data: each is also the built-in error that one would expect, and all wording is here.

Code and tests look at the type and the data of an error, such as rows and names, never at its words.
To add one, write a class with its data and the ``template`` of its sentence, name it in ``__all__``, and give an
example in ``tests/test_errors.py``.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from semiclip.errors._base import SemiclipError, SemiclipWarning, name_key, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "BadValue", "CannotWrite", "Conflict", "DamagedFile", "Diverged", "DownloadFailed", "Empty", "FileExists",
    "IdleArgument", "Mismatch", "MissingColumn", "MissingEntry", "MissingExtra", "MissingFile", "MissingValues",
    "NameTaken", "NoData", "NoVariation", "NotCounts", "NotFinite", "NotFitted", "NotGiven", "NotInMemory",
    "NothingShared", "Refused", "Repeated", "SemiclipError", "SemiclipWarning", "TooFew", "TooFewControls", "TooLarge",
    "TooMany", "UnexpectedArgument", "UnknownChoice", "UnknownControl", "WrongDtype", "WrongShape", "WrongType", "some",
]  # fmt: skip


class BadValue(SemiclipError, ValueError):
    """An argument has a value that means nothing here."""

    template = "{name}={value!r}{origin} must be {needed}"
    name: str
    value: Any
    needed: str  #: What it must be, such as ``"at least 1"``.
    way_out: str = ""


class UnknownChoice(SemiclipError, ValueError):
    """An argument is none of the names that there are."""

    name: str
    value: Any
    choices: Iterable[Any]
    way_out: str = ""

    def _sentence(self) -> str:
        near = get_close_matches(str(self.value), map(str, self.choices), 1)
        meant = f"; did you mean {near[0]!r}?" if near and near[0] != self.value else ""
        return f"{self.name}={self.value!r}{self.say_origin()} is not one of {some(self.choices, 20)}{meant}"


class WrongType(SemiclipError, TypeError):
    """An argument is of a type that cannot be used."""

    template = "{name} is of type {got.__name__}; it must be {needed}"
    name: str
    got: type
    needed: str  #: What it must be, such as ``"a DataFrame"``.
    way_out: str = ""


class NotGiven(SemiclipError, TypeError):
    """A setting that is needed was left out."""

    template = "{name} is not given"
    name: str
    way_out: str = ""


class UnexpectedArgument(SemiclipError, TypeError):
    """A function does not take an argument of this name, or lacks one that it needs."""

    template = "{taker}: {problem}"
    taker: str
    names: Sequence[str]
    problem: str
    way_out: str = ""


class IdleArgument(SemiclipError, TypeError):
    """Arguments would have no effect."""

    template = "{names:some} would have no effect {reason}"
    names: Sequence[str]
    reason: str  #: Why not, such as ``"without stochastic=True"``.
    way_out: str = ""


class Conflict(SemiclipError, ValueError):
    """Two things that were asked for cannot go together."""

    template = "{first} does not go with {second}"
    first: str
    second: str
    way_out: str = ""


class _Missing(SemiclipError, KeyError):
    key: Any  #: The name, or several.
    there: Iterable[Any]  #: The names that there are.
    where: str
    name: str = ""  #: The argument that gave the name.
    way_out: str = ""


class MissingColumn(_Missing):
    """A table has no column of this name."""

    where: str = "obs"

    def _sentence(self) -> str:
        several = isinstance(self.key, list | tuple) and len(self.key) > 1
        verb = "are not columns" if several else "is not a column"
        named, there = name_key(self.key, self.name) + self.say_origin(), some(self.there, 10) or "none"
        return f"{named} {verb} of {self.where}, which has {there}"


class MissingEntry(_Missing):
    """A container, such as ``obsm``, ``layers`` or a registry, has no entry of this name."""

    where: str = "obsm"

    def _sentence(self) -> str:
        named, there = name_key(self.key, self.name) + self.say_origin(), some(self.there, 10) or "nothing"
        return f"{named} is not in {self.where}, which has {there}"


class MissingValues(SemiclipError, ValueError):
    """Rows lack a value, such as a label."""

    template = "{where}{named} has no value{rows:rows}"
    where: str
    rows: Sequence[Any]
    way_out: str = "fill or drop them"
    name: str = ""  #: The argument that gave the place.


class NotFinite(SemiclipError, ValueError):
    """Rows hold NaN or infinity."""

    template = "{where} holds NaN or infinite values{rows:rows}"
    where: str
    rows: Sequence[Any]
    way_out: str = "drop or mend these rows first"


class NotCounts(SemiclipError, ValueError):
    """Expression is not what a model of raw counts can read."""

    template = "raw counts are needed, but expression is {reason}{rows:rows}"
    rows: Sequence[Any]
    reason: str = "negative, fractional or not finite"
    way_out: str = "name the layer that holds the counts"


class WrongDtype(SemiclipError, TypeError):
    """Values are of a type that cannot be computed with."""

    template = "{where} holds {dtype} values, not {needed}"
    where: str
    dtype: Any
    needed: str = "real numbers"
    way_out: str = ""


class NotInMemory(SemiclipError, TypeError):
    """Values lie in a file or are not computed yet."""

    template = "{where} is not in memory"
    where: str
    way_out: str = "load it with adata = adata.to_memory()"


class WrongShape(SemiclipError, ValueError):
    """An array does not have the shape that it needs."""

    template = "{where} has shape {shape}; needed is {needed}"
    where: str
    shape: Any
    needed: str  #: Which shape that is and of what, such as ``"one label per row, (10,)"``.
    way_out: str = ""


class Mismatch(SemiclipError, ValueError):
    """What was given is not what a fitted object, or the other side, has."""

    template = "{what} is {got:some}, but {expected:some} is expected"
    what: str
    got: Any
    expected: Any
    way_out: str = ""


class Repeated(SemiclipError, ValueError):
    """Names that must differ do not."""

    template = "{what} repeat: {items:some}"
    what: str
    items: Iterable[Any]
    way_out: str = ""


class NameTaken(SemiclipError, ValueError):
    """A name is already that of something else, which would be lost or confused."""

    items: Any
    holder: str  #: Whose name it is, such as ``"a column of the result"``.
    way_out: str = "choose another name"

    def _sentence(self) -> str:
        return f"{name_key(self.items)} is already the name of {self.holder}"


class CannotWrite(SemiclipError, ValueError):
    """A result cannot be kept where it should go."""

    template = "cannot write {target}: {reason}"
    target: str
    reason: str
    way_out: str = ""


class Empty(SemiclipError, ValueError):
    """There is nothing of what is needed."""

    template = "there are no {what}"
    what: str  #: What there is none of, such as ``"rows in the table"``.
    way_out: str = ""


class TooFew(SemiclipError, ValueError):
    """There is less of something than is needed."""

    template = "there are {number} {what}, but at least {needed} are needed"
    what: str
    number: Any
    needed: Any
    way_out: str = ""


class TooMany(SemiclipError, ValueError):
    """There is more of something than can be used."""

    template = "there are {number} {what}, but at most {limit} can be used"
    what: str
    number: Any
    limit: Any
    way_out: str = ""


class TooLarge(SemiclipError, MemoryError):
    """Something needs more memory than there is."""

    template = "{what} needs {needed_gb:.1f} GB of memory, but {device} has {free_gb:.1f} GB free"
    what: str
    needed_gb: float
    free_gb: float
    device: str
    way_out: str = ""


class NoVariation(SemiclipError, ValueError):
    """Values that should vary are all alike."""

    template = "{what} do not vary{items:list}"
    what: str
    items: Sequence[Any] = ()
    way_out: str = ""


class TooFewControls(SemiclipError, ValueError):
    """Batches have fewer controls than a correction can be fitted on."""

    batches: Mapping[Any, int]  #: Controls of each of these batches.
    needed: int
    total: int  #: Controls of all batches.
    way_out: str = ""

    def _sentence(self) -> str:
        shown = some(f"{name} ({count})" for name, count in self.batches.items())
        mend = "mark their controls, drop these batches"
        mend += ', or pass fallback="pooled"' if self.total >= self.needed else f" (there are {self.total} in all)"
        return f"{len(self.batches)} batch(es) have fewer than {self.needed} controls: {shown}; {mend}"


class UnknownControl(SemiclipError, ValueError):
    """Control labels match no row, or none are named."""

    labels: Sequence[Any]
    perturbation_key: str | None
    frequent: Sequence[Any] = ()  #: The most frequent labels that there are.
    way_out: str = "pass the right label(s) as control=, or control=None for data without controls"

    def _sentence(self) -> str:
        labels = some(self.labels) + self.say_origin("control")
        if self.perturbation_key is None:
            return f"control={labels} needs perturbation_key=, the obs column that holds this label"
        if not self.labels:
            return "control names no label"
        column = f"obs[{self.perturbation_key!r}]" + self.say_origin("perturbation_key", " (perturbation_key from {})")
        return (
            f"control label(s) {labels} match no row of {column}, whose most frequent labels are {some(self.frequent)}"
        )


class NothingShared(SemiclipError, ValueError):
    """Two sides have nothing in common that could be paired or compared."""

    what: str
    one: Iterable[Any]
    other: Iterable[Any]
    sides: tuple[str, str] = ("the one", "the other")
    way_out: str = ""

    def _sentence(self) -> str:
        one, other = (some(items) or "none" for items in (self.one, self.other))
        return f"no {self.what} is shared: {self.sides[0]} has {one}; {self.sides[1]} has {other}"


class Refused(SemiclipError, ValueError):
    """Something that cannot work, for a reason of its own."""

    template = "{problem}{items:list}"
    problem: str
    items: Sequence[Any] = ()  #: The rows or names concerned.
    way_out: str = ""


class NotFitted(SemiclipError, RuntimeError):
    """Something is used before it was fitted or trained."""

    template = "{what} is not fitted"
    what: str
    way_out: str = ""


class NoData(SemiclipError, ValueError):
    """A model that was loaded without data is asked for what needs them."""

    template = "the {model} was loaded without data"
    model: str
    way_out: str = ""


class Diverged(SemiclipError, ValueError):
    """Training left the finite numbers."""

    stage: str
    epoch: int | None = None
    way_out: str = "lower the learning rate"

    def _sentence(self) -> str:
        return f"{self.stage} diverged" + ("" if self.epoch is None else f" in epoch {self.epoch}")


class DamagedFile(SemiclipError, ValueError):
    """A file cannot be read: it is damaged, of another kind, or made to do harm."""

    template = "{path} cannot be read: {reason}"
    path: Any
    reason: str
    way_out: str = ""


class MissingFile(SemiclipError, FileNotFoundError):
    """A file or folder is not there."""

    template = "there is no {path:some}"
    path: Any
    way_out: str = ""


class FileExists(SemiclipError, FileExistsError):
    """A file or folder that is there would be replaced."""

    template = "{path} exists"
    path: Any
    way_out: str = "pass overwrite=True to replace it, or choose another path"


class DownloadFailed(SemiclipError, OSError):
    """A public file could not be downloaded."""

    template = "{what} could not be downloaded from {address}: {reason}"
    what: str
    address: str
    reason: str
    way_out: str = ""


class MissingExtra(SemiclipError, ImportError):
    """An optional package is needed and cannot be imported."""

    package: str
    purpose: str
    install: str = ""  #: What to give to pip, if not the package's name.

    def _sentence(self) -> str:
        return f"{self.purpose} needs {self.package}: pip install {self.install or self.package}"
