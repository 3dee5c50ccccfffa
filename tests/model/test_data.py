from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiclip.model._data import PairedDataModule, PairedTensors, split_groups

KEYS = st.lists(st.integers(-1, 4), min_size=1, max_size=30)


def paired(student_key, teacher_key, rng):
    """Tensors whose teacher rows carry their own key as their only feature."""
    student_key, teacher_key = np.asarray(student_key), np.asarray(teacher_key)
    known = np.intersect1d(student_key[student_key >= 0], teacher_key[teacher_key >= 0])
    code = {key: i for i, key in enumerate(known)}
    student, teacher = (np.array([code.get(key, -1) for key in keys]) for keys in (student_key, teacher_key))
    x, y = rng.normal(size=(len(student), 3)), np.column_stack([teacher, np.arange(len(teacher))])
    return PairedTensors.from_arrays(x, y, student, teacher), student, teacher


def module(tensors, groups=None, *, epoch=0, **kwargs):
    data = PairedDataModule(tensors, tensors.key.numpy() if groups is None else groups, **kwargs)
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), current_epoch=epoch)
    data.setup()
    return data


@given(KEYS, KEYS)
def test_partners_share_the_key_and_only_paired_teacher_rows_are_kept(student_key, teacher_key):
    rng = np.random.default_rng(0)
    tensors, student, teacher = paired(student_key, teacher_key, rng)
    assert len(tensors.teacher) == (teacher >= 0).sum()
    rows = torch.as_tensor(np.flatnonzero(student >= 0))
    drawn = tensors.pair(rows, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(tensors.teacher[drawn.teacher][:, 0].numpy(), student[student >= 0])
    np.testing.assert_array_equal(drawn.key.numpy(), student[student >= 0])


def test_partners_are_uniform_over_the_rows_of_a_key():
    tensors, _, _ = paired([0, 1], [1, 0, 0, 1, 0], np.random.default_rng(0))
    rows = torch.zeros(30_000, dtype=torch.long)
    counts = np.bincount(tensors.pair(rows, torch.Generator().manual_seed(0)).teacher.numpy(), minlength=5)
    assert counts[3:].sum() == 0
    np.testing.assert_allclose(counts[:3], 10_000, atol=4 * np.sqrt(30_000 * 2 / 9))


def test_centroids_are_means_of_normalised_teacher_rows():
    rng = np.random.default_rng(0)
    teacher_key = np.array([1, 0, 0, 1, 0, -1])
    y = rng.normal(size=(6, 4)).astype(np.float32)
    tensors = PairedTensors.from_arrays(rng.normal(size=(2, 3)), y, np.array([0, 1]), teacher_key)
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    expected = np.stack([unit[teacher_key == key].mean(axis=0) for key in (1, 0)])
    np.testing.assert_allclose(tensors.centroids(torch.tensor([1, 0])).numpy(), expected, atol=1e-6)


def test_an_epoch_visits_every_row_at_most_once_and_drops_the_last_partial_mini_batch():
    tensors, _, _ = paired(np.arange(23) % 5, np.arange(5), np.random.default_rng(0))
    data = module(tensors, train_size=1.0, batch_size=5)
    batches = list(data.train_dataloader())
    rows = torch.cat([batch.student for batch in batches]).numpy()
    assert [len(batch.student) for batch in batches] == [5, 5, 5, 5] == [5] * len(data.train_dataloader())
    assert len(np.unique(rows)) == 20
    assert data.val_dataloader() == []


def test_fewer_rows_than_a_mini_batch_make_one_mini_batch():
    tensors, _, _ = paired(np.arange(7), np.arange(7), np.random.default_rng(0))
    assert [len(batch.student) for batch in module(tensors, train_size=1.0).train_dataloader()] == [7]


def test_draws_differ_by_epoch_and_seed_and_repeat_for_the_same():
    tensors, _, _ = paired(np.arange(40) % 20, np.arange(40) % 20, np.random.default_rng(0))

    def draw(**kwargs):
        batches = list(module(tensors, train_size=1.0, batch_size=8, **kwargs).train_dataloader())
        return torch.cat([torch.stack(batch) for batch in batches], dim=1).tolist()

    assert draw(epoch=3, seed=1) == draw(epoch=3, seed=1)
    different = [draw(epoch=0, seed=1), draw(epoch=1, seed=1), draw(epoch=0, seed=2), draw(epoch=1, seed=0)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_validation_keeps_every_row_in_mini_batches_of_even_size_and_repeats_itself():
    tensors, _, _ = paired(np.arange(60) % 30, np.arange(30), np.random.default_rng(0))
    data = module(tensors, train_size=0.5, batch_size=9, seed=4)
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert [len(batch.student) for batch in first] == [8, 8, 7, 7]
    np.testing.assert_array_equal(np.sort(torch.cat([batch.student for batch in first])), data.val_idx)
    assert all(torch.equal(a.teacher, b.teacher) for a, b in zip(first, second, strict=True))


@given(st.integers(2, 12), st.floats(0.1, 0.9), st.integers(0, 100))
def test_groups_are_never_torn_apart(n_groups, train_size, seed):
    rows = np.arange(5, 5 + 4 * n_groups)
    groups = np.random.default_rng(seed).permutation(np.arange(4 * n_groups) % n_groups).astype(str)
    parts = split_groups(rows, groups, train_size, None, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), rows)
    held = [set(groups[part - 5]) for part in parts]
    assert held[0]
    assert held[1]
    assert not held[0] & held[1]


def test_what_training_and_validation_leave_is_a_test_set():
    rows = np.arange(100)
    train, validation, test = split_groups(rows, rows // 10, 0.6, 0.2, 0)
    assert (len(train), len(validation), len(test)) == (60, 20, 20)


def test_a_given_split_is_kept_as_rows_or_masks():
    tensors, student, _ = paired([0, 1, 2, 3, 9], [0, 1, 2, 3], np.random.default_rng(0))
    assert student[4] == -1
    for split in ([np.array([0, 1]), [2, 3]], [np.array([True, True, False, False, False]), np.arange(5) // 2 == 1]):
        data = module(tensors, external_indexing=split)
        assert data.train_idx.tolist() == [0, 1]
        assert data.val_idx.tolist() == [2, 3]
        assert data.test_idx.tolist() == []
    for wrong in (4, 5, -1):
        with pytest.raises(ValueError, match=rf"rows that are controls, unpaired or not there: {wrong}$"):
            module(tensors, external_indexing=[np.array([0, 1, wrong])])


def test_representations_that_cannot_be_written_to_are_copied():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    values.flags.writeable = False
    tensors = PairedTensors.from_arrays(values, values, np.arange(4), np.arange(4))
    tensors.student[0] = 7
    assert values[0, 0] == 0


def test_errors():
    tensors, _, _ = paired(np.zeros(6), np.zeros(2), np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least two different keys"):
        PairedDataModule(tensors, np.arange(6), train_size=0.5)
    with pytest.raises(ValueError, match="more than one of training, validation and test"):
        PairedDataModule(tensors, np.arange(6), external_indexing=[np.arange(4), np.arange(3, 6)])
    with pytest.raises(ValueError, match="all paired samples belong to one group.*split_key.*train_size=1.0"):
        split_groups(np.arange(4), np.zeros(4), 0.9, None, 0)
    with pytest.raises(ValueError, match="train_size=0.9 and validation_size=0.3 must be fractions"):
        split_groups(np.arange(4), np.arange(4), 0.9, 0.3, 0)
