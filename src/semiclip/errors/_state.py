from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import Any

from semiclip.errors._base import SemiclipError, several, some


@dataclass(eq=False)
class NotFitted(SemiclipError, RuntimeError):
    """Something is used before it was fitted or trained."""

    what: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.what} is not fitted"


@dataclass(eq=False)
class NoData(SemiclipError, ValueError):
    """A model that was loaded without data is asked for what needs them."""

    model: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"the {self.model} was loaded without data"


@dataclass(eq=False)
class Diverged(SemiclipError, ValueError):
    """Training left the finite numbers."""

    stage: str
    epoch: int | None = None
    way_out: str = "lower the learning rate"

    def _sentence(self) -> str:
        return f"{self.stage} diverged" + ("" if self.epoch is None else f" in epoch {self.epoch}")


@dataclass(eq=False)
class DamagedFile(SemiclipError, ValueError):
    """A file cannot be read: it is damaged, of another kind, or made to do harm."""

    path: Any
    reason: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.path} cannot be read: {self.reason}"


@dataclass(eq=False)
class MissingFile(SemiclipError, builtins.FileNotFoundError):
    """A file or folder is not there."""

    path: Any
    way_out: str = ""

    def _sentence(self) -> str:
        return f"there is no {some(self.path) if several(self.path) else self.path}"


@dataclass(eq=False)
class FileExists(SemiclipError, builtins.FileExistsError):
    """A file or folder that is there would be replaced."""

    path: Any
    way_out: str = "pass overwrite=True to replace it, or choose another path"

    def _sentence(self) -> str:
        return f"{self.path} exists"


@dataclass(eq=False)
class DownloadFailed(SemiclipError, OSError):
    """A public file could not be downloaded."""

    what: str
    address: str
    reason: str
    way_out: str = ""

    def _sentence(self) -> str:
        return f"{self.what} could not be downloaded from {self.address}: {self.reason}"


@dataclass(eq=False)
class MissingExtra(SemiclipError, ImportError):
    """An optional package is needed and cannot be imported."""

    package: str
    purpose: str
    install: str = field(default="")
    """What to give to pip, if not the package's name."""

    def _sentence(self) -> str:
        return f"{self.purpose} needs {self.package}: pip install {self.install or self.package}"
