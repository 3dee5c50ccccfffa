"""Settles what a model is made of, and says before training what its objective cannot be trained on."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from semiclip.model._setup import are_widths
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from semiclip.model._data import PairedDataModule
    from semiclip.model._module import SemiClipModule

FEW_KEYS = 500  # with fewer pairing keys a small adapter generalises better: see n_hidden of SemiClip
SMALL, LARGE, LARGE_TEACHER = (64,), (512, 1024), (1024, 1024)
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


def hidden(
    n_hidden: Sequence[int] | str,
    teacher_adapter: bool | Sequence[int] | None,  # noqa: FBT001
    objective: str,
    count_keys: Callable[[], int],
) -> tuple[list[int], list[int] | Literal[False]]:
    """Return the widths of the hidden layers of both adapters; ``False`` for a teacher without."""
    if n_hidden != "auto" and not are_widths(n_hidden):
        msg = f"n_hidden={n_hidden!r} is neither 'auto' nor a list of widths of at least 1"
        raise ValueError(msg)
    if teacher_adapter is None:
        teacher_adapter = OBJECTIVES[objective].adapts_teacher
    if not isinstance(teacher_adapter, bool) and not are_widths(teacher_adapter):
        msg = f"teacher_adapter={teacher_adapter!r} is neither True, False, None nor a list of widths of at least 1"
        raise ValueError(msg)
    few = (isinstance(n_hidden, str) or teacher_adapter is True) and count_keys() < FEW_KEYS
    if isinstance(n_hidden, str):
        n_hidden = SMALL if few else LARGE
    if isinstance(teacher_adapter, bool):
        own = SMALL if few else LARGE_TEACHER
        return list(n_hidden), list(own) if teacher_adapter else False
    return list(n_hidden), list(teacher_adapter)


def check_encoder(encoder: Mapping[str, Any] | None, n_input: int) -> None:
    """Refuse an encoder that does not read what ``student_rep`` holds."""
    if encoder is None:
        return
    if not hasattr(encoder, "keys") or not {"n_input", "n_output"} <= set(encoder.keys()):
        msg = (
            f"encoder={encoder!r} can neither be trained nor is it an architecture; pass a fitted PCA, scVI or "
            "scGPT encoder, an MLPEncoder, or None where student_rep is an embedding"
        )
        raise TypeError(msg)
    if encoder["n_input"] != n_input:
        msg = (
            f"the encoder reads {encoder['n_input']} dimensions, but student_rep has {n_input}; write what it reads by "
            "scl.pp.expression(adata, encoder=encoder) and name that as student_rep"
        )
        raise ValueError(msg)


def check_trainable(module: SemiClipModule, data: PairedDataModule, monitor: str | None) -> None:
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
    if monitor == "validation_loss" and objective.needs_labels and not data.n_val_known:
        msg = (
            "monitor='validation_loss' is not defined: training has none of the classes of the samples held out; name "
            "an obs column such as the experiment as split_key, so that each class is on both sides"
        )
        raise ValueError(msg)
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
