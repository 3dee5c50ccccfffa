from __future__ import annotations

import pytest
import torch
from torch import nn

from semiclip.model._module import SemiClipModule, make_adapter, read_widths


@pytest.mark.parametrize(
    ("widths", "n_parameters"),
    [
        ([256, 512, 1024, 768], 1_444_096),  # the paper's student adapter
        ([256, 1024, 1024, 768], 2_099_968),  # the one that was released
        ([768, 1024, 1024, 768], 2_624_256),  # the paper's image adapter
    ],
)
def test_parameter_counts_are_those_of_the_paper(widths, n_parameters):
    assert sum(parameter.numel() for parameter in make_adapter(widths).parameters()) == n_parameters


def test_three_linear_maps_with_relu_between_them_and_none_at_the_end():
    assert [type(layer) for layer in make_adapter([4, 3, 2, 5])] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


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


def test_the_read_widths_an_adapter_are_those_that_it_was_made_with():
    for widths in ([4, 3], [4, 3, 2, 5]):
        assert read_widths(make_adapter(widths)) == widths


def test_encoder_and_adapter_of_the_teacher_are_products_as_well():
    architecture = {"n_input": 6, "n_hidden": [], "n_output": 4}
    module = SemiClipModule(6, [], 3, objective="clip", teacher_hidden=[], encoder=architecture)
    student, teacher = torch.randn(5, 6), torch.randn(5, 3)
    encoder, last, other = module.encoder[0], module.adapter[0], module.teacher_adapter[0]
    expected = (student @ encoder.weight.T + encoder.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(module(student), expected)
    torch.testing.assert_close(module.teach(teacher), teacher @ other.weight.T + other.bias)
    assert SemiClipModule(4, [], 3).teach(teacher) is teacher


def test_parts_are_all_that_is_learned_once():
    module = SemiClipModule(6, [5], 3, objective="c2kd", teacher_hidden=[2])
    module.set_classes(7)
    parts = [id(weights) for part in module.parts().values() for weights in part]
    assert sorted(parts) == sorted(id(weights) for weights in module.parameters())
    heads = module.objective.heads
    assert [(head.in_features, head.out_features) for head in heads.values()] == [(3, 7)] * 4
    assert list(SemiClipModule(6, [5], 3, objective="siglip").parts()) == ["student", "objective"]
