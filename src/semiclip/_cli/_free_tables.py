"""Free tables, whose settings are arguments of the library or of Lightning: each is checked before long work begins."""

from __future__ import annotations

import collections.abc
import inspect
import typing
import warnings
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from lightning import Trainer as LightningTrainer
from scvi.train import Trainer

from semiclip._cli._settings import NEEDED
from semiclip._messages import hush_lightning
from semiclip.encoders import ENCODERS
from semiclip.errors import UnexpectedArgument, WrongType
from semiclip.model import SemiClip
from semiclip.model._plan import DistillationPlan
from semiclip.tl import distill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from semiclip._cli._settings import Settings

WORDS: dict[Any, str] = {**NEEDED, float: "a number"}
SEVERAL = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}
ABSTRACT = (collections.abc.Sequence, collections.abc.Iterable, list, tuple, set)
NAMES = {name: getattr(module, name) for module in (typing, collections.abc) for name in module.__all__}


def check_free_tables(settings: Settings) -> None:
    """Refuse options that are of a wrong type, or that Lightning's trainer does not take."""
    encoder: Any = ENCODERS.get(str(settings.student.encoder))
    _check_types(settings, "student.options", [encoder] if encoder else [])
    _check_types(settings, "training.model", [SemiClip])
    _check_types(settings, "training.plan", [DistillationPlan])
    _check_types(settings, "training.options", [SemiClip.train, distill, Trainer, LightningTrainer])
    _check_trainer(settings)


def _check_types(settings: Settings, table: str, takers: Sequence[Callable[..., Any]]) -> None:
    """Refuse options that are not what the first function with such an argument takes; unknown ones are left alone."""
    for name, value in (settings.get(table) or {}).items():
        taker = next((taker for taker in takers if name in inspect.signature(taker).parameters), None)
        kind = Any if taker is None else read_kind(taker, name)
        if not fits(value, kind):
            words = list(dict.fromkeys(_describe(kind)))
            words = [word for word in words if word != WORDS[int] or WORDS[float] not in words]
            origin = f"{settings.name_origin(table)}.{name}"
            raise WrongType(origin, type(value), " or ".join(words) or "left out: a TOML file cannot hold it")


def _check_trainer(settings: Settings) -> None:
    """Give Lightning's trainer each option of its own, since what it does not take brings errors of any type."""
    options = settings.training.options or {}
    own = [name for name in inspect.signature(LightningTrainer).parameters if name in options and name != "precision"]
    for name in own:
        given = {"accelerator": options.get("accelerator", "auto"), name: options[name]}
        try:
            with hush_lightning(), warnings.catch_warnings(action="ignore"):  # which training gives again
                LightningTrainer(**{"logger": False, "enable_progress_bar": False, **given})
        except Exception as error:  # only this option came from outside
            origin = f"{settings.name_origin('training.options')}.{name}"
            raise UnexpectedArgument(origin, [name], str(error)) from error


def read_kind(taker: Callable[..., Any], name: str) -> Any:
    """Return the type of an argument, or ``Any`` if it has none that can be read here."""
    function: Any = taker.__init__ if isinstance(taker, type) else taker  # type: ignore[misc]  # of the class itself, not of an instance
    named = SimpleNamespace(__annotations__={name: inspect.signature(taker).parameters[name].annotation})
    try:
        known = vars(inspect.getmodule(inspect.unwrap(taker))) | getattr(function, "__globals__", {})
        return typing.get_type_hints(named, {**NAMES, **known})[name]
    except Exception:  # noqa: BLE001  # a name that is imported for types alone
        return Any


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value of TOML can be of a type; of what TOML has no values, none is."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is inspect.Parameter.empty or kind is Any or isinstance(kind, typing.TypeVar):
        return True
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:  # which of them, the library says better
        return type(value) in {type(part) for part in parts}
    if isinstance(value, bool):
        return kind is bool
    if kind is int:  # 2.0 is one
        return isinstance(value, int | float) and float(value).is_integer()
    if kind is float:
        return isinstance(value, int | float)
    if isinstance(value, list):
        within = [part for part in parts if part is not Ellipsis]
        return (origin or kind) in ABSTRACT and all(not within or fits(part, within[0]) for part in value)
    if isinstance(value, dict):
        return (origin or kind) in (dict, collections.abc.Mapping)
    return isinstance(kind, type) and kind is not object and isinstance(value, kind)


def _describe(kind: Any) -> list[str]:
    """Return in words what of a type a TOML file can hold."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return [word for part in parts if part is not NoneType for word in _describe(part)]
    if origin is Literal:
        return [WORDS[kind] for kind in {type(part) for part in parts} & {*WORDS}]
    if (origin or kind) in ABSTRACT:
        return [SEVERAL.get((*parts, None)[0], "a list")] if not parts or _describe(parts[0]) else []
    if (origin or kind) is collections.abc.Mapping:
        return ["a table"]
    return [WORDS[origin or kind]] if (origin or kind) in WORDS else []
