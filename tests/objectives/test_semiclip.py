from math import exp, log, log1p

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from semiclip import errors
from semiclip.objectives import SemiClipped

DUPLICATES = ["negative", "mask", "multi_positive"]


def pairs(seed, n=12, d=5, n_keys=4):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, n, d, generator=rng, dtype=torch.float64)
    return student, teacher, torch.randint(n_keys, (n,), generator=rng)


def naive(student, teacher, key, *, temperature=0.1, symmetric=False, duplicates="negative"):
    """Row by row, as the sum is written."""
    student, teacher, key = student.numpy(), teacher.numpy(), key.numpy()
    if symmetric:
        both = [(student, teacher), (teacher, student)]
        keys = torch.from_numpy(key)
        losses = [
            naive(torch.from_numpy(a), torch.from_numpy(b), keys, temperature=temperature, duplicates=duplicates)
            for a, b in both
        ]
        return np.mean(losses)
    losses = []
    for i, row in enumerate(student):
        scores = teacher @ row / np.linalg.norm(teacher, axis=1) / np.linalg.norm(row) / temperature
        others = [j for j in range(len(key)) if j == i or duplicates != "mask" or key[j] != key[i]]
        right = [j for j in range(len(key)) if (key[j] == key[i] if duplicates == "multi_positive" else j == i)]
        losses.append(logsumexp(scores[others]) - scores[right].mean())
    return np.mean(losses)


@pytest.mark.parametrize(("n", "value"), [(4, 1.362e-4), (1024, 0.045398)])
def test_perfect_pairs(n, value):
    eye = torch.eye(n, dtype=torch.float64)
    for symmetric in (False, True):
        loss = SemiClipped(symmetric=symmetric)(eye, eye).item()
        assert loss == pytest.approx(log1p((n - 1) * exp(-10)), rel=1e-12)
        assert loss == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("n", [2, 1024])
def test_a_teacher_that_always_says_the_same_teaches_nothing(n):
    student = torch.randn(n, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = SemiClipped()(student, torch.ones(n, 8, dtype=torch.float64)).item()
    assert loss == pytest.approx(log(n), rel=1e-12)
    if n == 1024:
        assert loss == pytest.approx(6.93147, abs=5e-6)


@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_pair_alone_is_certain(duplicates, symmetric):
    student, teacher, key = pairs(0, n=1)
    assert SemiClipped(duplicates=duplicates, symmetric=symmetric)(student, teacher, key).item() == 0


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    n_keys=st.integers(1, 12),
    temperature=st.floats(0.05, 5),
    symmetric=st.booleans(),
    duplicates=st.sampled_from(DUPLICATES),
)
def test_equals_the_sum_row_by_row(seed, n, n_keys, temperature, symmetric, duplicates):
    student, teacher, key = pairs(seed, n=n, n_keys=n_keys)
    keywords = {"temperature": temperature, "symmetric": symmetric, "duplicates": duplicates}
    loss = SemiClipped(**keywords)(student, teacher, key)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive(student, teacher, key, **keywords), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("zero", ["student", "teacher", "both"])
@pytest.mark.parametrize("duplicates", DUPLICATES)
def test_vectors_of_zeros_stay_finite(zero, duplicates):
    student, teacher, key = pairs(0)
    if zero != "teacher":
        student[2] = 0
    if zero != "student":
        teacher[2] = 0
    student.requires_grad_()
    loss = SemiClipped(duplicates=duplicates)(student, teacher, key)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_batch_of_one_key(symmetric):
    """Masked, nothing is left to confuse a row with; with several right answers the best is to doubt evenly."""
    student, teacher, _ = pairs(0)
    key = torch.zeros(12, dtype=torch.long)
    assert SemiClipped(duplicates="mask", symmetric=symmetric)(student, teacher, key).item() == 0
    assert SemiClipped(duplicates="multi_positive", symmetric=symmetric)(student, teacher, key).item() >= log(12)
    same = torch.ones(12, 5, dtype=torch.float64)
    loss = SemiClipped(duplicates="multi_positive", symmetric=symmetric)(same, same, key)
    assert loss.item() == pytest.approx(log(12), rel=1e-12)


def test_single_precision():
    student, teacher, key = pairs(0)
    for duplicates in DUPLICATES:
        loss = SemiClipped(duplicates=duplicates)
        single = loss(student.float(), teacher.float(), key)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(loss(student, teacher, key).item(), rel=1e-5)


@pytest.mark.parametrize("duplicates", ["mask", "multi_positive"])
def test_refuses_duplicates_without_a_key(duplicates, refuses):
    student, teacher, _ = pairs(0)
    with refuses(errors.BadValue, name="key", value=None):
        SemiClipped(duplicates=duplicates)(student, teacher)
