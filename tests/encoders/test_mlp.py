import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder, Trainable, network


def make(seed=0, convert=np.asarray, dtype=np.float32):
    values = np.random.default_rng(seed).poisson(2.0, (30, 12)).astype(dtype)
    values[4] = 0
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(30)])
    return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(12)]))


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_features_are_log_normalised_counts(convert, dtype):
    adata = make(convert=convert, dtype=dtype)
    out = MLPEncoder().fit(make(1)).features(adata)
    values = make().X.astype(float)
    totals = values.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out, np.log1p(1e4 * values / np.where(totals == 0, 1, totals)), rtol=1e-5)
    assert type(out) is np.ndarray
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, PCAEncoder(n_components=3).fit(make(1)).features(adata))


def test_values_that_are_normalised_already_are_copied():
    adata = make()
    adata.X -= 3
    adata.layers["z"], adata.X = adata.X, None
    out = MLPEncoder(normalize=False, layer="z").fit(adata).features(adata)
    np.testing.assert_array_equal(out, adata.layers["z"])
    out += 1
    np.testing.assert_array_equal(out, adata.layers["z"] + 1)


def test_describes_its_network_and_has_no_weights():
    encoder = MLPEncoder(n_hidden=(32, 16), n_latent=5, batch_norm=False, dropout=0.2).fit(make())
    expected = {"n_input": 12, "n_hidden": [32, 16], "n_output": 5, "batch_norm": False, "dropout": 0.2}
    assert encoder.architecture == expected
    assert encoder.weights() is None
    assert isinstance(encoder, Trainable)
    embedding = network(**encoder.architecture)(torch.as_tensor(encoder.features(make())))
    assert embedding.shape == (30, 5)
    usual = {"n_input": 12, "n_hidden": [128], "n_output": 64, "batch_norm": True, "dropout": 0.1}
    assert MLPEncoder().fit(make()).architecture == usual


def test_cannot_embed(refuses):
    for encoder in (MLPEncoder(), MLPEncoder().fit(make())):
        with refuses(errors.NotFitted):
            encoder.encode(make())


@pytest.mark.parametrize(
    ("options", "value", "error", "data"),
    [
        ({}, -1, errors.NotCounts, {"rows": ["cell2"]}),
        ({"normalize": False}, np.nan, errors.NotFinite, {"rows": ["cell2"]}),
        ({"layer": "counts"}, 1, errors.MissingEntry, {"key": "counts", "name": "layer"}),
        ({"n_hidden": 128}, 1, errors.WrongType, {"name": "n_hidden"}),
        ({"n_hidden": [0]}, 1, errors.BadValue, {"name": "n_hidden", "value": 0}),
        ({"n_latent": 0}, 1, errors.BadValue, {"value": 0}),
        ({"dropout": 1}, 1, errors.BadValue, {"name": "dropout", "value": 1}),
    ],
)
def test_refuses_at_once_and_stays_unfitted(options, value, error, data, refuses):
    adata = make()
    adata.X[2, 3] = value
    encoder = MLPEncoder(**options)
    with refuses(error, **data):
        encoder.fit(adata)
    with refuses(errors.NotFitted):
        encoder.features(make())
