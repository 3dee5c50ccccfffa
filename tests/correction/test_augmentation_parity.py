"""The arithmetic of Perturbation Embedding Augmentation against a loop over rows, scikit-learn and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.preprocessing import StandardScaler

from semiclip.correction import PEA, Augmentation, Draw, _pools

NAMES = ("center", "scale", "whiten")


def naive(z, controls, everyone, kept, pea):
    """One row, one step after the other, in float64."""
    z, controls, everyone = (values.astype(np.float64) for values in (z, controls, everyone))
    unit = np.where(everyone.max(axis=0) == everyone.min(axis=0), 0, everyone.std(axis=0))
    ridge = pea.ridge if "scale" in kept else pea.ridge * (unit**2).mean()
    for step in kept:
        if step == "center":
            mean = controls.mean(axis=0)
            controls, z = controls - mean, z - mean
        elif step == "scale":
            sd = np.maximum(controls.std(axis=0), pea.scale_floor * unit)
            sd[unit == 0] = 1
            controls, z = controls / sd, z / sd
        else:
            values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(controls, rowvar=False, ddof=0)))
            z = z @ (vectors / np.sqrt(np.maximum(values, 0) + ridge)) @ vectors.T
    return z if pea.clip is None or not set(kept) & {"scale", "whiten"} else z.clip(-pea.clip, pea.clip)


@pytest.fixture(scope="session")
def check_against_the_loop(augmentation):
    """Augment every row, and again one by one on the controls that it drew; return the kinds of rows seen."""

    def check(data, tolerance, *, epoch=0, **options):
        x, batch, control = data
        made = augmentation(data, epoch=epoch, **options)
        codes = torch.as_tensor(batch)
        draw = made.draw(torch.arange(len(x)), codes, epoch)
        out = made.apply(torch.as_tensor(x), codes, draw).numpy()
        number, chosen = torch.zeros_like(codes), torch.zeros(len(x), made.pools.n_most, dtype=torch.bool)
        # a whitened row has the controls of its transform, another those of its moments
        for bank, entry, whitened in ((made.moments, draw.moments, False), (made.bank, draw.transform, True)):
            if bank is not None:
                rows = (draw.steps[:, 2] == whitened).nonzero()[:, 0]
                held = torch.as_tensor(bank.rota.held)[entry[rows]]
                _, number[rows], chosen[rows] = bank.draw_controls(entry[rows], held)
        assert torch.equal(made.count_controls(draw), torch.where(draw.steps.any(dim=1), number, 0))
        seen = set()
        for row, z in enumerate(x):
            pool = np.flatnonzero(control & (batch == batch[row]))
            assert not chosen[row, len(pool) :].any()
            mine = pool[chosen[row].numpy()[: len(pool)]]
            assert len(mine) == number[row]
            assert made.pea.control_law != "all" or len(mine) == len(pool)
            kept = tuple(name for name, there in zip(NAMES, draw.steps[row], strict=True) if there)
            expected = naive(z, x[mine], x[pool], kept, made.pea)
            rounding = np.full(len(z), tolerance * max(1, np.abs(expected).max()))
            if "scale" in kept:  # two controls that nearly agree leave few digits of what their difference divides
                spread = np.maximum(x[mine].std(axis=0), 0.1 * x[pool].std(axis=0))
                digits = 8 * np.finfo(np.float32).eps * np.abs(x[pool]).max(axis=0)
                rounding += np.divide(digits, spread, out=np.zeros(len(z)), where=spread > 0)
            np.testing.assert_array_less(np.abs(out[row] - expected), rounding)
            seen.add(kept)
        return seen

    return check


@pytest.mark.parametrize("law", ["uniform", "log_uniform", "all"])
@pytest.mark.parametrize("options", [{}, {"ridge": 0.05, "scale_floor": 0.3, "clip": 2.0}, {"clip": None}])
def test_augmented_rows_are_those_of_a_loop_over_rows(plates, check_against_the_loop, law, options):
    seen = check_against_the_loop(plates((12, 5, 30), 250, d=4), 1e-5, seed=3, epoch=2, control_law=law, **options)
    assert len(seen) == 8


@pytest.mark.parametrize("law", ["uniform", "log_uniform", "all"])
@pytest.mark.parametrize("n_controls", [(10, 9, 2), (30, 25, 5)])
def test_few_controls_of_wide_rows_are_those_of_a_loop_over_rows(plates, check_against_the_loop, law, n_controls):
    seen = check_against_the_loop(plates(n_controls, 250, d=40), 1e-5, seed=3, epoch=2, control_law=law)
    assert len(seen) == 8


def test_one_product_for_the_draws_of_a_batch_sums_what_a_loop_over_draws_sums(
    plates, check_against_the_loop, monkeypatch
):
    data = plates((60, 5, 1, 30), 250, d=4)
    made = Augmentation(PEA(), *data, fallback="pooled")
    made.start_epoch(0)
    entry = torch.arange(len(made.moments.mean))
    batch, number, chosen = made.moments.draw_controls(entry, torch.zeros_like(entry))
    moments = made.pools.moments(batch, number, chosen)
    monkeypatch.setattr(_pools, "NUMBERS_OF_A_PRODUCT", 0)
    for some in (entry, entry.flip(0), torch.tensor([7])):
        again = made.pools.moments(batch[some], number[some], chosen[some])
        for one, other in zip(again, moments, strict=True):
            np.testing.assert_allclose(one, other[some], rtol=1e-5, atol=2e-6)
    assert len(check_against_the_loop(plates((60, 5, 30), 250, d=4), 1e-5, seed=3)) == 8


@given(
    n_controls=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    d=st.integers(1, 6),
    law=st.sampled_from(["uniform", "log_uniform", "all"]),
    methods=st.sampled_from([("center",), ("center", "center_scale"), ("center_scale",), ("center", "tvn"), ("tvn",)]),
    drop=st.sampled_from([0.0, 0.3, 0.5]),
    seed=st.integers(0, 1000),
)
def test_any_shape_gives_what_the_loop_gives(plates, check_against_the_loop, n_controls, d, law, methods, drop, seed):
    """Float32 holds the variance of two controls far from the mean to some 1e-5, hence the tolerance."""
    data = plates(n_controls, 15, d=d, seed=seed, offset=1.0)
    check_against_the_loop(data, 5e-5, seed=seed, control_law=law, methods=methods, drop_probability=drop)


def test_a_large_offset_costs_no_more_than_the_precision_of_the_input(plates, check_against_the_loop):
    data = x, batch, _ = plates((12, 30), 100, d=4, offset=500.0)
    size = np.abs(x).max() / min(x[batch == code].std(axis=0).min() for code in (0, 1))
    assert size > 1e3
    check_against_the_loop(data, 4 * size * 2**-24 / 0.1, methods=("center", "center_scale"))


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_all_controls_are_whitened_as_scipy_does(plates, augmentation, ridge):
    """Applied in float64, the stored mean and matrix leave nothing but their own rounding to float32."""
    data = x, batch, control = plates((20, 50), 40, d=4)
    made = augmentation(data, methods="tvn", drop_probability=0, control_law="all", ridge=ridge, clip=None)
    out = made(torch.as_tensor(x), torch.arange(len(x)), torch.as_tensor(batch)).numpy()
    assert len(made.bank.weight) == 2
    for code in range(2):
        own, rows = (batch == code) & control, x[batch == code].astype(float)
        scaler = StandardScaler().fit(x[own].astype(float))
        spread = np.cov(scaler.transform(x[own].astype(float)), rowvar=False, ddof=0) + ridge * np.eye(4)
        expected = scaler.transform(rows) @ fractional_matrix_power(spread, -0.5)
        np.testing.assert_allclose(out[batch == code], expected, rtol=1e-4, atol=2e-5)
        exact = (rows - made.bank.mean[code].double().numpy()) @ made.bank.weight[code].double().numpy()
        np.testing.assert_allclose(exact, expected, rtol=1e-5, atol=2e-6)


def steps(n, *kept):
    return torch.tensor([[name in kept for name in NAMES]]).expand(n, 3)


def test_floor_and_clip_bind_exactly(augmentation):
    """Two of four controls agree in a feature: a tenth of the standard deviation of all four divides it."""
    x = np.array([[2, 0], [2, 1], [6, 5], [6, 8], [3, 3], [100, 3], [-100, 3]], dtype=np.float32)
    codes = torch.zeros(7, dtype=torch.long)
    data = x, codes.numpy(), np.arange(7) < 4
    everyone = torch.arange(len(augmentation(data).moments.mean))
    pair = torch.tensor([True, True, False, False])

    def draw_the_pair(made, kept):
        """Take an entry whose controls are the first two."""
        _, _, chosen = made.moments.draw_controls(everyone, torch.zeros_like(everyone))
        entry = (chosen == pair).all(dim=1).nonzero()[0].expand(7)
        return Draw(steps(7, *kept), entry, torch.zeros_like(entry))

    def apply(kept=("center", "scale"), **options):
        made = augmentation(data, **options)
        return made.apply(torch.as_tensor(x), codes, draw_the_pair(made, kept)).numpy()

    assert x[:4, 0].std() == 2
    np.testing.assert_allclose(apply()[:, 0], [0, 0, 20, 20, 5, 20, -20], rtol=1e-6)  # (x - 2) / 0.2, at most 20
    np.testing.assert_allclose(apply()[:, 1], (x[:, 1] - 0.5) / 0.5, rtol=1e-5)
    without = apply(clip=None, scale_floor=0.5)
    np.testing.assert_allclose(without[:, 0], [0, 0, 4, 4, 1, 98, -102], rtol=1e-6)
    free = apply(clip=None, scale_floor=0.0)
    np.testing.assert_allclose(free[:, 0], (x[:, 0] - 2) / 2, rtol=1e-6)  # no spread at all: that of all controls
    np.testing.assert_allclose(apply(["center"])[:, 0], x[:, 0] - 2, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_a_feature_without_variance_keeps_its_scale_and_harms_no_other(
    plates, augmentation, check_against_the_loop, value, ridge
):
    data = x, batch, control = plates((12, 15), 200, d=4, offset=1.0)
    x[:, 2] = value
    x[~control & (np.arange(len(x)) % 2 == 0), 2] += 4
    options = {"ridge": ridge, "min_controls": 2 if ridge else 8, "seed": 1}
    made = augmentation(data, **options)
    codes = torch.as_tensor(batch)
    draw = made.draw(torch.arange(len(x)), codes, 0)
    out = made.apply(torch.as_tensor(x), codes, draw).numpy()
    assert np.isfinite(out).all()
    whitened = draw.steps[:, 2].numpy()
    if ridge:
        check_against_the_loop(data, 1e-5, **options)  # the ridge of unscaled controls counts its variance as 0
    else:  # nothing is known of the direction, so it is dropped
        np.testing.assert_allclose(out[whitened, 2], 0, atol=1e-6)
        others = augmentation((np.delete(x, 2, axis=1), batch, control), **options)
        without = others.apply(torch.as_tensor(np.delete(x, 2, axis=1)), codes, draw).numpy()
        np.testing.assert_allclose(np.delete(out, 2, axis=1), without, rtol=1e-4, atol=1e-5)


def test_rounding_of_a_constant_feature_is_no_scale(plates, augmentation):
    """The mean of twelve times 0.1 is not 0.1 in float64, but 1e-17 is not how much the feature varies."""
    x, batch, control = plates((12,), 30)
    double = x.astype(np.float64)
    double[:, 2] = 0.1
    assert double[control, 2].std() > 0
    made = augmentation((double, batch, control), methods="center_scale", drop_probability=0)
    out = made(torch.as_tensor(double + 1).float(), torch.arange(len(x)), torch.as_tensor(batch))
    np.testing.assert_allclose(out[:, 2], 1, rtol=1e-6)


@pytest.mark.parametrize("m", [2, 5, 39, 40])
@pytest.mark.parametrize("kept", [("center", "scale", "whiten"), ("center", "whiten")])
def test_fewer_controls_than_dimensions(plates, augmentation, m, kept):
    """With a ridge what they do not span is multiplied by its inverse root; without one it is dropped."""
    data = x, batch, control = plates((m,), 30, d=40)
    reference = x[control].astype(float)
    moved = x.astype(float) - reference.mean(axis=0)
    if "scale" in kept:
        moved /= reference.std(axis=0)
    spread = np.cov(moved[control], rowvar=False, ddof=0)
    values, vectors = np.linalg.eigh(spread)
    assert np.linalg.matrix_rank(spread) == m - 1
    for ridge in (0.5, 0.0):
        made = augmentation(data, control_law="all", ridge=ridge, clip=None)
        codes = torch.as_tensor(batch)
        entry = made.bank.first(codes, torch.full((len(x),), "scale" in kept))
        draw = made.draw(torch.arange(len(x)), codes, 0)._replace(steps=steps(len(x), *kept), transform=entry)
        out = made.apply(torch.as_tensor(x), codes, draw).numpy()
        if ridge:
            unit = 1.0 if "scale" in kept else reference.var(axis=0).mean()
            expected = moved @ fractional_matrix_power(spread + ridge * unit * np.eye(40), -0.5)
        else:
            top = vectors[:, -(m - 1) :]
            expected = moved @ (top / np.sqrt(values[-(m - 1) :])) @ top.T
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
