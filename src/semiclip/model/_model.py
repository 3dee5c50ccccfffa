from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from semiclip.encoders._protocol import Trainable
from semiclip.model._base import PairedModel
from semiclip.model._fields import STUDENT, TEACHER
from semiclip.model._module import SemiClipModule, widths_of
from semiclip.model._objective import check_encoder, complete, hidden
from semiclip.model._training import DistillationTraining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import Fallback, Method


class SemiClip(DistillationTraining, PairedModel):
    """Distillation: a frozen teacher embedding teaches an adapter on a frozen student embedding.

    By default that is Semi-Clipped, with the CLIP loss; other objectives are its rivals. Some of these learn from
    classes, the perturbations, and some give the teacher an adapter as well.

    Parameters
    ----------
    adata
        MuData or AnnData registered with :meth:`setup_mudata` or :meth:`setup_anndata`.
    registry
        Registry of a saved model; scvi-tools passes it when it loads one without data.
    n_hidden
        Hidden widths of the adapter, between the student's and the teacher's; none makes it linear. ``"auto"`` is
        (512, 1024) as in the paper, or (64,) when fewer than 500 keys pair: on the 162 real compounds of
        :func:`semiclip.datasets.u2os_compounds` held-out ones are ranked better by 64 than by no hidden unit or by the
        paper's widths.
    objective
        The loss: one of :data:`semiclip.objectives.OBJECTIVES`.
    teacher_adapter
        Whether the teacher has an adapter too, or the widths of its hidden layers: ``True`` is (1024, 1024) as in the
        paper, or (64,) when fewer than 500 keys pair. ``None`` leaves it to the objective:
        ``"clip"`` and those that learn from labels have one.
    encoder
        ``None`` where ``student_rep`` is an embedding. An encoder that can be trained (see
        :class:`semiclip.encoders.Trainable`), or its architecture, goes before the adapter and is trained with it;
        ``student_rep`` then holds what it reads, see :func:`semiclip.pp.expression`. One that was fitted is
        fine-tuned; :class:`semiclip.encoders.MLPEncoder` starts from scratch.
    student_correction, teacher_correction
        Correction on controls of each representation, see :func:`semiclip.correction.correct`; ``None`` for none.
        ``"auto"`` is ``"tvn"`` for an embedding, and ``None`` for what an encoder reads, which was not fitted on
        corrected expression. The student is corrected by its own batch alone, from which PEA draws, and the teacher
        by all controls (profiles ``batch`` and ``clean``): the principal components of ``public`` turn with every set
        of controls, so that a network could not read a query by them.
    ridge
        Keeps whitening from blowing up directions in which controls hardly vary: with 0.5 none grows by more than
        1.41, while 0 makes the control covariance exactly I.
    fallback
        What happens to a batch with fewer than two controls: an error, or the pooled controls of all batches.
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

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_hidden: Sequence[int] | Literal["auto"] = "auto",
        objective: str = "semiclip",
        teacher_adapter: bool | Sequence[int] | None = None,
        encoder: Trainable | Mapping[str, Any] | None = None,
        student_correction: Method | Literal["auto"] | None = "auto",
        teacher_correction: Method | None = "tvn",
        ridge: float = 0.5,
        fallback: Fallback = "raise",
        **objective_kwargs: Any,
    ) -> None:
        objective_kwargs = complete(objective, objective_kwargs)
        if student_correction == "auto":
            student_correction = "tvn" if encoder is None else None
        methods = {STUDENT: student_correction, TEACHER: teacher_correction}
        super().__init__(adata, registry, methods, ridge=ridge, fallback=fallback)
        widths = {side: self.summary_stats[f"n_{side}"] for side in (STUDENT, TEACHER)}
        weights = None
        if isinstance(encoder, Trainable):
            weights, encoder = encoder.weights(), encoder.architecture
        check_encoder(encoder, widths[STUDENT])
        # what "auto" stands for is settled here, so that a saved model does not ask again
        n_hidden, teacher_adapter = hidden(
            n_hidden, teacher_adapter, objective, lambda: self._setup.pairing(self.adata).n_keys
        )
        self.module = self._module_cls(
            widths[STUDENT],
            n_hidden,
            widths[TEACHER],
            objective=objective,
            teacher_hidden=None if teacher_adapter is False else teacher_adapter,
            encoder=encoder,
            **objective_kwargs,
        )
        if weights is not None and self.module.encoder is not None:
            self.module.encoder.load_state_dict(weights)
        self.classes_ = None
        self._model_summary_string = self._summary(widths[STUDENT], n_hidden, objective, objective_kwargs)
        self.init_params_ = self._get_init_params(locals())

    def _summary(self, n_input: int, n_hidden: Sequence[int], objective: str, kwargs: Mapping[str, Any]) -> str:
        module = self.module
        before = [] if module.encoder is None else ["encoder"]
        widths = [n_input, *before, *n_hidden, module.n_output]
        settings = {"objective": objective, **kwargs}
        if module.teacher_adapter is not None:
            settings["teacher adapter"] = " → ".join(map(str, widths_of(module.teacher_adapter)))
        settings |= {f"{side} correction": method for side, method in self._methods.items()}
        return (
            f"SemiClip model with adapter {' → '.join(map(str, widths))}, "
            f"{', '.join(f'{name}: {value}' for name, value in settings.items())}."
        )
