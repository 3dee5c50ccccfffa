"""How SCVIEncoder finds the batches that it was trained on."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scvi.model import SCVI

from semiclip import errors
from semiclip.encoders import SCVIEncoder

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


def make(plates):
    rng = np.random.default_rng(0)
    values = rng.poisson(rng.uniform(1, 9, 15), size=(50, 15)).astype(np.float32)
    obs = pd.DataFrame({"plate": np.asarray(plates)[np.arange(50) % 2]}, index=[f"cell{i}" for i in range(50)])
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(15)]))


def encoder():
    return SCVIEncoder(n_latent=4, batch_key="plate", max_epochs=1, rng=0, train_kwargs=QUIET)


def of_model(adata):
    own = adata.copy()
    SCVI.setup_anndata(own, batch_key="plate")
    model = SCVI(own, n_latent=4)
    model.train(1, **QUIET)
    return SCVIEncoder.from_model(model)


@pytest.mark.parametrize("fit", [lambda adata: encoder().fit(adata), of_model])
@pytest.mark.parametrize("dtype", [int, float])
def test_batches_that_are_whole_numbers_are_the_same_as_integers_and_floats(dtype, fit, refuses):
    adata = make(np.array([0, 1], dtype=dtype))
    codes = np.arange(50) % 2
    trained = fit(adata)
    expected = trained.denoise(adata, rng=0)
    for values in (codes, codes.astype(float), codes.astype(str), pd.Categorical(codes.astype(float))):
        adata.obs["plate"] = values
        np.testing.assert_array_equal(trained.denoise(adata, rng=0), expected)
    adata.obs["plate"] = 1 - codes
    assert np.abs(trained.denoise(adata, rng=0) - expected).max() > 1e-3
    adata.obs["plate"] = codes + 0.5
    with refuses(errors.UnknownChoice, name="obs['plate']", value=["0.5", "1.5"]):
        trained.denoise(adata)


def test_batches_that_differ_as_text_alone_stay_apart():
    adata = make(["1", "1.0"])
    trained = encoder().fit(adata)
    assert trained.batches_.tolist() == ["1", "1.0"]
    out = trained.denoise(adata, rng=0)
    adata.obs["plate"] = "1"
    apart = np.abs(trained.denoise(adata, rng=0) - out).max(axis=1)
    assert not apart[::2].any()
    assert (apart[1::2] > 1e-3).all()
