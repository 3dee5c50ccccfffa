import numpy as np
import pandas as pd
import pytest

from semiclip.tl._sets import read_sets


@pytest.fixture
def sets():
    table = pd.DataFrame({"gene_a": ["B", "A", "D"], "gene_b": ["A", "C", "C"], "databases": ["CORUM", "x", "y;z"]})
    return table.assign(X_pca=[True, False, True], X_image=[False, False, True])


def test_reads_pairs_whatever_their_order_and_representations_in_the_order_asked(sets):
    read = read_sets(sets, ["X_image", "X_pca", "X_image"])
    assert read.names == ["X_image", "X_pca"]
    assert list(read.genes) == ["A", "B", "C", "D"]
    np.testing.assert_array_equal(read.first, [0, 0, 2])
    np.testing.assert_array_equal(read.second, [1, 2, 3])
    np.testing.assert_array_equal(read.recalled, [[False, True], [False, False], [True, True]])
    assert read_sets(sets).names == ["X_pca", "X_image"]
    assert read_sets(sets, "X_pca").names == ["X_pca"]


@pytest.mark.parametrize("kind", ["boolean", object])
def test_any_kind_of_boolean_column_does(sets, kind):
    other = sets.astype({"X_pca": kind, "X_image": kind})
    np.testing.assert_array_equal(read_sets(other).recalled, read_sets(sets).recalled)


def test_a_table_without_rows_is_read(sets):
    for empty in (sets[:0], sets[:0].astype({"X_pca": object})):
        read = read_sets(empty)
        assert read.recalled.shape == (0, 2)
        assert not read.region("X_pca", ()).size


def test_what_a_merge_of_two_tables_gives_is_read(sets):
    merged = sets.drop(columns="X_image").merge(sets.drop(columns="X_pca"))
    np.testing.assert_array_equal(read_sets(merged).recalled, read_sets(sets).recalled)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop(columns="gene_b"), KeyError, "sets has no column gene_b, only gene_a, databases, X_pca"),
        (lambda t: t[["gene_a", "gene_b", "databases"]], ValueError, "no representation among the columns gene_a"),
        (lambda t: t.assign(cosine=0.5), ValueError, r"column\(s\) cosine are not true or false"),
        (lambda t: t.assign(X_pca=[0, 1, 1]), ValueError, r"column\(s\) X_pca are not true or false"),
        (lambda t: t.assign(X_pca=[None, True, True]), ValueError, r"missing values in 1 row\(s\): 0; keep the pairs"),
        (lambda t: t.assign(gene_b=["A", np.nan, "C"]), ValueError, r"missing values in 1 row\(s\): 1"),
        (lambda t: t.assign(gene_a="A", gene_b=["B", "C", "B"]), ValueError, "sets repeats pairs: A–B; each pair"),
        (lambda t: t.assign(gene_a=["A", "B", "C"], gene_b=["B", "A", "D"]), ValueError, "sets repeats pairs: B–A"),
    ],
)
def test_refuses_a_table_that_is_something_else(sets, change, error, message):
    with pytest.raises(error, match=message):
        read_sets(change(sets))


@pytest.mark.parametrize("wrong", ["X_none", "gene_a", "databases"])
def test_refuses_representations_that_are_not_there(sets, wrong):
    with pytest.raises(KeyError, match=f"sets has no representation {wrong}, only X_pca, X_image"):
        read_sets(sets, ["X_pca", wrong])
    for arguments in ((wrong, ()), ("X_pca", wrong)):
        with pytest.raises(KeyError, match=f"sets has no representation {wrong}, only X_pca, X_image"):
            read_sets(sets).region(*arguments)
