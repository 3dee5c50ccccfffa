from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from semiclip.model._data import PairedDataModule
from semiclip.model._tensors import PairedTensors


def drawn(data):
    """Join the rows, partners and keys of an epoch, by what they are and not by where they lie."""
    batches = [batch for together in data.train_dataloader() for batch in together]
    return torch.cat(
        [
            torch.column_stack(
                [batch.row, batch.source.student[batch.student], batch.source.teacher[batch.teacher], batch.key]
            )
            for batch in batches
        ]
    )


def many(paired, n=40, keys=20):
    return paired(np.arange(n) % keys, np.arange(n) % keys, np.random.default_rng(0))[0]


def test_an_epoch_visits_every_row_at_most_once_and_drops_the_last_partial_mini_batch(paired, data_module):
    tensors, _, _ = paired(np.arange(23) % 5, np.arange(5), np.random.default_rng(0))
    data = data_module(tensors, train_size=1.0, batch_size=5)
    calls = list(data.train_dataloader())
    assert [len(batch.row) for (batch,) in calls] == [5, 5, 5, 5] == [5] * len(data.train_dataloader())
    assert len(torch.unique(torch.cat([batch.row for (batch,) in calls]))) == 20
    assert all(torch.equal(batch.row, batch.student) for (batch,) in calls)
    assert data.val_dataloader() == []


def test_several_mini_batches_can_go_into_one_call(paired, data_module):
    tensors = many(paired)
    data = data_module(tensors, train_size=1.0, batch_size=5)
    one_by_one = drawn(data)
    data.steps_per_call = 3
    assert [len(together) for together in data.train_dataloader()] == [3, 3, 2]
    assert len(data.train_dataloader()) == 3
    assert torch.equal(drawn(data), one_by_one)


def test_fewer_rows_than_a_mini_batch_make_one_mini_batch(paired, data_module):
    tensors, _, _ = paired(np.arange(7), np.arange(7), np.random.default_rng(0))
    assert [len(batch.row) for (batch,) in data_module(tensors, train_size=1.0).train_dataloader()] == [7]


def test_draws_differ_by_epoch_and_seed_and_repeat_for_the_same(paired, data_module):
    def draw(**kwargs):
        return drawn(data_module(many(paired), train_size=1.0, batch_size=8, **kwargs)).tolist()

    assert draw(epoch=3, seed=1) == draw(epoch=3, seed=1)
    different = [draw(epoch=0, seed=1), draw(epoch=1, seed=1), draw(epoch=0, seed=2), draw(epoch=1, seed=0)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_a_row_meets_the_same_partner_in_mini_batches_of_any_size(paired, data_module):
    def partner_of(batch_size):
        rows = drawn(data_module(many(paired), train_size=1.0, batch_size=batch_size))
        return rows[rows[:, 0].argsort()]

    assert torch.equal(partner_of(8), partner_of(20))


def test_validation_keeps_every_row_in_mini_batches_of_even_size_and_repeats_itself(paired, data_module):
    tensors, _, _ = paired(np.arange(60) % 30, np.arange(30), np.random.default_rng(0))
    data = data_module(tensors, train_size=0.5, batch_size=9, seed=4)
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert [len(batch.row) for batch in first] == [8, 8, 7, 7]
    np.testing.assert_array_equal(np.sort(torch.cat([batch.row for batch in first])), data.val_idx)
    assert all(torch.equal(a.teacher, b.teacher) for a, b in zip(first, second, strict=True))
    for batch in first:
        assert torch.equal(batch.source.student[batch.student], tensors.student[batch.row])


def test_validation_sees_rows_as_inference_does(paired, data_module):
    tensors = many(paired)
    data = data_module(tensors, train_size=0.5, batch_size=8, infer=lambda rows: np.repeat(rows[:, None], 2, axis=1))
    for batch in data.val_dataloader():
        seen = batch.source.student[batch.student]
        assert torch.equal(seen, batch.row[:, None].expand(-1, 2).float())
        assert torch.equal(batch.key, tensors.key[batch.row])
        assert torch.equal(batch.source.teacher[batch.teacher][:, 0].long(), batch.key)


def test_held_out_keys_and_their_centroids_come_along(paired, data_module):
    tensors = many(paired)
    data = data_module(tensors, train_size=0.5)
    keys = np.unique(tensors.key.numpy()[data.val_idx])
    assert data.held_out.tolist() == keys.tolist()
    assert torch.equal(data.centroids(), tensors.centroids(torch.as_tensor(keys)))


def test_a_given_split_is_kept(paired, data_module):
    tensors, student, _ = paired([0, 1, 2, 3, 9], [0, 1, 2, 3], np.random.default_rng(0))
    assert student[4] == -1
    data = data_module(tensors, external_indexing=[np.array([0, 1]), [2, 3]])
    assert [part.tolist() for part in (data.train_idx, data.val_idx, data.test_idx)] == [[0, 1], [2, 3], []]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_mini_batch_in_its_order(paired, data_module, processes):
    tensors = many(paired)
    alone = drawn(data_module(tensors, train_size=1.0, batch_size=12)).view(-1, 12, 7)
    shares = [
        drawn(data_module(tensors, train_size=1.0, batch_size=12, processes=processes, rank=rank))
        for rank in range(processes)
    ]
    assert torch.equal(torch.cat([share.view(len(alone), -1, 7) for share in shares], dim=1), alone)


def test_processes_must_be_able_to_share_a_mini_batch_equally(paired, data_module):
    message = r"{} rows of a mini-batch cannot be shared equally by 3 processes; choose another batch_size"
    with pytest.raises(ValueError, match=message.format(8)):
        data_module(many(paired), train_size=1.0, batch_size=8, processes=3)
    with pytest.raises(ValueError, match=message.format(40)):  # all there are
        data_module(many(paired), train_size=1.0, batch_size=60, processes=3)


def test_processes_draw_what_the_first_one_draws(paired, data_module):
    tensors = many(paired)
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
def test_an_epoch_is_taken_up_where_it_was_left(paired, data_module, chunk_rows):
    tensors = many(paired)
    whole = drawn(data_module(tensors, train_size=1.0, batch_size=8, chunk_rows=chunk_rows))
    rest = data_module(tensors, train_size=1.0, batch_size=8, steps=2, chunk_rows=chunk_rows)
    assert torch.equal(drawn(rest), whole[16:])
    rest.steps_per_call = 2  # two calls of two steps each
    assert torch.equal(drawn(rest), whole[32:])
    assert rest.train_dataloader().state_dict() == {}


def test_a_checkpoint_brings_split_and_draws(paired, data_module):
    tensors = many(paired)
    options = {"train_size": 0.5, "batch_size": 4}
    first, second = (data_module(tensors, seed=seed, split_seed=seed, **options) for seed in (1, 2))
    assert drawn(second).tolist() != drawn(first).tolist()
    second.load_state_dict(first.state_dict())
    assert torch.equal(drawn(second), drawn(first))
    assert second.val_idx.tolist() == first.val_idx.tolist()
    assert torch.equal(second.centroids(), first.centroids())
    with pytest.raises(ValueError, match="made with 40 student samples, but there are 44; resume with the same data"):
        data_module(many(paired, n=44)).load_state_dict(first.state_dict())


@pytest.mark.parametrize("chunk_rows", [8, 9, 20, 1000])
@pytest.mark.parametrize("processes", [1, 2])
def test_chunks_draw_what_resident_data_draw(paired, data_module, caplog, chunk_rows, processes):
    tensors = many(paired)
    options = {"train_size": 0.7, "batch_size": 8, "processes": processes}
    resident = data_module(tensors, **options)
    assert not caplog.records
    chunked = data_module(tensors, chunk_rows=chunk_rows, **options)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"the data (0.0 GB) stay in main memory and {chunk_rows} pairs at a time are copied to cpu, which is slower "
        "than training on data that are there"
    )
    assert torch.equal(drawn(chunked), drawn(resident))
    for a, b in zip(chunked.val_dataloader(), resident.val_dataloader(), strict=True):
        assert torch.equal(a.row, b.row)
        assert torch.equal(a.source.student[a.student], b.source.student[b.student])
        assert torch.equal(a.source.teacher[a.teacher], b.source.teacher[b.teacher])
        assert torch.equal(a.source.batch[a.student], b.source.batch[b.student])


def test_at_most_two_chunks_are_on_the_device(paired, data_module, monkeypatch):
    living, most, copied = weakref.WeakSet(), [], []
    part = PairedTensors.part

    def watched(self, pairs, device):
        copy = part(self, pairs, device)
        copied.append(len(copy.student))
        assert len(copy.student) == len(copy.teacher)
        living.add(copy.student)
        most.append(sum(map(len, living)))
        return copy

    monkeypatch.setattr(PairedTensors, "part", watched)
    data = data_module(many(paired, n=400), train_size=1.0, batch_size=8, chunk_rows=30)
    for (batch,) in data.train_dataloader():
        assert len(batch.source.student) <= 30
    assert copied == [24] * 16 + [16]
    assert max(most) <= 60  # the one in use and the next
    data.steps_per_call = 7  # a call needs the chunks of all its steps
    most.clear()
    assert [len(together) for together in data.train_dataloader()] == [7] * 7 + [1]
    assert max(most) <= 2 * (7 * 8 + 30)


def test_a_gpu_without_room_for_the_data_reads_chunks(paired, data_module, monkeypatch, caplog):
    tensors = many(paired, n=4000)
    data = data_module(tensors, train_size=1.0, batch_size=8)
    data.device = torch.device("cuda")
    row = 4 * (tensors.student.shape[1] + tensors.teacher.shape[1])
    for free, fits in ((2 * tensors.nbytes, True), (tensors.nbytes, False)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device, free=free: (free, free))
        assert data._fits() is fits
    assert data.chunk_rows == tensors.nbytes // 8 // row
    assert "stay in main memory" in caplog.text
    assert "copied to cuda" in caplog.text


def test_errors(paired):
    tensors, _, _ = paired(np.zeros(6), np.zeros(2), np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least two different keys"):
        PairedDataModule(tensors, np.arange(6), train_size=0.5)
    with pytest.raises(ValueError, match="more than one of training, validation and test"):
        PairedDataModule(tensors, np.arange(6), external_indexing=[np.arange(4), np.arange(3, 6)])
    with pytest.raises(ValueError, match="chunk_rows=7 must be at least batch_size=8"):
        PairedDataModule(many(paired), np.arange(40), batch_size=8, chunk_rows=7)
