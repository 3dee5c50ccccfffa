"""Training data that live on the device: mini-batches are row numbers drawn there, and no worker process exists."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule

from semiclip import _counter_rng
from semiclip._arguments import check_number, read_whole
from semiclip._checks import read_rows
from semiclip.errors import BadValue, Conflict, Mismatch, Refused, Repeated, TooFew, TooMany
from semiclip.model._tensors import MiniBatch, MiniBatches, join_mini_batches, read_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from semiclip.correction._augmentation import Augmentation
    from semiclip.model._module import SemiClipModule
    from semiclip.model._shared import KeyMeans
    from semiclip.model._tensors import PairedTensors

logger = logging.getLogger(__name__)

TRAIN_SIZE = 0.9  # of the groups
ORDER, PARTNER = 0, 1  # what a random number is for
# arguments of the data module that training fills in
FILLED_DATA = {"tensors", "groups", "labels", "infer", "augmentation", "seed", "train_size", "validation_size"}
FILLED_DATA |= {"batch_size", "split_seed", "key_means"}
RETRIEVAL = ("validation_mean_rank_percentile", "validation_recall_at_")
AHEAD_BYTES = 1 << 24  # of the student's rows that PEA augments together
RESIDENT = 0.6  # share of a GPU's free memory that the data may take; the rest is for weights, activations and PEA


class PairedDataModule(LightningDataModule):
    """Splits samples by group and draws weakly paired mini-batches.

    Everything drawn is a function of seed, epoch and row: a resumed run draws what it would have drawn, and so do
    several processes, which share each mini-batch among them.

    Parameters
    ----------
    tensors
        The data as training reads them.
    groups
        Group of each student row, shape (n_student,): a group is never split between training and validation.
    labels
        Name of the class of each student row, where the objective learns from classes: those of the training rows.
    infer
        Gives student rows, by number, as inference sees them, for validation; by default those of training.
    augmentation
        Makes the augmentation of student rows from ``seed``, ``device`` and ``steps_per_epoch``.
    train_size, validation_size
        Fractions of the groups; the rest is a test set.
    batch_size
        Rows of a training mini-batch over all processes, or all rows if there are fewer. The last partial one is
        dropped.
    split_seed
        Seed of the split.
    seed
        Seed of everything else.
    external_indexing
        Student rows for training, validation and, if given, test, instead of a random split.
    key_means
        What both sides show of each training key, where the teacher is projected on what they share.
    chunk_rows
        Keep the data in main memory and copy so many pairs at a time to the device. ``None`` does so only where the
        data would take more than 60 % of a GPU's free memory, with chunks of an eighth of it.
    """

    augments_ahead = True  # PEA is applied before the step, not as a part of its graph

    def __init__(
        self,
        tensors: PairedTensors,
        groups: np.ndarray,
        *,
        labels: np.ndarray | None = None,
        infer: Callable[[np.ndarray], np.ndarray] | None = None,
        augmentation: Callable[..., Augmentation] | None = None,
        train_size: float = 0.9,
        validation_size: float | None = None,
        batch_size: int = 1024,
        split_seed: int = 0,
        seed: int = 0,
        external_indexing: Sequence[np.ndarray] | None = None,
        chunk_rows: int | None = None,
        key_means: KeyMeans | None = None,
    ) -> None:
        super().__init__()
        self.key_means = key_means
        if chunk_rows is not None:
            chunk_rows = read_whole("chunk_rows", chunk_rows, batch_size)
        self.host, self.batch_size, self.seed, self.split_seed = tensors, batch_size, seed, split_seed
        self.infer, self.make_augmentation, self.chunk_rows = infer, augmentation, chunk_rows
        self.augmentation: Any = None  # an Augmentation, once there is a device
        self.steps_per_call = 1
        sizes: dict[str, Any] = {"train_size": train_size, "validation_size": validation_size}
        split = split_rows(tensors.key.numpy(), groups, split_seed, **sizes, external_indexing=external_indexing)
        self.train_idx, self.val_idx, self.test_idx = split
        if (n_keys := np.count_nonzero(np.bincount(tensors.key.numpy()[self.train_idx]))) < 2:
            raise TooFew("pairing keys to train on", n_keys, 2, "pair more data or raise train_size")
        self.labels = labels
        self._classify()

    @property
    def n_train(self) -> int:
        """Number of training rows."""
        return len(self.train_idx)

    @property
    def n_val(self) -> int:
        """Number of validation rows."""
        return len(self.val_idx)

    @property
    def n_val_known(self) -> int:
        """Number of validation rows whose class training has."""
        return int((self._class_of_key[self.host.key.numpy()[self.val_idx]] >= 0).sum())

    @property
    def n_batches(self) -> int:
        """Number of training mini-batches of an epoch."""
        return max(1, self.n_train // self.batch_size)

    def setup(self, stage: str | None = None) -> None:
        """Move the data to the training device, and let all processes draw what the first one draws."""
        strategy: Any = self.trainer.strategy  # type: ignore[union-attr]  # Lightning sets the trainer before
        self.device, self.n_processes, self.rank = strategy.root_device, strategy.world_size, strategy.global_rank
        self._set(strategy.broadcast(self.state_dict()))
        if self.key_means is not None:  # fitted on the training keys of the first process
            self.key_means = strategy.broadcast(self.key_means)
            self.host = replace(self.host, teacher=strategy.broadcast(self.host.teacher))
        if min(self.batch_size, self.n_train) % self.n_processes:
            raise BadValue(
                "batch_size", self.batch_size, f"a number of rows that {self.n_processes} processes can share"
            )
        self.resident = self._fits()
        self.tensors = self.host.to(self.device) if self.resident else self.host
        self._arrange()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on as if it had never stopped."""
        index = {name: torch.as_tensor(getattr(self, name)) for name in ("train_idx", "val_idx", "test_idx")}
        return {"seed": self.seed, "split_seed": self.split_seed, "n_student": len(self.host.key), **index}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the split and the draws of a checkpoint."""
        if (n_student := state_dict["n_student"]) != len(self.host.key):
            raise Mismatch("the number of student samples", len(self.host.key), n_student, "resume with the same data")
        if self.key_means is not None and not np.array_equal(state_dict["train_idx"], self.train_idx):
            raise Mismatch("the training samples", "others", "those of the checkpoint", "resume with the same seed")
        self._set(state_dict)
        self._arrange()

    def _set(self, state: dict[str, Any]) -> None:
        self.seed, self.split_seed = state["seed"], state["split_seed"]
        for name in ("train_idx", "val_idx", "test_idx"):
            setattr(self, name, np.asarray(state[name]))
        self._classify()

    def _classify(self) -> None:
        if self.labels is not None:
            key, n_keys = self.host.key.numpy(), self.host.n_keys
            self.classes, self._class_of_key = read_classes(self.labels, key, self.train_idx, n_keys)

    def _arrange(self) -> None:
        where = self.tensors.student.device
        self._train_rows = torch.as_tensor(self.train_idx, device=where)
        self._val_rows = torch.as_tensor(self.val_idx, device=where)
        self.validation = self.tensors.seen_as(self._val_rows, self.read_inferred(self.val_idx))
        self._held_out = torch.unique(self.validation.key)
        self._centroids: Tensor | None = None
        self.held_out = self._held_out.to(self.device)
        if self.labels is not None:
            self.class_of_key = torch.as_tensor(self._class_of_key, device=self.device)
        if self.make_augmentation is not None:
            self.augmentation = self.make_augmentation(
                seed=self.seed, device=self.device, steps_per_epoch=self.n_batches
            )

    def read_inferred(self, rows: np.ndarray) -> Tensor:
        """Return student rows as inference sees them, where the data are, in float32."""
        where = self.tensors.student.device
        if self.infer is None:
            return self.tensors.student[torch.as_tensor(rows, device=where)].float()
        return torch.as_tensor(self.infer(rows).astype(np.float32, copy=False), device=where)

    def centroids(self, adapt: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return what held-out samples shall find among all held-out keys, their teacher's mean rows as adapted."""
        if adapt is not None:
            return self.tensors.centroids(self._held_out, lambda rows: adapt(rows.to(self.device)))
        if self._centroids is None:  # a teacher without an adapter is fixed, so once is enough
            self._centroids = self.tensors.centroids(self._held_out).to(self.device)
        return self._centroids

    def _fits(self) -> bool:
        if self.chunk_rows is None and self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.host.nbytes > RESIDENT * free:
                row = self.host.student[:1].nbytes + self.host.teacher[:1].nbytes  # of a pair on the device
                self.chunk_rows = max(self.batch_size, free // 8 // row)
        if self.chunk_rows is None:
            return True
        logger.info(
            "the data (%.1f GB) stay in main memory and %d pairs at a time are copied to %s, which is slower than "
            "training on data that are there",
            self.host.nbytes / 1e9, self.chunk_rows, self.device,
        )  # fmt: skip
        return False

    def train_dataloader(self) -> MiniBatches:
        """Draw shuffled rows and, for each, a new partner every epoch; a list of mini-batches for each call."""
        return MiniBatches(-(-self.n_batches // self.steps_per_call), self._draw_train)

    def val_dataloader(self) -> MiniBatches | list[Any]:
        """Draw the same pairs every epoch, in mini-batches of nearly equal size so that none is dropped or tiny."""
        return MiniBatches(-(-self.n_val // self.batch_size), self._draw_validation) if self.n_val else []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the mini-batch as it is: it was drawn on the device."""
        return batch

    def _draw_train(self) -> Iterator[list[MiniBatch]]:
        trainer: Any = self.trainer
        epoch, size = trainer.current_epoch, min(self.batch_size, self.n_train)
        if self.augmentation is not None:
            self.augmentation.start_epoch(epoch)
        where, n_rows = self._train_rows.device, self.n_batches * size
        rows = self._train_rows[_counter_rng.permutation(self.n_train, self.seed, epoch, ORDER, device=where)[:n_rows]]
        share = rows.view(-1, self.n_processes, size // self.n_processes)[:, self.rank]
        left = list(share[(trainer.fit_loop.batch_idx + 1) * self.steps_per_call :])  # of an epoch that is resumed
        batches = self._draw_ahead(left, epoch)
        while together := list(islice(batches, self.steps_per_call)):
            yield together

    def _draw_ahead(self, rows: list[Tensor], epoch: int) -> Iterator[MiniBatch]:
        """Pair mini-batches, and show several together as PEA does: they share what it reads for them."""
        if self.augmentation is None or not self.augments_ahead:
            yield from chain.from_iterable(self._draw(self.tensors, rows, rows, epoch))
            return
        n_rows = AHEAD_BYTES // self.tensors.student[:1].float().nbytes
        n_together = max(1, n_rows * self.n_processes // min(self.batch_size, self.n_train))
        if self.augmentation.pea.granularity == "batch":  # each mini-batch draws for itself
            n_together = 1
        for together in self._draw(self.tensors, rows, rows, epoch, n_together):
            shown = self.augment(join_mini_batches(together)).split([len(pairs.row) for pairs in together])
            for i, seen in enumerate(shown):
                source, place = together[i].source.seen_as(together[i].student, seen), torch.arange(len(seen))
                yield together[i]._replace(student=place.to(seen.device), source=source)

    def augment(self, pairs: MiniBatch) -> Tensor:
        """Return the student's rows as PEA shows them: the one place for it."""
        rows, number = pairs.source.seen(pairs), pairs.row
        if self.n_processes > 1 and self.augmentation.pea.granularity == "batch":
            # the first row draws for all, also for those of other processes
            torch.distributed.broadcast(number := number.clone(), src=0)
        with torch.autocast(rows.device.type, enabled=False):  # moments in half precision would be noise
            return self.augmentation(rows, number, pairs.source.batch[pairs.student])

    def _draw_validation(self) -> Iterator[MiniBatch]:
        n = -(-self.n_val // self.batch_size)
        places = torch.arange(self.n_val, device=self._val_rows.device)
        rows, places_of = (list(of_all.tensor_split(n)) for of_all in (self._val_rows, places))
        yield from chain.from_iterable(self._draw(self.validation, rows, places_of, -1))

    def _draw(
        self, source: PairedTensors, rows: list[Tensor], places: list[Tensor], epoch: int, n_together: int = 1
    ) -> Iterator[list[MiniBatch]]:
        """Pair mini-batches of rows, which are at these places of the source; up to so many of one source together."""
        if self.resident:
            for first in range(0, len(rows), n_together):
                some = slice(first, first + n_together)
                yield [
                    source.pair(*part, self.seed, epoch, PARTNER) for part in zip(rows[some], places[some], strict=True)
                ]
            return
        at_once = max(1, self.chunk_rows // max(map(len, rows)))  # type: ignore[operator]  # a number if not resident
        for first in range(0, len(rows), at_once):
            chunk = slice(first, first + at_once)
            pairs = source.pair(torch.cat(rows[chunk]), torch.cat(places[chunk]), self.seed, epoch, PARTNER)
            part = source.part(pairs, self.device)
            here = torch.arange(len(pairs.row), device=self.device)
            sizes = [len(row) for row in rows[chunk]]
            of_part = []
            for row, place in zip(pairs.row.to(self.device).split(sizes), here.split(sizes), strict=True):
                plain = torch.full_like(place, -1)  # the part has them as they are seen
                of_part.append(MiniBatch(row, place, place, part.key[place], plain, part))
            for start in range(0, len(of_part), n_together):
                yield of_part[start : start + n_together]


def split_rows(
    key: np.ndarray,
    groups: np.ndarray,
    seed: int,
    *,
    train_size: float,
    validation_size: float | None,
    external_indexing: Sequence[np.ndarray] | None = None,
    **others: Any,
) -> Sequence[np.ndarray]:
    """Return training, validation and test rows among those with a key (n_student,), by groups or as they are given."""
    paired = np.flatnonzero(key >= 0)
    if external_indexing is not None:
        return read_split(external_indexing, paired, len(key))
    return split_groups(paired, groups[paired], train_size, validation_size, seed)


def choose_train_size(train_size: float | None, validation_size: float | None) -> float:
    """Return the fraction of the groups for training: of ``None``, all that validation leaves, or else 0.9."""
    if train_size is not None:
        return train_size
    if validation_size is None:
        return TRAIN_SIZE
    check_number("validation_size", validation_size, least=0, below=1)
    return 1 - validation_size


def split_groups(
    rows: np.ndarray, groups: np.ndarray, train_size: float, validation_size: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split rows into training, validation and test so that no group is on two sides."""
    from sklearn.model_selection import GroupShuffleSplit

    check_number("train_size", train_size, above=0, most=1)
    validation_size = 1 - train_size if validation_size is None else validation_size
    check_number("validation_size", validation_size, least=0, most=1)
    if train_size + validation_size > 1 + 1e-9:
        raise BadValue("validation_size", validation_size, f"at most 1 - train_size, {1 - train_size:g}")
    none = rows[:0]
    if validation_size < 1e-9:
        return rows, none, none
    n_groups = len(pd.unique(groups))
    if n_groups < 2:
        mend = "name another split_key in the setup, or train with train_size=1.0"
        raise TooFew("groups of paired samples, one of them for validation", n_groups, 2, mend)
    n_validation = min(max(1, round(validation_size * n_groups)), n_groups - 1)
    n_train = min(max(1, round(train_size * n_groups)), n_groups - n_validation)
    splitter = GroupShuffleSplit(1, train_size=n_train, test_size=n_validation, random_state=seed % 2**32)
    train, validation = next(splitter.split(rows, groups=groups))
    left = np.ones(len(rows), dtype=bool)
    left[train] = left[validation] = False
    return rows[train], rows[validation], rows[left]


def read_split(external_indexing: Sequence[np.ndarray], paired: np.ndarray, n_rows: int) -> list[np.ndarray]:
    """Return training, validation and test rows of a split that is given as row numbers or masks of ``n_rows``."""
    parts = [read_rows("a part of external_indexing", part, n_rows) for part in external_indexing]
    if len(parts) > 3:
        raise TooMany("parts of external_indexing", len(parts), 3)
    parts += [paired[:0]] * (3 - len(parts))
    rows, is_paired = np.concatenate(parts), np.zeros(n_rows, dtype=bool)
    is_paired[paired] = True
    known = (rows >= 0) & (rows < n_rows)
    known[known] = is_paired[rows[known]]
    if unpaired := np.unique(rows[~known]).tolist():
        raise Refused("external_indexing has rows that are controls, unpaired or out of range", unpaired)
    if (repeated := np.flatnonzero(np.bincount(rows) > 1)).size:
        raise Repeated("rows of external_indexing", repeated.tolist(), "name each in one part")
    return parts


def check_trainable(module: SemiClipModule, data: PairedDataModule, monitor: str | None) -> None:
    """Refuse mini-batches that are too small for the objective, and a monitor that it cannot have."""
    name, objective, needed = module.objective_name, module.objective, module.min_batch_size
    if (n_rows := min(data.batch_size, data.n_train)) < needed:
        raise TooFew(f"rows in a mini-batch for objective={name!r}", n_rows, needed, objective.spec.few_rows)
    if monitor is None:
        return
    if data.n_val == 0:
        raise TooFew("validation samples to choose an epoch by", 0, 1, "lower train_size")
    if monitor == "validation_loss":
        if objective.spec.needs_labels and not data.n_val_known:
            mend = "name an obs column such as the experiment as split_key, so that each class is on both sides"
            raise TooFew("validation samples whose class training has", 0, 1, mend)
        n_rows = data.n_val // -(-data.n_val // data.batch_size)
        if n_rows < needed:
            what = f"rows in a mini-batch of validation for objective={name!r}"
            raise TooFew(what, n_rows, needed, "lower train_size")
    elif not objective.spec.same_space and monitor.startswith(RETRIEVAL):
        raise Conflict(f"monitor={monitor!r}", f"objective={name!r}, which has a space of its own",
                       "use monitor='validation_loss'")  # fmt: skip
