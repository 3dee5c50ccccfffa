import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from semiclip.encoders import network
from semiclip.encoders._network import build, describe


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


def test_number_of_parameters():
    count = sum(parameter.numel() for parameter in network(40, [128], 8).parameters())
    assert count == (40 * 128 + 128) + 2 * 128 + (128 * 8 + 8)
    assert sum(p.numel() for p in network(40, [], 8).parameters()) == 40 * 8 + 8


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
    first, second = network(5, [6], 3, dropout=0.5), network(5, [6], 3, dropout=0)
    second.load_state_dict(first.state_dict())
    x = torch.randn(4, 5)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_a_description_builds_the_same_network_after_json():
    described = describe(np.int64(5), (np.int32(6), 4), 3, batch_norm=np.bool_(True), dropout=np.float32(0.25))
    assert described == {"n_input": 5, "n_hidden": [6, 4], "n_output": 3, "batch_norm": True, "dropout": 0.25}
    again = json.loads(json.dumps(described))
    assert again == described
    first, second = network(**described), network(**again)
    second.load_state_dict(first.state_dict())
    x = torch.randn(4, 5)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_the_seed_of_torch_decides_the_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(network(5, [6], 3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("kind", [{}, {"kind": "mlp"}])
def test_an_architecture_without_a_kind_is_a_perceptron(kind):
    architecture = {**describe(5, [6], 3), **kind}
    states = []
    for make in (build, lambda given: network(**{name: given[name] for name in describe(5, [6], 3)})):
        torch.manual_seed(7)
        states.append(make(architecture).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert architecture == {**describe(5, [6], 3), **kind}


def test_the_kind_decides_what_is_built():
    sizes = {"n_input": 5, "n_hidden": 6, "n_output": 4, "n_layers": 3, "n_heads": 2}
    built = build({"kind": "scgpt", **sizes})
    assert type(built).__name__ == "ScGPTNetwork"
    assert len(built.transformer_encoder["layers"]) == 3
    assert built.eval()(torch.ones(2, 5)).shape == (2, 4)


@pytest.mark.parametrize(
    ("architecture", "error", "message"),
    [
        ([5, [6], 3], TypeError, "architecture=[5, [6], 3] is not a mapping, such as encoder.architecture is"),
        ({"kind": "gpt"}, ValueError, "kind='gpt' is not a network; choose one of mlp, scgpt"),
        ({"n_hidden": [6]}, ValueError, "the architecture lacks n_input, n_output, the widths of what the network"),
        ({"kind": "scgpt", "n_input": 5}, ValueError, "the architecture lacks n_output"),
        ({"n_input": 5, "n_hidden": [6], "n_output": 3, "depth": 1}, TypeError, "depth"),
    ],
)
def test_refuses_to_build(architecture, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(architecture)


@pytest.mark.parametrize("call", [network, describe])
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((5, 128, 3), {}, TypeError, "n_hidden=128 is not a list of widths, such as [128], or [] for no hidden layer"),
        ((5, "128", 3), {}, TypeError, "n_hidden='128' is not a list of widths"),
        ((5, [6.5], 3), {}, TypeError, "n_hidden has 6.5, but a width is a whole number"),
        ((5, [True], 3), {}, TypeError, "n_hidden has True, but a width is a whole number"),
        ((5, [6], None), {}, TypeError, "n_output (the embedding) has None, but a width is a whole number"),
        ((0, [6], 3), {}, ValueError, "n_input has 0, but a width must be at least 1"),
        ((5, [6, 0], 3), {}, ValueError, "n_hidden has 0, but a width must be at least 1"),
        ((5, [6], -1), {}, ValueError, "n_output (the embedding) has -1, but a width must be at least 1"),
        ((5, [6], 3), {"dropout": 1}, ValueError, "dropout=1 must be at least 0 and below 1"),
        ((5, [6], 3), {"dropout": -0.1}, ValueError, "dropout=-0.1 must be at least 0 and below 1"),
        ((5, [], 3), {"dropout": float("nan")}, ValueError, "dropout=nan must be at least 0 and below 1"),
    ],
)
def test_refuses(call, arguments, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(*arguments, **options)
