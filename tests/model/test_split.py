from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip._sides import tie_groups
from semiclip.model._data import read_split, split_groups


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


def test_groups_without_a_common_key_stay_as_they_are():
    code = np.array([1, 0, 1, 2])
    assert tie_groups(code, np.array([0, 1, 2, -1])).tolist() == code.tolist()


def test_what_training_and_validation_leave_is_a_test_set():
    rows = np.arange(100)
    train, validation, test = split_groups(rows, rows // 10, 0.6, 0.2, 0)
    assert (len(train), len(validation), len(test)) == (60, 20, 20)


def test_without_validation_every_row_trains():
    rows = np.arange(3, 9)
    train, validation, test = split_groups(rows, np.zeros(6), 1.0, None, 0)
    assert train.tolist() == rows.tolist()
    assert validation.size == test.size == 0


def test_the_seed_makes_the_split():
    rows = np.arange(100)
    same, again, other = (split_groups(rows, rows // 5, 0.5, None, seed)[0].tolist() for seed in (1, 1, 2))
    assert same == again != other
    assert split_groups(rows, rows // 5, 0.5, None, 2**32 + 1)[0].tolist() == same, "seeds may have 64 bits"


def test_a_given_split_is_kept_as_rows_or_masks():
    paired = np.arange(4)
    for split in ([np.array([0, 1]), [2, 3]], [np.array([True, True, False, False, False]), np.arange(5) // 2 == 1]):
        assert [part.tolist() for part in read_split(split, paired)] == [[0, 1], [2, 3], []]
    for wrong in (4, 5, -1):
        with pytest.raises(ValueError, match=rf"rows that are controls, unpaired or not there: {wrong}$"):
            read_split([np.array([0, 1, wrong])], paired)
    with pytest.raises(ValueError, match="more than one of training, validation and test"):
        read_split([np.arange(3), np.arange(2, 4)], paired)


def test_errors():
    with pytest.raises(ValueError, match=r"all paired samples belong to one group.*split_key.*train_size=1\.0"):
        split_groups(np.arange(4), np.zeros(4), 0.9, None, 0)
    with pytest.raises(ValueError, match=r"train_size=0\.9 and validation_size=0\.3 must be fractions"):
        split_groups(np.arange(4), np.arange(4), 0.9, 0.3, 0)
