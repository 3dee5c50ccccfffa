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
from semiclip.correction import RECIPES, _correct, correct, fit_correction


def study(seed=0, n=240, d=5, n_batches=3, offset=4.0):
    """Rows in mixed order, a third of them controls, in batches that differ by an offset and by a scale."""
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(n) % n_batches)
    control = rng.permutation(np.arange(n) // n_batches % 3 == 0)[:n]
    mixing = rng.normal(size=(d, d))
    x = rng.normal(size=(n, d)) @ mixing * rng.uniform(0.5, 2, (n_batches, 1))[batch]
    return x + offset * rng.normal(size=(n_batches, d))[batch], batch, control


def coral(x, batch, control, reg=0.5):
    """The last step of EFAAR_benchmarking: batch by batch, on its controls, no mean removed."""
    out = np.empty_like(x)
    for code in np.unique(batch):
        rows = batch == code
        spread = np.cov(x[rows & control], rowvar=False, ddof=1) + reg * np.eye(x.shape[1])
        out[rows] = x[rows] @ fractional_matrix_power(spread, -0.5)
    return out


def public(x, batch, control, reg=0.5):
    scaler = StandardScaler().fit(x[control])
    components = PCA().fit(scaler.transform(x[control]))
    rotated = components.transform(scaler.transform(x))
    white = StandardScaler().fit(rotated[control]).transform(rotated)
    return white if reg is None else coral(white, batch, control, reg)


def clean(x, batch, control, reg=0.5):
    x = x.copy()
    for code in np.unique(batch):
        x[batch == code] -= x[(batch == code) & control].mean(axis=0)
    x /= x[control].std(axis=0)
    white = x @ fractional_matrix_power(np.cov(x[control], rowvar=False, ddof=0), -0.5)
    return white if reg is None else coral(white, batch, control, reg)


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
        for profile in ("clean", "batch", "public"):
            out = correct(x, batch, control, method=method, profile=profile)
            np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("reg", [0.5, 2.0, None])
def test_the_clean_profile_is_its_steps_by_hand(reg):
    x, batch, control = study()
    out = correct(x, batch, control, coral_reg=reg)
    np.testing.assert_allclose(out, clean(x, batch, control, reg), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reg", [0.5, 2.0, None])
def test_the_public_profile_is_its_steps_by_hand(reg):
    x, batch, control = study()
    expected = public(x, batch, control, reg)
    out = correct(x, batch, control, profile="public", coral_reg=reg)
    np.testing.assert_allclose(unsigned(out, expected), expected, rtol=1e-8, atol=1e-10)


def test_the_default_is_clean_tvn_with_coral_and_none_leaves_the_embedding():
    x, batch, control = study()
    explicit = correct(x, batch, control, method="tvn", profile="clean", ridge=0.0, coral_reg=0.5, fallback="raise")
    np.testing.assert_array_equal(correct(x, batch, control), explicit)
    assert correct(x, batch, control, method=None) is x


@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
def test_whitened_controls_have_mean_zero_and_covariance_one(profile):
    x, batch, control = study()
    out = correct(x, batch, control, profile=profile, ridge=0, coral_reg=None)[control]
    np.testing.assert_allclose(np.cov(out, rowvar=False, ddof=0), np.eye(5), atol=1e-9)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize(("d", "n_controls"), [(5, 80), (20, 8)])
def test_both_profiles_give_the_same_cosines_in_one_batch(d, n_controls):
    x, control = study(n_batches=1, d=d)[0], np.arange(240) < n_controls
    batch = np.zeros(240, dtype=int)
    out = [correct(x, batch, control, profile=profile, coral_reg=None) for profile in ("clean", "public")]
    assert out[0].shape != out[1].shape or np.abs(out[0] - out[1]).max() > 0.1
    np.testing.assert_allclose(cosine_similarity(out[0]), cosine_similarity(out[1]), atol=1e-9)


def test_only_the_clean_profile_removes_a_batch_offset():
    x, batch, control = study()
    norms = {
        profile: [
            np.linalg.norm(correct(x, batch, control, profile=profile)[control & (batch == code)].mean(axis=0))
            for code in range(3)
        ]
        for profile in ("clean", "public")
    }
    assert max(norms["public"]) > 1
    assert max(norms["clean"]) < 1e-12


def test_a_uniform_covariance_is_shrunk_by_a_constant():
    """White in each batch already, so CORAL multiplies by one number, 0.8165 for many controls."""
    x, batch, control = study(n_batches=1)
    ratio = correct(x, batch, control) / correct(x, batch, control, coral_reg=None)
    n = control.sum()
    np.testing.assert_allclose(ratio, 1 / np.sqrt(n / (n - 1) + 0.5), rtol=1e-9)
    assert ratio.mean() == pytest.approx(0.8165, abs=0.01)


def test_ridge_bounds_the_amplification():
    x, batch, control = study()
    out = correct(x, batch, control, ridge=0.5, coral_reg=None)[control]
    centred = x.copy()
    for code in range(3):
        centred[batch == code] -= x[(batch == code) & control].mean(axis=0)
    values = np.linalg.eigvalsh(np.corrcoef(centred[control], rowvar=False))
    np.testing.assert_allclose(
        np.linalg.eigvalsh(np.cov(out, rowvar=False, ddof=0)), values / (values + 0.5), rtol=1e-9
    )


@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
@pytest.mark.parametrize("coral_reg", [0.5, None])
def test_offset_and_scale_of_the_features_change_nothing(profile, coral_reg):
    x, batch, control = study()
    rng = np.random.default_rng(1)
    keywords = {"profile": profile, "coral_reg": coral_reg, "ridge": 0}
    out = correct(x, batch, control, **keywords)
    for other in (x + 10 * rng.normal(size=5), x * rng.uniform(0.2, 5, 5)):
        moved = correct(other, batch, control, **keywords)
        np.testing.assert_allclose(unsigned(moved, out) if profile == "public" else moved, out, atol=1e-10)


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("n_controls", [2, 5, 20, 21])
def test_fewer_controls_than_dimensions_stay_finite_and_tell_rows_apart(profile, n_controls, caplog):
    """Dividing by the root of rounding error would make every cosine plus or minus one."""
    rng = np.random.default_rng(0)
    x, control = rng.normal(size=(120, 20)) + 3, np.arange(120) < n_controls
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, np.zeros(120, dtype=int), control, profile=profile, coral_reg=None)
    rank = min(n_controls - 1, 20)
    assert np.abs(out).max() < 1e4
    np.testing.assert_allclose(out[control].var(axis=0).sum(), rank, rtol=1e-6)
    if rank == 20:
        assert not caplog.records
    else:
        assert [record.args for record in caplog.records] == [(rank, 20, n_controls)]
    assert out.shape == (120, rank if profile == "public" else 20)
    if rank > 1:  # with one control more than dimensions the direction of least variance is still a noisy one
        assert np.median(np.abs(cosine_similarity(out[~control]))) < (0.99 if rank == 20 else 0.8)


@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
def test_the_units_of_the_features_drop_no_direction(profile, caplog):
    rng = np.random.default_rng(0)
    x, control = rng.normal(size=(100, 5)) * 10.0 ** np.array([-9, -4, 0, 4, 9]), np.arange(100) < 50
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, np.zeros(100, dtype=int), control, profile=profile, ridge=0, coral_reg=None)[control]
    assert not caplog.records
    np.testing.assert_allclose(np.cov(out, rowvar=False, ddof=0), np.eye(5), atol=1e-9)


def test_with_a_ridge_no_direction_is_dropped_or_reported(caplog):
    rng = np.random.default_rng(0)
    x, control = rng.normal(size=(60, 20)), np.arange(60) < 8
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, np.zeros(60, int), control, ridge=0.5, coral_reg=None)
    assert not caplog.records
    assert np.linalg.matrix_rank(out) == 20
    amplification = np.linalg.norm(out, axis=1) / np.linalg.norm((x - x[control].mean(0)) / x[control].std(0), axis=1)
    assert amplification.max() <= 1 / np.sqrt(0.5) + 1e-9


@pytest.mark.parametrize("method", ["center", "center_scale", "tvn"])
@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
@pytest.mark.parametrize("values", [[0.0] * 3, [0.1] * 3, [1e8] * 3, [0.1, 0.3, 0.7], [-0.1, 0.1, 0.0]])
def test_a_feature_without_variance_is_zero_after_centring(method, profile, values):
    x, batch, control = study(n=90)
    x[:, 2] = np.array(values)[batch]
    out = correct(x, batch, control, method=method, profile=profile)
    assert np.isfinite(out).all()
    assert np.abs(out).max() < 100
    if profile != "public" or method != "tvn":
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


@pytest.mark.parametrize("key", list(RECIPES))
def test_tensors_precisions_blocks_and_layouts_change_nothing(key, monkeypatch):
    x, batch, control = study()
    keywords = {"method": key[0], "profile": key[1]}
    single = x.astype(np.float32)
    before = x.copy(), single.copy(), batch.copy(), control.copy()
    expected = correct(x, batch, control, **keywords)
    outputs = {
        "float32": (correct(single, batch, control, **keywords), np.float32, 1e-3),
        "tensor": (correct(torch.from_numpy(x), batch, control, **keywords), torch.float64, 1e-10),
        "tensor of float32": (correct(torch.from_numpy(single), batch, control, **keywords), torch.float32, 1e-3),
        "columns first": (correct(np.asfortranarray(x), batch, control, **keywords), np.float64, 1e-10),
        "every other column": (correct(np.repeat(x, 2, axis=1)[:, ::2], batch, control, **keywords), float, 1e-10),
    }
    monkeypatch.setattr(_correct, "BLOCK", 7)
    outputs["blocks"] = correct(x, batch, control, **keywords), np.float64, 1e-10
    assert expected.dtype == np.float64
    for name, (out, dtype, tolerance) in outputs.items():
        assert out.dtype == dtype, name
        assert isinstance(out, torch.Tensor if "tensor" in name else np.ndarray), name
        out = np.asarray(out)
        out = unsigned(out, expected) if key == ("tvn", "public") else out
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    for array, copy in zip((x, single, batch, control), before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, expected)


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


def short():
    """Batch 1 has one control and batch 3 none."""
    x, batch, control = study(n=160, n_batches=4)
    control &= (batch != 3) & (batch != 1)
    control[np.flatnonzero(batch == 1)[0]] = True
    return x, batch, control


@pytest.mark.parametrize("method", ["center", "center_scale", "tvn"])
def test_pooled_controls_can_stand_in(method, caplog):
    x, batch, control = short()
    names = ["A", "B", "C", "D"]
    out = correct(x, batch, control, method=method, fallback="pooled", batch_names=names, coral_reg=None)
    assert [(record.levelname, record.args) for record in caplog.records] == [("WARNING", (2, "B (1), D (0)"))]
    assert np.isfinite(out).all()
    if method == "tvn":
        return
    for code in range(4):
        reference = control & (batch == code) if code in (0, 2) else control
        scaler = StandardScaler(with_std=method == "center_scale").fit(x[reference])
        np.testing.assert_allclose(out[batch == code], scaler.transform(x[batch == code]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
def test_pooled_controls_change_no_batch_that_has_its_own(profile, caplog):
    """The whitening must not see controls twice, nor centred on those of other batches."""
    x, batch, control = study()
    keywords = {"profile": profile}
    np.testing.assert_array_equal(
        correct(x, batch, control, fallback="pooled", **keywords), correct(x, batch, control, **keywords)
    )
    assert not caplog.records
    x, batch, control = short()
    whole = (batch == 0) | (batch == 2)
    expected = correct(x[whole], batch[whole] // 2, control[whole], **keywords)
    out = correct(x, batch, control, fallback="pooled", **keywords)[whole]
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-11)


def test_one_control_in_each_batch_can_be_pooled():
    x, batch, _ = study()
    control = np.arange(240) < 40
    batch = np.arange(240) % 40
    out = correct(x, batch, control, fallback="pooled")
    np.testing.assert_allclose(out, correct(x, np.zeros(240, int), control), rtol=1e-9, atol=1e-11)


X, BATCH, CONTROL = study()
CONSTANT = np.full_like(X, 0.1)


@pytest.mark.parametrize("function", [correct, fit_correction])
@pytest.mark.parametrize(
    ("arrays", "change", "error", "data"),
    [
        ((X, BATCH, CONTROL), {"method": "combat"}, errors.UnknownChoice, {"name": "method"}),
        ((X, BATCH, CONTROL), {"profile": "private"}, errors.UnknownChoice, {"name": "profile"}),
        ((X, BATCH, CONTROL), {"fallback": "skip"}, errors.UnknownChoice, {"name": "fallback"}),
        ((X, BATCH, CONTROL), {"ridge": -0.1}, errors.BadValue, {"name": "ridge"}),
        ((X, BATCH, CONTROL), {"ridge": float("nan")}, errors.BadValue, {"name": "ridge"}),
        ((X, BATCH, CONTROL), {"coral_reg": 0.0}, errors.BadValue, {"name": "coral_reg"}),
        ((X, BATCH, CONTROL), {"coral_reg": -1.0}, errors.BadValue, {"name": "coral_reg"}),
        ((X, BATCH[1:], CONTROL), {}, errors.WrongShape, {"shape": ((240, 5), (239,), (240,))}),
        ((X, BATCH, CONTROL[1:]), {}, errors.WrongShape, {"shape": ((240, 5), (240,), (239,))}),
        ((X[:, 0], BATCH, CONTROL), {}, errors.WrongShape, {"shape": ((240,), (240,), (240,))}),
        ((X.astype(np.int64), BATCH, CONTROL), {}, errors.WrongDtype, {"dtype": np.int64}),
        *(((CONSTANT, BATCH, CONTROL), {"profile": p}, errors.NoVariation, {}) for p in ("clean", "batch", "public")),
        (short(), {}, errors.TooFewControls, {"batches": {1: 1, 3: 0}, "needed": 2}),
        (short(), {"batch_names": list("ABCD")}, errors.TooFewControls, {"batches": {"B": 1, "D": 0}}),
        ((X, np.where(BATCH == 1, 0, BATCH), CONTROL), {}, errors.TooFewControls, {"batches": {1: 0}}),
        *(
            ((X, BATCH, np.arange(240) < n), {"fallback": "pooled"}, errors.TooFewControls, {"total": n})
            for n in (0, 1)
        ),
    ],
)
def test_refuses(refuses, function, arrays, change, error, data):
    with refuses(error, **data):
        function(*arrays, **change)
