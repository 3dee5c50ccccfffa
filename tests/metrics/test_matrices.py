"""What all measures of an embedding take and refuse."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import errors
from semiclip.metrics import average_precision, consistency, energy_distance, group_mean, knn_accuracy

CODES = np.array([0, 0, 1, 1])
X = np.random.default_rng(0).normal(size=(4, 2))
MEASURES = {
    "average_precision": lambda x: average_precision(x, CODES)[0],
    "consistency": lambda x: consistency(x, CODES, 2),
    "energy_distance": lambda x: energy_distance(x, np.ones((3, 2))),
    "knn_accuracy": lambda x: knn_accuracy(x, CODES, n_neighbors=1, n_permutations=0)["value"],
}
EACH = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@EACH
def test_measures_take_lists_frames_and_any_real_numbers_and_change_nothing(measure):
    before = X.copy()
    for x in (X.tolist(), pd.DataFrame(X), X.astype(object), np.asfortranarray(X)):
        np.testing.assert_array_equal(measure(x), measure(X))
    for dtype in (np.float16, np.float32, np.int8):
        x = (9 * X).astype(dtype)
        np.testing.assert_allclose(measure(x), measure(x.astype(float)), rtol=1e-3)
    np.testing.assert_array_equal(X, before)


@EACH
@pytest.mark.parametrize(
    ("x", "error", "data"),
    [
        (sparse.csr_matrix(X), errors.WrongType, {"name": "x", "got": sparse.csr_matrix}),
        ([["a", "b"]] * 4, errors.WrongDtype, {"where": "x"}),
        ([[1.0, 2.0], [1.0]], errors.WrongType, {"got": list}),
        (anndata.AnnData(X), errors.WrongType, {"got": anndata.AnnData}),
        (X.astype(complex), errors.WrongDtype, {"dtype": np.complex128}),
        (X[:, 0], errors.WrongShape, {"where": "x", "shape": (4,)}),
        (np.where(X == X[1], np.nan, X), errors.NotFinite, {"where": "x", "rows": [1]}),
        (np.full((4, 2), np.inf), errors.NotFinite, {"rows": [0, 1, 2, 3]}),
    ],
)
def test_measures_refuse_what_is_no_embedding(refuses, measure, x, error, data):
    with refuses(error, **data):
        measure(x)


@pytest.mark.parametrize("measure", [group_mean, consistency])
@pytest.mark.parametrize(
    ("codes", "error", "data"),
    [
        ([0, 1], errors.WrongShape, {"where": "codes", "shape": (2,)}),
        ([0, 1, 2, 0], errors.BadValue, {"name": "codes", "value": (0, 2)}),
        ([0, -1, 1, 0], errors.BadValue, {"name": "codes", "value": (-1, 1)}),
    ],
)
def test_groups_are_refused(refuses, measure, codes, error, data):
    with refuses(error, **data):
        measure(X, np.array(codes), 2)


def test_only_a_mean_needs_a_row_in_every_group(refuses):
    assert np.isnan(consistency(X, CODES, 3)[2])
    with refuses(errors.Empty, what="rows in 2 of 4 groups (1, 3)"):
        group_mean(X, np.array([0, 2, 0, 0]), 4)


@pytest.mark.parametrize(
    ("where", "measure"),
    [
        ("batch", lambda labels: average_precision(X, CODES, labels)),
        ("labels", lambda labels: knn_accuracy(X, labels, n_neighbors=1)),
        ("batch", lambda labels: knn_accuracy(X, CODES, labels, n_neighbors=1)),
    ],
)
def test_labels_are_refused(refuses, where, measure):
    with refuses(errors.WrongShape, where=where, shape=(3,)):
        measure(np.zeros(3, dtype=int))
    for labels in (np.array([0.0, np.nan, 1.0, 1.0]), ["a", None, "b", "b"], ["a", np.nan, "b", "b"]):
        with refuses(errors.MissingValues, where=where, rows=[1]):
            measure(labels)
