"""Errors that carry their data: each is also the built-in error that one would expect, and all wording is here.

Numerical rooms raise them with what they know, such as rows and names; the sentence that a user reads is made here.
Code and tests look at the type and the data of an error, never at its words.
"""

from semiclip.errors._arguments import BadValue, Conflict, IdleArgument, UnexpectedArgument, UnknownChoice, WrongType
from semiclip.errors._base import SemiclipError, some
from semiclip.errors._state import (
    DamagedFile,
    Diverged,
    DownloadFailed,
    FileExists,
    MissingExtra,
    MissingFile,
    NoData,
    NotFitted,
)
from semiclip.errors._study import (
    CannotWrite,
    Empty,
    NameTaken,
    NothingShared,
    NoVariation,
    Refused,
    Repeated,
    TooFew,
    TooFewControls,
    TooMany,
    UnknownControl,
)
from semiclip.errors._values import (
    Mismatch,
    MissingColumn,
    MissingEntry,
    MissingValues,
    NotCounts,
    NotFinite,
    NotInMemory,
    WrongDtype,
    WrongShape,
)

__all__ = [
    "BadValue",
    "CannotWrite",
    "Conflict",
    "DamagedFile",
    "Diverged",
    "DownloadFailed",
    "Empty",
    "FileExists",
    "IdleArgument",
    "Mismatch",
    "MissingColumn",
    "MissingEntry",
    "MissingExtra",
    "MissingFile",
    "MissingValues",
    "NameTaken",
    "NoData",
    "NoVariation",
    "NotCounts",
    "NotFinite",
    "NotFitted",
    "NotInMemory",
    "NothingShared",
    "Refused",
    "Repeated",
    "SemiclipError",
    "TooFew",
    "TooFewControls",
    "TooMany",
    "UnexpectedArgument",
    "UnknownChoice",
    "UnknownControl",
    "WrongDtype",
    "WrongShape",
    "WrongType",
    "some",
]
