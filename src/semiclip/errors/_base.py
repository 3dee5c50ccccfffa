from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Any, ClassVar, dataclass_transform


def some(items: Iterable[object], limit: int = 5) -> str:
    """Name the first few items and, if there are more, how many there are."""
    names = [str(item) for item in items]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def name_key(key: Any, argument: str = "") -> str:
    """Name one key or several, with the argument that gave them if it is known."""
    if argument:
        return f"{argument}={key!r}"
    return some(key) if isinstance(key, list | tuple) else repr(key)


class _Sentence(Formatter):
    """Fills in templates; of a list, ``{x:some}`` names the first items, with ": " before them as ``{x:list}``.

    ``{x:rows}`` is " in 9 row(s): " and the first of them; this and ``list`` are nothing if there are none.
    """

    def format_field(self, value: Any, spec: str) -> str:
        if spec == "some":  # what is no list stays as it is
            return some(value) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)
        if spec in ("list", "rows"):
            where = f" in {len(value)} row(s)" if spec == "rows" else ""
            return f"{where}: {some(value)}" if len(value) else ""
        return super().format_field(value, spec)


class SemiclipWarning(UserWarning):
    """Something is probably not what the user meant, and a result may be the worse for it."""


@dataclass_transform(eq_default=False)
class SemiclipError(Exception):
    """What all errors of this package have in common: data as attributes, and a sentence made of them.

    A subclass names its data as a dataclass does, and gives the sentence as ``template`` or as the method
    ``_sentence``; ``{origin}`` and ``{named}`` tell where its argument ``name`` comes from. Data of type ``Iterable``
    are kept as lists. ``way_out``, if there is one, ends the sentence.
    """

    template = ""
    origins: ClassVar[Mapping[str, str]] = {}  # of arguments that nobody typed, see `remembered`
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        dataclass(eq=False)(cls)  # exceptions are compared by identity

    def __post_init__(self) -> None:
        for name, field in self.__dataclass_fields__.items():
            if str(field.type).startswith("Iterable"):
                setattr(self, name, list(getattr(self, name)))

    def __str__(self) -> str:
        return "; ".join(filter(None, (self._sentence(), getattr(self, "way_out", ""))))

    def __reduce__(self) -> Any:  # so that errors of worker processes arrive whole
        return partial(type(self), **{name: getattr(self, name) for name in self.__dataclass_fields__}), (), vars(self)

    def say_origin(self, argument: str = "", form: str = " (from {})") -> str:
        """Say where an argument comes from that nobody typed, by default the one that the error names, or nothing."""
        argument = argument or getattr(self, "name", "")
        return form.format(self.origins[argument]) if argument in self.origins else ""

    def _sentence(self) -> str:
        name = getattr(self, "name", "")
        named = f" ({name}{self.say_origin(form=' from {}')})" if name else ""
        return _Sentence().vformat(self.template, (), {**vars(self), "origin": self.say_origin(), "named": named})


@contextmanager
def remembered(origin: str, arguments: Iterable[str]) -> Iterator[None]:
    """Let errors say of these arguments that they come from ``origin``, such as ``"the model"``.

    Users then know why a message names what they did not type.
    """
    try:
        yield
    except SemiclipError as error:
        found: Any = {**dict.fromkeys(arguments, origin), **error.origins}  # the innermost knows best
        vars(error)["origins"] = found
        raise
