import json

import anndata
import numpy as np
import pytest
import torch
from torch import nn

from semiclip import errors
from semiclip.encoders import MLPEncoder, build, network


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
    still = network(5, [6], 3, dropout=0)
    torch.testing.assert_close(still(torch.ones(4, 5)), still(torch.ones(4, 5)))


def test_weights_fit_whatever_the_dropout_and_normalisation():
    names = set(network(5, [6, 4], 3, batch_norm=False).state_dict())
    for options in ({"dropout": 0}, {"batch_norm": True}):
        assert names <= set(network(5, [6, 4], 3, **options).state_dict())


def test_an_architecture_is_plain_and_builds_the_same_network_after_json():
    adata = anndata.AnnData(np.ones((3, 5)))
    options = {"batch_norm": np.bool_(True), "dropout": np.float32(0.25)}
    architecture = MLPEncoder(n_hidden=(np.int32(6), 4), n_latent=np.int64(3), **options).fit(adata).architecture
    assert architecture == {"n_input": 5, "n_hidden": [6, 4], "n_output": 3, "batch_norm": True, "dropout": 0.25}
    again = json.loads(json.dumps(architecture))
    assert again == architecture
    states = []
    for built in (
        lambda: network(**architecture),
        lambda: build(again),
        lambda: build({"kind": "mlp", **again}),
    ):
        torch.manual_seed(7)  # the seed decides the weights
        states.append(built().state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    torch.testing.assert_close(states[0], states[2], rtol=0, atol=0)
    assert again == architecture


@pytest.mark.parametrize(
    ("architecture", "error", "data"),
    [
        ([5, [6], 3], errors.WrongType, {"got": list}),
        ({"kind": "gpt"}, errors.UnknownChoice, {"name": "kind", "value": "gpt", "choices": ["mlp", "scgpt"]}),
        ({"n_hidden": [6]}, errors.BadValue, {"value": {"n_hidden": [6]}}),
        ({"kind": "scgpt", "n_input": 5}, errors.BadValue, {"name": "architecture"}),
    ],
)
def test_refuses_to_build(architecture, error, data, refuses):
    with refuses(error, **data):
        build(architecture)
    with pytest.raises(TypeError, match="depth"):
        build({"n_input": 5, "n_hidden": [6], "n_output": 3, "depth": 1})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "name"),
    [
        ((5, 128, 3), {}, errors.WrongType, "n_hidden"),
        ((5, "128", 3), {}, errors.WrongType, "n_hidden"),
        ((5, [6.5], 3), {}, errors.WrongType, "n_hidden"),
        ((5, [True], 3), {}, errors.WrongType, "n_hidden"),
        ((5, [6], None), {}, errors.WrongType, "n_output"),
        ((0, [6], 3), {}, errors.BadValue, "n_input"),
        ((5, [6, 0], 3), {}, errors.BadValue, "n_hidden"),
        ((5, [6], -1), {}, errors.BadValue, "n_output"),
        ((5, [6], 3), {"dropout": 1}, errors.BadValue, "dropout"),
        ((5, [6], 3), {"dropout": -0.1}, errors.BadValue, "dropout"),
        ((5, [], 3), {"dropout": float("nan")}, errors.BadValue, "dropout"),
    ],
)
def test_refuses(arguments, options, error, name, refuses):
    with refuses(error, name=name):
        network(*arguments, **options)
