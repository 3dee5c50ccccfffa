from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference
from sklearn.model_selection import GroupKFold

from semiclip import errors
from semiclip.baselines import Ridge


def make(seed=0, n=120, n_keys=30, noise=1.0, n_student=4, n_teacher=3):
    """Rows of unequal keys whose student is a noisy linear map of the teacher, both away from zero."""
    rng = np.random.default_rng(seed)
    key = np.r_[np.arange(n_keys), rng.integers(n_keys // 3, size=n - n_keys)]
    teacher = rng.normal(size=(n_keys, n_teacher))[key] + 5
    return teacher @ rng.normal(size=(n_teacher, n_student)) + noise * rng.normal(size=(n, n_student)) - 3, teacher, key


def fit(student, teacher, key, **options):
    return Ridge(**options).fit(student, teacher, key, rng=np.random.default_rng(0))


@pytest.mark.parametrize("alpha", [1e-3, 7.0, 1e4])
@pytest.mark.parametrize("n_student", [4, 40])
def test_is_scikit_learns_ridge(alpha, n_student):
    student, teacher, key = make(n=60, n_student=n_student)
    ridge, expected = fit(student, teacher, key, alphas=[alpha]), Reference(alpha=alpha).fit(student, teacher)
    np.testing.assert_allclose(ridge.fitted["weight"], expected.coef_.T, rtol=1e-6, atol=1e-9)
    new, _, _ = make(1, n_student=n_student)
    np.testing.assert_allclose(ridge.transform(new), expected.predict(new), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("noise", "n_keys"), [(0.1, 30), (2.0, 30), (10.0, 30), (2.0, 3)])
def test_takes_the_penalty_of_the_least_error_on_held_out_keys(noise, n_keys):
    student, teacher, key = make(noise=noise, n_keys=n_keys)
    alphas = (1e-3, 1.0, 30.0, 1e3, 1e5)
    errors = np.zeros(5)
    for train, test in GroupKFold(min(5, n_keys)).split(student, groups=key):
        assert set(key[train]).isdisjoint(key[test])
        for i, alpha in enumerate(alphas):
            predicted = Reference(alpha=alpha).fit(student[train], teacher[train]).predict(student[test])
            errors[i] += ((predicted - teacher[test]) ** 2).sum()
    ridge = fit(student, teacher, key, alphas=alphas)
    assert float(ridge.fitted["alpha"]) == alphas[errors.argmin()]
    alone = fit(student, teacher, key, alphas=[alphas[errors.argmin()]])
    np.testing.assert_allclose(ridge.transform(student), alone.transform(student), rtol=1e-6)


def test_replicates_of_a_key_do_not_vouch_for_one_another():
    """With rows held out in place of keys, a student that only tells the keys apart would seem to predict."""
    rng = np.random.default_rng(0)
    key = np.repeat(np.arange(40), 10)
    student, teacher = rng.normal(size=(40, 30))[key], rng.normal(size=(40, 5))[key]
    by_row, by_key = fit(student, teacher, rng.permutation(400)), fit(student, teacher, key)
    assert float(by_row.fitted["alpha"]) < 10 < 1e5 < float(by_key.fitted["alpha"])


def test_penalties_by_default_have_the_units_of_the_student():
    student, teacher, key = make(noise=3.0)
    unit = student.var(axis=0).mean() * len(student)
    alpha = float(fit(student, teacher, key).fitted["alpha"])
    assert np.log10(alpha / unit) == pytest.approx(round(np.log10(alpha / unit)), abs=1e-9)
    listed = fit(student, teacher, key, alphas=unit * 10.0 ** np.arange(-6, 4))
    assert float(listed.fitted["alpha"]) == pytest.approx(alpha, rel=1e-12)
    scaled = fit(100 * student, teacher, key)
    assert float(scaled.fitted["alpha"]) == pytest.approx(1e4 * alpha, rel=1e-9)
    np.testing.assert_allclose(
        scaled.transform(100 * student), fit(student, teacher, key).transform(student), rtol=1e-5
    )


def test_a_student_that_does_not_vary_predicts_the_mean():
    _, teacher, key = make()
    student = np.full((120, 4), 0.1)
    np.testing.assert_allclose(
        fit(student, teacher, key).transform(student), np.tile(teacher.mean(axis=0), (120, 1)), rtol=1e-6
    )


@pytest.mark.parametrize("alphas", [(), (0.0, 1.0), (-1.0,), (np.nan,), (np.inf,), 1.0, ((1.0, 2.0),)])
def test_refuses_penalties(alphas, refuses):
    with refuses(errors.BadValue, name="alphas", value=alphas):
        Ridge(alphas=alphas)
