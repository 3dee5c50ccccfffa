from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiclip.model._tensors import PairedTensors

KEYS = st.lists(st.integers(-1, 4), min_size=1, max_size=30)


@given(KEYS, KEYS)
def test_partners_share_the_key_and_only_paired_teacher_rows_are_kept(paired, student_key, teacher_key):
    tensors, student, teacher = paired(student_key, teacher_key, np.random.default_rng(0))
    assert len(tensors.teacher) == (teacher >= 0).sum()
    rows = torch.as_tensor(np.flatnonzero(student >= 0))
    drawn = tensors.pair(rows, rows, 0, 0)
    np.testing.assert_array_equal(tensors.teacher[drawn.teacher][:, 0].numpy(), student[student >= 0])
    np.testing.assert_array_equal(drawn.key.numpy(), student[student >= 0])


def test_partners_are_uniform_over_the_rows_of_a_key_and_a_function_of_counters_and_row(paired):
    tensors, _, _ = paired([0, 1], [1, 0, 0, 1, 0], np.random.default_rng(0))
    rows, place = torch.arange(30_000), torch.zeros(30_000, dtype=torch.long)
    drawn = tensors.pair(rows, place, 3).teacher
    counts = np.bincount(drawn.numpy(), minlength=5)
    assert counts[3:].sum() == 0
    np.testing.assert_allclose(counts[:3], 10_000, atol=4 * np.sqrt(30_000 * 2 / 9))
    # the same row draws the same partner in any company, and another one for other counters
    some = torch.tensor([29_000, 5, 17, 5])
    assert torch.equal(tensors.pair(rows[some], place[some], 3).teacher, drawn[some])
    again = tensors.pair(rows, place, 4).teacher
    assert abs(float((again == drawn).float().mean()) - 1 / 3) < 0.02


def test_centroids_are_means_of_normalised_teacher_rows():
    rng = np.random.default_rng(0)
    teacher_key = np.array([1, 0, 0, 1, 0, -1])
    y = rng.normal(size=(6, 4)).astype(np.float32)
    tensors = PairedTensors.from_arrays(rng.normal(size=(2, 3)), y, np.array([0, 1]), teacher_key)
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    expected = np.stack([unit[teacher_key == key].mean(axis=0) for key in (1, 0)])
    np.testing.assert_allclose(tensors.centroids(torch.tensor([1, 0])).numpy(), expected, atol=1e-6)


def test_representations_that_cannot_be_written_to_are_copied():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    values.flags.writeable = False
    tensors = PairedTensors.from_arrays(values, values, np.arange(4), np.arange(4))
    tensors.student[0] = 7
    assert values[0, 0] == 0


def test_without_batches_there_is_one_and_bytes_are_those_of_all_tensors():
    x, y = np.zeros((5, 3)), np.zeros((4, 2))
    tensors = PairedTensors.from_arrays(x, y, np.array([0, 1, -1, 1, 0]), np.array([1, 0, 0, -1]))
    assert tensors.batch.tolist() == [0] * 5
    assert tensors.nbytes == 4 * (5 * 3 + 3 * 2) + 8 * (5 + 5 + 2 + 2)
    assert tensors.to(torch.device("cpu")).student.data_ptr() == tensors.student.data_ptr()


def test_some_rows_can_be_seen_in_another_form_beside_the_same_teacher(paired):
    tensors, student, _ = paired([0, 1, -1, 1, 0], [1, 0, 0], np.random.default_rng(0))
    rows, form = torch.tensor([3, 0]), torch.ones(2, 7)
    seen = tensors.seen_as(rows, form)
    assert torch.equal(seen.student, form)
    assert seen.key.tolist() == student[[3, 0]].tolist()
    assert torch.equal(seen.batch, tensors.batch[rows])
    drawn = seen.pair(rows, torch.arange(2), 1)
    assert torch.equal(drawn.teacher, tensors.pair(rows, rows, 1).teacher)


def test_a_part_has_the_rows_of_its_pairs_in_their_order(paired):
    tensors, _, _ = paired([0, 1, -1, 1, 0], [1, 0, 0], np.random.default_rng(0))
    rows = torch.tensor([4, 1, 3])
    pairs = tensors.pair(rows, rows, 1)
    part = tensors.part(pairs, torch.device("cpu"))
    assert torch.equal(part.student, tensors.student[rows])
    assert torch.equal(part.teacher, tensors.teacher[pairs.teacher])
    assert torch.equal(part.key, pairs.key)
    assert torch.equal(part.batch, tensors.batch[rows])
