from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from semiclip import errors
from semiclip.baselines import Procrustes


def fit(student, teacher):
    return Procrustes().fit(student, teacher, np.arange(len(student)), rng=np.random.default_rng(0))


def make(n_student, n_teacher, seed=0, n=80):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(n, n_student)) * np.linspace(3, 0.5, n_student) + 2
    return student, student[:, :2] @ rng.normal(size=(2, n_teacher)) + rng.normal(size=(n, n_teacher)) - 5


@pytest.mark.parametrize(("factor", "n_teacher"), [(1.0, 4), (2.5, 4), (1.0, 9)])
def test_recovers_a_rotation(factor, n_teacher):
    student, _ = make(4, 4)
    rotation = ortho_group.rvs(n_teacher, random_state=0)[:4]
    baseline = fit(student, factor * student @ rotation + 7)
    np.testing.assert_allclose(baseline.fitted["weight"], factor * rotation, atol=1e-9)
    new = make(4, 4, seed=1)[0]
    np.testing.assert_allclose(baseline.transform(new), factor * new @ rotation + 7, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("widths", [(4, 3), (3, 5), (4, 4)])
def test_is_scipys_procrustes_of_principal_components(widths):
    student, teacher = make(*widths)
    sides = [PCA(min(widths)).fit(x) for x in (student, teacher)]
    left, right = sides[0].transform(student), sides[1].transform(teacher)
    rotation, scale = orthogonal_procrustes(left, right)
    expected = sides[1].inverse_transform(scale / (left**2).sum() * left @ rotation)
    np.testing.assert_allclose(fit(student, teacher).transform(student), expected, rtol=1e-5, atol=1e-5)


def test_refuses_a_student_that_does_not_vary(refuses):
    with refuses(errors.NoVariation):
        fit(np.full((80, 3), 0.1), make(3, 4)[1])
