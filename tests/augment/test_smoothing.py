import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from semiclip import errors
from semiclip.augment._smoothing import neighbors, smooth


def naive_graph(x, k, metric):
    distance = cdist(x, x, metric)
    np.fill_diagonal(distance, np.inf)
    graph = np.zeros(distance.shape)
    for i, row in enumerate(distance):
        for j in np.argsort(row)[:k]:
            graph[i, j] = graph[j, i] = 1
    return graph


def naive(x, k, metric):
    graph = naive_graph(x, k, metric) + np.eye(len(x))
    root = np.diag(graph.sum(axis=1) ** -0.5)
    return root @ graph @ root @ x


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 15), st.data())
def test_is_the_dense_formula(metric, seed, n, d, data):
    x = np.random.default_rng(seed).normal(size=(n, d)) * 3 + 1
    k = data.draw(st.integers(1, n - 1))
    np.testing.assert_array_equal(neighbors(x, n_neighbors=k, metric=metric).toarray(), naive_graph(x, k, metric))
    np.testing.assert_allclose(smooth(x, n_neighbors=k, metric=metric), naive(x, k, metric), atol=1e-12)


def test_a_constant_row_correlates_with_nothing_and_stays(refuses):
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    x[4] = 0.1
    out = smooth(x, n_neighbors=7, metric="correlation")
    np.testing.assert_array_equal(out[4], x[4])
    others = np.delete(np.arange(9), 4)
    np.testing.assert_allclose(out[others], naive(x[others].astype(float), 7, "correlation"), atol=1e-5)
    with refuses(errors.BadValue, name="n_neighbors", value=8):
        smooth(x, n_neighbors=8, metric="correlation")


def test_identical_samples_stay_and_nothing_is_written_to_the_input():
    x = np.tile(np.float32([1, 4, 2]), (6, 1))
    before = x.copy()
    for metric in ("correlation", "euclidean"):
        out = smooth(x, n_neighbors=5, metric=metric)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, x, rtol=1e-6)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("options", "error"),
    [*[({"n_neighbors": k}, errors.BadValue) for k in (0, 4, 10)], ({"metric": "cosine"}, errors.UnknownChoice)],
)
def test_refuses_options(options, error, refuses):
    with refuses(error, **({"value": options["n_neighbors"]} if "n_neighbors" in options else {"value": "cosine"})):
        smooth(np.eye(4), **{"n_neighbors": 1, **options})
