from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from types import MethodType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import numpy as np
import torch
from lightning import Trainer as LightningTrainer
from scvi.train import Trainer, TrainRunner

from semiclip._arguments import AS_IN_SETUP, check_arguments, check_choice, check_whole
from semiclip._checks import check_adata, check_finite, get_modality, read_rows
from semiclip._design import STUDENT, TEACHER, Design
from semiclip._docs import document
from semiclip._mudata import put_together, take_apart
from semiclip._sides import PairedObs, SideArrays, check_columns, read_side, warn_if_corrected
from semiclip.baselines import BASELINES
from semiclip.correction import PEA, CorrectionSpec, Fallback, Method
from semiclip.errors import BadValue, NoData, NotInMemory
from semiclip.errors._base import remembered
from semiclip.model._plan import DistillationPlan
from semiclip.model._scvi_compat import (
    DATA_ID,
    FIELDS,
    SETUP_ARGS,
    STATE,
    Manager,
    MuDataRepresentationField,
    RepresentationField,
    SafeModel,
    setup_anndata_dsp,
)
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip._design import Side

RENAMED = {"augment": "views", "profile": "preset"}  # arguments of training, by their names before 0.2
# arguments that scvi-tools or a caller fills in, and those that stand for any name
FILLED = {"self", "adata", "registry", "module", "max_epochs", "objective", "method", "model", "training_plan"}
FILLED |= {"data_splitter", "kwargs", "trainer_kwargs", "objective_kwargs", "method_kwargs"}
PRECISIONS = (None, 32, "32", "32-true", 16, "16", "16-mixed", "bf16", "bf16-mixed")  # weights stay float32
MODEL_RIDGE = 0.5  # no direction then grows by more than 1.41, on either side


class PairedModel(SafeModel):
    """What models of paired modalities share: the setup, and inference from the student alone."""

    adata: Any
    module: Any
    history_: Any
    var_names_: Any

    def __init__(
        self,
        adata: AnnData | MuData | None,
        registry: dict[str, Any] | None,
        *,
        student_correction: Method | None,
        teacher_correction: Method | Mapping[str, Any] | None,
        ridge: float,
        fallback: Fallback,
    ) -> None:
        if student_correction is not None:
            check_choice("student_correction", student_correction, Method)
        shared: dict[str, Any] = {"ridge": ridge, "fallback": fallback}
        # PEA draws from the student's correction by its own batch; the teacher's is fitted on all controls
        self._specs = {
            STUDENT: CorrectionSpec(student_correction, "batch", **shared),
            TEACHER: CorrectionSpec.of("teacher_correction", teacher_correction, profile="clean", **shared),
        }
        if self._specs[TEACHER].profile == "public":
            way_out = "the profile 'global' gives the same cosines without the rotation"
            raise BadValue("teacher_correction", teacher_correction, "of a profile other than 'public'", way_out)
        super().__init__(adata, registry)
        # the seed of the split is drawn before the weights, so that all models of a seed hold the same samples out, and
        # from a copy of torch's generator, which follows scvi.settings.seed and goes on as if nothing had been drawn
        generator = torch.Generator().set_state(torch.get_rng_state())
        self.split_seed_: int = int(torch.randint(2**31, (), generator=generator))
        if self.adata is not None:
            self.var_names_ = self.get_var_names()
            if student_correction is not None:
                warn_if_corrected(self.design.side(self.adata, STUDENT), self.representations["student_rep"])
        self.train_params_: dict[str, Any] = {}

    @classmethod
    @setup_anndata_dsp.dedent
    @document
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        student_rep: str,
        teacher_rep: str,
        pair_on: str | Sequence[str],
        perturbation_key: str | None = None,
        control: str | Sequence[str] | None,
        batch_key: str | None = None,
        split_key: str | None = None,
        label_key: str | None = None,
        unlabelled: str | Sequence[str] | None = None,
        separator: str | None = None,
        modalities: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary_mdata)s.

        The two modalities need not share observations: they are paired by key.

        Parameters
        ----------
        %(param_mdata)s
        {pairing}
        {label_key}
        {labels}
        {modalities}
        **kwargs
            Passed to scvi-tools when a setup is transferred.
        """
        pair_on = [pair_on] if isinstance(pair_on, str) else list(pair_on)
        setup_method_args = cls._get_setup_method_args(**locals())
        design = read_design(setup_method_args[SETUP_ARGS])
        get_modality(mdata, design.student)
        check_columns(mdata, design, STUDENT)
        paired = None
        if kwargs.get("source_registry") is None:  # data for a trained model need no teacher
            check_columns(mdata, design, TEACHER)
            paired = PairedObs(mdata, design)
            paired.pairing.report(design.student, design.teacher)
        fields = [
            MuDataRepresentationField(STUDENT, student_rep, mod_key=design.student, mod_required=True),
            MuDataRepresentationField(TEACHER, teacher_rep, required=False, mod_key=design.teacher, mod_required=True),
        ]
        cls._register(mdata, fields, setup_method_args, paired, **kwargs)

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        student_rep: str,
        teacher_rep: str,
        perturbation_key: str | None = None,
        control: str | Sequence[str] | None,
        batch_key: str | None = None,
        split_key: str | None = None,
        label_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary)s.

        For strong pairing: both embeddings were measured on the same samples, and every treated row is its own pair.

        Parameters
        ----------
        %(param_adata)s
        student_rep, teacher_rep
            Embeddings in ``obsm``.
        perturbation_key, control, batch_key, split_key, label_key
            ``obs`` columns and the label or labels of the controls, as in :meth:`setup_mudata`. Without ``label_key``,
            classes are perturbations.
        **kwargs
            Passed to scvi-tools when a setup is transferred.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        design = read_design(setup_method_args[SETUP_ARGS])
        check_columns(check_adata(adata), design, STUDENT)
        fields = [RepresentationField(STUDENT, student_rep), RepresentationField(TEACHER, teacher_rep, required=False)]
        cls._register(adata, fields, setup_method_args, **kwargs)

    @classmethod
    def _register(
        cls,
        adata: AnnData | MuData,
        fields: list[Any],
        setup_method_args: dict[str, Any],
        paired: PairedObs | None = None,
        **kwargs: Any,
    ) -> None:
        manager: Any = Manager(fields, setup_method_args)
        manager.register_fields(adata, **kwargs)
        manager.paired = paired
        cls.register_manager(manager)

    def _take_pairs(self) -> PairedObs:
        """Return the pairs that the setup made, unless a column has changed since; they serve one model, once.

        scvi-tools keeps the manager for good, and they are large.
        """
        manager: Any = self.adata_manager
        paired: PairedObs | None = vars(manager).pop("paired", None)
        return paired if paired and paired.is_current(self.adata, self.design) else PairedObs(self.adata, self.design)

    @property
    def design(self) -> Design:
        """What the columns of the training data mean."""
        return read_design(self.registry_[SETUP_ARGS])

    @property
    def read_keys(self) -> list[str]:
        """Keys of ``obsm`` of the student's modality that the model reads, which nothing may be written over."""
        return list_read_keys(self.design, self.representations, self.train_params_.get("views"))

    @property
    def representations(self) -> dict[str, str]:
        """Keys of ``obsm`` that the model was set up with, by ``student_rep`` and ``teacher_rep``."""
        return {name: key for name, key in self.registry_[SETUP_ARGS].items() if name.endswith("_rep")}

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        perturbation_key: str | None = AS_IN_SETUP,
        control: str | Sequence[str] | None = AS_IN_SETUP,
        batch_key: str | None = AS_IN_SETUP,
        fallback: Fallback | None = None,
    ) -> np.ndarray:
        """Embed samples as the teacher would, from the student representation alone.

        The correction is fitted on the query's own controls, so its batches may be new and need no extra step.

        Parameters
        ----------
        adata
            Samples with ``student_rep`` and the ``obs`` columns of the setup: a MuData with the student modality, or
            that modality's AnnData; the training data if ``None``. It is only read.
        indices
            Numbers of the rows to return, or a mask; the correction is fitted on all controls either way.
        batch_size
            Rows embedded at a time; by default 16,384, or 64 with an scGPT encoder.
        perturbation_key, control, batch_key
            Names of these in the query's ``obs``, where they differ from the setup; ``None`` where it has none. If the
            setup names several control labels, a query needs one of them.
        fallback
            What happens to a batch with fewer than two controls: an error (``"raise"``), or the ``"pooled"`` controls
            of all batches of the query. ``None`` is what the model was made with.

        Returns
        -------
        Embedding, float32 of shape (n_obs or len(indices), D). D is the width of the teacher, ``n_shared``, or
        ``n_components`` with the objective ``"dcca"``; where the student stands beside this part, its width is added.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, ValueError
            If the query lacks a column, has NaN or too few controls in a batch, or if its ``student_rep`` has another
            width, other column names or another encoder than that of the training data.
        """
        self._check_if_trained(warn=False)
        if batch_size is not None:
            check_whole("batch_size", batch_size)
        if adata is None:
            if self.adata is None:
                raise NoData("model", "pass the samples to embed")
            adata = self._validate_anndata(None)
        given = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
        given = {name: value for name, value in given.items() if value is not AS_IN_SETUP}
        with remembered("the model", self.registry_[SETUP_ARGS].keys() - given):
            samples, query = self._read_query(adata, given)
        spec = self._specs[STUDENT]
        correction = query.fit(spec if fallback is None else replace(spec, fallback=fallback))
        rows = np.arange(len(query.values))
        rows = rows if indices is None else rows[read_rows("indices", indices, len(rows))]
        embedded = self.module.embed(
            lambda block: correction(query.values, query.batch, rows[block]),
            len(rows),
            self.module.block_rows if batch_size is None else batch_size,
        )
        check_finite(embedded, samples.obs_names[rows], "the embedding")
        return embedded

    def _read_query(self, adata: AnnData | MuData, given: Mapping[str, Any]) -> tuple[AnnData, SideArrays]:
        """Return samples and their arrays, with the columns of the setup unless others are given.

        They are not registered: scvi-tools would ask for the teacher and keep the query in memory.
        """
        design = self.design.changed(**given)
        samples = design.side(adata, STUDENT)
        if "control" in given and design.control is not None:  # every label named for this query must be in it
            modalities = getattr(adata, "mod", {"student": samples}).values()
            design.check_controls([side for side in modalities if design.perturbation_key in side.obs] or [samples])
        return samples, self._read(adata, STUDENT, design)

    def _read(self, adata: AnnData | MuData, side: Side, design: Design | None = None) -> SideArrays:
        """Return the arrays of a side, whose representation must be the one of the setup."""
        design = design or self.design
        learned = self.registry_[FIELDS][side][STATE]
        rep = self.representations[f"{side}_rep"]
        return read_side(design.side(adata, side), rep, design, side, learned)

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(vars(self))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Leave out scvi-tools' manager, which no pickle can hold; the data go along, as with its own models."""
        data = self.adata
        if data is not None and data.isbacked:
            raise NotInMemory("X of the model's data", "save the model instead, or load it without data: adata=False")
        data = take_apart(data) if hasattr(data, "mod") else data
        return {**vars(self), "_adata_manager": None, "_adata": data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register the data, which are a copy, under a name of their own: the first ones stay with their model."""
        self.__dict__.update(state, id=str(uuid4()))
        if self.adata is None:
            return
        if isinstance(self.adata, tuple):
            self._adata = put_together(*self.adata)
        self.adata.uns.pop(DATA_ID, None)
        setup = self.setup_mudata if hasattr(self.adata, "mod") else self.setup_anndata
        setup(self.adata, source_registry=self.registry_, **self.registry_[SETUP_ARGS])
        self._adata_manager = self._get_most_recent_anndata_manager(self.adata, required=True)
        self._register_manager_for_instance(self._adata_manager)
        self.registry_ = self._adata_manager.registry

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, np.ndarray]:  # noqa: FBT001, FBT002  # scvi-tools' own
        """Return the variable names of the training data, also of a model that was loaded without it."""
        return self.var_names_ if self.adata is None else super().get_var_names(legacy_mudata_format)


def list_read_keys(design: Design, reps: Mapping[str, str], views: str | Iterable[str] | None) -> list[str]:
    """Return the keys of ``obsm`` of the student's modality that a model reads, with those of ``views``."""
    keys = [reps["student_rep"], *([views] if isinstance(views, str) else views or [])]
    in_one = design.pair_on is None or design.student == design.teacher
    return [*keys, reps["teacher_rep"]] if in_one else keys


def read_design(setup_args: Mapping[str, Any]) -> Design:
    """Return the design of the arguments of a setup."""
    return Design.of(**{name: value for name, value in setup_args.items() if not name.endswith("_rep")})


def check_training_arguments(
    train: Callable[..., Any],
    model_cls: type,
    objective: str,
    arguments: Mapping[str, Any],
    *,
    caller: Callable[..., Any] | None = None,
) -> None:
    """Refuse arguments that ``train`` of :class:`SemiClip` does not take; a baseline takes the same.

    ``caller`` is the function that takes arguments of its own, hands these on and makes the model from
    ``model_kwargs``; ``None`` if training itself was called.
    """
    made = "model_kwargs={{{!r}: …}}" if caller else f"{model_cls.__name__}(mdata, {{}}=…)"
    homes = {
        f"the model: {made}": _names(model_cls, {**OBJECTIVES, **BASELINES}[objective]),
        "the training plan: plan_kwargs={{{!r}: …}}": _names(DistillationPlan),
        "the augmentation: pea={{{!r}: …}}": [field.name for field in fields(PEA)],
        "the split: datasplitter_kwargs={{{!r}: …}}": ["external_indexing", "chunk_rows"],
    }
    passed_on = [*_names(Trainer, LightningTrainer, TrainRunner), "max_epochs", "ckpt_path"]
    also = [*_names(*([caller] if caller else []), filled={"train_kwargs"}), *RENAMED]
    check_arguments(MethodType(train, model_cls), arguments, "training", also=also, passed_on=passed_on, homes=homes)
    check_choice("precision", arguments.get("precision"), PRECISIONS)


def _names(*takers: Callable[..., Any], filled: Iterable[str] = FILLED) -> list[str]:
    """Return the arguments of classes and functions, but those that are filled in."""
    return [name for taker in takers for name in signature(taker).parameters if name not in filled]
