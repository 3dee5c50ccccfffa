"""Both representations and the pair index as tensors, and mini-batches as row numbers in them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from semiclip import _counter_rng
from semiclip.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from semiclip.correction import Correction

KIND, VIEW = 0, 1  # what a random number is for, besides the partner


class MiniBatch(NamedTuple):
    """Paired samples, each field of shape (B,) but the last."""

    row: Tensor
    """Number of the student's row in the data, for which everything random is drawn."""
    student: Tensor
    """Where it is in ``source.student``."""
    teacher: Tensor
    """Where its partner is in ``source.teacher``."""
    key: Tensor
    """Pairing key."""
    view: Tensor
    """Which of the student's cached views is seen, -1 for the student as it was measured; of those of ``source``."""
    source: PairedTensors
    """Where the rows are."""


def join_mini_batches(batches: Sequence[MiniBatch]) -> MiniBatch:
    """Join mini-batches of one source to a single one."""
    names = MiniBatch._fields[:-1]
    joined: dict[str, Any] = {name: torch.cat([getattr(pairs, name) for pairs in batches]) for name in names}
    return batches[0]._replace(**joined)


class MiniBatches:
    """One epoch of mini-batches each time it is iterated over."""

    def __init__(self, n: int, draw: Callable[[], Iterator[Any]]) -> None:
        self.n, self.draw = n, draw

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return self.draw()

    def state_dict(self) -> dict[str, Any]:
        """Say to Lightning that an epoch can be taken up in its middle; where, the trainer's progress tells."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing, since nothing is kept."""


@dataclass
class PairedTensors:
    """Both representations and the pair index.

    Representations are float32, or float16 where they are stored so: :meth:`seen`, :meth:`taught` and
    :meth:`centroids` raise the rows that are asked for to float32, which changes no value. The teacher rows of key
    ``k`` are ``teacher[start[k] : start[k] + count[k]]``.
    """

    student: Tensor  # (n_student, d)
    teacher: Tensor  # (n_paired_teacher, D), sorted by key
    key: Tensor  # (n_student,), -1 where unpaired
    batch: Tensor  # (n_student,)
    start: Tensor  # (n_keys,)
    count: Tensor  # (n_keys,), so many teacher rows
    views: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0))  # (n_student, n_views, d), augmented elsewhere
    kinds: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))  # so many views of each kind

    @classmethod
    def from_arrays(
        cls,
        student: np.ndarray,
        teacher: np.ndarray,
        student_key: np.ndarray,
        teacher_key: np.ndarray,
        student_batch: np.ndarray | None = None,
        views: Sequence[np.ndarray] = (),
        correct: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> PairedTensors:
        """Sort the teacher by key; rows of either side with key -1 are never drawn.

        ``views`` are arrays (n_student, n_views, d), one for each kind of augmentation, which ``correct`` may correct.
        """
        order = sort_by_key(teacher_key)
        if len(order) < len(teacher) or (np.diff(order) != 1).any():  # what is sorted is not copied
            teacher, teacher_key = teacher[order], teacher_key[order]
        count = np.bincount(teacher_key)
        batch = np.zeros(len(student), dtype=np.int64) if student_batch is None else student_batch
        cached = views[0] if len(views) == 1 and correct is None else join_views(views, student.shape, correct)
        kept = [np.float16 if array.dtype == np.float16 else np.float32 for array in (student, teacher)]
        x, y, together = (
            torch.as_tensor(np.require(array, dtype=dtype, requirements=["C", "W"]))
            for array, dtype in zip((student, teacher, cached), [*kept, np.float32], strict=True)
        )
        return cls(
            x,
            y,
            torch.as_tensor(student_key.astype(np.int64, copy=False)),
            torch.as_tensor(batch.astype(np.int64, copy=False)),
            torch.as_tensor(np.cumsum(count) - count),
            torch.as_tensor(count),
            together,
            torch.tensor([array.shape[1] for array in views], dtype=torch.long),
        )

    @property
    def n_keys(self) -> int:
        """Number of keys, of which some may have no row."""
        return len(self.count)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(getattr(self, tensor.name).nbytes for tensor in fields(self))

    def to(self, device: torch.device) -> PairedTensors:
        """Move everything to a device; what is there already is not copied."""
        return PairedTensors(*(getattr(self, tensor.name).to(device) for tensor in fields(self)))

    def seen_as(self, rows: Tensor, student: Tensor) -> PairedTensors:
        """Return some student rows, in another form and without views, beside the same teacher."""
        none = {"views": self.views[:0, :0], "kinds": self.kinds[:0]}
        return replace(self, student=student, key=self.key[rows], batch=self.batch[rows], **none)

    def seen(self, pairs: MiniBatch) -> Tensor:
        """Return the student rows of pairs, each as the view that it drew, in float32."""
        return self._stored(pairs).float()

    def taught(self, pairs: MiniBatch) -> Tensor:
        """Return the teacher rows of pairs, in float32."""
        return self.teacher.index_select(0, pairs.teacher).float()

    def _stored(self, pairs: MiniBatch) -> Tensor:
        """Return what :meth:`seen` does, in half precision if it is stored so."""
        rows = self.student.index_select(0, pairs.student)  # a third of the time of square brackets
        if not len(self.kinds):
            return rows
        return torch.where(pairs.view[:, None] < 0, rows, self.views[pairs.student, pairs.view])

    def pair(self, row: Tensor, place: Tensor, *counters: int) -> MiniBatch:
        """Draw a partner for each student row at ``place``, uniformly from the teacher rows of its key, and a view."""
        key = self.key[place]
        partner = self.start[key] + _counter_rng.below(_counter_rng.state(*counters, row), self.count[key])
        return MiniBatch(row, place, partner, key, self._view(row, *counters), self)

    def _view(self, row: Tensor, *counters: int) -> Tensor:
        """Draw a kind, uniformly from all and none, and one of its views."""
        if not len(self.kinds):
            return torch.full_like(row, -1)
        kind = _counter_rng.below(_counter_rng.state(*counters, KIND, row), len(self.kinds) + 1) - 1
        first, number = (torch.cumsum(self.kinds, 0) - self.kinds)[kind], self.kinds[kind]
        return torch.where(kind < 0, -1, first + _counter_rng.below(_counter_rng.state(*counters, VIEW, row), number))

    def part(self, pairs: MiniBatch, device: torch.device) -> PairedTensors:
        """Copy the rows of some pairs to a device as they are seen, so that pair ``i`` is row ``i`` there."""
        rows = self._stored(pairs), self.teacher[pairs.teacher], pairs.key, self.batch[pairs.student]
        student, teacher, key, batch = (
            (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True) for tensor in rows
        )
        return PairedTensors(student, teacher, key, batch, self.start[:0].to(device), self.count[:0].to(device))

    def centroids(self, keys: Tensor, adapt: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor:
        """Mean of the normalised teacher rows of each key, as ``adapt`` shows them, float32 (len(keys), D)."""
        count = self.count[keys]
        of_row = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), count)
        first = torch.repeat_interleave(self.start[keys] - (torch.cumsum(count, 0) - count), count)
        taught = self.teacher[first + torch.arange(len(of_row), device=keys.device)].float()
        rows = normalize(adapt(taught), dim=1)
        sums = torch.zeros(len(keys), rows.shape[1], dtype=rows.dtype, device=rows.device)
        return sums.index_add_(0, of_row.to(rows.device), rows) / count.to(rows.device)[:, None]


def join_views(
    views: Sequence[np.ndarray], shape: tuple[int, ...], correct: Callable[[np.ndarray], np.ndarray] | None
) -> np.ndarray:
    """Put views of rows (n, d) beside each other, corrected one kind after the other."""
    n, d = shape
    joined, start = np.empty((n, sum(array.shape[1] for array in views), d), dtype=np.float32), 0
    for array in views:
        joined[:, start : start + array.shape[1]] = array if correct is None else correct(array)
        start += array.shape[1]
    return joined


def sort_by_key(key: np.ndarray) -> np.ndarray:
    """Return the rows that have a key (not -1), in the order of their keys."""
    return np.argsort(key, kind="stable")[(key < 0).sum() :]


def reduce_components(values: np.ndarray, n_components: int) -> np.ndarray:
    """Reduce rows to their leading principal components, where these are fewer than the columns."""
    if n_components >= values.shape[1]:
        return values
    centred = values - values.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, : -n_components - 1 : -1]


def correct_views(correction: Correction, batch: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what corrects views (n, n_views, d) of rows as it does the rows."""

    def correct(views: np.ndarray) -> np.ndarray:
        rows = views.reshape(-1, views.shape[2])
        return correction(rows, np.repeat(batch, views.shape[1])).reshape(views.shape)

    return correct


def read_classes(labels: np.ndarray, key: np.ndarray, train: np.ndarray, n_keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of the training rows, sorted, and the class of each pairing key, -1 if training has none.

    Parameters
    ----------
    labels, key
        Label and pairing key of each student row, shape (n_student,); the key is -1 where a row is not paired.
    train
        Training rows, all of them paired.
    n_keys
        Number of keys.

    Raises
    ------
    Refused
        If rows of one key differ in label, since the teacher rows that they are paired with have one class.
    """
    paired = key >= 0
    names = pd.DataFrame({"key": key[paired], "label": labels[paired]}).drop_duplicates()
    if (repeated := names["key"].duplicated(keep=False)).any():
        ambiguous = names[repeated].sort_values(["key", "label"])["label"].unique().tolist()
        mend = "pair on the label too, or choose another label_key"
        raise Refused("samples of one pairing key have several labels", ambiguous, mend)
    classes = np.unique(labels[train])
    class_of_key = np.full(n_keys, -1)
    place = np.minimum(np.searchsorted(classes, names["label"]), len(classes) - 1)
    class_of_key[names["key"]] = np.where(classes[place] == names["label"].to_numpy(), place, -1)
    return classes, class_of_key
