"""Says which arguments training takes, and of others whose they are."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from types import MethodType
from typing import TYPE_CHECKING, Any

from semiclip._checks import arguments
from semiclip.baselines import BASELINES
from semiclip.correction import PEA
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# what scvi-tools and the callers fill in, and what stands for any name
FILLED = {"self", "adata", "registry", "module", "max_epochs", "objective", "method", "model", "training_plan"}
FILLED |= {"data_splitter", "kwargs", "trainer_kwargs", "objective_kwargs", "method_kwargs"}


def check_arguments(
    model_cls: type, objective: str, given: Mapping[str, Any], *, caller: Callable[..., Any] | None = None
) -> None:
    """Refuse arguments that :meth:`SemiClip.train` does not take, also of a baseline, so that one call trains anything.

    Parameters
    ----------
    model_cls, objective
        The class of the model, and its objective or method.
    given
        Arguments of training.
    caller
        The function that takes arguments of its own, hands these on and makes the model from ``model_kwargs``; ``None``
        if training itself was called.

    Raises
    ------
    TypeError
        If one is not known.
    """
    from lightning import Trainer as LightningTrainer
    from scvi.train import Trainer, TrainRunner

    from semiclip.model._plan import DistillationPlan
    from semiclip.model._training import DistillationTraining

    made = "model_kwargs={{{!r}: …}}" if caller else f"{model_cls.__name__}(mdata, {{}}=…)"
    homes = {
        f"the model: {made}": _names(model_cls, {**OBJECTIVES, **BASELINES}[objective]),
        "the training plan: plan_kwargs={{{!r}: …}}": _names(DistillationPlan),
        "the augmentation: pea={{{!r}: …}}": [field.name for field in fields(PEA)],
        "the split: datasplitter_kwargs={{{!r}: …}}": ["external_indexing", "chunk_rows"],
    }
    passed_on = [*_names(Trainer, LightningTrainer, TrainRunner), "max_epochs", "ckpt_path"]
    arguments(
        MethodType(DistillationTraining.train, model_cls),
        given,
        "training",
        also=_names(caller, filled={"train_kwargs"}),
        passed_on=passed_on,
        homes=homes,
    )


def _names(*takers: Callable[..., Any] | None, filled: Iterable[str] = FILLED) -> list[str]:
    """Return the arguments of classes and functions, but those that are filled in."""
    return [name for taker in takers if taker for name in signature(taker).parameters if name not in filled]
