from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import Callback, LightningModule

from semiclip.metrics import retrieval
from semiclip.model._graph import GraphedStep, can_capture

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
        Of the optimiser; AdamW has no momentum, and what the objective learns is not decayed.
    schedule, min_lr
        ``"cosine"`` anneals once per epoch from ``lr`` to ``min_lr``; ``"constant"`` does not.
    steps_per_call
        On a single GPU a step is captured as a CUDA graph and so many are taken in one call of the trainer; 0 leaves
        every step to Lightning, as elsewhere.
    """

    def __init__(
        self,
        module: SemiClipModule,
        *,
        max_epochs: int,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.1,
        momentum: float = 0.95,
        weight_decay: float = 1e-4,
        schedule: Literal["cosine", "constant"] = "cosine",
        min_lr: float = 1e-6,
        steps_per_call: int = 16,
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
        self.steps_per_call = steps_per_call
        self.graphed: GraphedStep | None = None
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
        row = batch.row
        if self.trainer.world_size > 1 and augmentation.pea.granularity == "batch":
            row = self._joint(row)[: len(row)]  # the first row draws for all, also for those of other processes
        with torch.autocast(rows.device.type, enabled=False):  # moments in half precision would be noise
            return augmentation(rows, row, batch.source.batch[batch.student], self.current_epoch)

    def setup(self, stage: str) -> None:
        """Take over from Lightning where steps can be graphs."""
        if self.steps_per_call and self.module.objective.capturable and can_capture(self.trainer):
            self.automatic_optimization = False
            self.trainer.datamodule.steps_per_call = self.steps_per_call  # type: ignore[attr-defined]

    def training_step(self, batches: list[MiniBatch], batch_idx: int) -> torch.Tensor:
        """Contrast the student's view of a mini-batch with the teacher; of several, where steps are graphs."""
        loss = self._loss(*batches) if self.automatic_optimization else self._steps(batches)
        n = len(batches) * len(batches[0].row)
        self._log("train_loss", loss.detach(), n)
        return loss

    def _steps(self, batches: list[MiniBatch]) -> torch.Tensor:
        if self.graphed is None:
            self.graphed = GraphedStep(self._loss, self.optimizers(use_pl_optimizer=False))  # type: ignore[arg-type]
        loss = torch.stack([self.graphed(batch, self.current_epoch).clone() for batch in batches]).mean()
        # Lightning counts what checkpoints are named by
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.total.ready += len(batches)
        progress.total.completed += len(batches)
        if self.trainer.is_last_batch and (scheduler := self.lr_schedulers()) is not None:
            scheduler.step()  # type: ignore[union-attr]
        return loss

    def _loss(self, batch: MiniBatch) -> torch.Tensor:
        embedded, teacher, key = self.module(self.view(batch)), batch.source.teacher[batch.teacher], batch.key
        if (n := self.trainer.world_size) > 1:
            # every process computes the loss of the joint mini-batch and differentiates it by its own rows; n times
            # that, since the mean over processes is taken afterwards
            embedded.register_hook(lambda gradient: n * gradient)
            embedded, teacher, key = (self._joint(part) for part in (embedded, teacher, key))
        return self.module.objective(embedded, teacher, key)

    def _joint(self, own: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(own) for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather(parts, own.detach().contiguous())
        parts[self.global_rank] = own
        return torch.cat(parts)

    def validation_step(self, batch: MiniBatch, batch_idx: int) -> None:
        """Do the same on held-out groups, as inference sees them; too few of them have no loss."""
        embedded = self.module(batch.source.student[batch.student])
        if len(embedded) >= self.module.min_batch_size:
            loss = self.module.objective(embedded, batch.source.teacher[batch.teacher], batch.key)
            self._log("validation_loss", loss, len(embedded))
        self._embedded.append((embedded, batch.key))

    def on_validation_epoch_end(self) -> None:
        """Rank each held-out sample's key among all held-out keys by the teacher's centroids."""
        embedded, keys = (torch.cat(parts) for parts in zip(*self._embedded, strict=True))
        self._embedded.clear()
        self._refuse_divergence(torch.isfinite(embedded).all())
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if len(data.held_out) < 2 or not self.module.objective.same_space:
            return
        scores = retrieval(embedded, data.held_out_centroids, torch.searchsorted(data.held_out, keys))
        self.log_dict({f"validation_{name}": value for name, value in scores.items()}, sync_dist=True)

    def _log(self, name: str, loss: torch.Tensor, n: int) -> None:
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=n, prog_bar=True, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Stop when there is nothing left to learn from."""
        if (loss := self.trainer.callback_metrics.get("train_loss")) is not None:  # none if resumed after its last step
            self._refuse_divergence(torch.isfinite(loss))

    def _refuse_divergence(self, finite: torch.Tensor) -> None:
        if not finite:
            msg = f"training diverged in epoch {self.current_epoch}: lower the learning rate, plan_kwargs={{'lr': …}}"
            raise ValueError(msg)

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule."""
        adapter, learned = list(self.module.adapter.parameters()), list(self.module.objective.parameters())
        parameters: list[dict[str, Any]] = [{"params": adapter}]
        if learned:  # such as a scale, which nothing says should be small
            parameters.append({"params": learned, "weight_decay": 0.0})
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.AdamW(
                parameters, self.lr, weight_decay=self.weight_decay, capturable=adapter[0].is_cuda
            )
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
