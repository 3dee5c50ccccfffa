"""Adapters of both sides: their widths, what they compute, and when the teacher's is the same as none."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from lightning import Callback
from torch import nn

from semiclip.model import SemiClip
from semiclip.objectives import OBJECTIVES


@pytest.fixture
def make(mdata, setup):
    def of(objective="clip", **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        return SemiClip(mdata, objective=objective, **{"n_hidden": [16], **kwargs})

    return of


@pytest.fixture
def strong():
    """Make a model of so many pairs in one AnnData."""

    def of(n_pairs, n_student, n_teacher, **kwargs):
        rng = np.random.default_rng(0)
        shapes = {"X_rna": (n_pairs, n_student), "X_image": (n_pairs, n_teacher)}
        adata = anndata.AnnData(obsm={key: rng.normal(size=shape) for key, shape in shapes.items()})
        SemiClip.setup_anndata(adata, student_rep="X_rna", teacher_rep="X_image", control=None)
        return SemiClip(adata, student_correction=None, teacher_correction=None, **kwargs)

    return of


def widths(adapter):
    if adapter is None:
        return None
    assert [type(layer) for layer in adapter[1::2]] == [nn.ReLU] * (len(adapter) // 2)
    return [adapter[0].in_features, *(layer.out_features for layer in adapter[::2])]


def count(adapter):
    return sum(parameter.numel() for parameter in adapter.parameters())


def test_with_many_pairs_the_adapters_are_those_of_the_paper_and_with_few_small(strong, tmp_path):
    many, few = (strong(n, 256, 768, objective="clip") for n in (500, 499))
    assert widths(many.module.adapter) == [256, 512, 1024, 768]
    assert widths(many.module.teacher_adapter) == [768, 1024, 1024, 768]
    assert widths(few.module.adapter) == [256, 64, 768]
    assert widths(few.module.teacher_adapter) == [768, 64, 768]
    # the paper's counts: the student's adapter, the image adapter, and the student's as it was released
    assert (count(many.module.adapter), count(many.module.teacher_adapter)) == (1_444_096, 2_624_256)
    assert count(strong(9, 256, 768, n_hidden=[1024, 1024]).module.adapter) == 2_099_968
    few.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), many.adata, accelerator="cpu")
    assert widths(loaded.module.teacher_adapter) == [768, 64, 768], "what was settled is not asked again"


def test_modules_compute_the_products_written_out(make):
    architecture = {"n_input": 8, "n_hidden": [], "n_output": 4}
    module = make(encoder=architecture, n_hidden=[3], teacher_adapter=[]).module
    student, teacher = torch.randn(5, 8), torch.randn(5, 16)
    encoder, first, last, other = module.encoder[0], module.adapter[0], module.adapter[2], module.teacher_adapter[0]
    hidden = ((student @ encoder.weight.T + encoder.bias) @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(module(student), hidden @ last.weight.T + last.bias)
    torch.testing.assert_close(module.teach(teacher), teacher @ other.weight.T + other.bias)
    linear = make("semiclip", n_hidden=[]).module
    torch.testing.assert_close(linear(student), student @ linear.adapter[0].weight.T + linear.adapter[0].bias)
    assert linear.teach(teacher) is teacher
    assert linear.device == torch.device("cpu")


def test_parts_are_all_that_is_learned_once_and_known_before_there_are_heads(make):
    for name, teacher_adapter in (("c2kd", [2]), ("shake", [])):
        module = make(name, teacher_adapter=teacher_adapter).module
        trained = module.trained_parts
        assert list(module.parts()) == ["student", "teacher"]
        module.set_classes(7)
        assert trained == module.trained_parts
        parts = [id(weights) for part in module.parts().values() for weights in part]
        assert sorted(parts) == sorted(id(weights) for weights in module.parameters())
        heads = module.objective.heads
        assert {(head.in_features, head.out_features) for head in heads.values()} == {(16, 7)}
    assert list(module.parts()) == ["student", "teacher", "student_head", "teacher_head", "shadow"]
    assert trained == ["student", "student_head", "shadow"]
    assert list(make("siglip").module.parts()) == ["student", "objective"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_says_whether_the_teacher_has_an_adapter_and_arguments_outdo_it(make, objective):
    assert (make(objective).module.teacher_adapter is not None) == (objective in ("clip", "kd", "shake", "c2kd"))
    n_output = make(objective).module.n_output
    for asked, hidden in ((True, [64]), ([8, 4], [8, 4]), ((5,), [5]), ([], []), (False, None)):
        built = widths(make(objective, teacher_adapter=asked).module.teacher_adapter)
        assert built == (None if hidden is None else [16, *hidden, n_output])


@pytest.mark.parametrize("teacher_adapter", [[8], [], False])
@pytest.mark.parametrize("with_data", [True, False])
def test_a_saved_model_builds_the_same_again(make, mdata, quiet, tmp_path, teacher_adapter, with_data):
    model = make("kd", teacher_adapter=teacher_adapter)
    model.train(1, **quiet)
    model.save(str(tmp_path / "model"))
    loaded = SemiClip.load(str(tmp_path / "model"), mdata if with_data else False, accelerator="cpu")
    assert widths(loaded.module.teacher_adapter) == widths(model.module.teacher_adapter)
    for name, weights in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weights)
    np.testing.assert_array_equal(loaded.get_latent_representation(mdata), model.get_latent_representation())


def test_without_it_and_in_one_direction_clip_is_semiclip(make, quiet):
    one, other = make("clip", teacher_adapter=False, symmetric=False), make("semiclip")
    for model in (one, other):
        torch.manual_seed(1)
        model.train(3, batch_size=64, **quiet)
    for name, weights in other.module.state_dict().items():
        assert torch.equal(one.module.state_dict()[name], weights)
    assert one.train_params_.pop("lr") == {"student": 0.1}  # the teacher's is dropped
    assert other.train_params_.pop("lr") == 0.1
    assert one.train_params_ == other.train_params_


class Keep(Callback):
    """Keeps the data that a training reads."""

    def on_train_start(self, trainer, pl_module):
        self.data = trainer.datamodule


def test_dcca_reads_the_leading_components_of_the_teacher_unless_that_has_an_adapter(make, quiet):
    seen = {}
    for n_components, teacher_adapter in ((16, False), (8, False), (8, True)):
        model, keep = make("dcca", n_components=n_components, teacher_adapter=teacher_adapter), Keep()
        assert (model.module.n_output, model.module.min_batch_size) == (n_components, 2 * n_components + 2)
        model.train(1, callbacks=[keep], **quiet)
        seen[n_components, teacher_adapter] = keep.data.tensors.teacher.numpy()
        assert model.get_latent_representation().shape[1] == n_components
    full = seen[16, False]
    np.testing.assert_array_equal(seen[8, True], full)
    u, s, _ = np.linalg.svd((full - full.mean(axis=0)).astype(float), full_matrices=False)
    np.testing.assert_allclose(np.abs(seen[8, False]), np.abs(u * s)[:, :8], atol=1e-4)
    model, keep = make("vicreg"), Keep()
    model.train(1, callbacks=[keep], **quiet)
    np.testing.assert_array_equal(keep.data.tensors.teacher.numpy(), full)
