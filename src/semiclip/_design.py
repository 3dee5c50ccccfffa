"""What the columns of a study mean: made once of a user's keywords, and all that is passed on inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from semiclip._checks import check_adata, get_modality, read_column
from semiclip.errors import BadValue, UnknownChoice, UnknownControl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

Side = Literal["student", "teacher"]
STUDENT: Side = "student"
TEACHER: Side = "teacher"
SIDES = (STUDENT, TEACHER)
MODALITIES: dict[str, str] = {STUDENT: "rna", TEACHER: "image"}  # the modality of each side, unless named otherwise


@dataclass(frozen=True)
class Design:
    """The ``obs`` columns of a study and its modalities.

    Examples
    --------
    >>> Design.of(perturbation_key="gene", control="non-targeting", batch_key="plate").params
    {'perturbation_key': 'gene', 'control': ['non-targeting'], 'batch_key': 'plate'}
    """

    perturbation_key: str | None = None
    control: tuple[Any, ...] | None = None  # labels; None says that there are no controls
    batch_key: str | None = None
    pair_on: tuple[str, ...] | None = None  # None where rows are not paired by key
    split_key: str | None = None
    label_key: str | None = None
    unlabelled: tuple[Any, ...] | None = None  # labels that name nothing; None means the usual ones
    separator: str | None = None  # between the parts of a combination, whose order says nothing
    student: str = MODALITIES[STUDENT]
    teacher: str = MODALITIES[TEACHER]

    @classmethod
    def of(
        cls,
        *,
        perturbation_key: str | None = None,
        control: str | Sequence[str] | None = None,
        batch_key: str | None = None,
        pair_on: str | Sequence[str] | None = None,
        split_key: str | None = None,
        label_key: str | None = None,
        unlabelled: str | Sequence[str] | None = None,
        separator: str | None = None,
        modalities: Mapping[str, str] | None = None,
    ) -> Self:
        """Read what users pass, or refuse what says nothing."""
        if unknown := [name for name in modalities or {} if name not in MODALITIES]:
            raise UnknownChoice("modalities", unknown[0], MODALITIES)
        labels = None if control is None else _tuple_of(control)
        if labels == () or (labels and perturbation_key is None):
            raise UnknownControl(labels, perturbation_key)
        columns = None if pair_on is None else tuple(dict.fromkeys(_tuple_of(pair_on)))
        if columns == ():
            raise BadValue("pair_on", [], "one or more obs columns that both modalities have")
        if separator is not None and not (isinstance(separator, str) and separator):
            raise BadValue("separator", separator, "what stands between the parts of a combination, such as '+'")
        roles = {**MODALITIES, **(modalities or {})}
        nothing = None if unlabelled is None else _tuple_of(unlabelled)
        return cls(perturbation_key, labels, batch_key, columns, split_key, label_key, nothing, separator, **roles)

    @property
    def params(self) -> dict[str, Any]:
        """What differs from nothing, by the names that :meth:`of` takes, as files can hold it."""
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        roles = {side: given.pop(side) for side in MODALITIES}
        params = {name: value for name, value in given.items() if value is not None}
        return params if roles == MODALITIES else {**params, "modalities": roles}

    def changed(self, **changes: Any) -> Self:
        """Return the design with other names for some columns, as :meth:`of` takes them."""
        return self.of(**{**self.params, **changes})

    # ---- one modality

    def batches(self, adata: AnnData) -> tuple[np.ndarray, pd.Index]:
        """Return batch codes per row and the batch names; without a ``batch_key`` all rows are one batch."""
        if self.batch_key is None:
            return np.zeros(adata.n_obs, dtype=np.intp), pd.Index(["all rows"])
        codes, names = pd.factorize(read_column(adata, self.batch_key, "batch_key").to_numpy(), sort=True)
        return codes, pd.Index(names)

    def controls(self, adata: AnnData) -> np.ndarray:
        """Return a mask of the control rows; every label must be there."""
        if self.control is None:
            return np.zeros(adata.n_obs, dtype=bool)
        self.check_controls([adata])
        # as objects, since pandas would compare whole numbers of different sizes as floats
        labels = pd.Series(self.control, dtype=object).to_numpy()
        return adata.obs[self.perturbation_key].isin(labels).to_numpy(dtype=bool)

    def reference(self, adata: AnnData) -> np.ndarray:
        """Return a mask of the rows that a correction is fitted on: the controls, or all rows if there are none."""
        return np.ones(adata.n_obs, dtype=bool) if self.control is None else self.controls(adata)

    def perturbations(self, adata: AnnData) -> pd.Series:
        """Return the perturbation of each row."""
        if self.perturbation_key is None:
            raise BadValue("perturbation_key", None, "the obs column of the perturbations")
        return read_column(adata, self.perturbation_key, "perturbation_key")

    def control_labels(self, adata: AnnData) -> list[Any]:
        """Return those of the control labels that are there."""
        if self.control is None:
            return []
        labels = self.perturbations(adata)
        return [label for label in self.control if bool((labels == label).any())]

    def _frequent(self, *modalities: AnnData) -> list[Any]:
        counts = [adata.obs[self.perturbation_key].value_counts() for adata in modalities]
        return [label for count in counts for label in count.index[:5]]

    # ---- both modalities

    def side(self, data: AnnData | MuData, side: Side) -> AnnData:
        """Return the student's or the teacher's observations; an AnnData is both."""
        return get_modality(data, getattr(self, side)) if hasattr(data, "mod") else check_adata(data)

    def sides(self, data: AnnData | MuData) -> tuple[AnnData, AnnData]:
        """Return the student's and the teacher's observations."""
        return self.side(data, STUDENT), self.side(data, TEACHER)

    def within(self, adata: AnnData) -> Self:
        """Return the design of one of several modalities, which may have some of the control labels alone."""
        if self.control is None:
            return self
        if not (present := self.control_labels(adata)):
            raise UnknownControl(list(self.control), self.perturbation_key, self._frequent(adata))
        return replace(self, control=tuple(present))

    def check_controls(self, modalities: Iterable[AnnData]) -> None:
        """Refuse a control label that none of several modalities has."""
        modalities = list(modalities)
        present = {label for adata in modalities for label in self.control_labels(adata)}
        if absent := [label for label in self.control or () if label not in present]:
            raise UnknownControl(absent, self.perturbation_key, self._frequent(*modalities))


def _tuple_of(names: Any) -> tuple[Any, ...]:
    return tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
