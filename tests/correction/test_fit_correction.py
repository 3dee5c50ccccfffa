"""A correction that is fitted once and applied by parts, and the profile that PEA draws from in full."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from sklearn.preprocessing import StandardScaler

from semiclip.correction import PEA, RECIPES, Affine, Augmentation, Correction, CorrectionSpec, correct, fit_correction


def study(n_controls=(30, 45, 25), n_treated=60, d=5, seed=0):
    """Rows in mixed order, in batches that differ by an offset, a scale and their correlations."""
    rng = np.random.default_rng(seed)
    n_batches = len(n_controls)
    batch = np.concatenate([np.repeat(np.arange(n_batches), n_controls), np.arange(n_treated) % n_batches])
    x = np.einsum("ij,ijk->ik", rng.normal(size=(len(batch), d)), rng.normal(size=(n_batches, d, d))[batch])
    x += 4 * rng.normal(size=(n_batches, d))[batch]
    order = rng.permutation(len(batch))
    return x[order], batch[order], (np.arange(len(batch)) < sum(n_controls))[order]


def by_hand(x, batch, control, ridge):
    out = np.empty_like(x)
    for code in np.unique(batch):
        scaler = StandardScaler().fit(x[(batch == code) & control])
        spread = np.cov(scaler.transform(x[(batch == code) & control]), rowvar=False, ddof=0)
        root = fractional_matrix_power(spread + ridge * np.eye(x.shape[1]), -0.5)
        out[batch == code] = scaler.transform(x[batch == code]) @ root
    return out


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("coral_reg", [0.5, None])
def test_the_batch_profile_is_its_steps_by_hand(ridge, coral_reg):
    """It has no CORAL step, since each batch is whitened on its own controls."""
    x, batch, control = study()
    out = correct(x, batch, control, profile="batch", ridge=ridge, coral_reg=coral_reg)
    np.testing.assert_allclose(out, by_hand(x, batch, control, ridge), rtol=1e-8, atol=1e-10)


def test_no_other_batch_has_a_say_in_the_batch_profile():
    x, batch, control = study()
    changed = np.where((batch == 1)[:, None], x**3, x)
    both = [correct(values, batch, control, profile="batch", ridge=0.5) for values in (x, changed)]
    np.testing.assert_array_equal(both[0][batch != 1], both[1][batch != 1])
    assert (both[0] != both[1])[batch == 1].mean() > 0.9


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("method", ["center", "center_scale", "tvn"])
def test_the_batch_profile_is_augmentation_without_chance(method, ridge):
    """Every step on every control: what the student sees at inference is the middle of what it saw in training."""
    x, batch, control = study()
    x = x.astype(np.float32)
    pea = PEA(methods=method, drop_probability=0, control_law="all", ridge=ridge, clip=None)
    augmentation = Augmentation(pea, x, batch, control)
    augmentation.start_epoch(0)
    out = augmentation(torch.as_tensor(x), torch.arange(len(x)), torch.as_tensor(batch), 0)
    expected = correct(x.astype(np.float64), batch, control, method=method, profile="batch", ridge=ridge)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_fewer_controls_than_dimensions_in_the_batch_profile(caplog):
    x, batch, control = study((4, 9, 40), d=12)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        out = correct(x, batch, control, profile="batch", ridge=0.5)
    assert not caplog.records
    assert np.linalg.matrix_rank(out[batch == 0]) == 12
    for code in range(3):
        scaler = StandardScaler().fit(x[(batch == code) & control])
        growth = np.linalg.norm(out[batch == code], axis=1) / np.linalg.norm(scaler.transform(x[batch == code]), axis=1)
        assert growth.max() <= 0.5**-0.5 + 1e-9
    dropped = correct(x, batch, control, profile="batch", ridge=0)
    for code, n_controls in enumerate((4, 9, 40)):
        own = dropped[(batch == code) & control]
        assert own.var(axis=0).sum() == pytest.approx(min(n_controls - 1, 12))
        assert np.linalg.matrix_rank(dropped[batch == code]) == min(n_controls - 1, 12)


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
        assert type(part) is type(whole)
        assert part.dtype == whole.dtype
        np.testing.assert_allclose(part, whole[rows.copy()], rtol=1e-10, atol=1e-12)
        rows = rows.copy()  # as rows that it was not fitted on
        np.testing.assert_allclose(fitted(convert(x[rows]), batch[rows]), whole[rows], rtol=1e-10, atol=1e-12)
    assert fitted(convert(x), batch, np.arange(0)).shape == (0, whole.shape[1])


def test_no_correction_is_no_copy():
    x, batch, _ = study()
    nothing = Correction([Affine()])
    assert nothing(x, batch) is x
    np.testing.assert_array_equal(nothing(x, batch, np.array([5, 2])), x[[5, 2]])


@pytest.mark.parametrize("key", list(RECIPES))
def test_maps_are_kept_in_the_precision_of_the_rows(key):
    x, batch, control = study()
    for values, dtype in ((x.astype(np.float32), np.float32), (x, np.float64), (torch.as_tensor(x), torch.float64)):
        fitted = fit_correction(values, batch, control, method=key[0], profile=key[1], ridge=0.1)
        parts = [part for chain in fitted.chains for part in chain if part is not None]
        assert len(fitted.chains) == 3
        assert len(parts) >= 3
        assert all(part.dtype == dtype for part in parts)


def test_a_spec_is_the_keywords_of_a_correction():
    x, batch, control = study()
    spec = CorrectionSpec("tvn", "batch")
    np.testing.assert_array_equal(spec.fit(x, batch, control)(x, batch), correct(x, batch, control, profile="batch"))
    defaults = [CorrectionSpec(profile=profile).whitening_ridge for profile in ("clean", "batch", "public")]
    assert defaults == [0, 0.5, 0]
    assert CorrectionSpec(profile="batch", ridge=0).whitening_ridge == 0
    assert CorrectionSpec(**spec.params) == spec
    assert CorrectionSpec(coral_reg=None).recipe.after == ()
    assert CorrectionSpec(None).fit(x, batch, control)(x, batch) is x
