from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from semiclip._arguments import check_choice
from semiclip._design import STUDENT, TEACHER
from semiclip._numerics import row_blocks
from semiclip._sides import read_groups
from semiclip.baselines import BASELINES
from semiclip.errors import Conflict, NoData
from semiclip.metrics import group_mean
from semiclip.model._base import MODEL_RIDGE, PairedModel, check_training_arguments
from semiclip.model._data import choose_train_size, split_rows
from semiclip.model._model import SemiClip
from semiclip.model._module import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import Fallback, Method


class BaselineModule(nn.Module):
    """Holds what a baseline learned, so that scvi-tools saves it as it does weights."""

    block_rows = BLOCK

    def __init__(self, method: str, **method_kwargs: Any) -> None:
        super().__init__()
        self.objective_name = method
        self.baseline: Any = BASELINES[method](**method_kwargs)
        self.n_output = 0

    def get_extra_state(self) -> dict[str, np.ndarray]:
        """Return what was learned."""
        return dict(self.baseline.fitted)

    def set_extra_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with what was learned before."""
        self.baseline.fitted = dict(state)

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return torch.device("cpu")

    def embed(self, read: Callable[[slice], np.ndarray], n: int, block: int) -> np.ndarray:
        """Embed ``n`` rows, reading a block at a time; float32 of shape (n, p)."""
        blocks = list(row_blocks(n, block)) or [slice(0, 0)]  # no rows have a width too
        return np.concatenate([self.baseline.transform(read(rows)) for rows in blocks])

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Do nothing: scvi-tools calls this on every module that it loads."""


class Baseline(PairedModel):
    """A closed-form baseline with the setup, the correction and the inference of :class:`SemiClip`.

    It is learned from the treated student rows that are paired, each with the mean teacher row of its key.

    Parameters
    ----------
    adata
        MuData or AnnData registered with :meth:`setup_mudata` or :meth:`setup_anndata`.
    registry
        Registry of a saved model; scvi-tools passes it when it loads one without data.
    method
        One of :data:`semiclip.baselines.BASELINES`: ``"unimodal"``, ``"random"``, ``"ridge"``, ``"cca"``,
        ``"procrustes"`` or ``"knn"``.
    student_correction, teacher_correction, ridge, fallback
        As in :class:`SemiClip`.
    **method_kwargs
        Arguments of the method.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8)
    >>> scl.model.Baseline.setup_mudata(
    ...     study.mdata,
    ...     student_rep="X_pca",
    ...     teacher_rep="X_image",
    ...     pair_on=["perturbation", "dose"],
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ... )
    >>> model = scl.model.Baseline(study.mdata, method="ridge")
    >>> model.train()
    >>> model.get_latent_representation().shape
    (432, 128)
    """

    _module_cls = BaselineModule

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        method: str = "ridge",
        student_correction: Method | None = "tvn",
        teacher_correction: Method | Mapping[str, Any] | None = "tvn",
        ridge: float | None = None,
        fallback: Fallback = "raise",
        **method_kwargs: Any,
    ) -> None:
        check_choice("method", method, BASELINES)
        ridge = MODEL_RIDGE if ridge is None else ridge
        super().__init__(
            adata,
            registry,
            student_correction=student_correction,
            teacher_correction=teacher_correction,
            ridge=ridge,
            fallback=fallback,
        )
        self.module = self._module_cls(method, **method_kwargs)
        settings = {"student correction": student_correction, "teacher correction": teacher_correction, **method_kwargs}
        self._model_summary_string = (
            f"Baseline {method}, {', '.join(f'{name}: {value}' for name, value in settings.items())}."
        )
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        *,
        train_size: float | None = 0.9,
        validation_size: float | None = None,
        datasplitter_kwargs: dict[str, Any] | None = None,
        **train_kwargs: Any,
    ) -> None:
        """Learn from the training rows; what is left out is left out as in :meth:`SemiClip.train`.

        Parameters
        ----------
        max_epochs
            Without effect, since there is nothing to iterate.
        train_size, validation_size
            Fractions of the groups (``split_key``) for training and validation, as in :meth:`SemiClip.train`.
        datasplitter_kwargs
            ``external_indexing=[train, validation]`` gives the split as rows of the student.
        **train_kwargs
            Other arguments of :meth:`SemiClip.train`, taken so that one call trains anything, and without effect.

        Raises
        ------
        ValueError
            If a batch has too few controls, there are too few keys, or ``pea`` is asked for.
        TypeError
            If an argument is not one that :meth:`SemiClip.train` takes.
        """
        check_training_arguments(SemiClip.train, type(self), self.module.objective_name, train_kwargs)
        if train_kwargs.get("pea"):
            raise Conflict("pea", "a baseline in closed form", "leave out pea")
        train_size = choose_train_size(train_size, validation_size)
        if self.adata is None:
            raise NoData("Baseline", "load it with Baseline.load(folder, mdata) to train it further")
        student, teacher = self._read(self.adata, STUDENT), self._read(self.adata, TEACHER)
        pairing = self._take_pairs().pairing
        seed = int(torch.randint(2**31, ()))  # follows scvi.settings.seed
        external_indexing = (datasplitter_kwargs or {}).get("external_indexing")
        groups = read_groups(self.design.side(self.adata, STUDENT), self.design, pairing.student)
        sizes: dict[str, Any] = {"train_size": train_size, "validation_size": validation_size}
        split = split_rows(pairing.student, groups, self.split_seed_, **sizes, external_indexing=external_indexing)
        self.train_indices, self.validation_indices, self.test_indices = split
        taught = np.flatnonzero(pairing.teacher >= 0)
        targets = teacher.fit(self._specs[TEACHER])(teacher.values, teacher.batch, taught)
        targets = group_mean(targets, pairing.teacher[taught], pairing.n_keys).astype(np.float32)
        rows = student.fit(self._specs[STUDENT])(student.values, student.batch, split[0])
        key = pairing.student[split[0]]
        self.module.baseline.fit(rows, targets[key], key, rng=np.random.default_rng(seed))
        self.is_trained_ = True
        self.history_: dict[str, Any] = {}
        self.train_params_ = {"train_size": train_size, "shared_keys": pairing.n_keys}
