import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip.metrics import average_precision, consistency, energy_distance, knn_accuracy, relationship_recall
from semiclip.metrics._matrices import coded, vectors

CODES = np.array([0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_an_array_is_taken_as_it_is(dtype):
    x = np.ones((3, 2), dtype=dtype)
    assert vectors(x) is x
    np.testing.assert_array_equal(vectors(pd.DataFrame(x)), x)
    np.testing.assert_array_equal(vectors(x.astype(object)), x)
    np.testing.assert_array_equal(vectors(x.tolist()), x)


MEASURES = {
    "average_precision": lambda x: average_precision(x, CODES),
    "consistency": lambda x: consistency(x, CODES, 2),
    "energy_distance": lambda x: energy_distance(x, np.ones((3, 2))),
    "knn_accuracy": lambda x: knn_accuracy(x, CODES, n_neighbors=1),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_measures_refuse_what_is_no_array_of_numbers(measure):
    for matrix in (sparse.csr_matrix(np.ones((4, 2))), sparse.csc_array(np.ones((4, 2)))):
        with pytest.raises(TypeError, match=r"x is sparse, but an embedding is dense; pass x.toarray\(\)"):
            measure(matrix)
    with pytest.raises(TypeError, match="x is list, not an array of real numbers; pass one with a row for each"):
        measure([["a", "b"]] * 4)
    with pytest.raises(TypeError, match="x is list, not an array of real numbers"):
        measure([[1.0, 2.0], [1.0]])
    with pytest.raises(TypeError, match="x is ndarray, not an array of real numbers"):
        measure(np.ones((4, 2), dtype=complex))


def test_recall_refuses_what_is_no_array_of_numbers():
    known = pd.DataFrame({"gene_a": ["G0"], "gene_b": ["G1"]})
    genes = [f"G{i}" for i in range(30)]
    with pytest.raises(TypeError, match=r"embedding is sparse, but an embedding is dense; pass embedding.toarray\(\)"):
        relationship_recall(sparse.csr_matrix(np.ones((30, 2))), genes, known)
    with pytest.raises(TypeError, match="embedding is AnnData, not an array of real numbers"):
        relationship_recall(anndata.AnnData(np.ones((30, 2))), genes, known)


@pytest.mark.parametrize("relationships", ["CORUM", [("G0", "G1")], {"gene_a": ["G0"], "gene_b": ["G1"]}])
def test_recall_refuses_relationships_that_are_no_table(relationships):
    kind = type(relationships).__name__
    with pytest.raises(
        TypeError, match=f"relationships is a {kind}, not a DataFrame; it needs the columns gene_a, gene_b"
    ):
        relationship_recall(np.random.default_rng(0).normal(size=(30, 2)), [f"G{i}" for i in range(30)], relationships)


def test_labels_are_coded_in_order():
    codes, names = coded(["b", "a", "b"], 3, "batch")
    assert (codes.tolist(), names.tolist()) == ([1, 0, 1], ["a", "b"])
    with pytest.raises(ValueError, match=r"batch has no label in 2 row\(s\); fill or drop them"):
        coded(["b", np.nan, None], 3, "batch")
