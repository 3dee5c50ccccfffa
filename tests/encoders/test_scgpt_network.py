from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semiclip import errors
from semiclip.encoders import build
from semiclip.encoders._scgpt_network import read_tokens

SIZES = {"kind": "scgpt", "n_input": 12, "n_hidden": 10, "n_output": 8, "n_layers": 2, "n_heads": 2, "n_bins": 6}


def make(**changes):
    torch.manual_seed(0)
    network = build({**SIZES, **changes})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-2, 2)  # so that no bias is 0, no scale is 1 and samples differ
    return network


def expression(n=5, n_genes=12, seed=0, density=0.7):
    rng = np.random.default_rng(seed)
    return (rng.poisson(4, (n, n_genes)) * rng.binomial(1, density, (n, n_genes))).astype(np.float32)


def norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def reference(row, w, *, n_layers=2, n_heads=2, n_bins=6, pad_value=-2, most=99):
    """Embed one sample in NumPy, without padding, and with loops over heads and tokens."""
    genes = sorted(np.flatnonzero(row), key=lambda gene: (-row[gene], gene))[:most]
    bins = binned(row[row != 0], n_bins)
    values = np.array([pad_value, *(bins[row[gene]] for gene in genes)], dtype=float)[:, None]
    x = norm(w["encoder.embedding.weight"][[len(row), *genes]], w, "encoder.enc_norm")
    value = np.maximum(linear(np.minimum(values, 512), w, "value_encoder.linear1"), 0)
    x = x + norm(linear(value, w, "value_encoder.linear2"), w, "value_encoder.norm")
    for i in range(n_layers):
        layer = f"transformer_encoder.layers.{i}"
        heads = np.zeros_like(x)
        width = x.shape[1] // n_heads
        q, k, v = np.split(linear(x, w, f"{layer}.self_attn.Wqkv"), 3, axis=1)
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(len(x)):
                scores = np.exp([q[token, part] @ other / np.sqrt(width) for other in k[:, part]])
                heads[token, part] = scores / scores.sum() @ v[:, part]
        x = norm(x + linear(heads, w, f"{layer}.self_attn.out_proj"), w, f"{layer}.norm1")
        forward = linear(np.maximum(linear(x, w, f"{layer}.linear1"), 0), w, f"{layer}.linear2")
        x = norm(x + forward, w, f"{layer}.norm2")
    return x[0] / np.linalg.norm(x[0])


def binned(values, n_bins):
    """Return the bin of each expressed value, in exact arithmetic."""
    ordered, steps = sorted(Fraction(float(value)) for value in values), n_bins - 2
    edges = []
    for k in range(n_bins - 1):
        low, rest = divmod(k * (len(ordered) - 1), steps) if ordered else (0, 0)
        if ordered:
            upper = ordered[min(low + 1, len(ordered) - 1)]
            edges.append(ordered[low] + (upper - ordered[low]) * Fraction(rest, steps))
    bins = {}
    for value in ordered:
        first, last = sum(edge < value for edge in edges), sum(edge <= value for edge in edges)
        bins[float(value)] = -(-(first + last) // 2)
    return bins


def run(network, x):
    with torch.no_grad():
        return network.eval()(torch.as_tensor(x)).numpy()


@pytest.mark.parametrize(
    ("changes", "most"), [({}, 99), ({"max_length": 5}, 4), ({"pad_value": 0, "n_bins": 3, "n_heads": 4}, 99)]
)
def test_is_the_transformer_of_scgpt(changes, most):
    network, x = make(**changes), expression()
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    options = {name: value for name, value in changes.items() if name != "max_length"}
    expected = np.stack([reference(row, weights, most=most, **options) for row in x])
    assert np.abs(expected - expected[0]).max() > 0.05
    np.testing.assert_allclose(run(network, x), expected, atol=1e-5)


def test_a_sample_without_expressed_genes_is_the_cls_token_alone():
    network, x = make(), expression()
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    alone = reference(np.zeros(12), weights)
    x[1] = 0
    np.testing.assert_allclose(run(network, x)[1], alone, atol=1e-5)
    np.testing.assert_allclose(run(network, np.zeros((2, 12), dtype=np.float32)), [alone, alone], atol=1e-5)
    assert run(network, np.zeros((0, 12), dtype=np.float32)).shape == (0, 8)


def test_bins_by_hand():
    # edges of four values for five bins: 1, 2, 3, 4; each value is an edge and opens the bin above it
    genes, bins, kept = read_tokens(torch.tensor([[3.0, 0, 1, 4, 2]]), 5, 9)
    assert genes.tolist() == [[3, 0, 4, 2]]
    assert bins.tolist() == [[4, 3, 2, 1]]
    assert kept.all()
    # edges 1, 1, 1, 1, 7: of bins 1 to 4 the ones have the lower of the two in the middle, and 7 the last
    _, bins, _ = read_tokens(torch.tensor([[1.0, 1, 1, 1, 7]]), 6, 9)
    assert bins.tolist() == [[5, 2, 2, 2, 2]]
    # the first of equals are read
    assert read_tokens(torch.ones(2, 3000), 51, 1200)[0].tolist() == [[*range(1200)]] * 2
    # a value alone is all edges
    _, bins, _ = read_tokens(torch.tensor([[0.0, 0, 3]]), 51, 9)
    assert bins.tolist() == [[25]]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=9, max_size=9), min_size=1, max_size=4),
    st.sampled_from([3, 4, 6, 51]),
    st.integers(1, 9),
)
def test_tokens_are_those_of_an_exact_rule(rows, n_bins, most):
    genes, bins, kept = read_tokens(torch.tensor(rows, dtype=torch.float32), n_bins, most)
    assert genes.shape == bins.shape == kept.shape
    for row, gene, bin_, keep in zip(rows, genes, bins, kept, strict=True):
        expected = sorted(np.flatnonzero(row), key=lambda gene: (-row[gene], gene))[:most]
        assert gene[keep].tolist() == expected
        exact = binned([value for value in row if value], n_bins)
        assert bin_[keep].tolist() == [exact[float(row[gene])] for gene in expected]
        assert keep.sum() == len(expected) and keep.tolist() == sorted(keep.tolist(), reverse=True)


def test_values_beyond_the_largest_are_taken_for_it():
    states = []
    for pad_value in (512, 600):
        network = make(pad_value=pad_value)
        states.append(run(network, expression()))
    assert np.array_equal(*states)
    assert not np.allclose(run(make(pad_value=500), expression()), states[0])


def test_gradients_reach_all_weights_that_are_used():
    network, x = make(dropout=0.1).train(), torch.from_numpy(expression())
    x[:, 4] = 0
    assert not torch.equal(network(x), network(x))  # values are dropped
    network(x)[:, 0].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).any(), name
    moved = (network.encoder.embedding.weight.grad != 0).any(1)
    assert moved.tolist() == [gene != 4 for gene in range(13)]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"n_input": 0}, "n_input"),
        ({"n_layers": 2.0}, "n_layers"),
        ({"n_hidden": "8"}, "n_hidden"),
        ({"n_heads": True}, "n_heads"),
        ({"n_bins": 2}, "n_bins"),
        ({"max_length": 1}, "max_length"),
        ({"n_heads": 3}, "n_output"),
        ({"dropout": 1}, "dropout"),
        ({"dropout": "no"}, "dropout"),
        ({"pad_value": None}, "pad_value"),
        ({"pad_value": float("inf")}, "pad_value"),
    ],
)
def test_refuses(changes, name, refuses):
    with refuses(errors.BadValue, name=name):
        build({**SIZES, **changes})
