from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from semiclip import errors


def drawn(data):
    """Join the rows, partners and keys of an epoch, by what they are and not by where they lie."""
    return torch.cat([stacked(batch) for together in data.train_dataloader() for batch in together])


def stacked(batch):
    source = batch.source
    parts = [batch.row, source.student[batch.student], source.teacher[batch.teacher], batch.key]
    return torch.column_stack([*parts, source.batch[batch.student]])


@pytest.fixture
def many(paired):
    """Make tensors of so many rows of each side, in 20 keys or as many as asked for."""

    def make(n=40, keys=20):
        return paired(np.arange(n) % keys, np.arange(n) % keys, np.random.default_rng(0))[0]

    return make


def test_an_epoch_visits_every_row_at_most_once_and_drops_the_last_partial_mini_batch(many, data_module):
    data = data_module(many(23, 5), train_size=1.0, batch_size=5)
    calls = list(data.train_dataloader())
    assert [len(batch.row) for (batch,) in calls] == [5, 5, 5, 5] == [5] * len(data.train_dataloader())
    assert len(torch.unique(torch.cat([batch.row for (batch,) in calls]))) == 20
    assert all(torch.equal(batch.row, batch.student) for (batch,) in calls)
    assert data.val_dataloader() == []
    # fewer rows than a mini-batch make one
    assert [len(batch.row) for (batch,) in data_module(many(7), train_size=1.0).train_dataloader()] == [7]


def test_draws_follow_epoch_and_seed_but_not_the_size_of_mini_batches(many, data_module):
    def draw(batch_size=8, **kwargs):
        return drawn(data_module(many(), train_size=1.0, batch_size=batch_size, **kwargs))

    assert torch.equal(draw(epoch=3, seed=1), draw(epoch=3, seed=1))
    different = [draw(epoch=epoch, seed=seed) for epoch, seed in ((0, 1), (1, 1), (0, 2), (1, 0))]
    assert all(not torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])
    by_row = [rows[rows[:, 0].argsort()] for rows in (draw(8), draw(20))]
    assert torch.equal(*by_row)


def test_validation_keeps_every_row_in_mini_batches_of_even_size_and_repeats_itself(many, data_module):
    tensors = many(60, 30)
    data = data_module(tensors, train_size=0.5, batch_size=9, seed=4)
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert [len(batch.row) for batch in first] == [8, 8, 7, 7]
    np.testing.assert_array_equal(np.sort(torch.cat([batch.row for batch in first])), data.val_idx)
    assert all(torch.equal(a.teacher, b.teacher) for a, b in zip(first, second, strict=True))
    for batch in first:
        assert torch.equal(batch.source.student[batch.student], tensors.student[batch.row])
    keys = np.unique(tensors.key.numpy()[data.val_idx])
    assert data.held_out.tolist() == keys.tolist()
    assert torch.equal(data.centroids(), tensors.centroids(torch.as_tensor(keys)))


def test_validation_sees_rows_as_inference_does(many, data_module):
    data = data_module(many(), train_size=0.5, infer=lambda rows: np.repeat(rows[:, None], 2, axis=1))
    for batch in data.val_dataloader():
        row, *seen, teacher_key, _, key, _ = stacked(batch).T
        assert all(torch.equal(column, row) for column in seen)
        assert torch.equal(key, data.host.key[batch.row].float())
        assert torch.equal(key, teacher_key)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_mini_batch_in_its_order(many, data_module, processes):
    alone = drawn(data_module(many(), train_size=1.0, batch_size=12)).view(-1, 12, 8)
    options = {"train_size": 1.0, "batch_size": 12, "processes": processes}
    shares = [drawn(data_module(many(), rank=rank, **options)) for rank in range(processes)]
    assert torch.equal(torch.cat([share.view(len(alone), -1, 8) for share in shares], dim=1), alone)


def test_processes_draw_what_the_first_one_draws(many, data_module):
    tensors = many()
    options = {"train_size": 0.5, "batch_size": 4, "processes": 2}
    first = data_module(tensors, seed=1, split_seed=1, **options)
    alone = data_module(tensors, seed=2, split_seed=2, rank=1, **options)
    second = data_module(tensors, seed=2, split_seed=2, rank=1, first=first.state_dict(), **options)
    assert (second.seed, second.split_seed) == (1, 1)
    assert alone.train_idx.tolist() != second.train_idx.tolist() == first.train_idx.tolist()
    assert torch.equal(second.held_out, first.held_out)
    rows = torch.cat([drawn(first)[:, 0], drawn(second)[:, 0]])
    assert len(torch.unique(rows)) == len(rows) == 20


@pytest.mark.parametrize("chunk_rows", [None, 16])
def test_mini_batches_go_into_calls_and_an_epoch_is_taken_up_where_it_was_left(many, data_module, chunk_rows):
    options = {"train_size": 1.0, "batch_size": 5, "chunk_rows": chunk_rows}
    data, rest = data_module(many(), **options), data_module(many(), steps=2, **options)
    whole = drawn(data)
    assert torch.equal(drawn(rest), whole[10:])
    data.steps_per_call = rest.steps_per_call = 3  # two calls are behind the rest then
    assert [len(together) for together in data.train_dataloader()] == [3, 3, 2]
    assert len(data.train_dataloader()) == 3
    assert torch.equal(drawn(data), whole)
    assert torch.equal(drawn(rest), whole[30:])
    assert rest.train_dataloader().state_dict() == {}


def test_a_checkpoint_brings_split_and_draws(many, data_module, refuses):
    options = {"train_size": 0.5, "batch_size": 4}
    first, second = (data_module(many(), seed=seed, split_seed=seed, **options) for seed in (1, 2))
    assert not torch.equal(drawn(second), drawn(first))
    second.load_state_dict(first.state_dict())
    assert torch.equal(drawn(second), drawn(first))
    assert second.val_idx.tolist() == first.val_idx.tolist()
    assert torch.equal(second.centroids(), first.centroids())
    with refuses(errors.Mismatch, got=44, expected=40):
        data_module(many(44)).load_state_dict(first.state_dict())


@pytest.mark.parametrize("chunk_rows", [8, 9, 20, 1000])
@pytest.mark.parametrize("processes", [1, 2])
def test_chunks_draw_what_resident_data_draw(many, data_module, caplog, chunk_rows, processes):
    options = {"train_size": 0.7, "batch_size": 8, "processes": processes}
    resident = data_module(many(), **options)
    assert not caplog.records
    chunked = data_module(many(), chunk_rows=chunk_rows, **options)
    (record,) = caplog.records
    assert (record.levelname, record.args[1:]) == ("INFO", (chunk_rows, torch.device("cpu")))
    assert torch.equal(drawn(chunked), drawn(resident))
    for a, b in zip(chunked.val_dataloader(), resident.val_dataloader(), strict=True):
        assert torch.equal(stacked(a), stacked(b))


class Doubling:
    """Augmentation that doubles rows."""

    pea = SimpleNamespace(granularity="row")

    def __init__(self, **kwargs):
        self.calls = []

    def start_epoch(self, epoch):
        pass

    def __call__(self, rows, number, batch):
        self.calls.append(len(rows))
        return 2 * rows


@pytest.mark.parametrize("augmentation", [None, Doubling])
def test_at_most_two_chunks_are_on_the_device(many, data_module, monkeypatch, augmentation):
    living, most, copied = weakref.WeakSet(), [], []
    tensors = many(400)
    part = type(tensors).part

    def watched(self, pairs, device):
        copy = part(self, pairs, device)
        copied.append(len(copy.student))
        assert len(copy.student) == len(copy.teacher)
        living.add(copy.teacher)
        most.append(sum(map(len, living)))
        return copy

    monkeypatch.setattr(type(tensors), "part", watched)
    data = data_module(tensors, train_size=1.0, batch_size=8, chunk_rows=30, augmentation=augmentation)
    for (batch,) in data.train_dataloader():
        factor = 1 if augmentation is None else 2
        assert torch.equal(batch.source.seen(batch), factor * tensors.student[batch.row])
        assert len(batch.source.student) <= 30
    if augmentation is not None:
        assert data.augmentation.calls == copied
    assert copied == [24] * 16 + [16]
    assert max(most) <= 60  # the one in use and the next
    data.steps_per_call = 7  # a call needs the chunks of all its steps
    most.clear()
    assert [len(together) for together in data.train_dataloader()] == [7] * 7 + [1]
    assert max(most) <= 2 * (7 * 8 + 30)


def test_a_gpu_without_room_for_the_data_reads_chunks(many, data_module, monkeypatch, caplog):
    tensors = many(4000)
    data = data_module(tensors, train_size=1.0, batch_size=8)
    data.device = torch.device("cuda")
    row = 4 * (tensors.student.shape[1] + tensors.teacher.shape[1])
    for free, fits in ((2 * tensors.nbytes, True), (tensors.nbytes, False)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device, free=free: (free, free))
        assert data._fits() is fits
    assert data.chunk_rows == tensors.nbytes // 8 // row
    assert caplog.records[0].args[1:] == (data.chunk_rows, data.device)


@pytest.mark.parametrize(
    ("shape", "options", "error", "data"),
    [
        ((6, 1), {"groups": np.arange(6), "train_size": 0.5}, errors.TooFew, {"number": 1, "needed": 2}),
        ((40, 20), {"external_indexing": [np.arange(4), np.arange(3, 6)]}, errors.Repeated, {"items": [3]}),
        ((40, 20), {"batch_size": 8, "chunk_rows": 7}, errors.BadValue, {"name": "chunk_rows", "value": 7}),
        ((40, 20), {"batch_size": 8, "processes": 3, "train_size": 1.0}, errors.BadValue, {"name": "batch_size"}),
        ((40, 20), {"batch_size": 60, "processes": 3, "train_size": 1.0}, errors.BadValue, {"value": 60}),  # all rows
    ],
)
def test_what_cannot_be_drawn_is_refused(many, data_module, refuses, shape, options, error, data):
    with refuses(error, **data):
        data_module(many(*shape), **options)
