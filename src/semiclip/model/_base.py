from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rich.pretty  # noqa: F401  # scvi-tools 1.4 prints with it without importing it, which rich 15 no longer forgives
import torch
from scvi.data._constants import _FIELD_REGISTRIES_KEY, _SETUP_ARGS_KEY, _STATE_REGISTRY_KEY
from scvi.data._manager import AnnDataManagerValidationCheck
from scvi.model.base import BaseModelClass
from scvi.utils import setup_anndata_dsp

from semiclip._checks import UNSET, finite_rows, known_labels, modality, nonempty
from semiclip._pairing import roles, student_of
from semiclip.model._fields import STUDENT, TEACHER, Manager, MuDataRepresentationField, RepresentationField
from semiclip.model._setup import Setup, check_correction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip.model._setup import Method


class PairedModel(BaseModelClass):
    """What models of paired modalities share: the setup, and inference from the student alone."""

    adata: Any
    module: Any
    _methods: Mapping[str, Method | None]
    _correction: Mapping[str, Any]
    var_names_: Any

    def __init__(
        self,
        adata: AnnData | MuData | None,
        registry: dict[str, Any] | None,
        methods: Mapping[str, Method | None],
        **correction: Any,
    ) -> None:
        check_correction(methods, **correction)
        super().__init__(adata, registry)
        # the seed of the split is drawn before the weights, so that all models of a seed hold the same samples out, and
        # from a copy of torch's generator, which follows scvi.settings.seed and goes on as if nothing had been drawn
        generator = torch.Generator().set_state(torch.get_rng_state())
        self.split_seed_: int = int(torch.randint(2**31, (), generator=generator))
        self._methods, self._correction = methods, correction
        if self.adata is not None:
            self.var_names_ = self.get_var_names()
            if methods[STUDENT] is not None:
                self._setup.warn_if_corrected(self.adata)
        self.train_params_: dict[str, Any] = {}

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        student_rep: str,
        teacher_rep: str,
        pair_on: str | Sequence[str],
        control: str | Sequence[str] | None,
        perturbation_key: str | None = None,
        batch_key: str | None = None,
        split_key: str | None = None,
        label_key: str | None = None,
        modalities: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary_mdata)s.

        The two modalities need not share observations: they are paired by key.

        Parameters
        ----------
        %(param_mdata)s
        student_rep, teacher_rep
            Embeddings in ``obsm`` of the student and the teacher modality.
        pair_on
            ``obs`` columns that make the key, in both modalities.
        control, perturbation_key
            Label(s) of the controls and their ``obs`` column in both modalities; controls are the reference of the
            correction and are never paired. ``control=None`` says that there are none: every row of a batch is then
            its reference, and what all treated rows have in common is corrected away.
        batch_key
            ``obs`` column of the batches in both modalities; ``None`` makes each modality one batch.
        split_key
            ``obs`` column of the student whose groups (such as experiments) are never split between training and
            validation. If ``None``, these are the perturbations, those of one pairing key together, or without a
            ``perturbation_key`` the pairing keys.
        label_key
            ``obs`` column of the student that says the classes of an objective that learns from labels; the pairing key
            if ``None``, so that each dose is a class of its own. Others do without it.
        modalities
            Names of the ``student`` and ``teacher`` modality, ``{"student": "rna", "teacher": "image"}`` by default.
        **kwargs
            Passed to scvi-tools when a setup is transferred.
        """
        modalities = roles(modalities)
        modality(mdata, modalities[STUDENT])
        pair_on = [pair_on] if isinstance(pair_on, str) else list(pair_on)
        setup_method_args = cls._get_setup_method_args(**locals())
        setup = Setup(**setup_method_args[_SETUP_ARGS_KEY])
        setup.check(mdata, STUDENT)
        if kwargs.get("source_registry") is None:  # data for a trained model need no teacher
            setup.check(mdata, TEACHER)
            setup.pairing(mdata).log(modalities[STUDENT], modalities[TEACHER])
        fields = [
            MuDataRepresentationField(STUDENT, student_rep, mod_key=modalities[STUDENT], mod_required=True),
            MuDataRepresentationField(
                TEACHER, teacher_rep, required=False, mod_key=modalities[TEACHER], mod_required=True
            ),
        ]
        cls._register(mdata, fields, setup_method_args, **kwargs)

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        student_rep: str,
        teacher_rep: str,
        control: str | Sequence[str] | None,
        perturbation_key: str | None = None,
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
        control, perturbation_key, batch_key, split_key, label_key
            Label(s) and ``obs`` columns, as in :meth:`setup_mudata`; without ``label_key``, classes are perturbations.
        **kwargs
            Passed to scvi-tools when a setup is transferred.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        Setup(**setup_method_args[_SETUP_ARGS_KEY]).check(nonempty(adata), STUDENT)
        fields = [
            RepresentationField(STUDENT, student_rep),
            RepresentationField(TEACHER, teacher_rep, required=False),
        ]
        cls._register(adata, fields, setup_method_args, **kwargs)

    @classmethod
    def _register(
        cls, adata: AnnData | MuData, fields: list[Any], setup_method_args: dict[str, Any], **kwargs: Any
    ) -> None:
        # the modalities have different observations: that is the normal case here
        checks = AnnDataManagerValidationCheck(check_fully_paired_mudata=False)
        manager = Manager(fields, setup_method_args, validation_checks=checks)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        perturbation_key: str | None = UNSET,
        control: str | Sequence[str] | None = UNSET,
        batch_key: str | None = UNSET,
        fallback: Literal["raise", "pooled"] | None = None,
    ) -> np.ndarray:
        """Embed samples as the teacher would, from the student representation alone.

        The correction is fitted on the query's own controls, so its batches may be new and need no extra step.

        Parameters
        ----------
        adata
            Samples with ``student_rep`` and the ``obs`` columns of the setup: a MuData with the student modality, or
            that modality's AnnData; the training data if ``None``. It is only read.
        indices
            Rows to return; the correction is fitted on all controls either way.
        batch_size
            Rows embedded at a time, by default as many as a block of 16,384 has, or 64 with an scGPT encoder.
        perturbation_key, control, batch_key
            What the query's ``obs`` calls them, where that differs from the setup; ``None`` where it has none. Of
            several labels that the setup names for the controls, a query needs one.
        fallback
            What happens to a batch with fewer than two controls: an error (``"raise"``), or the ``"pooled"`` controls
            of all batches of the query. ``None`` is what the model was made with.

        Returns
        -------
        Embedding, float32 of shape (n_obs or len(indices), D) with D the width of the teacher; of objective ``"dcca"``,
        its ``n_components``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, ValueError
            If the query lacks a column, has NaN or too few controls in a batch, or if its ``student_rep`` has another
            width, columns of other names or was made by another encoder than that of the training data.
        """
        self._check_if_trained(warn=False)
        if adata is None:
            if self.adata is None:
                msg = "the model was loaded without data; pass the samples to embed"
                raise ValueError(msg)
            adata = self._validate_anndata(None)
        # a query is read here and not registered: scvi-tools would ask for the teacher and keep the query in memory
        own = {"perturbation_key": perturbation_key, "control": control, "batch_key": batch_key}
        setup = replace(self._setup, **{name: key for name, key in own.items() if key is not UNSET})  # type: ignore[arg-type]
        samples = student_of(adata, setup.modalities)
        if control is not UNSET:  # what is named for this query shall be in it
            sides = [each for each in getattr(adata, "mod", {}).values() if setup.perturbation_key in each.obs]
            known_labels(sides or [samples], setup.perturbation_key, control)
        query = setup.read(adata, STUDENT)
        how = self._correction if fallback is None else {**self._correction, "fallback": fallback}
        check_correction(self._methods, **how)
        correction = query.correction(self._methods[STUDENT], **how)
        rows = np.arange(len(query.values)) if indices is None else np.arange(len(query.values))[np.asarray(indices)]
        embedded = self.module.embed(
            lambda block: correction(query.values, query.batch, rows[block]),
            len(rows),
            batch_size or self.module.block_rows,
        )
        finite_rows(embedded, samples.obs_names[rows], "the embedding")
        return embedded

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, np.ndarray]:  # noqa: FBT001, FBT002  # scvi-tools' own
        """Return the variable names of the training data, also of a model that was loaded without it."""
        return self.var_names_ if self.adata is None else super().get_var_names(legacy_mudata_format)

    @property
    def _setup(self) -> Setup:
        fields = self.registry_[_FIELD_REGISTRIES_KEY]
        learned = {side: fields[side][_STATE_REGISTRY_KEY] for side in (STUDENT, TEACHER)}
        return Setup(**self.registry_[_SETUP_ARGS_KEY], learned=learned)
