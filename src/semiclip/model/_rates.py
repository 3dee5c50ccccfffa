"""Learning rates by part of a model."""

from __future__ import annotations

from math import cos, inf, pi
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Rate = float | dict[str, float]
STUDENT = "student"
MIN_LR = 1e-6


def merged(start: Mapping[str, Any], given: Mapping[str, Any], parts: Iterable[str]) -> dict[str, Any]:
    """Return plan arguments with ``given`` over those to ``start`` from; of rates by part, only the parts named.

    Raises
    ------
    ValueError
        If a rate is given for a part that is not trained.
    """
    parts = list(parts)
    result = {**start, **given}
    for name in ("lr", "min_lr"):
        if not isinstance(result.get(name), dict):
            continue
        before = start.get(name, {})
        own = {part: rate for part, rate in by_part(before).items() if part in parts}
        wanted = by_part(result[name]) if name in given else {}
        if unknown := [part for part in wanted if part not in parts]:
            msg = f"{name} has a rate of {some(unknown)}, but this model trains {some(parts, 10)}"
            raise ValueError(msg)
        result[name] = {**own, **wanted}
    return result


def check_rate(name: str, rate: Rate) -> None:
    """Refuse a rate that would not descend."""
    for part, value in by_part(rate).items():
        if not isinstance(value, Real) or not 0 <= value < inf:  # so that NaN is refused too
            msg = f"{name}={value!r} of the part {part!r} must be a finite number of at least 0"
            raise ValueError(msg)


def by_part(rate: Rate | dict[str, float]) -> dict[str, float]:
    """Return a rate as one by part, of which all others follow the student's."""
    return rate if isinstance(rate, dict) else {STUDENT: rate}


def rate_of(part: str, rate: Rate) -> float:
    """Return a part's rate, which is the student's where it has none of its own.

    Raises
    ------
    ValueError
        If neither has one.
    """
    rates = by_part(rate)
    if part not in rates and STUDENT not in rates:
        msg = f"there is neither a rate of {part!r} nor one of {STUDENT!r}, which others fall back on, in {rates}"
        raise ValueError(msg)
    return float(rates[part if part in rates else STUDENT])


def annealed(optimizer: torch.optim.Optimizer, least: list[float], n_epochs: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Anneal the rate of each group along a cosine to its least, stepped once per epoch; never up."""

    def factor(start: float, end: float) -> Any:
        ratio = min(end / start, 1.0) if start else 1.0
        return lambda epoch: ratio + (1 - ratio) * (1 + cos(pi * epoch / n_epochs)) / 2

    starts = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(*each) for each in zip(starts, least, strict=True)])
