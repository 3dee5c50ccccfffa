import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiclip import errors
from semiclip.baselines import Neighbours


def make(seed, n=40, n_keys=8, n_student=3, n_teacher=2):
    """Rows of unequal keys, which have codes of any kind."""
    rng = np.random.default_rng(seed)
    key = np.r_[np.arange(n_keys), rng.integers(n_keys, size=n - n_keys)] * 2 - 3
    teacher = dict(zip(np.unique(key), rng.normal(size=(n_keys, n_teacher)), strict=True))
    return rng.normal(size=(n, n_student)), np.array([teacher[code] for code in key]), key


def fit(student, teacher, key, **options):
    return Neighbours(**options).fit(student, teacher, key, rng=np.random.default_rng(0))


def naive(student, teacher, key, rows, *, n_neighbors, weights):
    out, names = [], sorted(set(key))
    means = [student[key == name].mean(axis=0) for name in names]
    for row in rows:
        distance = [1 - row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for mean in means]
        nearest = np.argsort(distance)[:n_neighbors]
        weight = [1 if weights == "uniform" else 1 / distance[i] for i in nearest]
        out.append(np.average([teacher[key == names[i]][0] for i in nearest], axis=0, weights=weight))
    return np.array(out)


@settings(deadline=None)  # the first search of a process loads scikit-learn
@given(seed=st.integers(0, 10_000), n_neighbors=st.integers(1, 8), weights=st.sampled_from(["uniform", "distance"]))
def test_equals_a_search_row_by_row(seed, n_neighbors, weights):
    data, options = make(seed), {"n_neighbors": n_neighbors, "weights": weights}
    rows = np.random.default_rng(seed + 1).normal(size=(6, 3))
    out = fit(*data, **options).transform(rows)
    np.testing.assert_allclose(out, naive(*data, rows, **options), rtol=1e-4, atol=1e-5)


def test_a_key_itself_outweighs_its_neighbours():
    student, teacher = np.eye(3), np.array([[1.0], [2.0], [3.0]])
    nearest = fit(student, teacher, np.arange(3), n_neighbors=3, weights="distance")
    np.testing.assert_allclose(nearest.transform(student), teacher)


def test_all_keys_count_alike_however_many_rows_they_have():
    student, teacher = np.random.default_rng(0).normal(size=(4, 3)), np.array([[1.0], [1.0], [1.0], [5.0]])
    out = fit(student, teacher, np.array([0, 0, 0, 1]), n_neighbors=2).transform(student)
    np.testing.assert_allclose(out, 3.0)


def test_a_row_of_zeros_stays_finite():
    assert np.isfinite(fit(*make(0), n_neighbors=3, weights="distance").transform(np.zeros((2, 3)))).all()


@pytest.mark.parametrize(
    ("options", "error", "data"),
    [
        ({}, errors.TooMany, {"number": 10, "limit": 8}),
        *[({"n_neighbors": n}, errors.BadValue, {"name": "n_neighbors", "value": n}) for n in (0, -2, 1.5)],
        ({"weights": "cosine"}, errors.UnknownChoice, {"choices": ["uniform", "distance"]}),
    ],
)
def test_refuses_options(options, error, data, refuses):
    with refuses(error, **data):
        fit(*make(0), **options)
