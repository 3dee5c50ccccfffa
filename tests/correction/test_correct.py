import logging

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
from semiclip.correction import RECIPES, Affine, Correction, CorrectionSpec, _correct, correct, fit_correction

METHODS, PROFILES = ("center", "center_scale", "tvn"), ("clean", "batch", "public", "global")
NO_BATCHES = np.zeros(240, dtype=int)


def study(seed=0, n=240, d=5, n_batches=3, offset=4.0):
    """Rows in mixed order, a third of them controls, in batches that differ by an offset and by a scale."""
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(n) % n_batches)
    control = rng.permutation(np.arange(n) // n_batches % 3 == 0)[:n]
    mixing = rng.normal(size=(d, d))
    x = rng.normal(size=(n, d)) @ mixing * rng.uniform(0.5, 2, (n_batches, 1))[batch]
    return x + offset * rng.normal(size=(n_batches, d))[batch], batch, control


def few_controls(n_controls, d=20, n=120):
    """Rows of one batch with an offset, of which the first are controls."""
    return np.random.default_rng(0).normal(size=(n, d)) + 3, np.zeros(n, dtype=int), np.arange(n) < n_controls


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


def unsigned(x, like):
    """Turn the columns of ``x`` the way those of ``like`` point; whitened components come in any order."""
    order = np.abs(np.corrcoef(x, like, rowvar=False)[: x.shape[1], x.shape[1] :]).argmax(axis=0)
    return x[:, order] * np.sign((x[:, order] * like).sum(axis=0))


@given(seed=st.integers(0, 10_000), n_batches=st.integers(1, 4), d=st.integers(1, 4))
def test_center_and_center_scale_are_the_standard_scaler_in_each_batch(seed, n_batches, d):
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
def test_each_profile_is_its_steps_by_hand(profile, by_hand, ridge, reg):
    x, batch, control = study()
    expected = by_hand(x, batch, control, ridge, reg)
    out = correct(x, batch, control, profile=profile, ridge=ridge, coral_reg=reg)
    out = unsigned(out, expected) if profile == "public" else out
    np.testing.assert_allclose(out, expected, rtol=1e-8, atol=1e-10)


def test_the_default_is_clean_tvn_with_coral_and_a_spec_is_the_keywords():
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


def test_a_uniform_covariance_is_shrunk_by_a_constant():
    """White in each batch already, so CORAL multiplies by one number, 0.8165 for many controls."""
    x, batch, control = study(n_batches=1)
    ratio = correct(x, batch, control) / correct(x, batch, control, coral_reg=None)
    n = control.sum()
    np.testing.assert_allclose(ratio, 1 / np.sqrt(n / (n - 1) + 0.5), rtol=1e-9)
    assert ratio.mean() == pytest.approx(0.8165, abs=0.01)


@pytest.mark.parametrize("coral_reg", [0.5, None])
@pytest.mark.parametrize("profile", PROFILES)
def test_offset_and_scale_of_the_features_change_nothing(profile, coral_reg):
    x, batch, control = study()
    keywords = {"profile": profile, "coral_reg": coral_reg}
    out, rng = correct(x, batch, control, **keywords), np.random.default_rng(1)
    for other in (x + 10 * rng.normal(size=5), x * rng.uniform(0.2, 5, 5)):
        moved = correct(other, batch, control, **keywords)
        np.testing.assert_allclose(unsigned(moved, out) if profile == "public" else moved, out, atol=1e-9)


def test_profiles_differ_in_what_batches_share():
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
def test_clean_and_public_give_the_same_cosines_in_one_batch(n_controls):
    x, batch, control = few_controls(n_controls)
    plain = {"ridge": 0, "coral_reg": None}
    clean, public = (correct(x, batch, control, profile=name, **plain) for name in ("clean", "public"))
    assert clean.shape != public.shape or np.abs(clean - public).max() > 0.1
    np.testing.assert_allclose(cosine_similarity(clean), cosine_similarity(public), atol=1e-9)


@pytest.mark.parametrize("coral_reg", [0.5, None])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_global_is_public_without_the_rotation(ridge, coral_reg):
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


# ---- few controls and features that do not vary


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("n_controls", [2, 5, 20, 21])
def test_fewer_controls_than_dimensions_stay_finite_and_tell_rows_apart(profile, n_controls, caplog):
    """Dividing by the root of rounding error would make every cosine plus or minus one."""
    x, batch, control = few_controls(n_controls)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, batch, control, profile=profile, ridge=0, coral_reg=None)
    rank = min(n_controls - 1, 20)
    assert np.abs(out).max() < 1e4
    np.testing.assert_allclose(out[control].var(axis=0).sum(), rank, rtol=1e-6)
    assert [record.args for record in caplog.records] == ([] if rank == 20 else [(rank, 20, n_controls)])
    assert out.shape == (120, rank if profile == "public" else 20)
    if rank > 1:  # with one control more than dimensions the direction of least variance is still a noisy one
        assert np.median(np.abs(cosine_similarity(out[~control]))) < (0.99 if rank == 20 else 0.8)


@pytest.mark.parametrize("profile", ["clean", "batch"])
def test_with_a_ridge_no_direction_is_dropped_or_reported(profile, caplog):
    x, batch, control = few_controls(8)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, batch, control, profile=profile, ridge=0.5, coral_reg=None)
    assert not caplog.records
    assert np.linalg.matrix_rank(out) == 20
    growth = np.linalg.norm(out, axis=1) / np.linalg.norm((x - x[control].mean(0)) / x[control].std(0), axis=1)
    assert growth.max() <= 0.5**-0.5 + 1e-9


def test_fewer_controls_than_dimensions_in_the_batch_profile(plates):
    x, batch, control = plates((4, 9, 40), d=12)
    fitted = fit_correction(x.astype(float), batch, control, profile="batch", ridge=0)
    assert fitted.rank == 3
    out = fitted(x.astype(float), batch)
    for code, n_controls in enumerate((4, 9, 40)):
        assert out[(batch == code) & control].var(axis=0).sum() == pytest.approx(min(n_controls - 1, 12))
        assert np.linalg.matrix_rank(out[batch == code]) == min(n_controls - 1, 12)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_units_of_the_features_drop_no_direction(profile, caplog):
    x, batch, control = few_controls(50, d=5, n=100)
    x = x * 10.0 ** np.array([-9, -4, 0, 4, 9])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, batch, control, profile=profile, ridge=0, coral_reg=None)[control]
    assert not caplog.records
    np.testing.assert_allclose(np.cov(out, rowvar=False, ddof=0), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("values", [[0.0] * 3, [0.1] * 3, [1e8] * 3, [0.1, 0.3, 0.7], [-0.1, 0.1, 0.0]])
def test_a_feature_without_variance_is_zero_after_centring(method, profile, values):
    x, batch, control = study(n=90)
    x[:, 2] = np.array(values)[batch]
    out = correct(x, batch, control, method=method, profile=profile)
    assert np.abs(out).max() < 100
    if profile not in ("public", "global") or method != "tvn":  # where an offset between batches survives
        np.testing.assert_allclose(out[:, 2], 0, atol=1e-6 if max(values) > 1 else 1e-13)


@pytest.mark.parametrize("values", [[0.1] * 3, [0.1, 0.3, 0.7], [-0.1, 0.1, 0.0]])
def test_rounding_of_a_constant_feature_is_not_whitened(values):
    """Centred in each batch, 0.1 leaves 1e-17; to scale that to one would multiply treated rows by 1e17."""
    x, batch, control = study(n=90)
    x[:, 2] = np.where(control, np.array(values)[batch], 0.5)
    out = correct(x, batch, control)
    np.testing.assert_allclose(out[:, 2], 0, atol=1e-12)
    others = correct(np.delete(x, 2, axis=1), batch, control)
    np.testing.assert_allclose(np.delete(out, 2, axis=1), others, rtol=1e-8, atol=1e-10)


# ---- arrays, tensors and parts


@pytest.mark.parametrize("key", list(RECIPES))
def test_tensors_precisions_blocks_and_layouts_change_nothing(key, monkeypatch):
    x, batch, control = study()
    keywords = {"method": key[0], "profile": key[1]}
    single = x.astype(np.float32)
    before = x.copy(), single.copy(), batch.copy(), control.copy()
    expected = correct(x, batch, control, **keywords)
    inputs = {
        "float32": (single, np.float32, 1e-3),
        "tensor": (torch.from_numpy(x), torch.float64, 1e-10),
        "tensor of float32": (torch.from_numpy(single), torch.float32, 1e-3),
        "columns first": (np.asfortranarray(x), np.float64, 1e-10),
        "every other column": (np.repeat(x, 2, axis=1)[:, ::2], float, 1e-10),
        "blocks": (x, np.float64, 1e-10),
    }
    for name, (values, dtype, tolerance) in inputs.items():
        monkeypatch.setattr(_correct, "BLOCK", 7 if name == "blocks" else 1 << 16)
        fitted = fit_correction(values, batch, control, **keywords)
        out = fitted(values, batch)
        assert all(part.dtype == dtype for chain in fitted.chains for part in chain if part is not None), name
        assert out.dtype == dtype, name
        assert type(out) is type(values), name
        out = unsigned(np.asarray(out), expected) if key == ("tvn", "public") else np.asarray(out)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    for array, copy in zip((x, single, batch, control), before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, expected)


@pytest.mark.parametrize("key", list(RECIPES))
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_a_fitted_correction_may_be_applied_by_parts(key, convert):
    x, batch, control = study()
    keywords = {"method": key[0], "profile": key[1], "ridge": 0.1}
    fitted = fit_correction(convert(x), batch, control, **keywords)
    whole = correct(convert(x), batch, control, **keywords)
    np.testing.assert_array_equal(fitted(convert(x), batch), whole)
    for rows in (np.arange(7), np.array([50, 3, 3, 120]), np.flatnonzero(batch == 2), np.arange(len(x))[::-1]):
        part = fitted(convert(x), batch, rows)
        assert (type(part), part.dtype) == (type(whole), whole.dtype)
        np.testing.assert_allclose(part, whole[rows.copy()], rtol=1e-10, atol=1e-12)
        rows = rows.copy()  # as rows that it was not fitted on
        np.testing.assert_allclose(fitted(convert(x[rows]), batch[rows]), whole[rows], rtol=1e-10, atol=1e-12)
    assert fitted(convert(x), batch, np.arange(0)).shape == (0, whole.shape[1])


def test_no_correction_is_no_copy():
    x, batch, _ = study()
    assert Correction([Affine()])(x, batch) is x
    np.testing.assert_array_equal(Correction([Affine()])(x, batch, np.array([5, 2])), x[[5, 2]])


def test_the_order_of_rows_and_what_is_not_a_control_do_not_matter():
    x, batch, control = study()
    out = correct(x, batch, control)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(correct(x[order], batch[order], control[order]), out[order], rtol=1e-9, atol=1e-11)
    changed = x.copy()
    treated = np.flatnonzero(~control)[3]
    changed[treated] = 1e6
    again = correct(changed, batch, control)
    np.testing.assert_allclose(np.delete(again, treated, 0), np.delete(out, treated, 0), rtol=1e-12, atol=1e-13)
    assert np.isfinite(correct(x, batch, control | (batch == 2))).all()  # a batch of controls alone


# ---- too few controls


def short():
    """Batch 1 has one control and batch 3 none."""
    x, batch, control = study(n=160, n_batches=4)
    control &= (batch != 3) & (batch != 1)
    control[np.flatnonzero(batch == 1)[0]] = True
    return x, batch, control


@pytest.mark.parametrize("method", ["center", "center_scale"])
def test_pooled_controls_can_stand_in(method, caplog):
    x, batch, control = short()
    out = correct(x, batch, control, method=method, fallback="pooled", batch_names=["A", "B", "C", "D"])
    assert [(record.levelname, record.args) for record in caplog.records] == [("INFO", (2, "B (1), D (0)"))]
    for code in range(4):
        reference = control & (batch == code) if code in (0, 2) else control
        scaler = StandardScaler(with_std=method == "center_scale").fit(x[reference])
        np.testing.assert_allclose(out[batch == code], scaler.transform(x[batch == code]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("profile", PROFILES)
def test_pooled_controls_change_no_batch_that_has_its_own(profile):
    """The whitening must not see controls twice, nor centred on those of other batches."""
    x, batch, control = short()
    whole = (batch == 0) | (batch == 2)
    expected = correct(x[whole], batch[whole] // 2, control[whole], profile=profile)
    out = correct(x, batch, control, fallback="pooled", profile=profile)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[whole], expected, rtol=1e-9, atol=1e-11)


def test_one_control_in_each_batch_can_be_pooled():
    x, control = study()[0], np.arange(240) < 40
    out = correct(x, np.arange(240) % 40, control, fallback="pooled")
    np.testing.assert_allclose(out, correct(x, NO_BATCHES, control), rtol=1e-9, atol=1e-11)


X, BATCH, CONTROL = STUDY = study()


@pytest.mark.parametrize("function", [correct, fit_correction])
@pytest.mark.parametrize(
    ("arrays", "change", "error", "data"),
    [
        (STUDY, {"method": "combat"}, errors.UnknownChoice, {"name": "method"}),
        (STUDY, {"profile": "private"}, errors.UnknownChoice, {"name": "profile"}),
        (STUDY, {"fallback": "skip"}, errors.UnknownChoice, {"name": "fallback"}),
        *((STUDY, {"ridge": ridge}, errors.BadValue, {"name": "ridge"}) for ridge in (-0.1, float("nan"))),
        *((STUDY, {"coral_reg": reg}, errors.BadValue, {"name": "coral_reg"}) for reg in (0.0, -1.0)),
        ((X, BATCH[1:], CONTROL), {}, errors.WrongShape, {"shape": ((240, 5), (239,), (240,))}),
        ((X, BATCH, CONTROL[1:]), {}, errors.WrongShape, {"shape": ((240, 5), (240,), (239,))}),
        ((X[:, 0], BATCH, CONTROL), {}, errors.WrongShape, {"shape": ((240,), (240,), (240,))}),
        ((X.astype(np.int64), BATCH, CONTROL), {}, errors.WrongDtype, {"dtype": np.int64}),
        *(((np.full_like(X, 0.1), BATCH, CONTROL), {"profile": p}, errors.NoVariation, {}) for p in PROFILES),
        (short(), {}, errors.TooFewControls, {"batches": {1: 1, 3: 0}, "needed": 2}),
        (short(), {"batch_names": list("ABCD")}, errors.TooFewControls, {"batches": {"B": 1, "D": 0}}),
        ((X, BATCH, np.arange(240) < 1), {"fallback": "pooled"}, errors.TooFewControls, {"total": 1}),
    ],
)
def test_refuses(refuses, function, arrays, change, error, data):
    with refuses(error, **data):
        function(*arrays, **change)
