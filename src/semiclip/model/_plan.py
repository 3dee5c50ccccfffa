"""Optimisation: what is trained at which rate, one training step, and what is watched on validation."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from math import cos, inf, pi
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning import Callback, LightningModule

from semiclip._arguments import check_arguments, check_choice, check_number, read_whole
from semiclip._messages import warn
from semiclip._numerics import point_apart, single_precision
from semiclip.errors import Conflict, Diverged, NoVariation, UnknownChoice
from semiclip.metrics import retrieval
from semiclip.model._graph import GraphedStep, can_capture
from semiclip.model._scvi_compat import choose_progress
from semiclip.objectives import PRETRAINING
from semiclip.objectives._presets import STUDENT, Rate, merge_rates, rate_of, split_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning import Trainer

    from semiclip.model._data import PairedDataModule
    from semiclip.model._model import SemiClip
    from semiclip.model._module import SemiClipModule
    from semiclip.model._tensors import MiniBatch

Precision = Literal["highest", "high", "medium"]
MIN_LR = 1e-6
N_CHECKED = 256  # training rows that must not all be embedded alike
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
        Settings of the optimiser; AdamW has no momentum. Rates may be given by part: ``student`` and ``teacher`` are
        the adapters, ``encoder`` a trainable encoder, ``objective`` what the objective learns, and heads have their own
        names, such as ``student_head``. Parts without a rate have that of ``student``. The part ``objective``, such as
        a scale, is not decayed.
    schedule, min_lr
        ``"cosine"`` anneals once per epoch from ``lr`` to ``min_lr``, by part as well, and never up; ``"constant"``
        keeps ``lr``.
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
        check_choice("optimizer", optimizer, ("sgd", "adamw"))
        check_choice("schedule", schedule, ("cosine", "constant"))
        for name, rate in (("lr", lr), ("min_lr", min_lr)):
            for part, value in split_rate(rate).items():
                check_number(f"{name} of {part}", value, least=0)
        check_number("momentum", momentum, least=0)
        check_number("weight_decay", weight_decay, least=0)
        self.module, self.max_epochs, self.optimizer = module, max_epochs, optimizer
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.schedule, self.min_lr = schedule, min_lr
        self.steps_per_call = steps_per_call
        self._freeze()
        self.graphed: GraphedStep | None = None
        self._embedded: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._finite: list[torch.Tensor] = []  # whether each loss of validation is

    @property
    def learned(self) -> Sequence[str]:
        """Parts that are trained."""
        return [part for part in self.module.parts() if part not in self.module.objective.spec.frozen]

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

    # ---- a training step

    def training_step(self, batches: list[MiniBatch], batch_idx: int) -> torch.Tensor:
        """Contrast the student's view of a mini-batch with the teacher; of several, where steps are graphs."""
        loss = self._loss(*batches) if self.automatic_optimization else self._take_steps(batches)
        n_rows = len(batches) * len(batches[0].row)
        self._log(self.curve, loss.detach(), n_rows)
        return loss

    def _loss(self, batch: MiniBatch) -> torch.Tensor:
        embedded, teacher = self.module(self.view(batch)), self.module.teach(batch.source.taught(batch))
        key = batch.key
        if (n_processes := self.trainer.world_size) > 1:
            # every process computes the loss of the joint mini-batch and differentiates it by its own rows; the hook
            # undoes the mean over processes that is taken afterwards
            for part in (embedded, teacher):
                if part.requires_grad:
                    part.register_hook(lambda gradient: n_processes * gradient)
            embedded, teacher, key = (self._gather(part) for part in (embedded, teacher, key))
        return self.objective(embedded, teacher, self._label(key))

    def view(self, batch: MiniBatch) -> torch.Tensor:
        """Return what the adapter sees of student rows in training."""
        if self.data.augmentation is None or self.data.augments_ahead:
            return batch.source.seen(batch)
        return self.data.augment(batch)

    def _label(self, key: torch.Tensor) -> torch.Tensor:
        """Return the class of each row where the objective learns from classes, -1 if training has none of it."""
        return self.data.class_of_key[key] if self.module.objective.spec.needs_labels else key

    def _gather(self, part: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, of which only those of this one are differentiated."""
        parts = [torch.empty_like(part) for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather(parts, part.detach().contiguous())
        parts[self.global_rank] = part
        return torch.cat(parts)

    def _take_steps(self, batches: list[MiniBatch]) -> torch.Tensor:
        if self.graphed is None:
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            self.graphed = GraphedStep(self._loss, optimizer)
        loss = torch.stack([self.graphed(batch, self.current_epoch).clone() for batch in batches]).mean()
        # Lightning counts what checkpoints are named by
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.total.ready += len(batches)
        progress.total.completed += len(batches)
        scheduler: Any = self.lr_schedulers()
        if self.trainer.is_last_batch and scheduler is not None:
            scheduler.step()
        return loss

    # ---- validation

    def validation_step(self, batch: MiniBatch, batch_idx: int) -> None:
        """Do the same on held-out groups, as inference sees them; too few of them have no loss."""
        embedded, teacher = self.module(batch.source.seen(batch)), batch.source.taught(batch)
        label = self._label(batch.key)
        in_training = label >= 0  # a perturbation that training has never seen has no class
        if (n_rows := int(in_training.sum())) >= self.module.min_batch_size:
            taught = self.module.teach(teacher[in_training])
            loss = self.objective(embedded[in_training], taught, label[in_training])
            self._finite.append(torch.isfinite(loss))
            self._log("validation_loss", loss, n_rows)
        self._embedded.append((embedded, batch.key))

    def on_validation_epoch_end(self) -> None:
        """Rank each held-out sample's key among all held-out keys by the teacher's centroids."""
        embedded, keys = (torch.cat(parts) for parts in zip(*self._embedded, strict=True))
        # a loss of squares overflows long before the embedding does
        finite = torch.stack([torch.isfinite(embedded).all(), *self._finite]).all()
        self._embedded.clear()
        self._finite.clear()
        self._check_finite(finite)
        if len(self.data.held_out) < 2 or not self.module.objective.spec.same_space:
            return
        centroids = self.data.centroids(None if self.module.teacher_adapter is None else self.module.teach)
        scores = retrieval(embedded, centroids, torch.searchsorted(self.data.held_out, keys))
        self.log_dict({f"validation_{name}": value for name, value in scores.items()}, sync_dist=True)

    def _log(self, name: str, loss: torch.Tensor, n_rows: int) -> None:
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=n_rows, prog_bar=True, sync_dist=True)

    # ---- before and after

    def setup(self, stage: str) -> None:
        """Take over from Lightning where steps can be graphs, and the classes where another process drew the split."""
        if self.module.objective.spec.needs_labels:
            self._set_classes(len(self.data.classes))
        self._freeze()  # heads may be new, and another plan may have trained before
        captures = bool(self.steps_per_call and self.module.capturable and can_capture(self.trainer))
        self.automatic_optimization = not captures
        self.data.steps_per_call = self.steps_per_call if captures else 1
        # rows that are made ahead would have another address in each mini-batch, which a graph cannot follow
        self.data.augments_ahead = not captures

    def _set_classes(self, n_classes: int) -> None:
        objective: Any = self.module.objective
        if objective.heads["student_head"].out_features != n_classes:
            self.module.set_classes(n_classes)
            self._freeze()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make heads for the classes of a checkpoint, whose split may be another one."""
        heads = [values for name, values in checkpoint["state_dict"].items() if name.endswith("student_head.weight")]
        if heads:
            self._set_classes(len(heads[0]))

    def on_fit_start(self) -> None:
        """Read rows in the scale of the first process, whose weights all have."""
        self.module.input_scale = self.trainer.strategy.broadcast(self.module.input_scale)

    def on_train_epoch_end(self) -> None:
        """Stop when the loss is no longer finite."""
        if (loss := self.trainer.callback_metrics.get(self.curve)) is not None:  # none if resumed after its last step
            self._check_finite(torch.isfinite(loss))

    def on_fit_end(self) -> None:
        """Look at the weights too, since no loss follows the last step, and at what they make of training rows."""
        finite = [torch.isfinite(parameter).all() for parameter in self.module.parameters()]
        self._check_finite(torch.stack(finite).all())
        self._check_variation()

    def _check_variation(self) -> None:
        """Refuse adapters that make the same of all rows, such as those whose hidden units are all 0."""
        tensors, index = self.data.tensors, self.data.train_idx
        some = index[:: -(-len(index) // N_CHECKED)]
        partner = tensors.start[tensors.key[some]]
        sides: dict[str, Any] = {
            "student": (self.module, self.data.read_inferred(some)),
            "teacher": (self.module.teach, tensors.teacher[partner].float()),
        }
        self.module.eval()
        with torch.inference_mode(), set_matmul_precision("highest"):
            for side, (embed, rows) in sides.items():
                embedded = embed(rows.to(self.module.device))
                if point_apart(rows.cpu().numpy()) and not point_apart(embedded.cpu().numpy()):
                    raise NoVariation(f"the embedded rows of the {side} after {self.stage}", way_out=self.way_out)

    def _check_finite(self, finite: torch.Tensor) -> None:
        if not finite:
            epoch = min(self.current_epoch, self.max_epochs - 1)  # Lightning counts one more when all is done
            raise Diverged(self.stage, epoch, self.way_out)

    def configure_optimizers(self) -> Any:
        """Build optimiser and schedule."""
        parts = {name: part for name, part in self.module.parts().items() if name in self.learned}
        groups: list[dict[str, Any]] = [{"params": part, "lr": rate_of(name, self.lr)} for name, part in parts.items()]
        for name, group in zip(parts, groups, strict=True):
            if name == "objective":  # such as a scale, which nothing says should be small
                group["weight_decay"] = 0.0
        optimizer: torch.optim.Optimizer
        rate = rate_of(STUDENT, self.lr)
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, rate, momentum=self.momentum, weight_decay=self.weight_decay)
        else:
            cuda = self.module.device.type == "cuda"
            optimizer = torch.optim.AdamW(groups, rate, weight_decay=self.weight_decay, capturable=cuda)
        if self.schedule == "constant":
            return optimizer
        annealing = anneal(optimizer, [rate_of(name, self.min_lr) for name in parts], self.max_epochs)
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
        objective: Any = self.module.objective
        return objective.pretrain(student, teacher, label)


def count_pretrain_epochs(module: SemiClipModule, epochs: int | None, pretrain_kwargs: object, max_epochs: int) -> int:
    """Return how many epochs pretraining has; only objectives that learn from labels have any."""
    if not module.objective.spec.needs_labels and (epochs or pretrain_kwargs):
        mend = "leave out pretrain_epochs and pretrain_kwargs"
        raise Conflict("pretraining on labels", f"objective={module.objective_name!r}", mend)
    return read_whole("pretrain_epochs", epochs, 0, default=max_epochs)


def count_epochs(before: Mapping[str, Any], runner: Any, *, resumed: bool) -> int:
    """Return the epochs of all trainings; a checkpoint has counted those before it."""
    earlier = 0 if resumed else before.get("epochs", before.get("max_epochs", 0))
    return int(earlier) + int(runner.trainer.current_epoch)


def plan_pretraining(
    module: SemiClipModule, epochs: int, pretrain_kwargs: Mapping[str, Any] | None
) -> PretrainingPlan | None:
    """Make the plan of pretraining, which is where wrong arguments are refused; without labels there is none."""
    if not module.objective.spec.needs_labels:
        return None
    check_arguments(PretrainingPlan, pretrain_kwargs or {}, "pretrain_kwargs", filled=("module", "max_epochs"))
    start = {"min_lr": MIN_LR, **PRETRAINING[module.objective_name]}
    return PretrainingPlan(module, max_epochs=epochs, **merge_rates(start, pretrain_kwargs or {}, PRETRAINED))


def pretrain(
    model: SemiClip,
    plan: PretrainingPlan,
    data: PairedDataModule,
    devices: Mapping[str, Any],
    trainer_kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Train each side alone on the classes, and return the curves."""
    objective: Any = model.module.objective
    curves: dict[str, Any] = {}
    if plan.max_epochs:
        quiet = {"limit_val_batches": 0, "log_every_n_steps": 1, "enable_checkpointing": False}
        model.module.train()
        arguments = choose_progress({**trainer_kwargs, **quiet})
        model._train_runner_cls(model, plan, data, plan.max_epochs, **devices, **arguments)()
        curves, model.is_trained_ = model.history_ or {}, False
    elif "teacher_head" in objective.spec.frozen:
        warn("pretrain_epochs=0: the teacher's head stays random and says nothing of the images")
    objective.begin()
    return curves


class KeepBest(Callback):
    """Gives the module the weights of its best validation epoch when training ends."""

    def __init__(self, monitor: str, mode: Literal["min", "max"]) -> None:
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.best = inf
        self.weights: dict[str, torch.Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to know of the best epoch so far."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best epoch of a checkpoint."""
        self.best, self.weights = state_dict["best"], state_dict["weights"]

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Copy the weights if they are the best so far."""
        if self.monitor not in trainer.callback_metrics:
            curves = [name for name in trainer.callback_metrics if name.startswith("validation")]
            raise UnknownChoice("monitor", self.monitor, curves)
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.weights = value, deepcopy(pl_module.module.state_dict())

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Bring the best weights back, also where a checkpoint left nothing to train."""
        if self.weights is not None:
            pl_module.module.load_state_dict(self.weights)


def anneal(optimizer: torch.optim.Optimizer, least: list[float], n_epochs: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Anneal the rate of each group along a cosine to its least, stepped once per epoch; never up."""

    def factor(start: float, end: float) -> Any:
        ratio = min(end / start, 1.0) if start else 1.0
        return lambda epoch: ratio + (1 - ratio) * (1 + cos(pi * epoch / n_epochs)) / 2

    starts = [group["lr"] for group in optimizer.param_groups]
    factors = [factor(start, end) for start, end in zip(starts, least, strict=True)]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors)


@contextmanager
def set_matmul_precision(precision: Precision) -> Iterator[None]:
    """Set the precision of float32 matrix products, and set it back; what is made meanwhile is float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with single_precision():
            yield
    finally:
        torch.set_float32_matmul_precision(before)
