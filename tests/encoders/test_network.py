"""The perceptron: its network, and the encoder that a model trains from scratch."""

import json

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder, build, network


def reference(x, state, n_hidden, *, batch_norm):
    """The network in evaluation mode, in NumPy."""
    w = {name: value.double().numpy() for name, value in state.items()}
    for i in range(0, 4 * n_hidden, 4):
        x = x @ w[f"{i}.weight"].T + w[f"{i}.bias"]
        if batch_norm:
            j = i + 1
            x = (x - w[f"{j}.running_mean"]) / np.sqrt(w[f"{j}.running_var"] + 1e-3) * w[f"{j}.weight"] + w[f"{j}.bias"]
        x = np.maximum(x, 0)
    return x @ w[f"{4 * n_hidden}.weight"].T + w[f"{4 * n_hidden}.bias"]


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("n_hidden", [[], [6], [6, 4, 9]])
def test_is_the_perceptron_of_scvi(n_hidden, batch_norm):
    torch.manual_seed(0)
    built = network(5, n_hidden, 3, batch_norm=batch_norm)
    x = torch.randn(40, 5)
    for module in built:
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias)
    for _ in range(3):
        built(x)  # moves the running moments
    expected = reference(x.double().numpy(), built.state_dict(), len(n_hidden), batch_norm=batch_norm)
    np.testing.assert_allclose(built.eval()(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_running_moments_move_by_a_hundredth():
    built = network(5, [6], 3)
    x = torch.randn(40, 5)
    with torch.no_grad():
        mean = built[0](x).mean(0)
    built(x)
    torch.testing.assert_close(built[1].running_mean, 0.01 * mean)


def test_hidden_values_are_dropped_in_training_only():
    torch.manual_seed(0)
    built = network(5, [2000], 3, batch_norm=False, dropout=0.25)
    x = torch.randn(1, 5)
    hidden = built[:3](x)
    kept = built[:4](x)[hidden > 0] > 0
    assert abs(float(kept.float().mean()) - 0.75) < 0.04
    assert torch.equal(built.eval()[:4](x), hidden)


def test_weights_fit_whatever_the_dropout_and_normalisation():
    names = set(network(5, [6, 4], 3, batch_norm=False).state_dict())
    for options in ({"dropout": 0}, {"batch_norm": True}):
        assert names <= set(network(5, [6, 4], 3, **options).state_dict())


def test_an_architecture_is_plain_and_builds_the_same_network_after_json(make):
    options = {"batch_norm": np.bool_(True), "dropout": np.float32(0.25)}
    encoder = MLPEncoder(n_hidden=(np.int32(6), 4), n_latent=np.int64(3), **options).fit(make(genes=5))
    architecture = encoder.architecture
    assert architecture == {"n_input": 5, "n_hidden": [6, 4], "n_output": 3, "batch_norm": True, "dropout": 0.25}
    again = json.loads(json.dumps(architecture))
    assert again == architecture
    states = []
    for builder in (lambda: network(**architecture), lambda: build(again), lambda: build({"kind": "mlp", **again})):
        torch.manual_seed(7)  # the seed decides the weights
        states.append(builder().state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    torch.testing.assert_close(states[0], states[2], rtol=0, atol=0)
    assert again == architecture
    usual = {"n_input": 5, "n_hidden": [128], "n_output": 64, "batch_norm": True, "dropout": 0.1}
    assert MLPEncoder().fit(make(genes=5)).architecture == usual


@pytest.mark.parametrize(
    ("architecture", "error", "data"),
    [
        ([5, [6], 3], errors.WrongType, {"got": list}),
        ({"kind": "gpt"}, errors.UnknownChoice, {"name": "kind", "value": "gpt", "choices": ["mlp", "scgpt"]}),
        ({"n_hidden": [6]}, errors.BadValue, {"value": {"n_hidden": [6]}}),
        ({"kind": "scgpt", "n_input": 5}, errors.BadValue, {"name": "architecture"}),
        ((5, 128, 3), errors.WrongType, {"name": "n_hidden"}),
        ((5, "128", 3), errors.WrongType, {"name": "n_hidden"}),
        ((5, [6.5], 3), errors.BadValue, {"name": "n_hidden"}),
        ((5, [True], 3), errors.BadValue, {"name": "n_hidden"}),
        ((5, [6], None), errors.BadValue, {"name": "n_output"}),
        ((0, [6], 3), errors.BadValue, {"name": "n_input"}),
        ((5, [6, 0], 3), errors.BadValue, {"name": "n_hidden"}),
        ((5, [6], 3, 1), errors.BadValue, {"name": "dropout"}),
        ((5, [6], 3, -0.1), errors.BadValue, {"name": "dropout"}),
        ((5, [], 3, float("nan")), errors.BadValue, {"name": "dropout"}),
    ],
)
def test_refuses_to_build(architecture, error, data, refuses):
    if isinstance(architecture, tuple):
        names = ("n_input", "n_hidden", "n_output", "dropout")
        architecture = dict(zip(names, architecture, strict=False))
    with refuses(error, **data):
        build(architecture)
    with pytest.raises(TypeError, match="depth"):
        build({"n_input": 5, "n_hidden": [6], "n_output": 3, "depth": 1})


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_features_are_log_normalised_counts(make, log_normalised, convert, dtype):
    adata = make(dtype=dtype)
    adata.X[4] = 0
    expected = log_normalised(adata.X)
    adata.X = convert(adata.X)
    out = MLPEncoder().fit(make(1)).features(adata)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_array_equal(out, PCAEncoder(n_components=3).fit(make(1)).features(adata))


def test_values_that_are_normalised_already_are_copied(make):
    adata = make()
    adata.X -= 3
    adata.layers["z"], adata.X = adata.X, None
    out = MLPEncoder(normalize=False, layer="z").fit(adata).features(adata)
    np.testing.assert_array_equal(out, adata.layers["z"])
    out += 1
    np.testing.assert_array_equal(out, adata.layers["z"] + 1)


@pytest.mark.parametrize(
    ("options", "value", "error", "data"),
    [
        ({}, -1, errors.NotCounts, {"rows": ["cell2"]}),
        ({"normalize": False}, np.nan, errors.NotFinite, {"rows": ["cell2"]}),
        ({"layer": "counts"}, 1, errors.MissingEntry, {"key": "counts", "name": "layer"}),
        ({"n_latent": 0}, 1, errors.BadValue, {"value": 0}),
    ],
)
def test_an_encoder_refuses_at_once_and_stays_unfitted(make, options, value, error, data, refuses):
    adata, encoder = make(), MLPEncoder(**options)
    adata.X[2, 3] = value
    with refuses(error, **data):
        encoder.fit(adata)
    with refuses(errors.NotFitted):
        encoder.features(make())
    with refuses(errors.NotFitted):
        MLPEncoder().fit(make()).encode(make())  # only a model that trained it can embed
