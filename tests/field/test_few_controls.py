"""Typical variation normalisation on about as many controls as dimensions."""

import logging

import numpy as np
import pytest

from semiclip.correction import correct

N_DIMENSIONS, N_PERTURBATIONS, N_REPLICATES, N_BATCHES = 100, 60, 6, 4


def measure_replicates(n_controls, seed=0, **options):
    """Return the mean average precision of replicates across batches by cosine, after correction."""
    rng = np.random.default_rng(seed)
    n_treated = N_PERTURBATIONS * N_REPLICATES
    mixing = rng.normal(size=(N_DIMENSIONS, N_DIMENSIONS)) * np.exp(-np.arange(N_DIMENSIONS) / 25)
    effects = 0.5 * rng.normal(size=(N_PERTURBATIONS, 20)) @ rng.normal(size=(20, N_DIMENSIONS))
    x = rng.normal(size=(n_treated + n_controls, N_DIMENSIONS)) @ mixing.T
    label = np.repeat(np.arange(N_PERTURBATIONS), N_REPLICATES)
    x[:n_treated] += effects[label]
    batch = np.arange(len(x)) % N_BATCHES
    x += 3 * rng.normal(size=(N_BATCHES, N_DIMENSIONS))[batch]
    corrected = correct(x, batch, np.arange(len(x)) >= n_treated, **options)[:n_treated]
    unit = corrected / np.linalg.norm(corrected, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1)[:, :-1]
    hit = label[order] == label[:, None]
    precision = hit.cumsum(axis=1) / np.arange(1, n_treated)
    return corrected, ((precision * hit).sum(axis=1) / hit.sum(axis=1)).mean()


@pytest.mark.parametrize("n_controls", [80, 104, 128])
@pytest.mark.parametrize("profile", ["clean", "global"])
def test_few_controls_keep_replicates_together(n_controls, profile, caplog):
    with caplog.at_level(logging.INFO):
        corrected, found = measure_replicates(n_controls, profile=profile)
    assert f"ridge=0.5: {n_controls} controls are few" in caplog.text
    np.testing.assert_array_equal(corrected, measure_replicates(n_controls, profile=profile, ridge=0.5)[0])
    assert found > 0.85


def test_without_a_ridge_few_controls_tear_replicates_apart():
    assert measure_replicates(104, ridge=0)[1] < 0.5


@pytest.mark.parametrize("options", [{}, {"profile": "global"}, {"profile": "public"}])
def test_one_and_a_half_controls_for_each_dimension_take_no_ridge(options):
    corrected, _ = measure_replicates(150, **options)
    np.testing.assert_array_equal(corrected, measure_replicates(150, ridge=0, **options)[0])


def test_a_linear_map_to_more_dimensions_changes_nothing():
    """What counts is in how many directions the controls vary, and not the width that they are stored in."""
    rng = np.random.default_rng(0)
    x, batch, control = rng.normal(size=(300, 20)), np.arange(300) % 3, np.arange(300) < 60
    wide = x @ np.linalg.qr(rng.normal(size=(50, 20)))[0].T
    narrow = correct(x, batch, control, coral_reg=None)
    cosines = [rows @ rows.T for rows in (narrow, correct(wide, batch, control, coral_reg=None))]
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-8)


def test_published_numbers_stay_comparable():
    corrected, _ = measure_replicates(104, profile="public")
    np.testing.assert_array_equal(corrected, measure_replicates(104, profile="public", ridge=0)[0])
