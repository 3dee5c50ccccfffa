from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

from lightning import Callback

if TYPE_CHECKING:
    import torch
    from lightning import Trainer

    from semiclip.model._plan import DistillationPlan


class KeepBest(Callback):
    """Gives the module the weights of its best validation epoch when training ends."""

    def __init__(self, monitor: str, mode: Literal["min", "max"]) -> None:
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.best = float("inf")
        self.weights: dict[str, torch.Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to know the best epoch so far."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best epoch of a checkpoint."""
        self.best, self.weights = state_dict["best"], state_dict["weights"]

    def on_validation_end(self, trainer: Trainer, pl_module: DistillationPlan) -> None:  # type: ignore[override]
        """Copy the weights if they are the best so far."""
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.startswith("validation"))
            msg = f"monitor={self.monitor!r} is not logged; there is {known}"
            raise ValueError(msg)
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights = value, deepcopy(pl_module.module.state_dict())

    def on_fit_end(self, trainer: Trainer, pl_module: DistillationPlan) -> None:  # type: ignore[override]
        """Bring the best weights back, also where a checkpoint left nothing to train."""
        if self.weights is not None:
            pl_module.module.load_state_dict(self.weights)
