from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.train import TrainRunner

from semiclip.model._plan import PRETRAINED, PretrainingPlan
from semiclip.model._rates import MIN_LR, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from semiclip.model._data import PairedDataModule
    from semiclip.model._module import SemiClipModule

logger = logging.getLogger(__name__)


class Pretraining:
    """Classes of a model whose objective learns from them, and training of each side alone on these."""

    _train_runner_cls = TrainRunner

    module: SemiClipModule
    classes_: np.ndarray | None
    history_: Any
    is_trained_: bool

    def _pretrain_epochs(self, given: int | None, pretrain_kwargs: object, max_epochs: int) -> int:
        """Return how many epochs there are; only objectives that learn from labels have any."""
        if not self.module.objective.needs_labels and (given or pretrain_kwargs):
            msg = f"objective={self.module.objective_name!r} needs no labels, and nothing is pretrained on them"
            raise ValueError(msg)
        epochs = max_epochs if given is None else given
        if epochs < 0:
            msg = f"pretrain_epochs={epochs} must not be negative; 0 leaves pretraining out"
            raise ValueError(msg)
        return epochs

    def _pretraining_plan(self, epochs: int, pretrain_kwargs: Mapping[str, Any] | None) -> PretrainingPlan | None:
        """Make the plan, which is where wrong arguments are refused; without labels there is none."""
        objective: Any = self.module.objective
        if not objective.needs_labels:
            return None
        how = merged({"min_lr": MIN_LR, **objective.pretraining}, pretrain_kwargs or {}, PRETRAINED)
        return PretrainingPlan(self.module, max_epochs=epochs, **how)

    def _make_heads(self, data: PairedDataModule) -> bool:
        """Make heads for the classes of the training rows, unless the model has them; say whether they are new."""
        if self.is_trained_ and self.classes_ is not None and np.array_equal(self.classes_, data.classes):
            return False
        self.module.set_classes(len(data.classes))
        self.classes_, self.is_trained_ = data.classes, False  # until distillation ends, with curves of its own
        return True

    def _pretrain(
        self,
        plan: PretrainingPlan,
        data: PairedDataModule,
        accelerator: str,
        devices: int | list[int] | str,
        trainer_kwargs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Train each side alone on the classes, and return the curves of it."""
        objective: Any = self.module.objective
        curves: dict[str, Any] = {}
        if plan.max_epochs:
            quiet = {"limit_val_batches": 0, "log_every_n_steps": 1, "enable_checkpointing": False}
            own = {**trainer_kwargs, **quiet}
            self.module.train()
            self._train_runner_cls(self, plan, data, plan.max_epochs, accelerator, devices, **own)()
            curves, self.is_trained_ = self.history_, False
        elif "teacher_head" in objective.frozen:
            logger.warning(
                "pretrain_epochs=0: the teacher's head is frozen as it was drawn at random, and says nothing of the "
                "images"
            )
        objective.begin()
        return curves
