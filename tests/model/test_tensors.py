"""Pairs, views and splits as they are drawn from tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semiclip._sides import tie_groups
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


def test_arrays_are_copied_only_where_they_must_be_and_bytes_are_those_of_all_tensors():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    views = values[:, None]
    values.flags.writeable = False
    key = np.array([0, 1, -1, 1])
    tensors = PairedTensors.from_arrays(values, values[:, :2], key, np.array([1, 0, 0, -1]), views=[views])
    tensors.student[0] = 7
    assert values[0, 0] == 0
    assert tensors.views.data_ptr() == torch.as_tensor(views).data_ptr()
    assert tensors.batch.tolist() == [0] * 4
    assert tensors.nbytes == 4 * (4 * 3 + 3 * 2 + 4 * 3) + 8 * (4 + 4 + 2 + 2 + 1)
    assert tensors.to(torch.device("cpu")).student.data_ptr() == tensors.student.data_ptr()


def viewed(*numbers, n=3):
    """Make tensors of rows and views that carry their kind, their number and their row; -1 for the row itself."""
    kinds = []
    for kind, number in enumerate((1, *numbers), -1):
        rows, views = np.meshgrid(np.arange(n), np.arange(number) if kind >= 0 else [-1], indexing="ij")
        kinds.append(np.stack([np.full_like(rows, kind), views, rows], axis=2).astype(np.float32))
    student = kinds[0][:, 0]
    return PairedTensors.from_arrays(student, student, np.arange(n), np.arange(n), views=kinds[1:])


@pytest.mark.parametrize("numbers", [(4,), (1, 3), (2, 5, 1)])
def test_all_kinds_and_none_are_equally_likely_and_so_are_the_views_of_a_kind(numbers):
    tensors, n = viewed(*numbers), 40_000
    place = torch.arange(n) % 3
    pairs = tensors.pair(torch.arange(n), place, 7, 0)
    seen = tensors.seen(pairs).numpy()
    assert torch.equal(tensors.part(pairs, torch.device("cpu")).student, tensors.seen(pairs))
    np.testing.assert_array_equal(seen[:, 2], place)
    share = 1 / (len(numbers) + 1)
    expected = {(kind, view): share / number for kind, number in enumerate(numbers) for view in range(number)}
    for (kind, view), probability in {**expected, (-1, -1): share}.items():
        seldom = ((seen[:, 0] == kind) & (seen[:, 1] == view)).mean()
        assert abs(seldom - probability) < 4 * np.sqrt(probability / n)
    held_out = tensors.seen_as(torch.tensor([2, 0]), torch.ones(2, 5))
    plain = held_out.pair(torch.tensor([2, 0]), torch.arange(2), 1)
    assert plain.view.tolist() == [-1, -1]
    assert torch.equal(held_out.seen(plain), torch.ones(2, 5))


def test_a_view_is_a_function_of_counters_and_row_and_independent_of_the_partner():
    rows, place = torch.arange(20_000), torch.zeros(20_000, dtype=torch.long)
    one, two, views = np.zeros(1, int), np.zeros(2, int), np.zeros((1, 1, 3))
    tensors = PairedTensors.from_arrays(np.zeros((1, 3)), np.zeros((2, 2)), one, two, views=[views])
    drawn = tensors.pair(rows, place, 7, 0)
    some = torch.tensor([19_000, 3, 3])
    assert torch.equal(tensors.pair(rows[some], place[some], 7, 0).view, drawn.view[some])
    again = tensors.pair(rows, place, 7, 1).view
    assert abs(float((again == drawn.view).float().mean()) - 0.5) < 0.02
    # which of the two teacher rows comes says nothing of the view
    assert abs(float(((drawn.view >= 0) == (drawn.teacher == 1)).float().mean()) - 0.5) < 0.02


@given(st.integers(2, 12), st.floats(0.1, 0.9), st.integers(0, 100))
def test_groups_are_never_torn_apart(paired, data_module, n_groups, train_size, seed):
    rows = np.arange(5, 5 + 4 * n_groups)
    key = np.concatenate([np.full(5, -1), rows])
    groups = np.random.default_rng(seed).permutation(np.arange(4 * n_groups) % n_groups).astype(str)
    groups = np.concatenate([groups[:5], groups])
    tensors, _, _ = paired(key, key, np.random.default_rng(0))
    data = data_module(tensors, groups, train_size=train_size, split_seed=seed)
    parts = [data.train_idx, data.val_idx, data.test_idx]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), rows)
    train, validation, _ = (set(groups[part]) for part in parts)
    assert train
    assert validation
    assert not train & validation


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_groups_that_share_a_key_are_tied(n, n_names, n_keys, seed):
    rng = np.random.default_rng(seed)
    code, key = rng.integers(n_names, size=n), rng.integers(-1, n_keys, size=n)
    naive = list(code)
    for _ in range(n):  # whoever shares a key takes the first code of both, until nothing changes
        for i in range(n):
            for j in range(n):
                if code[i] == code[j] or key[i] == key[j] >= 0:
                    naive[i] = naive[j] = min(naive[i], naive[j])
    assert tie_groups(code, key).tolist() == naive
