"""What the setup says of the columns, and the reading of data by it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from mudata import MuData

from semiclip._checks import batches, cached_views, column, controls, modality, nonempty, own_labels, representation
from semiclip._pairing import Pairing, keys_of, pair_rows, pair_rows_in_place, roles
from semiclip._provenance import recorded_fingerprint
from semiclip.correction import Affine, Correction, Method, Profile, fit_correction
from semiclip.model._fields import STUDENT, TEACHER, as_learned
from semiclip.model._split import tied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)

# what PEA draws from, in full, is the student's correction by its own batch; the teacher's is fitted on all controls
PROFILES: dict[str, Profile] = {STUDENT: "batch", TEACHER: "clean"}


class Observed(NamedTuple):
    """One side as arrays: values (n, d), batch codes (n,), mask of the controls (n,), names of the batches."""

    values: np.ndarray
    batch: np.ndarray
    control: np.ndarray
    names: list[Any]
    profile: Profile

    def correction(self, method: Method | None, **how: Any) -> Correction:
        """Fit a correction on the controls, or none."""
        if method is None:
            return Correction([Affine()])
        return fit_correction(
            self.values, self.batch, self.control, method=method, profile=self.profile, batch_names=self.names, **how
        )


@dataclass
class Setup:
    """The keys of a setup, and of a model's what it knows of the columns of each side (``learned``)."""

    student_rep: str
    teacher_rep: str
    perturbation_key: str | None
    control: str | Sequence[str] | None
    batch_key: str | None
    split_key: str | None
    pair_on: Sequence[str] | None = None
    modalities: Mapping[str, str] | None = None
    label_key: str | None = None
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def side(self, adata: AnnData | MuData, side: str) -> AnnData:
        """Return the student's or the teacher's observations."""
        if isinstance(adata, MuData):
            return modality(adata, roles(self.modalities)[side])
        return nonempty(adata)

    def check(self, adata: AnnData | MuData, side: str) -> None:
        """Look at every column of a side, so that what is wrong is said before anything is computed."""
        observed = self.side(adata, side)
        batches(observed, self.batch_key)
        if self.pair_on is None:
            controls(observed, self.perturbation_key, self.control)
        else:  # where each modality may have its own labels
            own_labels(observed, self.perturbation_key, self.control)
        if self.perturbation_key is not None:
            column(observed, self.perturbation_key, "perturbation_key")
        if side == STUDENT and self.split_key is not None:
            column(observed, self.split_key, "split_key")
        if side == STUDENT and self.label_key is not None and self.label_key not in observed.obs:
            column(observed, self.label_key, "label_key")

    def controls(self, observed: AnnData) -> np.ndarray:
        """Return a mask of the controls of a side, which needs one of their labels."""
        return controls(observed, self.perturbation_key, own_labels(observed, self.perturbation_key, self.control))

    def pairing(self, adata: AnnData | MuData) -> Pairing:
        """Pair by key, or row by row in an AnnData that holds both representations."""
        if self.pair_on is None:
            return pair_rows_in_place(self.side(adata, STUDENT), self.perturbation_key, self.control)
        return pair_rows(
            self.side(adata, STUDENT),
            self.side(adata, TEACHER),
            pair_on=self.pair_on,
            perturbation_key=self.perturbation_key,
            control=self.control,
        )

    def read(self, adata: AnnData | MuData, side: str) -> Observed:
        """Return a side's representation, batches and controls."""
        observed = self.side(adata, side)
        rep = getattr(self, f"{side}_rep")
        values = representation(observed, rep, f"{side}_rep")
        if side in self.learned:
            values = as_learned(observed, rep, values, self.learned[side], warn=True)
        codes, names = batches(observed, self.batch_key)
        reference = self.controls(observed) | (self.control is None)
        return Observed(values, codes, reference, names.tolist(), PROFILES[side])

    def views(
        self, adata: AnnData | MuData, augment: str | Sequence[str] | None, groups: np.ndarray
    ) -> list[np.ndarray]:
        """Return the cached views of each kind of augmentation, arrays (n_student, n_views, d).

        ``groups`` are what the split holds together, whose samples views must not mix with others.
        """
        student = self.side(adata, STUDENT)
        control = self.controls(student)
        keys = [augment] if isinstance(augment, str) else list(augment or [])
        for key in keys:
            self._check_design(student, key, groups, control)
        return [cached_views(student, key, self.student_rep, control) for key in keys]

    def _check_design(self, student: AnnData, key: str, groups: np.ndarray, control: np.ndarray) -> None:
        """Refuse views by another encoder or that mix what a split holds apart, where their record tells."""
        encoders = {recorded_fingerprint(student, each) for each in (key, self.student_rep)} - {None}
        if len(encoders) > 1:
            msg = (
                f"obsm[{key!r}] was made with another encoder than obsm[{self.student_rep!r}]; make it again by "
                "scl.pp.augment with the encoder of that embedding"
            )
            raise ValueError(msg)
        params = student.uns.get("semiclip", {}).get(key, {}).get("params", {})
        # one name or several, also in the array that a file makes of a list
        mixed = [str(name) for part in ("pair_on", "split_key") if part in params for name in np.ravel(params[part])]
        if "augmentation" not in params or not mixed or not set(mixed) <= set(student.obs):
            return
        pairs = np.column_stack([keys_of(student, mixed, ~control), groups])[~control]
        if len(np.unique(pairs, axis=0)) > len(np.unique(pairs[:, 0])):
            held = f"split_key={self.split_key!r}" if self.split_key else "perturbations, those of one key together"
            msg = (
                f"views in obsm[{key!r}] mix samples that a split keeps apart: they were made within "
                f"{', '.join(mixed)}, and the split goes by {held}; make them again by scl.pp.augment with pair_on= "
                "and split_key= of the setup"
            )
            raise ValueError(msg)

    def warn_if_corrected(self, adata: AnnData | MuData) -> None:
        """Warn of a student that is recorded to be corrected, since a model corrects it by itself."""
        made = self.side(adata, STUDENT).uns.get("semiclip", {}).get(self.student_rep, {}).get("params", {})
        if "use_rep" in made:
            logger.warning(
                "obsm[%r] is corrected already, by scl.pp.pea_correct, and the model corrects it once more, which "
                "costs recall: pass student_rep=%r, or train on it as it is with student_correction=None of the model "
                "and pea=False",
                self.student_rep,
                made["use_rep"],
            )

    def groups(self, adata: AnnData | MuData, key: np.ndarray) -> np.ndarray:
        """Return an integer code of what a split must not tear apart, for each student row.

        Without a ``split_key`` no pairing key is torn apart either.
        """
        group_key = self.split_key or self.perturbation_key
        if group_key is None:
            return key
        code, names = pd.factorize(column(self.side(adata, STUDENT), group_key, "split_key"))
        code = np.unique(np.asarray(names).astype(str), return_inverse=True)[1][code]  # in the order of their names
        if self.split_key is not None:
            return code
        groups = tied(code, key)
        if n_tied := len(np.unique(code[key >= 0])) - len(np.unique(groups[key >= 0])):
            logger.info(
                "perturbations that share a pairing key stay together in the split: %d join others, since they learn "
                "from the same teacher samples",
                n_tied,
            )
        return groups

    def labels(self, adata: AnnData | MuData, pairing: Pairing) -> np.ndarray:
        """Return the label of each student row, which is its pairing key unless ``label_key`` says otherwise."""
        if self.label_key is not None or self.pair_on is None:
            name = self.label_key or self.perturbation_key
            if name is None:
                msg = "this objective learns from labels; name their obs column as label_key or perturbation_key"
                raise ValueError(msg)
            student = self.side(adata, STUDENT)
            paired = pairing.student >= 0  # others, such as controls, need no label
            column(student[paired], name, "label_key")
            return student.obs[name].astype(str).to_numpy()
        keys = pairing.counts.drop(columns=["n_student", "n_teacher"]).astype(str).agg(" | ".join, axis=1).to_numpy()
        return keys[pairing.student]  # of rows without a key, whatever is last


def are_widths(given: Any) -> bool:
    """Whether these are widths of layers, or none."""
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        return False
    return all(isinstance(width, Integral) and not isinstance(width, bool) and int(width) >= 1 for width in given)


def check_correction(methods: Mapping[str, Any], ridge: float, fallback: str) -> None:
    """Refuse a correction that a model cannot have."""
    for side, method in methods.items():
        if method is not None and method not in get_args(Method):
            msg = f"{side}_correction={method!r} is not one of {', '.join(get_args(Method))}, None"
            raise ValueError(msg)
    if not ridge >= 0:
        msg = f"ridge={ridge} must not be negative"
        raise ValueError(msg)
    if fallback not in ("raise", "pooled"):
        msg = f"fallback={fallback!r} is not one of raise, pooled"
        raise ValueError(msg)
