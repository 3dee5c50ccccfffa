from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import Callback, LightningModule

from semiclip.metrics import retrieval

if TYPE_CHECKING:
    from lightning import Trainer

    from semiclip.correction._augmentation import Augmentation
    from semiclip.model._module import SemiClipModule
    from semiclip.model._tensors import MiniBatch


class DistillationPlan(LightningModule):
    """Optimises the adapter and watches loss and cross-modal retrieval on held-out groups.

    Parameters
    ----------
    module
        Adapter and objective.
    max_epochs
        Length of the cosine schedule.
    optimizer
        ``"sgd"`` or ``"adamw"``.
    lr, momentum, weight_decay
        Of the optimiser; AdamW has no momentum.
    schedule, min_lr
        ``"cosine"`` anneals once per epoch from ``lr`` to ``min_lr``; ``"constant"`` does not.
    """

    def __init__(
        self,
        module: SemiClipModule,
        *,
        max_epochs: int,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.03,
        momentum: float = 0.95,
        weight_decay: float = 1e-4,
        schedule: Literal["cosine", "constant"] = "cosine",
        min_lr: float = 1e-6,
    ) -> None:
        super().__init__()
        choices = {"optimizer": (optimizer, ("sgd", "adamw")), "schedule": (schedule, ("cosine", "constant"))}
        for name, (value, known) in choices.items():
            if value not in known:
                msg = f"{name}={value!r} is not one of {', '.join(known)}"
                raise ValueError(msg)
        self.module, self.max_epochs, self.optimizer = module, max_epochs, optimizer
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.schedule, self.min_lr = schedule, min_lr
        self._embedded: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def augmentation(self) -> Augmentation | None:
        """What changes student rows in training."""
        return self.trainer.datamodule.augmentation  # type: ignore[attr-defined]

    def view(self, batch: MiniBatch) -> torch.Tensor:
        """Return what the adapter sees of student rows in training: the one place for augmentation."""
        rows, augmentation = batch.source.student[batch.student], self.augmentation
        if augmentation is None:
            return rows
        with torch.autocast(rows.device.type, enabled=False):  # moments in half precision would be noise
            return augmentation(rows, batch.row, batch.source.batch[batch.student], self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Draw the epoch's whitening transforms."""
        if self.augmentation is not None:
            self.augmentation.start_epoch(self.current_epoch)

    def training_step(self, batch: MiniBatch, batch_idx: int) -> torch.Tensor:
        """Contrast the student's view of a mini-batch with the teacher."""
        embedded, teacher, key = self.module(self.view(batch)), batch.source.teacher[batch.teacher], batch.key
        if self.trainer.world_size > 1:
            # every process computes the loss of the joint mini-batch; the mean of their gradients is its gradient
            gathered: Any = [self.all_gather(part, sync_grads=part is embedded) for part in (embedded, teacher, key)]
            embedded, teacher, key = (part.flatten(0, 1) for part in gathered)
        loss = self.module.objective(embedded, teacher, key)
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(embedded), prog_bar=True)
        return loss

    def validation_step(self, batch: MiniBatch, batch_idx: int) -> None:
        """Do the same on held-out groups, as inference sees them."""
        embedded = self.module(batch.source.student[batch.student])
        loss = self.module.objective(embedded, batch.source.teacher[batch.teacher], batch.key)
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(embedded), prog_bar=True)
        self._embedded.append((embedded, batch.key))

    def on_validation_epoch_end(self) -> None:
        """Rank each held-out sample's key among all held-out keys by the teacher's centroids."""
        embedded, keys = (torch.cat(parts) for parts in zip(*self._embedded, strict=True))
        self._embedded.clear()
        self._refuse_divergence(torch.isfinite(embedded).all())
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if len(data.held_out) < 2:
            return
        scores = retrieval(embedded, data.held_out_centroids, torch.searchsorted(data.held_out, keys))
        self.log_dict({f"validation_{name}": value for name, value in scores.items()})

    def on_train_epoch_end(self) -> None:
        """Stop when there is nothing left to learn from."""
        self._refuse_divergence(torch.isfinite(self.trainer.callback_metrics["train_loss"]))

    def _refuse_divergence(self, finite: torch.Tensor) -> None:
        if not finite:
            msg = f"training diverged in epoch {self.current_epoch}: lower the learning rate, plan_kwargs={{'lr': …}}"
            raise ValueError(msg)

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_epochs, eta_min=self.min_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": annealing, "interval": "epoch"}}


class KeepBest(Callback):
    """Gives the module the weights of its best validation epoch when training ends."""

    def __init__(self, monitor: str, mode: Literal["min", "max"]) -> None:
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.best = float("inf")
        self.weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: DistillationPlan) -> None:  # type: ignore[override]
        """Copy the weights if they are the best so far."""
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.startswith("validation"))
            msg = f"monitor={self.monitor!r} is not logged; there is {known}"
            raise ValueError(msg)
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights = value, deepcopy(pl_module.module.state_dict())

    def on_train_end(self, trainer: Trainer, pl_module: DistillationPlan) -> None:  # type: ignore[override]
        """Bring the best weights back."""
        if self.weights is not None:
            pl_module.module.load_state_dict(self.weights)
