from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def some(items: Iterable[object], limit: int = 5) -> str:
    """Name the first few items and, if there are more, how many there are."""
    names = [str(item) for item in items]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def _rebuild(kind: type[SemiclipError], data: dict[str, Any]) -> SemiclipError:
    return kind(**data)


@dataclass(eq=False)
class SemiclipError(Exception):
    """What all errors of this package have in common: data as attributes, and a sentence made of them."""

    def __str__(self) -> str:
        way_out = getattr(self, "way_out", "")
        return f"{self._sentence()}; {way_out}" if way_out else self._sentence()

    def __reduce__(self) -> Any:  # so that errors of worker processes arrive whole
        return _rebuild, (type(self), {name: getattr(self, name) for name in self.__dataclass_fields__})

    def _sentence(self) -> str:
        raise NotImplementedError


def several(key: Any) -> bool:
    return isinstance(key, list | tuple)


def shown(value: Any) -> str:
    return some(value) if several(value) else str(value)
