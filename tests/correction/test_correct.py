"""Each correction is its steps by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from semiclip import errors
from semiclip.correction import CorrectionSpec, correct

METHODS, PROFILES = ("center", "center_scale", "tvn"), ("clean", "batch", "public", "global")


def root(controls, ridge, ddof=0):
    """Inverse root of the covariance of controls."""
    return fractional_matrix_power(np.cov(controls, rowvar=False, ddof=ddof) + ridge * np.eye(controls.shape[1]), -0.5)


def coral(x, batch, control, reg):
    """The last step of EFAAR_benchmarking: batch by batch, on its controls, no mean removed."""
    if reg is None:
        return x
    out = np.empty_like(x)
    for code in np.unique(batch):
        out[batch == code] = x[batch == code] @ root(x[(batch == code) & control], reg, ddof=1)
    return out


def public(x, batch, control, ridge, reg):
    scaler = StandardScaler().fit(x[control])
    components = PCA().fit(scaler.transform(x[control]))
    rotated = components.transform(scaler.transform(x))
    return coral(StandardScaler().fit(rotated[control]).transform(rotated), batch, control, reg)


def unturned(x, batch, control, ridge, reg):
    x = StandardScaler().fit(x[control]).transform(x)
    return coral(x @ root(x[control], ridge), batch, control, reg)


def clean(x, batch, control, ridge, reg):
    x = x.copy()
    for code in np.unique(batch):
        x[batch == code] -= x[(batch == code) & control].mean(axis=0)
    x /= x[control].std(axis=0)
    return coral(x @ root(x[control], ridge), batch, control, reg)


def by_batch(x, batch, control, ridge, reg):
    """It has no CORAL step, since each batch is whitened on its own controls."""
    out = np.empty_like(x)
    for code in np.unique(batch):
        scaler = StandardScaler().fit(x[(batch == code) & control])
        out[batch == code] = scaler.transform(x[batch == code])
        out[batch == code] = out[batch == code] @ root(out[(batch == code) & control], ridge)
    return out


@given(seed=st.integers(0, 10_000), n_batches=st.integers(1, 4), d=st.integers(1, 4))
def test_center_and_center_scale_are_the_standard_scaler_in_each_batch(seed, n_batches, d, study):
    x, batch, control = study(seed, n=60, d=d, n_batches=n_batches)
    counts = np.bincount(batch[control], minlength=n_batches)
    control |= (counts < 2)[batch]
    for method in ("center", "center_scale"):
        expected = np.empty_like(x)
        for code in range(n_batches):
            scaler = StandardScaler(with_std=method == "center_scale").fit(x[(batch == code) & control])
            expected[batch == code] = scaler.transform(x[batch == code])
        for profile in PROFILES:
            out = correct(x, batch, control, method=method, profile=profile)
            np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("reg", [0.5, 2.0, None])
@pytest.mark.parametrize(
    ("profile", "by_hand", "ridge"),
    [
        ("clean", clean, 0),
        ("clean", clean, 0.5),
        ("public", public, 0),
        ("global", unturned, 0),
        ("global", unturned, 0.5),
        ("batch", by_batch, 0),
        ("batch", by_batch, 0.5),
    ],
)
def test_each_profile_is_its_steps_by_hand(profile, by_hand, ridge, reg, study, unsigned):
    x, batch, control = study()
    expected = by_hand(x, batch, control, ridge, reg)
    out = correct(x, batch, control, profile=profile, ridge=ridge, coral_reg=reg)
    out = unsigned(out, expected) if profile == "public" else out
    np.testing.assert_allclose(out, expected, rtol=1e-8, atol=1e-10)


def test_the_default_is_clean_tvn_with_coral_and_a_spec_is_the_keywords(study):
    x, batch, control = study()
    explicit = correct(x, batch, control, method="tvn", profile="clean", ridge=0.0, coral_reg=0.5, fallback="raise")
    np.testing.assert_array_equal(correct(x, batch, control), explicit)
    assert correct(x, batch, control, method=None) is x
    spec = CorrectionSpec("tvn", "batch")
    np.testing.assert_array_equal(spec.fit(x, batch, control)(x, batch), correct(x, batch, control, profile="batch"))
    assert [CorrectionSpec(profile=profile).usual_ridge for profile in PROFILES] == [0, 0.5, 0, 0]
    for n_controls, few in ((29, [True, False, False, True]), (30, [False] * 4)):
        assert [CorrectionSpec(profile=profile).needs_ridge(n_controls, 20) for profile in PROFILES] == few
        assert not any(CorrectionSpec(profile=name, ridge=0).needs_ridge(n_controls, 20) for name in PROFILES)
    assert CorrectionSpec(**spec.params) == spec
    assert CorrectionSpec(coral_reg=None).recipe.after == ()


def test_a_uniform_covariance_is_shrunk_by_a_constant(study):
    """White in each batch already, so CORAL multiplies by one number, 0.8165 for many controls."""
    x, batch, control = study(n_batches=1)
    ratio = correct(x, batch, control) / correct(x, batch, control, coral_reg=None)
    n = control.sum()
    np.testing.assert_allclose(ratio, 1 / np.sqrt(n / (n - 1) + 0.5), rtol=1e-9)
    assert ratio.mean() == pytest.approx(0.8165, abs=0.01)


@pytest.mark.parametrize("coral_reg", [0.5, None])
@pytest.mark.parametrize("profile", PROFILES)
def test_offset_and_scale_of_the_features_change_nothing(profile, coral_reg, study, unsigned):
    x, batch, control = study()
    keywords = {"profile": profile, "coral_reg": coral_reg}
    out, rng = correct(x, batch, control, **keywords), np.random.default_rng(1)
    for other in (x + 10 * rng.normal(size=5), x * rng.uniform(0.2, 5, 5)):
        moved = correct(other, batch, control, **keywords)
        np.testing.assert_allclose(unsigned(moved, out) if profile == "public" else moved, out, atol=1e-9)


def test_profiles_differ_in_what_batches_share(study):
    x, batch, control = study()
    clean, by_batch, public = (correct(x, batch, control, profile=profile) for profile in PROFILES[:3])
    centres = [
        [np.linalg.norm(out[control & (batch == code)].mean(axis=0)) for code in range(3)]
        for out in (clean, by_batch, public)
    ]
    assert np.max(centres[:2]) < 1e-12
    assert np.max(centres[2]) > 1  # the offset of a batch stays
    changed = np.where((batch == 1)[:, None], x**3, x)
    for profile, out in (("clean", clean), ("batch", by_batch)):  # the batch profile sees no other batch
        again = correct(changed, batch, control, profile=profile)
        assert np.array_equal(again[batch != 1], out[batch != 1]) == (profile == "batch")
        assert (again[batch == 1] != out[batch == 1]).mean() > 0.9


@pytest.mark.parametrize("n_controls", [8, 60])
def test_clean_and_public_give_the_same_cosines_in_one_batch(n_controls, few_controls):
    x, batch, control = few_controls(n_controls)
    plain = {"ridge": 0, "coral_reg": None}
    clean, public = (correct(x, batch, control, profile=name, **plain) for name in ("clean", "public"))
    assert clean.shape != public.shape or np.abs(clean - public).max() > 0.1
    np.testing.assert_allclose(cosine_similarity(clean), cosine_similarity(public), atol=1e-9)


@pytest.mark.parametrize("coral_reg", [0.5, None])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_global_is_public_without_the_rotation(ridge, coral_reg, study):
    x, batch, control = study()
    keywords = {"ridge": ridge, "coral_reg": coral_reg}
    one, other = (correct(x, batch, control, profile=name, **keywords) for name in ("global", "public"))
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-9)
    assert np.abs(one - other).max() > 0.1
    order = np.random.default_rng(0).permutation(len(x))  # and a query's axes do not depend on its rows
    again = correct(x[order], batch[order], control[order], profile="global", **keywords)
    np.testing.assert_allclose(again, one[order], atol=1e-9)


def test_a_spec_of_an_argument_is_a_method_or_a_mapping(refuses):
    usual = {"profile": "batch", "ridge": 0.5}
    assert CorrectionSpec.of("teacher", "center", **usual) == CorrectionSpec("center", **usual)
    assert CorrectionSpec.of("teacher", None, **usual) == CorrectionSpec(None, **usual)
    mapped = CorrectionSpec.of("teacher", {"profile": "global", "coral_reg": None}, **usual)
    assert mapped == CorrectionSpec("tvn", "global", 0.5, None)
    with refuses(errors.UnknownChoice, name="teacher", value="sphere"):
        CorrectionSpec.of("teacher", "sphere")
    with refuses(errors.UnexpectedArgument, taker="teacher", names=["coral"]):
        CorrectionSpec.of("teacher", {"coral": 0.5})


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("method", METHODS)
def test_the_batch_profile_is_augmentation_without_chance(plates, augmentation, method, ridge):
    """Every step on every control: what the student sees at inference is the middle of what it saw in training."""
    data = x, batch, control = plates()
    options = {"methods": method, "drop_probability": 0, "control_law": "all", "ridge": ridge, "clip": None}
    out = augmentation(data, **options)(torch.as_tensor(x), torch.arange(len(x)), torch.as_tensor(batch))
    expected = correct(x.astype(np.float64), batch, control, method=method, profile="batch", ridge=ridge)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
