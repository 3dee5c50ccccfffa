"""What the package says while it works: warnings where a user should act, lines of a log for the rest."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip.errors import BadValue, SemiclipWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO, 3: logging.INFO, 4: logging.DEBUG}  # as scanpy counts
_seen: ContextVar[set[Any] | None] = ContextVar("_seen", default=None)  # the places that have warned
_told: ContextVar[set[str] | None] = ContextVar("_told", default=None)  # the messages
_FOLDER = f"{Path(__file__).parent}{os.sep}"


class _Lines(logging.Handler):
    """Shows records on stderr, unless the root logger has handlers, which then show them."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            print(self.format(record), file=sys.stderr)


class Settings:
    """Settings of the package, as ``scl.settings``.

    Examples
    --------
    >>> import semiclip as scl
    >>> scl.settings.verbosity = "warning"  # no lines about progress and what was counted
    >>> scl.settings.verbosity = "info"
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("semiclip")
        self._logger.addHandler(_Lines())
        self.verbosity = logging.INFO

    @property
    def verbosity(self) -> int:
        """Level of the lines that are shown: a name or number of :mod:`logging`, or 0 to 4 as scanpy counts them.

        Warnings do not depend on it: they go through :mod:`warnings`, as :class:`semiclip.errors.SemiclipWarning`.
        """
        return self._logger.level

    @verbosity.setter
    def verbosity(self, level: str | int) -> None:
        try:
            self._logger.setLevel(level.upper() if isinstance(level, str) else LEVELS.get(level, level))
        except (TypeError, ValueError):
            raise BadValue("verbosity", level, "'error', 'warning', 'info', 'debug' or a level of logging") from None


settings = Settings()
logger = logging.getLogger(__name__)
HEAVY = {"torch": "PyTorch", "lightning": "Lightning", "scvi": "scvi-tools"}


def is_watched() -> bool:
    """Say whether somebody sees lines as they come: in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def announce_loading(*packages: str) -> None:
    """Say that packages which take seconds to load, by default all of them, are waited for, if somebody watches."""
    absent = [HEAVY[package] for package in packages or HEAVY if package not in sys.modules]
    if absent and is_watched():
        logger.info("loading %s, once in a session: this takes some seconds", ", ".join(absent))


def warn(message: str) -> None:
    """Warn at the line of the user that led here, whatever lies between."""
    caller, seen, told = sys._getframe(1), _seen.get(), _told.get()
    if told is not None:
        if message in told:
            return
        told.add(message)
    if seen is not None:
        place = caller.f_code, caller.f_lineno
        if place in seen:
            return
        seen.add(place)
    frame, depth, level = sys._getframe(), 1, 1
    while frame is not None:
        if frame.f_code.co_filename.startswith(_FOLDER):
            level = depth + 1
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]  # None ends the stack
    warnings.warn(message, SemiclipWarning, stacklevel=level)


@contextmanager
def hush_lightning() -> Iterator[None]:
    """Leave out the advertisement that Lightning logs with every trainer."""

    def is_ours(record: logging.LogRecord) -> bool:
        return "litlogger" not in str(record.msg)

    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(is_ours)
    try:
        yield
    finally:
        logger.removeFilter(is_ours)


@contextmanager
def warn_once() -> Iterator[None]:
    """Let each call of :func:`warn` through a single time, for data that are worked on in blocks."""
    token = _seen.set(set())
    try:
        yield
    finally:
        _seen.reset(token)


@contextmanager
def warn_without_repeats() -> Iterator[None]:
    """Let each message of :func:`warn` through a single time, for data that are read again and again."""
    outer = _told.get()
    token = _told.set(set() if outer is None else outer)
    try:
        yield
    finally:
        _told.reset(token)
