"""Training data that live on the device: mini-batches are row numbers drawn there, and no worker process exists."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from torch.nn.functional import normalize

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor


class MiniBatch(NamedTuple):
    """Row numbers of paired samples and their keys, each of shape (B,)."""

    student: Tensor
    teacher: Tensor
    key: Tensor


@dataclass
class PairedTensors:
    """Both corrected representations and the pair index.

    The teacher rows of key ``k`` are ``teacher[start[k] : start[k] + count[k]]``.
    """

    student: Tensor  # (n_student, d)
    teacher: Tensor  # (n_paired_teacher, D), sorted by key
    key: Tensor  # (n_student,), -1 where unpaired
    start: Tensor  # (n_keys,)
    count: Tensor  # (n_keys,)

    @classmethod
    def from_arrays(
        cls, student: np.ndarray, teacher: np.ndarray, student_key: np.ndarray, teacher_key: np.ndarray
    ) -> PairedTensors:
        """Sort the teacher by key; rows of either side with key -1 are never drawn."""
        order = np.argsort(teacher_key, kind="stable")[(teacher_key < 0).sum() :]
        count = np.bincount(teacher_key[order])
        return cls(
            torch.as_tensor(np.require(student, dtype=np.float32, requirements=["C", "W"])),
            torch.as_tensor(teacher[order].astype(np.float32, copy=False)),
            torch.as_tensor(student_key.astype(np.int64)),
            torch.as_tensor(np.cumsum(count) - count),
            torch.as_tensor(count),
        )

    def to(self, device: torch.device) -> PairedTensors:
        """Move everything to a device; what is there already is not copied."""
        return PairedTensors(*(getattr(self, field.name).to(device) for field in fields(self)))

    def pair(self, rows: Tensor, generator: torch.Generator) -> MiniBatch:
        """Draw a partner for each student row, uniformly from the teacher rows of its key."""
        key = self.key[rows]
        uniform = torch.rand(len(rows), generator=generator, device=rows.device, dtype=torch.float64)
        return MiniBatch(rows, self.start[key] + (uniform * self.count[key]).long(), key)

    def centroids(self, keys: Tensor) -> Tensor:
        """Mean of the normalised teacher rows of each key, shape (len(keys), D)."""
        count = self.count[keys]
        of_row = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), count)
        first = torch.repeat_interleave(self.start[keys] - (torch.cumsum(count, 0) - count), count)
        rows = normalize(self.teacher[first + torch.arange(len(of_row), device=keys.device)], dim=1)
        sums = torch.zeros(len(keys), self.teacher.shape[1], device=keys.device)
        return sums.index_add_(0, of_row, rows) / count[:, None]


class MiniBatches:
    """One epoch of mini-batches each time it is iterated over."""

    def __init__(self, n: int, draw: Callable[[], Iterator[MiniBatch]]) -> None:
        self.n, self.draw = n, draw

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[MiniBatch]:
        return self.draw()


class PairedDataModule(LightningDataModule):
    """Splits samples by group and draws weakly paired mini-batches.

    Parameters
    ----------
    tensors
        The data.
    groups
        Group of each student row, shape (n_student,): a group is never split between training and validation.
    train_size, validation_size
        Fractions of the groups; the rest is a test set.
    batch_size
        Rows of a training mini-batch, all of them if there are fewer. The last partial one is dropped.
    split_seed
        Seed of the split.
    seed
        Seed, with the epoch, of the draws, so that a resumed run draws what it would have drawn.
    external_indexing
        Student rows for training, validation and, if given, test, instead of a random split.
    """

    def __init__(
        self,
        tensors: PairedTensors,
        groups: np.ndarray,
        *,
        train_size: float = 0.9,
        validation_size: float | None = None,
        batch_size: int = 1024,
        split_seed: int = 0,
        seed: int = 0,
        external_indexing: Sequence[np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.tensors, self.batch_size, self.seed = tensors, batch_size, seed
        paired = np.flatnonzero(tensors.key.numpy() >= 0)
        if external_indexing is None:
            self.train_idx, self.val_idx, self.test_idx = split_groups(
                paired, groups[paired], train_size, validation_size, split_seed
            )
        else:
            self.train_idx, self.val_idx, self.test_idx = _given_split(external_indexing, paired)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)
        if len(np.unique(tensors.key.numpy()[self.train_idx])) < 2:
            msg = "training needs at least two different keys to contrast; pair more data or raise train_size"
            raise ValueError(msg)

    @property
    def n_batches(self) -> int:
        """Number of training mini-batches of an epoch."""
        return max(1, self.n_train // self.batch_size)

    def setup(self, stage: str | None = None) -> None:
        """Move the data to the training device."""
        device = self.trainer.strategy.root_device  # type: ignore[union-attr]
        self.tensors = self.tensors.to(device)
        self._train_rows, self._val_rows = (
            torch.as_tensor(idx, device=device) for idx in (self.train_idx, self.val_idx)
        )

        # what held-out samples shall find among all held-out keys: the teacher is fixed, so once is enough
        self.held_out = torch.unique(self.tensors.key[self._val_rows])
        self.held_out_centroids = self.tensors.centroids(self.held_out)

    def train_dataloader(self) -> MiniBatches:
        """Draw shuffled rows and, for each, a new partner every epoch."""
        return MiniBatches(self.n_batches, self._draw_train)

    def val_dataloader(self) -> MiniBatches | list[Any]:
        """Draw the same pairs every epoch, in mini-batches of nearly equal size so that none is dropped or tiny."""
        return MiniBatches(-(-self.n_val // self.batch_size), self._draw_validation) if self.n_val else []

    def transfer_batch_to_device(self, batch: MiniBatch, device: torch.device, dataloader_idx: int) -> MiniBatch:
        """Return the mini-batch as it is: it was drawn on the device."""
        return batch

    def _draw_train(self) -> Iterator[MiniBatch]:
        # an odd factor keeps the epochs of one seed apart from those of the next seed
        generator = self._generator(self.seed * 1_000_003 + 1 + self.trainer.current_epoch)  # type: ignore[union-attr]
        device, size = self._train_rows.device, min(self.batch_size, self.n_train)
        rows = self._train_rows[torch.randperm(self.n_train, generator=generator, device=device)]
        for mini_batch in rows[: self.n_batches * size].view(-1, size):
            yield self.tensors.pair(mini_batch, generator)

    def _draw_validation(self) -> Iterator[MiniBatch]:
        generator = self._generator(self.seed)
        for rows in self._val_rows.tensor_split(-(-self.n_val // self.batch_size)):
            yield self.tensors.pair(rows, generator)

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self._train_rows.device).manual_seed(seed % 2**63)


def split_groups(
    rows: np.ndarray, groups: np.ndarray, train_size: float, validation_size: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split rows so that no group is on two sides."""
    from sklearn.model_selection import GroupShuffleSplit

    validation_size = 1 - train_size if validation_size is None else validation_size
    if not 0 < train_size <= 1 or not 0 <= validation_size <= 1 or train_size + validation_size > 1 + 1e-9:
        msg = (
            f"train_size={train_size} and validation_size={validation_size} must be fractions that add up to 1 at most"
        )
        raise ValueError(msg)
    none = rows[:0]
    if validation_size < 1e-9:
        return rows, none, none
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        msg = (
            "all paired samples belong to one group, so none can be held out for validation; name another split_key in "
            "the setup or train with train_size=1.0"
        )
        raise ValueError(msg)
    n_validation = min(max(1, round(validation_size * n_groups)), n_groups - 1)
    n_train = min(max(1, round(train_size * n_groups)), n_groups - n_validation)
    splitter = GroupShuffleSplit(1, train_size=n_train, test_size=n_validation, random_state=seed % 2**32)
    train, validation = next(splitter.split(rows, groups=groups))
    return rows[train], rows[validation], np.setdiff1d(rows, rows[np.concatenate([train, validation])])


def _given_split(external_indexing: Sequence[np.ndarray], paired: np.ndarray) -> list[np.ndarray]:
    parts = [np.flatnonzero(part) if np.asarray(part).dtype == bool else np.asarray(part) for part in external_indexing]
    parts += [paired[:0]] * (3 - len(parts))
    if unpaired := np.setdiff1d(np.concatenate(parts), paired).tolist():
        msg = f"external_indexing has rows that are controls, unpaired or not there: {some(unpaired)}"
        raise ValueError(msg)
    if np.unique(np.concatenate(parts)).size < sum(map(len, parts)):
        msg = "external_indexing has rows in more than one of training, validation and test"
        raise ValueError(msg)
    return parts
