"""How encoders read the expression of an AnnData, which all of them do alike."""

import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import errors
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

VALUES = np.arange(12.0).reshape(3, 4)
KINDS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array]


def make(values=VALUES, genes="abcd"):
    return anndata.AnnData(values, var=pd.DataFrame(index=list(genes)))


def reader(genes="abcd", layer=None):
    """An encoder whose features are the values of these genes."""
    encoder = MLPEncoder(normalize=False).fit(make(np.ones((2, len(genes))), genes))
    encoder.layer = layer
    return encoder


def test_the_encoders_keep_to_the_protocol():
    for encoder in (PCAEncoder(), SCVIEncoder(), MLPEncoder(), ScGPTEncoder("scGPT_human")):
        assert isinstance(encoder, Encoder)
    assert not isinstance(object(), Encoder)
    assert isinstance(MLPEncoder().fit(make()), Trainable)
    assert not isinstance(object(), Trainable)
    assert ENCODERS == {"pca": PCAEncoder, "scvi": SCVIEncoder, "scgpt": ScGPTEncoder}


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
@pytest.mark.parametrize("convert", KINDS)
def test_genes_come_in_the_order_of_the_encoder_as_a_new_float32_array(convert, dtype):
    adata = make(convert(VALUES.astype(dtype)))
    for genes, places in (("abcd", [0, 1, 2, 3]), ("dbca", [3, 1, 2, 0]), ("db", [3, 1])):
        for data, rows in ((adata, [0, 1, 2]), (adata[[2, 0]], [2, 0])):
            out = reader(genes).features(data)
            np.testing.assert_array_equal(out, VALUES[rows][:, places])
            assert type(out) is np.ndarray and out.dtype == np.float32
            out += 1
    np.testing.assert_array_equal(reader().features(adata), VALUES)


@pytest.mark.parametrize("convert", KINDS)
def test_rows_of_wrong_values_are_named(convert, refuses):
    values = VALUES.copy()
    values[0, 3] = values[2, 1] = values[2, 2] = np.nan
    with refuses(errors.NotFinite, rows=["0", "2"]):
        reader().features(make(convert(values)))


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
        assert _protocol.rows_where(converted, lambda x: x < 0).tolist() == expected
        assert _protocol.anywhere(converted, lambda x: x < 0) == bool(expected)
    for shape in ((0, 3), (3, 0)):
        assert _protocol.rows_where(convert(np.zeros(shape)), lambda x: x < 0).tolist() == []


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_rows_are_found_with_little_memory_and_one_value_is_enough_to_know_that_there_is_any(convert):
    values, blocks = np.full((4000, 500), 2, np.float32), []
    values[0, 0] = 0.5
    values = convert(values)

    def is_wrong(x):
        blocks.append(x.size)
        return x != np.round(x)

    tracemalloc.start()
    try:
        assert _protocol.rows_where(values, is_wrong).tolist() == [0]
        assert tracemalloc.get_traced_memory()[1] < 5e6, "a block of 1 MB, rather than 8 MB"
    finally:
        tracemalloc.stop()
    assert sum(blocks) == 4000 * 500
    n = len(blocks)
    assert _protocol.anywhere(values, is_wrong)
    assert len(blocks) == n + 1 < 2 * n


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_refuses(refuses):
    adata, encoder = make(), reader()
    with refuses(errors.MissingEntry, key="counts", there=[], name="layer"):
        reader(layer="counts").features(adata)
    adata.layers["raw"] = VALUES
    with refuses(errors.MissingEntry, key="counts", there=["raw"], where="layers"):
        reader(layer="counts").features(adata)
    with refuses(errors.Empty):
        encoder.features(anndata.AnnData(obs=adata.obs, var=adata.var))
    with refuses(errors.TooFew, number=1, needed=6):
        reader("qprstua").features(adata)
    adata.var_names = list("abba")
    with refuses(errors.Repeated, items=["b", "a"]):
        encoder.features(adata)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_values_in_a_file(convert, refuses, tmp_path):
    make(convert(VALUES)).write_h5ad(tmp_path / "stored.h5ad")
    backed = anndata.read_h5ad(tmp_path / "stored.h5ad", backed="r")
    with refuses(errors.NotInMemory, where="X"):
        reader().features(backed)
    np.testing.assert_array_equal(reader().features(backed.to_memory()), VALUES)
    backed.file.close()


def test_lazy_values(refuses):
    array = pytest.importorskip("dask.array")
    adata, encoder = make(), reader(layer="lazy")
    adata.layers["lazy"] = array.from_array(VALUES)
    with refuses(errors.NotInMemory, where="layers['lazy']"):
        encoder.features(adata)
    np.testing.assert_array_equal(encoder.features(adata.to_memory()), VALUES)
