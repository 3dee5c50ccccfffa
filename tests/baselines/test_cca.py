from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from semiclip import errors
from semiclip.baselines import Cca


def make(seed=0, n=200, n_student=4, n_teacher=3):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3))
    student = shared @ rng.normal(size=(3, n_student)) + rng.normal(size=(n, n_student)) + 4
    return student, shared[:, :n_teacher] * [2, 1, 0.5][:n_teacher] + 0.5 * rng.normal(size=(n, n_teacher)) - 7


def fit(student, teacher, key=None, **options):
    key = np.arange(len(student)) if key is None else key
    return Cca(**options).fit(student, teacher, key, rng=np.random.default_rng(0))


def aligned(out, expected):
    return out * np.sign((out * expected).sum(axis=0))


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (6, 3)])
def test_is_scikit_learns_cca(n_components, shape):
    student, teacher = make(n_student=shape[0], n_teacher=shape[1])
    cca = fit(student, teacher, n_components=n_components, regularization=0)
    reference = CCA(n_components, scale=False, tol=1e-14, max_iter=10_000).fit(student, teacher)
    x, y = reference.transform(student, teacher)
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(n_components)]
    np.testing.assert_allclose(cca.fitted["correlations"], expected, atol=1e-6)
    variates = x / x.std(axis=0) * expected
    out = cca.transform(student)
    np.testing.assert_allclose(aligned(out, variates), variates, atol=1e-5)


def test_variates_are_uncorrelated_centred_and_as_large_as_their_correlation():
    student, teacher = make()
    cca = fit(student, teacher, regularization=0)
    out = cca.transform(student).astype(float)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(out.T, ddof=0), np.diag(cca.fitted["correlations"] ** 2), atol=1e-6)
    assert (np.diff(cca.fitted["correlations"]) <= 0).all()


def test_regularization_shrinks_and_knows_no_units():
    student, teacher = make()
    correlations = [fit(student, teacher, regularization=r).fitted["correlations"] for r in (0, 0.1, 10)]
    assert (correlations[0] > correlations[1]).all()
    assert (correlations[1] > correlations[2]).all()
    scaled = fit(1000 * student, 0.01 * teacher, regularization=0.1)
    np.testing.assert_allclose(scaled.fitted["correlations"], correlations[1], atol=1e-12)


def test_with_few_keys_any_teacher_gives_the_same_unless_regularized():
    rng = np.random.default_rng(0)
    key = np.arange(90) % 5
    student = rng.normal(size=(90, 6)) + rng.normal(size=(5, 6))[key]
    teachers = [rng.normal(size=(5, 8))[key] for _ in range(2)]
    correlations = [
        [fit(student, teacher, key, regularization=r).fitted["correlations"] for teacher in teachers] for r in (0, 1)
    ]
    np.testing.assert_allclose(correlations[0][0], correlations[0][1], atol=1e-9)
    assert np.abs(correlations[1][0] - correlations[1][1]).max() > 0.01
    assert correlations[0][0].shape == (4,)


@pytest.mark.parametrize(("width", "expected"), [(40, 30), (30, 30), (8, 8)])
def test_thirty_components_where_there_are_as_many(width, expected):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 100, width))
    assert fit(student, teacher).transform(student).shape == (100, expected)
    assert fit(student, teacher, n_components=width).transform(student).shape == (100, width)


def test_refuses_more_components_than_there_are(refuses):
    student, teacher = make()
    with refuses(errors.TooMany, number=4, limit=3):
        fit(student, teacher, n_components=4)
    key = np.arange(200) % 3
    with refuses(errors.TooMany, number=3, limit=2):
        fit(student, teacher[key], key, n_components=3)
    with refuses(errors.NoVariation):
        fit(np.full((200, 4), 0.1), teacher)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("n_components", value) for value in (0, -1, 2.5, "3")],
        *[("regularization", value) for value in (-0.1, np.nan, np.inf)],
    ],
)
def test_refuses_options(name, value, refuses):
    with refuses(errors.BadValue, name=name, value=value):
        Cca(**{name: value})
