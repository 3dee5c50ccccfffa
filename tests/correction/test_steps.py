import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from semiclip import errors
from semiclip.correction import STEPS, Affine, fit

FULL = ("center", "scale", "whiten")


def correlated(m, d, seed=0):
    """Samples with a mean, unequal scales and correlated features."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + 5 * rng.normal(size=d)


def covariance(x, ddof=0):
    return np.cov(x, rowvar=False, ddof=ddof)


def naive(name, controls, ridge=0.0, reg=0.5):
    """One step, written as in the paper, as a function of rows; needs as many controls as it takes."""
    if name == "center":
        return lambda x: x - controls.mean(axis=0)
    if name == "scale":
        return lambda x: x / controls.std(axis=0)
    if name == "coral":
        ridge = reg
    values, vectors = np.linalg.eigh(covariance(controls, ddof=int(name == "coral")))
    whiten = vectors / np.sqrt(values + ridge)
    return lambda x: x @ (whiten if name == "whiten_pca" else whiten @ vectors.T)


def test_center_and_scale_take_the_mean_and_the_population_deviation():
    controls = np.array([[1.0, 10.0], [3.0, 10.0], [8.0, 40.0]])
    rows = np.array([[0.0, 0.0], [4.0, 50.0]])
    np.testing.assert_allclose(fit(("center",), controls)(rows), [[-4, -20], [0, 30]], rtol=1e-15)
    deviation = [np.sqrt(26 / 3), np.sqrt(200)]
    np.testing.assert_allclose(fit(("scale",), controls)(rows), rows / deviation, rtol=1e-15)
    np.testing.assert_allclose(fit(("center", "scale"), controls)(rows), (rows - [4, 20]) / deviation, rtol=1e-15)


def test_two_controls_become_plus_and_minus_one():
    controls = correlated(2, 7)
    np.testing.assert_allclose(np.abs(fit(("center", "scale"), controls)(controls)), 1, rtol=1e-12)


@pytest.mark.parametrize("special", [None, 0.0, 0.1, 1e8, "rounding"])
def test_center_scale_is_the_standard_scaler(special):
    controls, rows = correlated(30, 5), correlated(11, 5, seed=1)
    if special == "rounding":
        controls[:, 2] = 0.1 + 2e-17 * np.arange(30)  # varies by less than a float can tell
    elif special is not None:
        controls[:, 2] = special
    chain = fit(("center", "scale"), controls)
    expected = StandardScaler().fit(controls)
    np.testing.assert_allclose(chain(rows), expected.transform(rows), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(chain(controls), expected.transform(controls), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3, 1e8])
@pytest.mark.parametrize("m", [2, 12, 37])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_a_constant_has_no_scale_where_it_is_rounded(value, m, convert):
    """Whether the values are rounded, or the mean that was subtracted from them before."""
    controls = np.full((m, 2), value)
    rounded = controls + np.spacing(abs(value)) * (np.arange(m)[:, None] % 2)
    for steps in (("scale",), ("center", "scale")):
        for constant in (controls, rounded):
            assert fit(steps, convert(constant)).weight.tolist() == [1, 1]


def test_whitening_makes_the_control_covariance_the_identity():
    controls = correlated(80, 6)
    out = fit(FULL, controls)(controls)
    np.testing.assert_allclose(covariance(out), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)


def test_whitening_does_not_rotate():
    weight = STEPS["whiten"](correlated(80, 6)).weight
    np.testing.assert_allclose(weight, weight.T, atol=1e-14)
    np.testing.assert_allclose(
        weight, fractional_matrix_power(covariance(correlated(80, 6)), -0.5), rtol=1e-9, atol=1e-12
    )


def test_whitening_with_pca_is_scikit_learns():
    controls, rows = correlated(80, 6), correlated(9, 6, seed=1)
    out = fit(("center", "whiten_pca"), controls)(rows)
    expected = PCA(whiten=True).fit(controls).transform(rows) * np.sqrt(80 / 79)  # ddof 1 there, 0 here
    expected = expected[:, ::-1]
    np.testing.assert_allclose(out * np.sign(out[0] * expected[0]), expected, rtol=1e-9)


def test_ridge_turns_an_eigenvalue_l_into_l_over_l_plus_ridge():
    controls = correlated(80, 6)
    before = np.linalg.eigvalsh(covariance(controls))
    after = np.linalg.eigvalsh(covariance(STEPS["whiten"](controls, ridge=0.5)(controls)))
    np.testing.assert_allclose(after, before / (before + 0.5), rtol=1e-10)


@pytest.mark.parametrize("m", [4, 6, 7, 8, 40])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_few_controls_give_what_the_whole_covariance_gives(m, ridge):
    """The singular vectors of m ≤ d controls serve as well as the d × d covariance."""
    controls = correlated(m, 7)
    values, vectors = np.linalg.eigh(covariance(controls))
    informed = values > 1e-9 if ridge == 0 else np.full(7, True)
    assert informed.sum() == (min(m - 1, 7) if ridge == 0 else 7)
    values, vectors = np.maximum(values[informed], 0), vectors[:, informed]
    expected = vectors / np.sqrt(values + ridge) @ vectors.T
    np.testing.assert_allclose(STEPS["whiten"](controls, ridge=ridge).weight, expected, rtol=1e-6, atol=1e-9)
    rotated = STEPS["whiten_pca"](controls, ridge=ridge).weight
    assert rotated.shape == (7, min(m - 1, 7))
    scatter = rotated @ rotated.T
    inverse = (vectors / (values + ridge)) @ vectors.T
    if ridge:  # here directions without variance are left out, not divided by the ridge
        missing = vectors[:, values < 1e-9]
        inverse = inverse - missing @ missing.T / ridge
    np.testing.assert_allclose(scatter, inverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("m", [3, 7, 8, 40])
@pytest.mark.parametrize("reg", [0.5, 2.0])
def test_coral_is_the_inverse_root_of_the_regularised_covariance(m, reg):
    controls = correlated(m, 7)
    expected = fractional_matrix_power(covariance(controls, ddof=1) + reg * np.eye(7), -0.5)
    np.testing.assert_allclose(STEPS["coral"](controls, reg=reg).weight, expected, rtol=1e-9, atol=1e-11)


def test_coral_shrinks_white_controls_by_a_constant():
    white = np.sqrt(2.5) * np.vstack([np.eye(3), -np.eye(3)])
    np.testing.assert_allclose(covariance(white, ddof=1), np.eye(3), atol=1e-15)
    rows = correlated(4, 3)
    np.testing.assert_allclose(STEPS["coral"](white)(rows), rows / np.sqrt(1.5), rtol=1e-12)
    assert 1 / np.sqrt(1.5) == pytest.approx(0.8165, abs=1e-4)


def test_no_steps_do_nothing_to_a_bit():
    x = correlated(5, 3).astype(np.float32)
    assert fit((), correlated(4, 3)) == Affine()
    assert fit((), correlated(4, 3))(x) is x


def test_leaving_out_the_centring_shifts_by_the_scaled_and_whitened_mean():
    controls, rows = correlated(60, 5), correlated(9, 5, seed=1)
    difference = fit(("scale", "whiten"), controls)(rows) - fit(FULL, controls)(rows)
    mean, deviation = controls.mean(axis=0), controls.std(axis=0)
    transform = STEPS["whiten"](controls / deviation).weight
    shift = mean / deviation @ transform
    assert np.abs(shift).max() > 0.1
    np.testing.assert_allclose(difference, np.tile(shift, (9, 1)), rtol=1e-10, atol=1e-12)


@given(
    steps=st.lists(st.sampled_from(["center", "scale", "whiten", "whiten_pca", "coral"]), unique=True).map(
        lambda names: sorted(names, key=list(STEPS).index)
    ),
    seed=st.integers(0, 1000),
)
def test_the_composed_map_is_the_steps_one_after_the_other(steps, seed):
    controls, rows = correlated(50, 4, seed), correlated(6, 4, seed + 1)
    out = fit(steps, controls, whiten={"ridge": 0.1}, whiten_pca={"ridge": 0.1})(rows)
    expected_controls, expected = controls, rows
    for name in steps:
        step = naive(name, expected_controls, ridge=0.1)
        expected_controls, expected = step(expected_controls), step(expected)
    if "whiten_pca" in steps:  # its columns may point either way
        out, expected = out @ out.T, expected @ expected.T
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-7)


def test_two_shifts_add_up():
    first, second = Affine(shift=np.array([1.0, 2.0])), Affine(shift=np.array([0.5, 0.0]), weight=np.array([2.0, 1.0]))
    np.testing.assert_array_equal(first.then(second)(np.zeros((1, 2))), [[-3, -2]])
    np.testing.assert_array_equal(Affine().then(second)(np.zeros((1, 2))), [[-1, 0]])


def test_each_step_sees_the_controls_that_the_steps_before_it_left():
    controls, rows = correlated(60, 5), correlated(9, 5, seed=1)
    twice = fit(("scale", "coral", "scale"), controls)
    once = fit(("scale", "coral"), controls)
    np.testing.assert_allclose(twice(rows), once(rows) / once(controls).std(axis=0), rtol=1e-10)
    np.testing.assert_allclose(twice(controls).std(axis=0), 1, rtol=1e-12)


def test_centring_comes_first_and_whitening_needs_variation(refuses):
    with refuses(errors.Conflict):
        fit(("scale", "center"), correlated(6, 3))
    for step in ("whiten", "whiten_pca", "coral"):
        with refuses(errors.NoVariation):
            fit((step,), np.full((6, 3), 0.1))


@given(seed=st.integers(0, 1000))
def test_offset_and_scale_of_the_features_leave_the_whole_chain_unchanged(seed):
    rng = np.random.default_rng(seed)
    controls, rows = rng.normal(size=(60, 4)), rng.normal(size=(9, 4))
    offset, factor = 10 * rng.normal(size=4), rng.uniform(0.2, 5, 4)
    for steps in (FULL, (*FULL, "coral")):
        out = fit(steps, controls)(rows)
        np.testing.assert_allclose(fit(steps, controls + offset)(rows + offset), out, atol=1e-10)
        np.testing.assert_allclose(fit(steps, controls * factor)(rows * factor), out, atol=1e-10)


@pytest.mark.parametrize("m", [5, 30])
@pytest.mark.parametrize("steps", [("center", "scale"), FULL, (*FULL, "coral"), ("center", "whiten_pca")])
def test_tensors_give_the_same_as_arrays(steps, m):
    controls, rows = correlated(m, 6), correlated(9, 6, seed=1)
    out = fit(steps, torch.from_numpy(controls))(torch.from_numpy(rows))
    assert isinstance(out, torch.Tensor)
    expected = fit(steps, controls)(rows)
    if "whiten_pca" in steps:
        expected = expected * np.sign(expected[0] * out[0].numpy())
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_fits_in_double_and_applies_in_the_precision_of_the_rows(convert):
    """A large offset would cost a float32 fit every digit of the covariance."""
    controls = (correlated(60, 4) + 1000).astype(np.float32)
    chain = fit(FULL, convert(controls))
    single, double = chain(convert(controls)), chain(convert(controls.astype(np.float64)))
    assert str(single.dtype).endswith("float32")
    assert str(double.dtype).endswith("float64")
    np.testing.assert_allclose(covariance(np.asarray(double)), np.eye(4), atol=1e-9)


def test_a_feature_without_variance_keeps_its_scale_and_is_whitened_to_nothing():
    controls, rows = correlated(30, 4), correlated(5, 4, seed=1)
    controls[:, 1] = rows[:, 1] = 0.1
    np.testing.assert_allclose(fit(("center", "scale"), controls)(rows)[:, 1], 0, atol=1e-15)
    rows[:, 1] = 2.1
    np.testing.assert_allclose(fit(("center", "scale"), controls)(rows)[:, 1], 2, rtol=1e-12)
    out = fit(FULL, controls)(rows)
    np.testing.assert_allclose(out[:, 1], 0, atol=1e-12)
    others = np.delete(controls, 1, axis=1), np.delete(rows, 1, axis=1)
    np.testing.assert_allclose(np.delete(out, 1, axis=1), fit(FULL, others[0])(others[1]), rtol=1e-8)
