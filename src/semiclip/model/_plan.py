from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import LightningModule

from semiclip.metrics import retrieval
from semiclip.model._graph import GraphedStep, can_capture
from semiclip.model._rates import MIN_LR, annealed, check_rate, rate_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semiclip.model._data import PairedDataModule
    from semiclip.model._module import SemiClipModule
    from semiclip.model._rates import Rate
    from semiclip.model._tensors import MiniBatch

PRETRAINED = ("encoder", "student", "teacher", "student_head", "teacher_head")


class DistillationPlan(LightningModule):
    """Optimises what a module learns and watches loss and cross-modal retrieval on held-out groups.

    Parameters
    ----------
    module
        Adapters and objective.
    max_epochs
        Length of the cosine schedule.
    optimizer
        ``"sgd"`` or ``"adamw"``.
    lr, momentum, weight_decay
        Of the optimiser; AdamW has no momentum, and what the objective learns besides its heads is not decayed. Rates
        may be given by part: ``student`` and ``teacher`` are the adapters, ``encoder`` a trainable encoder,
        ``objective`` what the objective learns, and heads have their own names, such as ``student_head``. Parts
        without a rate have that of ``student``.
    schedule, min_lr
        ``"cosine"`` anneals once per epoch from ``lr`` to ``min_lr``, by part as well, or stays where ``min_lr`` is
        higher; ``"constant"`` does not.
    steps_per_call
        On a single GPU a step is captured as a CUDA graph and so many are taken in one call of the trainer; 0 leaves
        every step to Lightning, as elsewhere.
    """

    curve, stage, way_out = "train_loss", "training", "lower the learning rate, plan_kwargs={'lr': …}"

    def __init__(
        self,
        module: SemiClipModule,
        *,
        max_epochs: int,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: Rate = 0.1,
        momentum: float = 0.95,
        weight_decay: float = 1e-4,
        schedule: Literal["cosine", "constant"] = "cosine",
        min_lr: Rate = MIN_LR,
        steps_per_call: int = 16,
    ) -> None:
        super().__init__()
        choices = {"optimizer": (optimizer, ("sgd", "adamw")), "schedule": (schedule, ("cosine", "constant"))}
        for name, (value, known) in choices.items():
            if value not in known:
                msg = f"{name}={value!r} is not one of {', '.join(known)}"
                raise ValueError(msg)
        check_rate("lr", lr)
        check_rate("min_lr", min_lr)
        self.module, self.max_epochs, self.optimizer = module, max_epochs, optimizer
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.schedule, self.min_lr = schedule, min_lr
        self.steps_per_call = steps_per_call
        self._freeze()
        self.graphed: GraphedStep | None = None
        self._embedded: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def learned(self) -> Sequence[str]:
        """Parts that are trained."""
        return [part for part in self.module.parts() if part not in self.module.objective.frozen]

    def _freeze(self) -> None:
        for part, parameters in self.module.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(part in self.learned)

    def objective(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of paired rows."""
        return self.module.objective(student, teacher, label)

    @property
    def data(self) -> PairedDataModule:
        """What the trainer takes mini-batches from."""
        return self.trainer.datamodule  # type: ignore[attr-defined]  # which Lightning sets

    def view(self, batch: MiniBatch) -> torch.Tensor:
        """Return what the adapter sees of student rows in training: the one place for augmentation."""
        rows, augmentation = batch.source.seen(batch), self.data.augmentation
        if augmentation is None:
            return rows
        row = batch.row
        if self.trainer.world_size > 1 and augmentation.pea.granularity == "batch":
            row = self._joint(row)[: len(row)]  # the first row draws for all, also for those of other processes
        with torch.autocast(rows.device.type, enabled=False):  # moments in half precision would be noise
            return augmentation(rows, row, batch.source.batch[batch.student], self.current_epoch)

    def setup(self, stage: str) -> None:
        """Take over from Lightning where steps can be graphs, and the classes where another process drew the split."""
        if self.module.objective.needs_labels:
            self._tell_apart(len(self.data.classes))
        self._freeze()  # heads may be new, and another plan may have trained before
        if self.steps_per_call and self.module.capturable and can_capture(self.trainer):
            self.automatic_optimization = False
            self.data.steps_per_call = self.steps_per_call

    def _tell_apart(self, n_classes: int) -> None:
        objective: Any = self.module.objective
        if objective.heads["student_head"].out_features != n_classes:
            self.module.set_classes(n_classes)
            self._freeze()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make heads for the classes of a checkpoint, whose split may be another one."""
        heads = [values for name, values in checkpoint["state_dict"].items() if name.endswith("student_head.weight")]
        if heads:
            self._tell_apart(len(heads[0]))

    def training_step(self, batches: list[MiniBatch], batch_idx: int) -> torch.Tensor:
        """Contrast the student's view of a mini-batch with the teacher; of several, where steps are graphs."""
        loss = self._loss(*batches) if self.automatic_optimization else self._steps(batches)
        n = len(batches) * len(batches[0].row)
        self._log(self.curve, loss.detach(), n)
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
        embedded, teacher = self.module(self.view(batch)), self.module.teach(batch.source.teacher[batch.teacher])
        key = batch.key
        if (n := self.trainer.world_size) > 1:
            # every process computes the loss of the joint mini-batch and differentiates it by its own rows; n times
            # that, since the mean over processes is taken afterwards
            for own in (embedded, teacher):
                if own.requires_grad:
                    own.register_hook(lambda gradient: n * gradient)
            embedded, teacher, key = (self._joint(part) for part in (embedded, teacher, key))
        return self.objective(embedded, teacher, self._label(key))

    def _label(self, key: torch.Tensor) -> torch.Tensor:
        """Return the class of each row where the objective learns from classes, -1 if training has none of it."""
        if not self.module.objective.needs_labels:
            return key
        return self.data.class_of_key[key]

    def _joint(self, own: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(own) for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather(parts, own.detach().contiguous())
        parts[self.global_rank] = own
        return torch.cat(parts)

    def validation_step(self, batch: MiniBatch, batch_idx: int) -> None:
        """Do the same on held-out groups, as inference sees them; too few of them have no loss."""
        embedded, teacher = self.module(batch.source.student[batch.student]), batch.source.teacher[batch.teacher]
        label = self._label(batch.key)
        known = label >= 0  # what training has never seen has no class
        if (n := int(known.sum())) >= self.module.min_batch_size:
            loss = self.objective(embedded[known], self.module.teach(teacher[known]), label[known])
            self._log("validation_loss", loss, n)
        self._embedded.append((embedded, batch.key))

    def on_validation_epoch_end(self) -> None:
        """Rank each held-out sample's key among all held-out keys by the teacher's centroids."""
        embedded, keys = (torch.cat(parts) for parts in zip(*self._embedded, strict=True))
        self._embedded.clear()
        self._refuse_divergence(torch.isfinite(embedded).all())
        if len(self.data.held_out) < 2 or not self.module.objective.same_space:
            return
        centroids = self.data.centroids(None if self.module.teacher_adapter is None else self.module.teach)
        scores = retrieval(embedded, centroids, torch.searchsorted(self.data.held_out, keys))
        self.log_dict({f"validation_{name}": value for name, value in scores.items()}, sync_dist=True)

    def _log(self, name: str, loss: torch.Tensor, n: int) -> None:
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=n, prog_bar=True, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Stop when there is nothing left to learn from."""
        if (loss := self.trainer.callback_metrics.get(self.curve)) is not None:  # none if resumed after its last step
            self._refuse_divergence(torch.isfinite(loss))

    def on_fit_end(self) -> None:
        """Look at the weights too, since no loss follows the last step."""
        finite = [torch.isfinite(parameter).all() for parameter in self.module.parameters()]
        self._refuse_divergence(torch.stack(finite).all())

    def _refuse_divergence(self, finite: torch.Tensor) -> None:
        if not finite:
            epoch = min(self.current_epoch, self.max_epochs - 1)  # one more when all is done
            msg = f"{self.stage} diverged in epoch {epoch}: {self.way_out}"
            raise ValueError(msg)

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule."""
        parts = {name: part for name, part in self.module.parts().items() if name in self.learned}
        groups: list[dict[str, Any]] = [{"params": part, "lr": rate_of(name, self.lr)} for name, part in parts.items()]
        for name, group in zip(parts, groups, strict=True):
            if name == "objective":  # such as a scale, which nothing says should be small
                group["weight_decay"] = 0.0
        optimizer: torch.optim.Optimizer
        rate = rate_of("student", self.lr)
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, rate, momentum=self.momentum, weight_decay=self.weight_decay)
        else:
            cuda = self.module.device.type == "cuda"
            optimizer = torch.optim.AdamW(groups, rate, weight_decay=self.weight_decay, capturable=cuda)
        if self.schedule == "constant":
            return optimizer
        annealing = annealed(optimizer, [rate_of(name, self.min_lr) for name in parts], self.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": annealing, "interval": "epoch"}}


class PretrainingPlan(DistillationPlan):
    """Trains each side alone on the classes, before distillation from labels (paper, section 4)."""

    curve, stage = "pretrain_loss", "pretraining"
    way_out = "lower its learning rate, pretrain_kwargs={'lr': …}, or leave it out by pretrain_epochs=0"

    @property
    def learned(self) -> Sequence[str]:
        """Parts that are trained: encoder, adapters and the heads that say the classes."""
        return [part for part in self.module.parts() if part in PRETRAINED]

    def objective(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss of both sides."""
        return self.module.objective.pretrain(student, teacher, label)  # type: ignore[attr-defined]
