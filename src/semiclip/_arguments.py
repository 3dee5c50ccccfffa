"""Checks of plain arguments, which every room shares."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from inspect import Parameter, signature
from math import inf
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_args

from semiclip.errors import BadValue, UnexpectedArgument, UnknownChoice, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

USUAL = {"learning_rate": "lr", "epochs": "max_epochs", "seed": "rng", "random_state": "rng"}  # names that others use
ALIKE = 0.65  # of names of which one may be meant; separator is to 0.6 like temperature


class AsInSetup:
    """The default of an argument for which ``None`` has a meaning: what the model was set up with."""

    def __repr__(self) -> str:
        return "<as in setup>"


AS_IN_SETUP: Any = AsInSetup()


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what is not one of the choices, an iterable or a ``Literal``."""
    known = list(get_args(choices) or choices)
    if value not in known:
        raise UnknownChoice(name, value, known)


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise BadValue(name, value, f"a whole number of at least {least}")


def read_whole(name: str, value: object, least: int = 1, *, default: int | None = None) -> int:
    """Return a whole number of at least so much, also one of numpy or one such as 2.0; ``None`` is the default."""
    if value is None and default is not None:
        return default
    number: Any = value
    if isinstance(number, Real) and not isinstance(number, bool) and float(number).is_integer():
        number = int(float(number))
    check_whole(name, number, least)
    return int(number)


def check_number(
    name: str, value: object, *, least: float = -inf, above: float = -inf, most: float = inf, below: float = inf
) -> None:
    """Refuse what is no finite number within the bounds."""
    within = isinstance(value, Real) and least <= float(value) <= most and above < float(value) < below  # NaN is not
    if isinstance(value, bool) or not within:
        bounds = {"at least": least, "above": above, "at most": most, "below": below}
        told = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if abs(bound) < inf)
        raise BadValue(name, value, f"a finite number{' ' * bool(told)}{told}")


def check_arguments(
    taker: Callable[..., Any],
    given: Mapping[str, Any],
    what: str,
    *,
    also: Iterable[str] = (),
    filled: Iterable[str] = (),
    passed_on: Iterable[str] = (),
    homes: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Refuse arguments that a function does not take, and the lack of one that it needs; say what may be meant.

    Parameters
    ----------
    taker, given
        The function or class, and the arguments for it.
    what
        What a user calls it.
    also
        Further arguments that the caller takes itself.
    filled
        Arguments that the caller fills in, which are not taken.
    passed_on
        Arguments that arrive elsewhere, where ``taker`` takes any and hands them on.
    homes
        Arguments of others, by a text with ``{}`` for the name that says how they are given there.
    """
    takes = signature(taker)
    parameters = [parameter for name, parameter in takes.parameters.items() if name not in {*filled}]
    takes = takes.replace(parameters=parameters)
    named = (parameter.name for parameter in parameters if parameter.kind is not Parameter.VAR_KEYWORD)
    known, passed_on = list(dict.fromkeys([*named, *also])), list(passed_on)
    unknown = [name for name in given if name not in (*known, *passed_on)]
    try:
        takes.bind(**given)
        if passed_on and unknown:
            raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
    except TypeError as error:
        hint = _hint(unknown[0], known, passed_on, homes or {}) if unknown else ""
        hint = hint or f"{taker.__name__} takes {some(known, 99)}"
        raise UnexpectedArgument(what, unknown, str(error), hint) from error


def take_renamed(arguments: dict[str, Any], old: str, renamed: Mapping[str, str], value: Any) -> Any:
    """Return the value of a renamed argument, which may be passed by its old name for one more version."""
    if old not in arguments:
        return value
    message = f"the argument {old!r} is now called {renamed[old]!r}; the old name goes in the next version"
    warnings.warn(message, FutureWarning, stacklevel=3)
    return arguments.pop(old)


def _hint(name: str, known: Sequence[str], passed_on: Sequence[str], homes: Mapping[str, Iterable[str]]) -> str:
    """Say where an argument belongs, or which one is much like it."""
    home_of: dict[str, str] = {}
    for home, names in homes.items():
        home_of = {**dict.fromkeys(names, home), **home_of}  # an argument of several belongs to the first
    if name in home_of:
        return f"it is an argument of {home_of[name].format(name)}"
    meant = USUAL.get(name, name)
    # the likeliest first
    near = (get_close_matches(meant, names, 1, ALIKE) for names in (known, list(home_of), passed_on))
    for likely in near:
        if likely:
            where = f" of {home_of[likely[0]].format(likely[0])}" if likely[0] in home_of else ""
            return f"did you mean {likely[0]!r}{where}?"
    return ""
