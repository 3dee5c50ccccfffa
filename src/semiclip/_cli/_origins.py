"""Where the setting stands that an error of the library is about."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from semiclip import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USAGE, DATA = 2, 1  # exit statuses
MISUSE = (
    errors.BadValue,
    errors.UnknownChoice,
    errors.WrongType,
    errors.NotGiven,
    errors.UnexpectedArgument,
    errors.IdleArgument,
    errors.Conflict,
)
# what errors are about that do not name an argument
ABOUT: dict[type[errors.SemiclipError], str] = {
    errors.UnknownControl: "control",
    errors.NothingShared: "pair_on",
    errors.TooFewControls: "batch_key",
}


class Located(click.ClickException):
    """An error of the library with the place of the setting that it is about."""

    def __init__(self, origin: str, error: errors.SemiclipError) -> None:
        text = str(error)  # which may name the place itself
        super().__init__(text if text.startswith((f"{origin}:", f"{origin}.")) else f"{origin}: {text}")
        self.origin, self.error = origin, error

    def __reduce__(self) -> tuple[type, tuple[str, errors.SemiclipError]]:
        return type(self), (self.origin, self.error)  # processes send errors to each other


def choose_status(error: BaseException) -> int:
    """Return the exit status: of a command that cannot be understood, or of data that cannot be used."""
    return USAGE if isinstance(error, MISUSE) else DATA


def find_origin(error: errors.SemiclipError, origins: Mapping[str, str]) -> str:
    """Return where the argument was given that an error names, by the origins of arguments; "" if none was."""
    if type(error) in ABOUT:
        return origins.get(ABOUT[type(error)], "")
    parts = [getattr(error, part, "") for part in ("name", "taker", "where", "first", "names")]
    named = " ".join(" ".join(map(str, part)) if isinstance(part, list) else str(part) for part in parts).strip()
    files = {origin.split(": ")[0] for origin in origins.values() if ": " in origin}
    if any(named.startswith((origin, *(f"{file}: " for file in files))) for origin in origins.values()):  # it says so
        return ""
    return next((origins[word] for word in re.findall(r"\w+", named) if word in origins), "")


@contextmanager
def blame(origin: str, origins: Mapping[str, str], results: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Say where arguments stand that were passed on, whatever is wrong with them; ``results`` are no mistakes."""
    try:
        yield
    except results:
        raise
    except errors.SemiclipError as error:
        raise Located(find_origin(error, origins) or origin, error) from error
    except (TypeError, ValueError) as error:  # a text where numbers are computed with
        raise Located(origin, errors.Refused(str(error))) from error


@contextmanager
def locate(origins: Mapping[str, str], otherwise: str = "") -> Iterator[None]:
    """Add to an error where the setting stands that it is about."""
    try:
        yield
    except errors.SemiclipError as error:
        if origin := find_origin(error, origins) or otherwise:
            raise Located(origin, error) from error
        raise
