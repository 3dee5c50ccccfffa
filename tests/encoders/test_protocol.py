import re
import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip.encoders import (
    ENCODERS,
    Encoder,
    MLPEncoder,
    PCAEncoder,
    ScGPTEncoder,
    SCVIEncoder,
    Trainable,
    _protocol,
)
from semiclip.encoders._protocol import align, anywhere, counts, rows_where

VALUES = np.arange(12.0).reshape(3, 4)


def make(values=VALUES, genes="abcd"):
    return anndata.AnnData(values, var=pd.DataFrame(index=list(genes)))


def dense(values):
    return values.toarray() if sparse.issparse(values) else np.asarray(values)


def test_the_encoders_keep_to_the_protocol():
    assert isinstance(PCAEncoder(), Encoder)
    assert isinstance(SCVIEncoder(), Encoder)
    assert isinstance(MLPEncoder(), Encoder)
    assert isinstance(ScGPTEncoder("scGPT_human"), Encoder)
    assert not isinstance(object(), Encoder)
    assert isinstance(MLPEncoder().fit(make()), Trainable)
    assert not isinstance(object(), Trainable)
    assert ENCODERS == {"pca": PCAEncoder, "scvi": SCVIEncoder, "scgpt": ScGPTEncoder}


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_genes_come_in_the_order_asked_for(convert):
    adata = make(convert(VALUES))
    np.testing.assert_array_equal(dense(align(adata, None, pd.Index(list("abcd")))), VALUES)
    np.testing.assert_array_equal(dense(align(adata, None, pd.Index(list("dbca")))), VALUES[:, [3, 1, 2, 0]])
    np.testing.assert_array_equal(dense(align(adata, None, pd.Index(list("db")))), VALUES[:, [3, 1]])
    np.testing.assert_array_equal(dense(align(adata[[2, 0]], None, pd.Index(list("db")))), VALUES[[2, 0]][:, [3, 1]])


def test_takes_a_layer():
    adata = make()
    adata.layers["counts"] = 2 * VALUES
    np.testing.assert_array_equal(counts(adata, "counts"), 2 * VALUES)
    np.testing.assert_array_equal(align(adata, "counts", pd.Index(["c"])), 2 * VALUES[:, [2]])


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_rows_where(convert):
    values = VALUES.copy()
    values[0, 3] = values[2, 1] = values[2, 2] = -1
    assert rows_where(convert(values), lambda x: x < 0).tolist() == [0, 2]
    assert rows_where(convert(values), lambda x: x > 99).tolist() == []
    values[1, 0] = np.nan
    assert rows_where(convert(values), np.isnan).tolist() == [1]


def unpruned(values):
    """Make a csr matrix with room for more values than it has."""
    thin = sparse.csr_matrix(values)
    thin.data = np.append(thin.data, [-9, -9])
    thin.indices = np.append(thin.indices, [0, 0]).astype(thin.indices.dtype)
    return thin


@pytest.mark.parametrize("block", [1, 3, 10, 1000])
@pytest.mark.parametrize("convert", [np.asarray, np.asfortranarray, sparse.csr_array, sparse.csc_array, unpruned])
def test_rows_of_large_matrices_are_found_in_blocks(convert, block, monkeypatch):
    monkeypatch.setattr(_protocol, "BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    for _ in range(30):
        values = rng.poisson(0.5, rng.integers(1, 12, 2)) * rng.choice([1, 1, 1, -1], (1, 1))
        values[rng.random(values.shape) < 0.02] = -1
        converted = convert(values)
        expected = [i for i, row in enumerate(values) if any(value < 0 for value in row)]
        assert rows_where(converted, lambda x: x < 0).tolist() == expected
        assert anywhere(converted, lambda x: x < 0) == bool(expected)
    for shape in ((0, 3), (3, 0)):
        assert rows_where(convert(np.zeros(shape)), lambda x: x < 0).tolist() == []


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_rows_are_found_with_little_memory_and_one_value_is_enough_to_know_that_there_is_any(convert):
    values, blocks = np.full((4000, 500), 2, np.float32), []
    values[0, 0] = 0.5
    values = convert(values)

    def wrong(x):
        blocks.append(x.size)
        return x != np.round(x)

    tracemalloc.start()
    try:
        assert rows_where(values, wrong).tolist() == [0]
        assert tracemalloc.get_traced_memory()[1] < 5e6, "a block of 1 MB, rather than 8 MB"
    finally:
        tracemalloc.stop()
    assert sum(blocks) == 4000 * 500
    n = len(blocks)
    assert anywhere(values, wrong)
    assert len(blocks) == n + 1 < 2 * n


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_dense(convert, dtype):
    values = convert(VALUES.astype(dtype))
    out = _protocol.dense(values, copy=True)
    assert type(out) is np.ndarray
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, VALUES)
    out += 1
    np.testing.assert_array_equal(dense(values), VALUES)


def test_dense_copies_only_when_it_must():
    values = VALUES.astype(np.float32)
    assert _protocol.dense(values) is values
    assert np.isinf(_protocol.dense(np.array([[1e300]]))).all()


def refuses(error, message, function, *arguments):
    with pytest.raises(error, match=re.escape(message)):
        function(*arguments)


def test_missing_genes_are_named():
    message = (
        "only 1 of the 7 genes that the encoder was fitted on (14.3%) are in var_names, below min_overlap=0.8; "
        "missing are q, p, r, s, t, … (6 in all)"
    )
    refuses(ValueError, message, align, make(), None, pd.Index(list("qprstua")))


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_repeated_genes_are_named():
    adata = make()
    adata.var_names = list("abba")
    message = "var_names repeat: b, a; call adata.var_names_make_unique() first"
    refuses(ValueError, message, counts, adata, None)
    refuses(ValueError, message, align, adata, None, pd.Index(["a"]))


def test_missing_values_and_layers():
    adata = make()
    refuses(KeyError, "layer='counts' is not in layers, which has nothing", counts, adata, "counts")
    adata.layers["raw"] = VALUES
    refuses(KeyError, "layer='counts' is not in layers, which has raw", counts, adata, "counts")
    bare = anndata.AnnData(obs=adata.obs, var=adata.var)
    refuses(ValueError, "adata has no X to encode; name the layer that holds the counts", counts, bare, None)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_values_in_a_file(convert, tmp_path):
    make(convert(VALUES)).write_h5ad(tmp_path / "stored.h5ad")
    backed = anndata.read_h5ad(tmp_path / "stored.h5ad", backed="r")
    refuses(TypeError, "X is not in memory; load it with adata = adata.to_memory()", counts, backed, None)
    np.testing.assert_array_equal(dense(counts(backed.to_memory(), None)), VALUES)
    backed.file.close()


def test_lazy_values():
    array = pytest.importorskip("dask.array")
    adata = make()
    adata.layers["lazy"] = array.from_array(VALUES)
    message = "layers['lazy'] is not in memory; load it with adata = adata.to_memory()"
    refuses(TypeError, message, counts, adata, "lazy")
    np.testing.assert_array_equal(counts(adata.to_memory(), "lazy"), VALUES)
