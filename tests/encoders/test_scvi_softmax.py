"""A latent space that is a softmax of a normal one, of which the mean is estimated from draws."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scvi.model import SCVI

from semiclip.encoders import SCVIEncoder

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
DRAWS = 5000


@pytest.fixture(scope="module")
def adata():
    values = np.random.default_rng(0).poisson(4, (300, 15)).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(300)])
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(15)]))


@pytest.fixture(scope="module")
def model(adata):
    own = adata.copy()
    SCVI.setup_anndata(own)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCVI(own, n_latent=4, latent_distribution="ln")
        model.train(2, **QUIET)
    return model


@pytest.fixture(scope="module")
def encoder(model):
    return SCVIEncoder.from_model(model)


def test_the_embedding_of_a_sample_does_not_depend_on_the_others(encoder, adata):
    out = encoder.encode(adata)
    torch.rand(7)
    for rows in (np.arange(100, 110), np.array([299, 3]), np.array([128]), np.random.default_rng(0).permutation(300)):
        np.testing.assert_allclose(encoder.encode(adata[rows].copy()), out[rows], rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode(adata), out)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)


def test_it_is_the_mean_of_the_softmax_within_the_error_of_its_draws(encoder, model, adata):
    mean, variance = model.get_latent_representation(return_dist=True)
    drawn = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(DRAWS, *mean.shape))
    soft = np.exp(drawn - drawn.max(axis=2, keepdims=True))
    soft /= soft.sum(axis=2, keepdims=True)
    out, error = encoder.encode(adata), soft.std(axis=0) * np.sqrt(2 / DRAWS)  # of a difference of two estimates
    with torch.random.fork_rng():
        torch.manual_seed(1)
        of_scvi_tools = model.get_latent_representation()
    for other in (soft.mean(axis=0), of_scvi_tools):
        z = (out - other) / error
        assert np.abs(z).max() < 5.5
        # the same draws for all samples leave errors that samples share, and so a mean of squares far from a sharp 1
        assert 0.1 < (z**2).mean() < 4
    assert np.abs(out - np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)).max() > 5 * error.max()
