"""Corrections where controls are few or too few, and of features that do not vary."""

import logging

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from semiclip import errors
from semiclip.correction import correct, fit_correction

METHODS, PROFILES = ("center", "center_scale", "tvn"), ("clean", "batch", "public", "global")
NO_BATCHES = np.zeros(240, dtype=int)


@pytest.mark.parametrize("profile", ["clean", "public"])
@pytest.mark.parametrize("n_controls", [2, 5, 20, 21])
def test_fewer_controls_than_dimensions_stay_finite_and_tell_rows_apart(profile, n_controls, caplog, few_controls):
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
def test_with_a_ridge_no_direction_is_dropped_or_reported(profile, caplog, few_controls):
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
def test_the_units_of_the_features_drop_no_direction(profile, caplog, few_controls):
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
def test_a_feature_without_variance_is_zero_after_centring(method, profile, values, study):
    x, batch, control = study(n=90)
    x[:, 2] = np.array(values)[batch]
    out = correct(x, batch, control, method=method, profile=profile)
    assert np.abs(out).max() < 100
    if profile not in ("public", "global") or method != "tvn":  # where an offset between batches survives
        np.testing.assert_allclose(out[:, 2], 0, atol=1e-6 if max(values) > 1 else 1e-13)


@pytest.mark.parametrize("values", [[0.1] * 3, [0.1, 0.3, 0.7], [-0.1, 0.1, 0.0]])
def test_rounding_of_a_constant_feature_is_not_whitened(values, study):
    """Centred in each batch, 0.1 leaves 1e-17; to scale that to one would multiply treated rows by 1e17."""
    x, batch, control = study(n=90)
    x[:, 2] = np.where(control, np.array(values)[batch], 0.5)
    out = correct(x, batch, control)
    np.testing.assert_allclose(out[:, 2], 0, atol=1e-12)
    others = correct(np.delete(x, 2, axis=1), batch, control)
    np.testing.assert_allclose(np.delete(out, 2, axis=1), others, rtol=1e-8, atol=1e-10)


@pytest.fixture
def short(study):
    """Batch 1 has one control and batch 3 none."""
    x, batch, control = study(n=160, n_batches=4)
    control &= (batch != 3) & (batch != 1)
    control[np.flatnonzero(batch == 1)[0]] = True
    return x, batch, control


@pytest.mark.parametrize("method", ["center", "center_scale"])
def test_pooled_controls_can_stand_in(method, caplog, short):
    x, batch, control = short
    out = correct(x, batch, control, method=method, fallback="pooled", batch_names=["A", "B", "C", "D"])
    assert [(record.levelname, record.args) for record in caplog.records] == [("INFO", (2, "B (1), D (0)"))]
    for code in range(4):
        reference = control & (batch == code) if code in (0, 2) else control
        scaler = StandardScaler(with_std=method == "center_scale").fit(x[reference])
        np.testing.assert_allclose(out[batch == code], scaler.transform(x[batch == code]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("profile", PROFILES)
def test_pooled_controls_change_no_batch_that_has_its_own(profile, short):
    """The whitening must not see controls twice, nor centred on those of other batches."""
    x, batch, control = short
    whole = (batch == 0) | (batch == 2)
    expected = correct(x[whole], batch[whole] // 2, control[whole], profile=profile)
    out = correct(x, batch, control, fallback="pooled", profile=profile)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[whole], expected, rtol=1e-9, atol=1e-11)


def test_one_control_in_each_batch_can_be_pooled(study):
    x, control = study()[0], np.arange(240) < 40
    out = correct(x, np.arange(240) % 40, control, fallback="pooled")
    np.testing.assert_allclose(out, correct(x, NO_BATCHES, control), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("function", [correct, fit_correction])
@pytest.mark.parametrize(("change", "batches"), [({}, {1: 1, 3: 0}), ({"batch_names": list("ABCD")}, {"B": 1, "D": 0})])
def test_refuses_batches_of_too_few_controls(refuses, short, function, change, batches):
    with refuses(errors.TooFewControls, batches=batches, needed=2):
        function(*short, **change)


def keep(x, batch, control):
    return x, batch, control


@pytest.mark.parametrize("function", [correct, fit_correction])
@pytest.mark.parametrize(
    ("spoil", "change", "error", "data"),
    [
        (keep, {"method": "combat"}, errors.UnknownChoice, {"name": "method"}),
        (keep, {"profile": "private"}, errors.UnknownChoice, {"name": "profile"}),
        (keep, {"fallback": "skip"}, errors.UnknownChoice, {"name": "fallback"}),
        *((keep, {"ridge": ridge}, errors.BadValue, {"name": "ridge"}) for ridge in (-0.1, float("nan"))),
        *((keep, {"coral_reg": reg}, errors.BadValue, {"name": "coral_reg"}) for reg in (0.0, -1.0)),
        (lambda x, b, c: (x, b[1:], c), {}, errors.WrongShape, {"shape": ((240, 5), (239,), (240,))}),
        (lambda x, b, c: (x, b, c[1:]), {}, errors.WrongShape, {"shape": ((240, 5), (240,), (239,))}),
        (lambda x, b, c: (x[:, 0], b, c), {}, errors.WrongShape, {"shape": ((240,), (240,), (240,))}),
        (lambda x, b, c: (x.astype(np.int64), b, c), {}, errors.WrongDtype, {"dtype": np.int64}),
        *((lambda x, b, c: (0 * x + 0.1, b, c), {"profile": p}, errors.NoVariation, {}) for p in PROFILES),
        (lambda x, b, c: (x, b, np.arange(240) < 1), {"fallback": "pooled"}, errors.TooFewControls, {"total": 1}),
    ],
)
def test_refuses(refuses, study, function, spoil, change, error, data):
    arrays = spoil(*study())
    with refuses(error, **data):
        function(*arrays, **change)
