from __future__ import annotations

import pytest
import torch
from torch import nn

from semiclip.model._module import SemiClipModule, adapter


@pytest.mark.parametrize(
    ("widths", "n_parameters"),
    [
        ([256, 512, 1024, 768], 1_444_096),  # the paper's student adapter
        ([256, 1024, 1024, 768], 2_099_968),  # the one that was released
        ([768, 1024, 1024, 768], 2_624_256),  # the paper's image adapter
    ],
)
def test_parameter_counts_are_those_of_the_paper(widths, n_parameters):
    assert sum(parameter.numel() for parameter in adapter(widths).parameters()) == n_parameters


def test_three_linear_maps_with_relu_between_them_and_none_at_the_end():
    assert [type(layer) for layer in adapter([4, 3, 2, 5])] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_without_hidden_widths_the_adapter_is_linear():
    module = SemiClipModule(4, [], 3)
    x, y = torch.randn(2, 7, 4)
    with torch.no_grad():
        torch.testing.assert_close(module(x + y), module(x) + module(y) - module(torch.zeros_like(x)))


def test_forward_equals_the_product_written_out():
    module = SemiClipModule(4, [3], 2)
    first, second = module.adapter[0], module.adapter[2]
    x = torch.randn(5, 4)
    expected = (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    torch.testing.assert_close(module(x), expected)
    assert module.device == torch.device("cpu")
