"""Builds an objective from its name, and says before training what it cannot be trained on."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from semiclip.model._data import PairedDataModule
    from semiclip.model._module import SemiClipModule

RETRIEVAL = ("validation_mean_rank_percentile", "validation_recall_at_")


def complete(objective: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of an objective, those that are not given as by default."""
    if objective not in OBJECTIVES:
        msg = f"objective={objective!r} is not one of {', '.join(OBJECTIVES)}"
        raise ValueError(msg)
    known = {name: each.default for name, each in signature(OBJECTIVES[objective]).parameters.items()}
    if unknown := [name for name in given if name not in known]:
        msg = (
            f"{', '.join(unknown)} is neither an argument of SemiClip nor of objective={objective!r}, "
            f"which takes {', '.join(known)}"
        )
        raise TypeError(msg)
    return {**known, **given}


def trainable(module: SemiClipModule, data: PairedDataModule, monitor: str | None) -> None:
    """Refuse mini-batches that are too small for the objective, and a monitor that it cannot have."""
    objective, needed = module.objective, module.min_batch_size
    if (rows := min(data.batch_size, data.n_train)) < needed:
        msg = (
            f"objective={module.objective_name!r} needs mini-batches of at least {needed} rows for an embedding of "
            f"{module.n_output} dimensions, but batch_size={data.batch_size} and {data.n_train} training rows make "
            f"{rows}: {objective.few_rows}"
        )
        raise ValueError(msg)
    if monitor is None:
        return
    if monitor == "validation_loss" and (rows := data.n_val // -(-data.n_val // data.batch_size)) < needed:
        msg = (
            f"monitor='validation_loss' is not defined: objective={module.objective_name!r} needs {needed} rows and "
            f"validation has mini-batches of {rows}; lower train_size"
        )
        raise ValueError(msg)
    if not objective.same_space and monitor != "validation_loss" and monitor.startswith(RETRIEVAL):
        msg = (
            f"monitor={monitor!r} is not defined: objective={module.objective_name!r} does not embed in the teacher's "
            "space; use validation_loss"
        )
        raise ValueError(msg)
