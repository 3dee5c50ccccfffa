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
    deviation = [np.sqrt(26 / 3), np.sqrt(200)]
    np.testing.assert_allclose(fit(("center",), controls)(rows), [[-4, -20], [0, 30]], rtol=1e-15)
    np.testing.assert_allclose(fit(("scale",), controls)(rows), rows / deviation, rtol=1e-15)
    np.testing.assert_allclose(fit(("center", "scale"), controls)(rows), (rows - [4, 20]) / deviation, rtol=1e-15)
    # white controls are shrunk by a constant
    white = np.sqrt(2.5) * np.vstack([np.eye(3), -np.eye(3)])
    np.testing.assert_allclose(STEPS["coral"](white).weight, np.eye(3) / np.sqrt(1.5), atol=1e-12)


def test_whitening_does_not_rotate_and_whitening_with_pca_is_scikit_learns():
    controls, rows = correlated(80, 6), correlated(9, 6, seed=1)
    weight = STEPS["whiten"](controls).weight
    np.testing.assert_allclose(weight, weight.T, atol=1e-14)
    out = fit(("center", "whiten_pca"), controls)(rows)
    reference = PCA(whiten=True).fit(controls).transform(rows)[:, ::-1] * np.sqrt(80 / 79)  # ddof 1 there, 0 here
    np.testing.assert_allclose(out * np.sign(out[0] * reference[0]), reference, rtol=1e-9)


def test_leaving_out_the_centring_shifts_by_the_scaled_and_whitened_mean():
    controls, rows = correlated(60, 5), correlated(9, 5, seed=1)
    shift = fit(("scale", "whiten"), controls)(rows) - fit(FULL, controls)(rows)
    scaled = controls / controls.std(axis=0)
    expected = scaled.mean(axis=0) @ STEPS["whiten"](scaled).weight
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(shift, np.tile(expected, (9, 1)), rtol=1e-9, atol=1e-12)


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
    assert rotated.shape == (7, min(m - 1, 7))  # here directions without variance are left out even so
    informed = values > 1e-9
    inverse = (vectors[:, informed] / (values + ridge)[informed]) @ vectors[:, informed].T
    np.testing.assert_allclose(rotated @ rotated.T, inverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("m", [3, 7, 8, 40])
@pytest.mark.parametrize("reg", [0.5, 2.0])
def test_coral_is_the_inverse_root_of_the_regularised_covariance(m, reg):
    controls = correlated(m, 7)
    expected = fractional_matrix_power(covariance(controls, ddof=1) + reg * np.eye(7), -0.5)
    np.testing.assert_allclose(STEPS["coral"](controls, reg=reg).weight, expected, rtol=1e-9, atol=1e-11)
    before = np.random.default_rng(1).normal(size=(5, 7))
    after = STEPS["coral"](controls, reg=reg, before=before)
    np.testing.assert_allclose(after.weight, before @ expected, rtol=1e-9, atol=1e-10)


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


def test_two_shifts_add_up_and_no_steps_do_nothing_to_a_bit():
    x = correlated(5, 3).astype(np.float32)
    assert fit((), correlated(4, 3)) == Affine()
    assert fit((), correlated(4, 3))(x) is x
    first, second = Affine(shift=np.array([1.0, 2.0])), Affine(shift=np.array([0.5, 0.0]), weight=np.array([2.0, 1.0]))
    np.testing.assert_array_equal(first.then(second)(np.zeros((1, 2))), [[-3, -2]])
    np.testing.assert_array_equal(Affine().then(second)(np.zeros((1, 2))), [[-1, 0]])


def test_centring_comes_first_and_whitening_needs_variation(refuses):
    with refuses(errors.Conflict):
        fit(("scale", "center"), correlated(6, 3))
    for step in ("whiten", "whiten_pca", "coral"):
        with refuses(errors.NoVariation):
            fit((step,), np.full((6, 3), 0.1))


@pytest.mark.parametrize("m", [5, 30])
@pytest.mark.parametrize("steps", [(*FULL, "coral"), ("center", "whiten_pca")])
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
