from math import exp, log, log1p

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from semiclip import errors
from semiclip.objectives import Clip, SemiClipped, SigLip

DUPLICATES = ["negative", "mask", "multi_positive"]


def pairs(seed=0, n=12, d=5, n_keys=4):
    rng = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, n, d, generator=rng, dtype=torch.float64)
    return student, teacher, torch.randint(n_keys, (n,), generator=rng)


def unit(x):
    return x.numpy() / np.linalg.norm(x, axis=1, keepdims=True)


# ---- CLIP


def naive(student, teacher, key, *, temperature=0.1, symmetric=False, duplicates="negative"):
    """Row by row, as the sum is written."""
    losses, key = [], key.numpy()
    for a, b in [(student, teacher), (teacher, student)][: 1 + symmetric]:
        for i, scores in enumerate(unit(a) @ unit(b).T / temperature):
            others = [j for j in range(len(key)) if j == i or duplicates != "mask" or key[j] != key[i]]
            right = [j for j in range(len(key)) if (key[j] == key[i] if duplicates == "multi_positive" else j == i)]
            losses.append(logsumexp(scores[others]) - scores[right].mean())
    return np.mean(losses)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 12),
    n_keys=st.integers(1, 12),
    temperature=st.floats(0.05, 5),
    symmetric=st.booleans(),
    duplicates=st.sampled_from(DUPLICATES),
)
def test_clip_equals_the_sum_row_by_row(seed, n, n_keys, temperature, symmetric, duplicates):
    student, teacher, key = pairs(seed, n=n, n_keys=n_keys)
    keywords = {"temperature": temperature, "symmetric": symmetric, "duplicates": duplicates}
    loss = SemiClipped(**keywords)(student, teacher, key)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive(student, teacher, key, **keywords), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "value"), [(4, 1.362e-4), (1024, 0.045398)])
def test_perfect_pairs_and_a_teacher_that_always_says_the_same(n, value):
    eye = torch.eye(n, dtype=torch.float64)
    for symmetric in (False, True):
        loss = SemiClipped(symmetric=symmetric)(eye, eye).item()
        assert loss == pytest.approx(log1p((n - 1) * exp(-10)), rel=1e-12)
        assert loss == pytest.approx(value, rel=1e-4)
    assert SemiClipped()(eye, torch.ones_like(eye)).item() == pytest.approx(log(n), rel=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_mini_batch_of_one_key(symmetric):
    """Masked, nothing is left to confuse a row with; with several right answers the best is to doubt evenly."""
    student, teacher, key = pairs(n_keys=1)
    assert SemiClipped(duplicates="mask", symmetric=symmetric)(student, teacher, key).item() == 0
    same = torch.ones(12, 5, dtype=torch.float64)
    several = SemiClipped(duplicates="multi_positive", symmetric=symmetric)
    assert several(student, teacher, key).item() >= several(same, same, key).item() == pytest.approx(log(12))


def test_clip_in_single_precision():
    student, teacher, key = pairs()
    for duplicates in DUPLICATES:
        loss = SemiClipped(duplicates=duplicates)
        single = loss(student.float(), teacher.float(), key)
        assert single.dtype == torch.float32
        assert single.item() == pytest.approx(loss(student, teacher, key).item(), rel=1e-5)


@pytest.mark.parametrize("duplicates", ["mask", "multi_positive"])
def test_refuses_duplicates_without_a_key(duplicates, refuses):
    with refuses(errors.BadValue, name="key", value=None):
        SemiClipped(duplicates=duplicates)(*pairs()[:2])


# ---- SigLIP


@pytest.mark.parametrize("n", [1, 16, 1024])
def test_siglip_of_orthonormal_pairs(n):
    eye = torch.eye(n, dtype=torch.float64)
    loss = SigLip().double()(eye, eye).item()
    assert loss == pytest.approx(log(2) + (n - 1) * log1p(exp(-10)), rel=1e-6)  # log 10 is kept in float32
    if n == 16:
        assert loss == pytest.approx(0.693828, abs=5e-7)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), scale=st.floats(0.1, 100), bias=st.floats(-20, 20))
def test_siglip_equals_the_sum_pair_by_pair(seed, n, scale, bias):
    student, teacher, _ = pairs(seed, n=n)
    loss = SigLip(scale=scale, bias=bias).double()(student, teacher)
    assert loss.shape == ()
    logits = scale * unit(student) @ unit(teacher).T + bias
    terms = [np.logaddexp(0, -x if i == j else x) for (i, j), x in np.ndenumerate(logits)]
    assert loss.item() == pytest.approx(sum(terms) / n, rel=1e-5)


def test_scale_and_bias_start_as_in_the_reference_and_are_learned():
    learned = dict(SigLip().named_parameters())
    start = {"log_scale": pytest.approx(log(10)), "bias": -10}
    assert {name: value.item() for name, value in learned.items() if value.requires_grad} == start


def test_siglip_leaves_half_precision_after_the_product():
    student, teacher = (side.float() for side in pairs(n=512, d=64)[:2])
    full = SigLip()(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        half = SigLip()(student, teacher)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)


# ---- both


def clip_of_open_clip(student, teacher, scale, bias):
    """As open_clip writes `ClipLoss`, here with its logit scale fixed and without a bias."""
    student, teacher, target = normalize(student), normalize(teacher), torch.arange(len(student))
    logits_per_student, logits_per_teacher = scale * student @ teacher.T, scale * teacher @ student.T
    return (cross_entropy(logits_per_student, target) + cross_entropy(logits_per_teacher, target)) / 2


def siglip_of_open_clip(student, teacher, scale, bias):
    """As open_clip writes `SigLipLoss`."""
    logits = scale * normalize(student) @ normalize(teacher).T + bias
    return -logsigmoid((2 * torch.eye(len(logits)) - 1) * logits).sum() / len(logits)


@pytest.mark.parametrize(("objective", "formula"), [(Clip(), clip_of_open_clip), (SigLip(), siglip_of_open_clip)])
def test_value_and_gradients_are_those_of_open_clip(objective, formula):
    student, teacher, key = pairs(n=64)
    learned = {name: value.detach().double() for name, value in objective.named_parameters()}
    ours, reference = (
        [value.clone().requires_grad_() for value in (student, teacher, *learned.values())] for _ in range(2)
    )
    loss = torch.func.functional_call(objective, dict(zip(learned, ours[2:], strict=True)), (*ours[:2], key))
    log_scale, bias = reference[2:] or (torch.tensor(log(10), dtype=torch.float64), None)
    expected = formula(*reference[:2], log_scale.exp(), bias)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for got, want in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, reference), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_only_the_direction_and_the_pairing_of_rows_matter():
    student, teacher, key = pairs()
    lengths = torch.linspace(0.1, 9, 12, dtype=torch.float64)[:, None]
    for objective in (SigLip().double(), *[SemiClipped(duplicates=kind) for kind in DUPLICATES]):
        loss = objective(student, teacher, key).item()
        assert objective(lengths * student, teacher / lengths, key).item() == pytest.approx(loss, rel=1e-12)
        assert abs(objective(student, teacher.roll(1, 0), key).item() - loss) > 0.01


@pytest.mark.parametrize("zero", [{0}, {1}, {0, 1}])
@pytest.mark.parametrize("objective", [SigLip().double(), *[SemiClipped(duplicates=kind) for kind in DUPLICATES]])
def test_vectors_of_zeros_stay_finite(zero, objective):
    *sides, key = pairs()
    for side in zero:
        sides[side][2] = 0
    sides[0].requires_grad_()
    loss = objective(*sides, key)
    loss.backward()
    assert loss.isfinite()
    assert sides[0].grad.isfinite().all()
