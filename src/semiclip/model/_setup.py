"""What the setup says of the columns, and the reading of data by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from mudata import MuData

from semiclip._checks import batches, cached_views, column, controls, modality, nonempty, representation
from semiclip._pairing import Pairing, pair_rows, pair_rows_in_place, roles
from semiclip.correction import Affine, Correction, fit_correction
from semiclip.correction._correct import Method, Profile
from semiclip.model._fields import STUDENT, TEACHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData


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
    """The keys of a setup."""

    student_rep: str
    teacher_rep: str
    perturbation_key: str | None
    control: str | Sequence[str] | None
    batch_key: str | None
    split_key: str | None
    pair_on: Sequence[str] | None = None
    modalities: Mapping[str, str] | None = None
    label_key: str | None = None

    def side(self, adata: AnnData | MuData, side: str) -> AnnData:
        """Return the student's or the teacher's observations."""
        if isinstance(adata, MuData):
            return modality(adata, roles(self.modalities)[side])
        return nonempty(adata)

    def check(self, adata: AnnData | MuData, side: str) -> None:
        """Look at every column of a side, so that what is wrong is said before anything is computed."""
        observed = self.side(adata, side)
        batches(observed, self.batch_key)
        controls(observed, self.perturbation_key, self.control)
        if self.perturbation_key is not None:
            column(observed, self.perturbation_key, "perturbation_key")
        if side == STUDENT and self.split_key is not None:
            column(observed, self.split_key, "split_key")
        if side == STUDENT and self.label_key is not None and self.label_key not in observed.obs:
            column(observed, self.label_key, "label_key")

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
        values = representation(observed, getattr(self, f"{side}_rep"), f"{side}_rep")
        codes, names = batches(observed, self.batch_key)
        reference = controls(observed, self.perturbation_key, self.control) | (self.control is None)
        return Observed(values, codes, reference, names.tolist(), PROFILES[side])

    def views(self, adata: AnnData | MuData, augment: str | Sequence[str] | None) -> list[np.ndarray]:
        """Return the cached views of each kind of augmentation, arrays (n_student, n_views, d)."""
        student = self.side(adata, STUDENT)
        control = controls(student, self.perturbation_key, self.control)
        keys = [augment] if isinstance(augment, str) else list(augment or [])
        return [cached_views(student, key, self.student_rep, control) for key in keys]

    def groups(self, adata: AnnData | MuData, key: np.ndarray) -> np.ndarray:
        """Return the group of each student row that a split must not tear apart."""
        group_key = self.split_key or self.perturbation_key
        if group_key is None:
            return key
        return column(self.side(adata, STUDENT), group_key, "split_key").astype(str).to_numpy()

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
