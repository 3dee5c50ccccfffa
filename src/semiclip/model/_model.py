from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from semiclip._arguments import check_arguments, check_choice, read_whole, take_renamed
from semiclip._design import STUDENT, TEACHER
from semiclip._messages import hush_lightning
from semiclip._sides import read_groups, read_labels, read_views
from semiclip.correction._augmentation import Augmentation
from semiclip.correction._correct import find_short_batches
from semiclip.encoders._protocol import Trainable
from semiclip.errors import NoData
from semiclip.model._base import MODEL_RIDGE, RENAMED, check_training_arguments
from semiclip.model._data import FILLED_DATA, PairedDataModule, check_trainable, choose_train_size, split_rows
from semiclip.model._module import (
    SemiClipModule,
    check_encoder,
    choose_pea,
    choose_widths,
    complete_arguments,
    make_heads,
)
from semiclip.model._plan import (
    DistillationPlan,
    KeepBest,
    Precision,
    count_epochs,
    count_pretrain_epochs,
    plan_pretraining,
    pretrain,
    set_matmul_precision,
)
from semiclip.model._scvi_compat import (
    Runner,
    all_or_nothing,
    choose_progress,
    devices_dsp,
    keep_checkpoints,
    split_callbacks,
)
from semiclip.model._shared import (
    Transferable,
    average_keys,
    check_weight,
    choose_epochs,
    choose_optimisation,
    count_shared,
    fit_projection,
    project,
    read_data,
    start_adapter,
    weigh_parts,
)
from semiclip.model._tensors import PairedTensors, correct_views, reduce_components, sort_by_key
from semiclip.objectives import PRESETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import PEA, Fallback, Method

Preset = Literal["default", "paper"]
Select = Literal["last", "best"]


class SemiClip(Transferable):
    """Distillation: a frozen teacher embedding teaches an adapter on a frozen student embedding.

    The default is Semi-Clipped, with the CLIP loss. Some rivals learn from classes, or adapt the teacher as well.

    Parameters
    ----------
    adata
        MuData or AnnData registered with :meth:`setup_mudata` or :meth:`setup_anndata`.
    registry
        Registry of a saved model; scvi-tools passes it when it loads one without data.
    n_hidden
        Hidden widths of the adapter; an empty list makes it linear. ``"auto"`` is (512, 1024) as in the paper, or (64,)
        when fewer than 500 keys pair.
    objective
        Name of the loss in :data:`semiclip.objectives.OBJECTIVES`.
    teacher_adapter
        Whether the teacher has an adapter too, or the widths of its hidden layers. ``True`` is (1024, 1024) as in the
        paper, or (64,) when fewer than 500 keys pair. ``None`` leaves it to the objective: ``"clip"`` and the
        objectives that learn from labels have one.
    n_shared
        ``None`` teaches the whole teacher, as in the paper. A number projects it on so many of its directions that
        correlate most with the student over pairing keys, so that nothing is learned of what images keep to
        themselves; ``"auto"`` counts the directions that correlate in held-out keys as well, see
        :func:`semiclip.metrics.shared_directions`. The directions are fitted on training keys alone, and the adapter
        is linear unless ``n_hidden`` says otherwise, and starts from their regression. The distilled part has so many
        dimensions. Where nothing is shared, or with 0, embeddings are the student's own, with a warning.
    distilled_weight
        Share of the distilled part in an embedding, beside the corrected student: 1 for this part alone, 0 for the
        student alone. ``"auto"`` is 1 where the setup names controls or ``n_shared`` is ``None``, and elsewhere what
        :func:`semiclip.metrics.choose_weight` chooses. TVN of an embedding undoes such weights, centring does not.
    encoder
        ``None`` where ``student_rep`` is an embedding. Otherwise an encoder that can be trained (see
        :class:`semiclip.encoders.Trainable`), or its architecture: it goes before the adapter and is trained with it,
        and ``student_rep`` holds what it reads (see :func:`semiclip.pp.expression`). A fitted encoder is fine-tuned;
        :class:`semiclip.encoders.MLPEncoder` starts from scratch.
    student_correction, teacher_correction
        Correction of each representation on the controls, see :func:`semiclip.correction.correct`; ``None`` for none.
        ``"auto"`` is ``"tvn"`` for an embedding, and ``None`` for the input of an encoder, fitted on uncorrected
        expression. The student is corrected by its own batch alone, from which PEA draws (profile ``"batch"``), the
        teacher by all controls (``"clean"``) or by a mapping of arguments, such as ``{"profile": "global"}``, TVN and
        CORAL of the paper's code, or ``{"profile": "global", "coral_reg": None}``, TVN alone, as in its text.
    ridge
        Added to the eigenvalues before whitening, on both sides; ``None`` is 0.5, with which no direction grows by more
        than 1.41, while 0 makes the control covariance exactly I.
    fallback
        What happens to a batch with fewer than two controls: an error (``"raise"``), or the ``"pooled"`` controls of
        all batches.
    **objective_kwargs
        Arguments of the objective, such as ``temperature``, ``symmetric`` and ``duplicates`` of
        :class:`semiclip.objectives.SemiClipped`.

    References
    ----------
    Bendidi et al., ICML 2025, section 3, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8)
    >>> scl.model.SemiClip.setup_mudata(
    ...     study.mdata,
    ...     student_rep="X_pca",
    ...     teacher_rep="X_image",
    ...     pair_on=["perturbation", "dose"],
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ... )
    >>> model = scl.model.SemiClip(study.mdata)
    >>> model.train(max_epochs=2, accelerator="cpu", enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (432, 128)
    """

    _module_cls = SemiClipModule
    _data_splitter_cls = PairedDataModule
    _training_plan_cls = DistillationPlan
    _train_runner_cls = Runner

    module: SemiClipModule
    classes_: np.ndarray | None
    part_scales_: tuple[float, float]  # of the distilled part and the student's own
    input_scale_: float
    projection_: dict[str, np.ndarray] | None  # of the teacher on what both sides share
    is_trained_: bool

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_hidden: Sequence[int] | Literal["auto"] = "auto",
        objective: str = "semiclip",
        teacher_adapter: bool | Sequence[int] | None = None,
        encoder: Trainable | Mapping[str, Any] | None = None,
        n_shared: int | Literal["auto"] | None = None,
        distilled_weight: float | Literal["auto"] = 1.0,
        student_correction: Method | Literal["auto"] | None = "auto",
        teacher_correction: Method | Mapping[str, Any] | None = "tvn",
        ridge: float | None = None,
        fallback: Fallback = "raise",
        **objective_kwargs: Any,
    ) -> None:
        objective_kwargs = complete_arguments(objective, objective_kwargs)
        if student_correction == "auto":
            student_correction = "tvn" if encoder is None else None
        ridge = MODEL_RIDGE if ridge is None else ridge
        super().__init__(
            adata,
            registry,
            student_correction=student_correction,
            teacher_correction=teacher_correction,
            ridge=ridge,
            fallback=fallback,
        )
        n_student, n_teacher = (self.summary_stats[f"n_{side}"] for side in (STUDENT, TEACHER))
        weights = None
        if isinstance(encoder, Trainable):
            weights, encoder = encoder.weights(), encoder.architecture
        check_encoder(encoder, n_student)
        check_weight(distilled_weight, encoder)
        # "auto" is settled here, so that a saved model does not ask again
        if n_shared is not None:
            n_shared = count_shared(self, n_shared, encoder)
            n_teacher = max(1, n_shared)  # an adapter of no use where nothing is shared
        n_hidden, teacher_adapter = choose_widths(
            n_hidden, teacher_adapter, objective, n_shared, lambda: read_data(self).pairing.n_keys
        )
        self.module = self._module_cls(
            n_student,
            n_hidden,
            n_teacher,
            objective=objective,
            teacher_hidden=None if teacher_adapter is False else teacher_adapter,
            encoder=encoder,
            **objective_kwargs,
        )
        if weights is not None and self.module.encoder is not None:
            self.module.encoder.load_state_dict(weights)
        self.classes_, self.part_scales_, self.input_scale_ = None, self.module.part_scales, 1.0
        self.projection_ = None
        methods = {f"{side} correction": spec.method for side, spec in self._specs.items()}
        self._model_summary_string = self.module.describe({"objective": objective, **objective_kwargs, **methods})
        self.init_params_ = self._get_init_params(locals())

    @devices_dsp.dedent
    def train(
        self,
        max_epochs: int | None = None,
        *,
        pea: bool | PEA | Mapping[str, Any] | None = None,
        views: str | Sequence[str] | None = None,
        preset: Preset = "default",
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 0.9,
        validation_size: float | None = None,
        batch_size: int | None = 1024,
        early_stopping: bool = False,
        monitor: str = "validation_loss",
        select: Select = "last",
        matmul_precision: Precision = "highest",
        pretrain_epochs: int | None = None,
        pretrain_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the adapter; ``history`` then has the curves.

        A model that :meth:`load_query_data` made is trained gently unless told otherwise: for 10 epochs, with the
        optimiser of its reference at a tenth of its rate.

        Parameters
        ----------
        max_epochs
            Passes over the paired student samples, each with a new random partner in every pass. ``None`` is 10 where
            a model starts from a reference, 50 for Semi-Clipped on a frozen encoder by the default preset, or else 150.
        pea
            Perturbation Embedding Augmentation of the student in training: ``True`` for the paper's, ``False`` for the
            correction of inference instead, or options of :class:`semiclip.correction.PEA`. ``None`` is ``True`` where
            the setup names controls and the encoder is frozen, and ``False`` otherwise.
        views
            Keys of ``obsm`` with augmented views of the student, which :func:`semiclip.pp.augment` made. Each time, a
            sample is seen as one of these kinds of view or as it was measured, all equally likely, and as a random view
            of that kind. PEA comes on top.
        preset
            Where the optimiser and its schedule start from, by :data:`semiclip.objectives.PRESETS`: ``"default"`` was
            chosen on simulations, ``"paper"`` is the paper's. :func:`semiclip.tl.distill` has its other settings too.
        %(param_accelerator)s
        %(param_devices)s
        train_size, validation_size
            Fractions of the groups (``split_key``) for training and validation; ``None`` is all that the other leaves,
            or 0.9 for training. The rest is a test set.
        batch_size
            Rows of a mini-batch over all devices, all of them if there are fewer; ``None`` is 1,024. Some objectives
            need a least number: ``"dcca"`` needs twice the width of the embedding and 2 more.
        early_stopping
            Stop when ``monitor`` no longer improves; ``early_stopping_patience`` is a trainer argument.
        monitor
            A curve of validation: ``validation_loss``, ``validation_mean_rank_percentile`` or
            ``validation_recall_at_1``, ``_5``, ``_10``. There is no loss where validation has too few rows or no class
            of training, and nothing else where an objective does not embed in the teacher's space, as with ``"dcca"``.
        select
            Keep the weights of the last epoch, as the paper does, or of the ``"best"`` epoch by ``monitor``.
        matmul_precision
            Precision of float32 matrix products in training: ``"high"`` is TF32 on GPUs that have it, see
            :func:`torch.set_float32_matmul_precision`. ``precision="bf16-mixed"`` is a trainer argument.
        pretrain_epochs
            Epochs in which objectives that learn from labels first train each side alone, by default ``max_epochs``;
            0 leaves them out. A model that is trained further is pretrained only on new classes.
        pretrain_kwargs
            Arguments of the training plan of pretraining, over :data:`semiclip.objectives.PRETRAINING`.
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
            or to validate on, or training diverges or embeds all rows alike.
        TypeError
            If an argument is neither one of training nor of the trainer.
        """
        views = take_renamed(trainer_kwargs, "augment", RENAMED, views)
        preset = take_renamed(trainer_kwargs, "profile", RENAMED, preset)
        check_training_arguments(SemiClip.train, type(self), self.module.objective_name, trainer_kwargs)
        check_arguments(self._training_plan_cls, plan_kwargs or {}, "plan_kwargs", filled=("module", "max_epochs"))
        check_arguments(self._data_splitter_cls, datasplitter_kwargs or {}, "datasplitter_kwargs", filled=FILLED_DATA)
        check_choice("select", select, Select)
        check_choice("preset", preset, PRESETS[self.module.objective_name])
        check_choice("matmul_precision", matmul_precision, Precision)
        max_epochs = choose_epochs(self, max_epochs, preset)
        batch_size = read_whole("batch_size", batch_size, 2, default=1024)
        train_size = choose_train_size(train_size, validation_size)
        pretrain_epochs = count_pretrain_epochs(self.module, pretrain_epochs, pretrain_kwargs, max_epochs)
        if self.adata is None:
            raise NoData("model", "load it with SemiClip.load(folder, mdata) to train it further")
        options = choose_pea(self.module, pea, self.design, self._specs[STUDENT])
        views = [views] if isinstance(views, str) else list(views or [])
        sizes = {"train_size": train_size, "validation_size": validation_size, "batch_size": batch_size}
        data = self._pair_data(options, views, **sizes, **(datasplitter_kwargs or {}))
        check_trainable(self.module, data, monitor if early_stopping or select == "best" else None)

        # plans are made first, so that what is refused leaves the model as it was
        optimisation = choose_optimisation(self, preset, plan_kwargs or {}, max_epochs)
        plan = self._training_plan_cls(self.module, max_epochs=max_epochs, **optimisation)
        pretraining = plan_pretraining(self.module, pretrain_epochs, pretrain_kwargs)

        mode: Literal["min", "max"] = "max" if "recall" in monitor else "min"
        callbacks, checkpoints = split_callbacks(trainer_kwargs.pop("callbacks", None))
        callbacks += [KeepBest(monitor, mode)] if select == "best" else []
        defaults = {
            "early_stopping": early_stopping,
            "early_stopping_monitor": monitor,
            "early_stopping_mode": mode,
            "check_val_every_n_epoch": 1,
            "limit_val_batches": None if data.n_val else 0,
            "log_every_n_steps": 1,  # curves are by epoch; Lightning warns of epochs with fewer calls than this
        }
        where = {"accelerator": accelerator, "devices": devices}
        pretrained: dict[str, Any] = {}
        precise, kept = set_matmul_precision(matmul_precision), keep_checkpoints(callbacks, self)
        with precise, hush_lightning(), kept, all_or_nothing(self):
            if pretraining is not None and make_heads(self, data) and "ckpt_path" not in trainer_kwargs:
                pretrained = pretrain(self, pretraining, data, where, trainer_kwargs)
            arguments = choose_progress({"callbacks": callbacks, **defaults, **trainer_kwargs})
            n_epochs = max_epochs if start_adapter(self, data, callbacks) else 0
            runner = self._train_runner_cls(self, plan, data, n_epochs, **where, **arguments)
            runner.trainer.callbacks += checkpoints
            self.module.train()  # a loaded model is in evaluation mode
            runner()
            self.history_ = {**(self.history_ or {}), **pretrained}  # without a logger there is none
            self.split_seed_ = data.split_seed
            params: dict[str, Any] = {"max_epochs": max_epochs, "train_size": train_size, "batch_size": batch_size}
            if pretraining is not None:
                self.classes_ = data.classes  # those of a checkpoint, if it was resumed
                params["pretrain_epochs"] = pretrain_epochs
            params |= {"select": select, "pea": options.params if options else False, "views": views or False}
            params["epochs"] = count_epochs(self.train_params_, runner, resumed="ckpt_path" in trainer_kwargs)
            params["distilled_weight"] = weigh_parts(self, data)
            self.train_params_ = {**params, "monitor": monitor, "shared_keys": data.host.n_keys, **optimisation}
            self.trainer = None  # it holds data and the optimiser's state

    def _pair_data(self, pea: PEA | None, view_keys: Sequence[str], **splitting: Any) -> PairedDataModule:
        """Return what training reads: the student, the corrected teacher, their pairs and the augmentation."""
        design, reading, self._reading = self.design, read_data(self), None
        (student, teacher), pairing = reading.sides.values(), reading.pairing
        as_inferred, of_teacher = reading.corrections.values()
        order = sort_by_key(pairing.teacher)
        samples = design.side(self.adata, STUDENT)
        groups = read_groups(samples, design, pairing.student)
        if (n_shared := self.init_params_["non_kwargs"]["n_shared"]) is not None:
            split = split_rows(pairing.student, groups, self.split_seed_, **splitting)
            means = average_keys(reading, split[0])
            taught = project(teacher, of_teacher, order, self.projection_ or fit_projection(means, max(1, n_shared)))
            splitting |= {"external_indexing": split, "key_means": means}
        else:
            taught = of_teacher(teacher.values, teacher.batch, order)
            taught = taught if self.module.teacher_adapter else reduce_components(taught, self.module.n_output)
        del reading, teacher, of_teacher  # the maps of the teacher are large, and so are rows read from a file
        if self.module.objective.spec.needs_labels:
            splitting["labels"] = read_labels(samples, design, pairing)
        views = read_views(samples, view_keys, self.representations["student_rep"], design, groups)
        # PEA corrects each row as it comes, also that of a view; without PEA all are corrected once, here
        seen = as_inferred(student.values, student.batch) if pea is None else student.values
        correct = correct_views(as_inferred, student.batch) if pea is None else None
        keys = pairing.student, pairing.teacher[order]
        tensors = PairedTensors.from_arrays(seen, taught, *keys, student.batch, views, correct)
        seed = int(torch.randint(2**31, ()))  # follows scvi.settings.seed
        if pea is not None:
            rows, fallback, names = student[:3], self._specs[STUDENT].fallback, student.batch_names
            # refused before a trainer is made
            find_short_batches(*rows[1:], fallback, names, at_least=pea.min_controls)
            splitting["augmentation"] = partial(Augmentation, pea, *rows, fallback=fallback, batch_names=names)
            splitting["infer"] = lambda rows: as_inferred(student.values, student.batch, rows)
        return self._data_splitter_cls(tensors, groups, split_seed=self.split_seed_, seed=seed, **splitting)
