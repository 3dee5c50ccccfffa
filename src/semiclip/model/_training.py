from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from scvi.train import SaveCheckpoint
from scvi.utils._docstrings import devices_dsp

from semiclip._checks import arguments
from semiclip.correction import PEA
from semiclip.correction._augmentation import Augmentation
from semiclip.correction._correct import short_of_controls
from semiclip.model._arguments import check_arguments
from semiclip.model._data import PairedDataModule
from semiclip.model._fields import STUDENT, TEACHER
from semiclip.model._keep_best import KeepBest
from semiclip.model._objective import check_trainable
from semiclip.model._plan import DistillationPlan
from semiclip.model._pretraining import Pretraining
from semiclip.model._rates import MIN_LR, merged
from semiclip.model._tensors import PairedTensors, leading, sorted_by_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from semiclip.model._setup import Method, Setup

Precision = Literal["highest", "high", "medium"]
# what training fills in of the data module
FILLED = {"tensors", "groups", "labels", "infer", "augment", "seed"}
FILLED |= {"train_size", "validation_size", "batch_size", "split_seed"}


class DistillationTraining(Pretraining):
    """Training of a model that is set up with paired modalities."""

    _data_splitter_cls = PairedDataModule
    _training_plan_cls = DistillationPlan

    adata: Any
    _methods: Mapping[str, Method | None]
    _correction: Mapping[str, Any]
    split_seed_: int
    train_params_: dict[str, Any]

    @devices_dsp.dedent
    def train(
        self,
        max_epochs: int = 150,
        *,
        pea: bool | PEA | Mapping[str, Any] | None = None,
        augment: str | Sequence[str] | None = None,
        profile: Literal["default", "paper"] = "default",
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float = 0.9,
        validation_size: float | None = None,
        batch_size: int = 1024,
        early_stopping: bool = False,
        monitor: str = "validation_loss",
        select: Literal["last", "best"] = "last",
        matmul_precision: Precision = "highest",
        pretrain_epochs: int | None = None,
        pretrain_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the adapter; ``history`` then has the curves.

        Parameters
        ----------
        max_epochs
            Passes over the paired student samples; each meets a new random partner every time.
        pea
            Perturbation Embedding Augmentation of the student in training: ``True`` for that of the paper, ``False``
            for the correction of inference instead, or options of :class:`semiclip.correction.PEA`. ``None`` is
            ``True`` where the setup names controls and the encoder is frozen, and ``False`` otherwise.
        augment
            Views of the student in ``obsm`` that :func:`semiclip.pp.augment` cached, of one or several augmentations of
            expression. Each time, a sample is seen as one of these augmentations or as it was measured, all equally
            likely, and as a random one of that augmentation's views; PEA comes on top of it.
        profile
            Where the optimiser and its schedule start from: ``"default"`` was chosen on simulations, ``"paper"`` has
            the paper's learning rate; both depend on the objective, see its ``profiles``.
        %(param_accelerator)s
        %(param_devices)s
        train_size, validation_size
            Fractions of the groups (``split_key``) for training and validation; the rest is left as a test set.
            ``validation_size=None`` takes what ``train_size`` leaves.
        batch_size
            Rows of a mini-batch over all devices, all of them if there are fewer. Some objectives need
            a least number, ``"dcca"`` twice the width of the embedding and 2 more.
        early_stopping
            Stop when ``monitor`` no longer improves; ``early_stopping_patience`` and the like are trainer arguments.
        monitor
            A curve of ``history`` on validation: ``validation_loss``, ``validation_mean_rank_percentile`` or
            ``validation_recall_at_1``, ``_5``, ``_10``. The loss is left out where validation has too few rows for the
            objective or none whose class training has, and the others for an objective that does not embed in the
            teacher's space (``"dcca"`` and those that learn from labels).
        select
            Keep the weights of the last epoch, as the paper does, or of the ``"best"`` epoch by ``monitor``.
        matmul_precision
            Of float32 matrix products while training: ``"high"`` is TF32 on GPUs that have it, see
            :func:`torch.set_float32_matmul_precision`. ``precision="bf16-mixed"`` is a trainer argument.
        pretrain_epochs
            Before distillation, objectives that learn from labels train each side alone on the classes for so many
            epochs, as many as ``max_epochs`` if ``None``. A model that is trained further is not pretrained again,
            unless its classes have changed. 0 leaves it out.
        pretrain_kwargs
            Arguments of the training plan of pretraining, over the objective's own ``pretraining``.
        plan_kwargs
            Arguments of the training plan: ``optimizer``, ``lr``, ``momentum``, ``weight_decay``, ``schedule``,
            ``min_lr``. ``lr`` and ``min_lr`` are numbers, or numbers by part: ``student`` and ``teacher`` for the
            adapters, ``encoder``, and the names of heads such as ``student_head``; other parts keep their rates.
        datasplitter_kwargs
            ``external_indexing=[train, validation]`` gives the split as rows of the student; ``chunk_rows`` keeps the
            data in main memory and copies so many pairs at a time to the device.
        **trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, such as ``enable_progress_bar=False``, ``callbacks``,
            ``strategy="ddp"``, or ``ckpt_path`` to go on from a checkpoint.

        Raises
        ------
        ValueError
            If a batch has too few controls, a mini-batch too few rows for the objective, there is nothing to contrast
            or to validate on, or training diverges.
        TypeError
            If an argument is neither one of training nor of the trainer.
        """
        check_arguments(type(self), self.module.objective_name, trainer_kwargs)
        arguments(self._training_plan_cls, plan_kwargs or {}, "plan_kwargs", filled=("module", "max_epochs"))
        arguments(self._data_splitter_cls, datasplitter_kwargs or {}, "datasplitter_kwargs", filled=FILLED)
        choices = {
            "select": (select, ("last", "best")),
            "profile": (profile, ("default", "paper")),
            "matmul_precision": (matmul_precision, get_args(Precision)),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                msg = f"{name}={value!r} is not one of {', '.join(known)}"
                raise ValueError(msg)
        if max_epochs < 1 or batch_size < 2:
            msg = f"max_epochs={max_epochs} must be at least 1 and batch_size={batch_size} at least 2, to contrast rows"
            raise ValueError(msg)
        pretrain_epochs = self._pretrain_epochs(pretrain_epochs, pretrain_kwargs, max_epochs)
        if self.adata is None:
            msg = "the model was loaded without data; load it with SemiClip.load(folder, mdata) to train it further"
            raise ValueError(msg)
        if pea is None:  # PEA changes embeddings, not expression
            pea = self._setup.control is not None and self.module.encoder is None  # type: ignore[attr-defined]
        options = PEA.of(pea)
        if options and self.module.encoder is not None and self._methods[STUDENT] is None:
            msg = (
                "PEA draws from a correction that inference has in full, but what an encoder reads is not corrected by "
                "default; make the model with student_correction='tvn', or leave out pea"
            )
            raise ValueError(msg)
        splitting = {"train_size": train_size, "validation_size": validation_size, "batch_size": batch_size}
        data = self._paired_data(options, augment, **splitting, **(datasplitter_kwargs or {}))
        start = {"optimizer": "sgd", "min_lr": MIN_LR, **self.module.objective.profiles[profile]}
        optimisation = merged(start, plan_kwargs or {}, self.module.trained_parts)
        mode: Literal["min", "max"] = "max" if "recall" in monitor else "min"
        if (early_stopping or select == "best") and data.n_val == 0:
            msg = "early stopping and select='best' need validation samples; lower train_size"
            raise ValueError(msg)
        check_trainable(self.module, data, monitor if early_stopping or select == "best" else None)
        # plans are made first, so that what is refused leaves the model as it was
        plan = self._training_plan_cls(self.module, max_epochs=max_epochs, **optimisation)
        pretraining = self._pretraining_plan(pretrain_epochs, pretrain_kwargs)
        new_heads = pretraining is not None and self._make_heads(data)
        given = [*trainer_kwargs.pop("callbacks", [])]
        # scvi-tools takes Lightning's own checkpoints only beside one that saves models in its log folder
        checkpoints = [each for each in given if isinstance(each, Checkpoint) and not isinstance(each, SaveCheckpoint)]
        callbacks = [each for each in given if each not in checkpoints]
        if select == "best":
            callbacks.append(KeepBest(monitor, mode))
        defaults = {
            "early_stopping": early_stopping,
            "early_stopping_monitor": monitor,
            "early_stopping_mode": mode,
            "check_val_every_n_epoch": 1,
            "limit_val_batches": None if data.n_val else 0,
            "log_every_n_steps": 1,  # curves are by epoch; Lightning warns of epochs with fewer calls than this
        }
        pretrained: dict[str, Any] = {}
        with _matmul(matmul_precision):
            if pretraining is not None and new_heads and "ckpt_path" not in trainer_kwargs:
                pretrained = self._pretrain(pretraining, data, accelerator, devices, trainer_kwargs)
            runner = self._train_runner_cls(
                self, plan, data, max_epochs, accelerator, devices, callbacks=callbacks,
                **{**defaults, **trainer_kwargs},
            )  # fmt: skip
            runner.trainer.callbacks += checkpoints
            self.module.train()  # a loaded model is in evaluation mode
            runner()
        self.history_.update(pretrained)
        self.split_seed_ = data.split_seed
        params: dict[str, Any] = {
            "max_epochs": max_epochs,
            "train_size": train_size,
            "batch_size": batch_size,
            "select": select,
        }
        if pretraining is not None:
            self.classes_ = data.classes  # those of a checkpoint, if it was resumed
            params["pretrain_epochs"] = pretrain_epochs
        augmented = [augment] if isinstance(augment, str) else list(augment or [])
        params |= {"pea": options.params if options else False, "augment": augmented or False}
        params["shared_keys"] = data.host.n_keys
        self.train_params_ = {**params, **optimisation}
        self.trainer = None  # it holds the training data and the optimiser's state

    def _paired_data(
        self, pea: PEA | None, augment: str | Sequence[str] | None = None, **splitting: Any
    ) -> PairedDataModule:
        setup: Setup = self._setup  # type: ignore[attr-defined]
        student, teacher = (setup.read(self.adata, side) for side in (STUDENT, TEACHER))
        pairing = setup.pairing(self.adata)
        how = self._correction
        as_inferred = student.correction(self._methods[STUDENT], **how)
        order = sorted_by_key(pairing.teacher)
        taught = teacher.correction(self._methods[TEACHER], **how)(teacher.values, teacher.batch, order)
        seen, change = student.values, None
        if pea is None:  # PEA corrects each row as it comes, also that of a view
            seen = as_inferred(student.values, student.batch)

            def change(views: np.ndarray) -> np.ndarray:
                rows = views.reshape(-1, views.shape[2]), np.repeat(student.batch, views.shape[1])
                return as_inferred(*rows).reshape(views.shape)

        if self.module.teacher_adapter is None:
            taught = leading(taught, self.module.n_output)
        if self.module.objective.needs_labels:
            splitting["labels"] = setup.labels(self.adata, pairing)
        groups = setup.groups(self.adata, pairing.student)
        tensors = PairedTensors.from_arrays(
            seen,
            taught,
            pairing.student,
            pairing.teacher[order],
            student.batch,
            setup.views(self.adata, augment, groups),
            change,
        )
        seed = int(torch.randint(2**31, ()))  # follows scvi.settings.seed
        if pea is not None:
            short_of_controls(
                student.batch, student.control, self._correction["fallback"], student.names,
                at_least=pea.min_controls,
            )  # fmt: skip  # what is missing is said here, before a trainer is made

            def augmentation(seed: int, device: torch.device, n_batches: int) -> Augmentation:
                return Augmentation(
                    pea, student.values, student.batch, student.control, seed=seed, device=device,
                    steps_per_epoch=n_batches, fallback=self._correction["fallback"], batch_names=student.names,
                )  # fmt: skip

            splitting["augment"] = augmentation
            splitting["infer"] = lambda rows: as_inferred(student.values, student.batch, rows)
        return self._data_splitter_cls(tensors, groups, split_seed=self.split_seed_, seed=seed, **splitting)


@contextmanager
def _matmul(precision: Precision) -> Iterator[None]:
    """Set the precision of float32 matrix products, and set it back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
