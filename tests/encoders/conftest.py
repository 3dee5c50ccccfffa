from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from semiclip.encoders import MLPEncoder, SCVIEncoder, build, network

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


@pytest.fixture(scope="session")
def make():
    """Make counts of samples on plates, which differ in their genes."""

    def make(seed=0, n=50, convert=np.asarray, dtype=np.float32, genes=15, plates="ab"):
        genes = [f"gene{i}" for i in range(genes)] if isinstance(genes, int) else list(genes)
        plate, rng = np.arange(n) % len(plates), np.random.default_rng(seed)
        effects = np.random.default_rng(1).uniform(0.2, 3, (len(plates), len(genes)))
        values = rng.poisson(rng.uniform(1, 9, len(genes)) * effects[plate]).astype(dtype)
        obs = pd.DataFrame({"plate": np.array(list(plates))[plate]}, index=[f"cell{i}" for i in range(n)])
        return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=genes))

    return make


@pytest.fixture(scope="session")
def new_scvi():
    """Make an encoder that trains in a moment, always alike."""

    def new(**options):
        usual = {"n_latent": 4, "batch_key": "plate", "max_epochs": 1, "rng": 0, "train_kwargs": QUIET}
        return SCVIEncoder(**(usual | options))

    return new


@pytest.fixture(scope="session")
def embed():
    """Embed data; of a perceptron, which has no weights, return the features."""

    def embed(encoder, adata):
        return encoder.features(adata) if isinstance(encoder, MLPEncoder) else encoder.encode(adata)

    return embed


@pytest.fixture(scope="session")
def through_network():
    """Embed data through the network that an encoder describes."""

    def through(encoder, adata):
        built = (build if "kind" in encoder.architecture else lambda x: network(**x))(encoder.architecture)
        built.load_state_dict(encoder.weights())
        with torch.no_grad():
            return built.eval()(torch.as_tensor(encoder.features(adata))).numpy()

    return through


@pytest.fixture(scope="session")
def log_normalised():
    """Scale rows of counts to a total and log them, in double precision; an empty row stays 0."""

    def log(values, total=1e4):
        values = (values.toarray() if sparse.issparse(values) else values).astype(float)
        totals = values.sum(axis=1, keepdims=True)
        return np.log1p(total * values / np.where(totals == 0, 1, totals))

    return log


@pytest.fixture
def write_scgpt():
    """Write a folder like those that scGPT publishes, with a small network."""

    def write(folder, weights, vocabulary, settings):
        folder.mkdir(exist_ok=True)
        (folder / "args.json").write_text(json.dumps(settings))
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        torch.save(weights, folder / "best_model.pt")
        return folder

    return write


@pytest.fixture
def tiny_scgpt(write_scgpt, tmp_path):
    """Write a small network of random weights that knows some genes."""

    def write(genes, seed=0):
        settings = {"embsize": 8, "nheads": 2, "d_hid": 12, "nlayers": 2, "pad_value": -2}
        sizes = {"n_output": 8, "n_heads": 2, "n_hidden": 12, "n_layers": 2}
        vocabulary = {name: row for row, name in enumerate([*genes, "<pad>", "<cls>", "<eoc>"])}
        torch.manual_seed(seed)
        weights = build({"kind": "scgpt", "n_input": len(vocabulary) - 1, **sizes}).state_dict()
        return write_scgpt(tmp_path / f"scgpt{seed}", weights, vocabulary, settings)

    return write
