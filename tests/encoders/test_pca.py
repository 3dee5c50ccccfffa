import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from semiclip import errors
from semiclip.encoders import PCAEncoder, Trainable, network


def make(seed=0, n=60, convert=np.asarray, dtype=np.float32):
    """Counts of unequal depth with an empty sample."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(size=(n, 3)) @ np.random.default_rng(9).normal(size=(3, 20)))
    values = rng.poisson(rng.uniform(0.5, 4, (n, 1)) * rate).astype(dtype)
    values[4] = 0
    index = [f"cell{i}" for i in range(n)]
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(20)])
    return anndata.AnnData(convert(values), obs=pd.DataFrame(index=index), var=genes)


def log_normalised(values):
    totals = values.astype(float).sum(axis=1, keepdims=True)
    return np.log1p(1e4 * values / np.where(totals == 0, 1, totals))


def test_is_scikit_learns_pca_of_log_normalised_counts():
    train, new = make(), make(1)
    encoder = PCAEncoder(n_components=5)
    assert encoder.fit(train) is encoder
    expected = PCA(5).fit(log_normalised(train.X))
    for adata in (train, new):
        out = encoder.encode(adata)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, expected.transform(log_normalised(adata.X)), rtol=1e-3, atol=1e-3)


def test_values_that_are_normalised_already():
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(rng.normal(size=(30, 8)))
    before = adata.X.copy()
    out = PCAEncoder(n_components=4, normalize=False).fit(adata).encode(adata)
    np.testing.assert_allclose(out, PCA(4).fit_transform(adata.X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(adata.X, before)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_dense_and_sparse_counts_of_any_type_agree(convert, normalize):
    kinds = (make(dtype=np.float64), make(convert=convert, dtype=np.float64), make(dtype=np.uint16))
    out = [PCAEncoder(n_components=5, normalize=normalize).fit(adata).encode(adata) for adata in kinds]
    np.testing.assert_allclose(out[0], out[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out[0], out[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_the_same_seed_gives_the_same_components(convert):
    adata = make(convert=convert)
    first, second, drawn, unseeded = (
        PCAEncoder(n_components=3, rng=rng).fit(adata).encode(adata) for rng in (4, 4, np.random.default_rng(4), None)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(drawn, first)
    np.testing.assert_allclose(unseeded, first, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("convert", "n_components", "most"),
    [(np.asarray, 0, 20), (np.asarray, 21, 20), (sparse.csr_matrix, 20, 19), (sparse.csr_matrix, 0, 19)],
)
def test_refuses_a_number_of_components(convert, n_components, most, refuses):
    failing = PCAEncoder(n_components=n_components)
    with refuses(errors.BadValue, name="n_components", value=n_components):
        failing.fit(make(convert=convert))
    with refuses(errors.NotFitted):
        failing.encode(make())
    assert PCAEncoder(n_components=most).fit(make(convert=convert)).encode(make()).shape == (60, most)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize(
    ("bad", "error"), [(-1, errors.NotCounts), (np.nan, errors.NotFinite), (np.inf, errors.NotFinite)]
)
def test_refuses_values_and_names_their_rows(convert, bad, error, refuses):
    values = make().X
    values[[2, 9], [1, 3]] = bad
    adata = make()
    encoder = PCAEncoder(n_components=5).fit(adata)
    adata.X = convert(values)
    for call in (PCAEncoder(n_components=5).fit, encoder.encode):
        with refuses(error, rows=["cell2", "cell9"]):
            call(adata)


def through_network(encoder, adata):
    built = network(**encoder.architecture)
    built.load_state_dict(encoder.weights())
    with torch.no_grad():
        return built.eval()(torch.as_tensor(encoder.features(adata))).numpy()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_its_network_gives_the_same_embedding(convert, normalize):
    encoder = PCAEncoder(n_components=5, normalize=normalize).fit(make(convert=convert))
    expected = {"n_input": 20, "n_hidden": [], "n_output": 5, "batch_norm": False, "dropout": 0.0}
    assert encoder.architecture == expected
    assert isinstance(encoder, Trainable)
    new = make(1, convert=convert)
    for adata in (new, new[:, np.random.default_rng(0).permutation(20)].copy()):
        out = encoder.encode(adata)
        np.testing.assert_allclose(through_network(encoder, adata), out, rtol=1e-4, atol=1e-4 * np.abs(out).max())
