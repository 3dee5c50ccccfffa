"""An adapter of the teacher: its widths, what validation sees of it, and when it is the same as none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback

from semiclip.metrics import retrieval
from semiclip.model import SemiClip
from semiclip.model._module import read_widths
from semiclip.objectives import OBJECTIVES


@pytest.fixture
def make(mdata, setup):
    def of(objective="clip", **kwargs):
        SemiClip.setup_mudata(mdata, **setup)
        torch.manual_seed(0)
        return SemiClip(mdata, objective=objective, **{"n_hidden": [16], **kwargs})

    return of


def widths(model):
    return model.module.teacher_adapter and read_widths(model.module.teacher_adapter)


@pytest.mark.parametrize(
    ("given", "built"),
    [(True, [16, 64, 16]), ([8, 4], [16, 8, 4, 16]), ((5,), [16, 5, 16]), ([], [16, 16]), (False, None)],
)
@pytest.mark.parametrize("objective", ["semiclip", "clip"])
def test_widths(make, objective, given, built):
    assert widths(make(objective, teacher_adapter=given)) == built


def test_with_many_keys_it_is_that_of_the_paper(make, monkeypatch):
    monkeypatch.setattr("semiclip.model._module.FEW_KEYS", 72)  # the study has as many
    model = make(teacher_adapter=True)
    assert widths(model) == [16, 1024, 1024, 16]
    assert model.init_params_["non_kwargs"]["teacher_adapter"] == [1024, 1024]
    assert widths(make("kd")) == [16, 1024, 1024, 16]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_says_whether_there_is_one(make, objective):
    assert (widths(make(objective)) is not None) == (objective in ("clip", "kd", "shake", "c2kd"))
    assert widths(make(objective, teacher_adapter=False)) is None


@pytest.mark.parametrize("given", [64, "auto", [8, 0]])
def test_what_are_no_widths_is_refused(make, given):
    message = f"teacher_adapter={given!r} is neither True, False, None nor a list of widths of at least 1"
    with pytest.raises(ValueError) as caught:
        make(teacher_adapter=given)
    assert str(caught.value) == message


@pytest.mark.parametrize("given", [True, [8], [], False])
@pytest.mark.parametrize("with_data", [True, False])
def test_a_saved_model_builds_the_same_again(make, mdata, quiet, tmp_path, monkeypatch, given, with_data):
    model = make("kd", teacher_adapter=given)
    model.train(1, **quiet)
    model.save(str(tmp_path / "model"))
    monkeypatch.setattr("semiclip.model._module.FEW_KEYS", 0)  # what was settled is not asked again
    loaded = SemiClip.load(str(tmp_path / "model"), mdata if with_data else False, accelerator="cpu")
    assert widths(loaded) == widths(model)
    for name, weights in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], weights)
    np.testing.assert_array_equal(loaded.get_latent_representation(mdata), model.get_latent_representation())


def test_the_summary_names_it(make):
    assert "teacher adapter: 16 → 64 → 16" in make()._model_summary_string
    assert "teacher adapter" not in make("semiclip")._model_summary_string


def test_validation_ranks_by_the_teacher_as_it_is_adapted(make, quiet):
    spied = []

    class Spy(Callback):
        def on_train_start(self, trainer, pl_module):
            spied.append(trainer.datamodule)

    model = make()
    model.train(3, train_size=0.75, callbacks=[Spy()], **quiet)
    (data,) = spied
    tensors, rows = data.tensors, torch.as_tensor(data.val_idx)
    keys = torch.unique(tensors.key[rows])
    with torch.no_grad():
        # of the weights at the end of the last epoch
        embedded = model.module.adapter(data.validation.student)
        means = []
        for key in keys.tolist():
            own = tensors.teacher[tensors.start[key] : tensors.start[key] + tensors.count[key]]
            means.append(torch.nn.functional.normalize(model.module.teacher_adapter(own), dim=1).mean(dim=0))
    centroids = torch.stack(means)
    torch.testing.assert_close(data.centroids(model.module.teach).detach(), centroids, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(centroids, data.centroids(), atol=0.1)
    for name, value in retrieval(embedded, centroids, torch.searchsorted(keys, tensors.key[rows])).items():
        assert model.history[f"validation_{name}"].iloc[-1, 0] == pytest.approx(float(value), abs=1e-6)


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


@pytest.mark.parametrize("given", [True, False])
def test_dcca_with_an_adapter_reads_the_whole_teacher(make, quiet, given):
    model = make("dcca", n_components=4, teacher_adapter=given)
    assert model._pair_data(None, []).host.teacher.shape[1] == (16 if given else 4)
    assert widths(model) == ([16, 64, 4] if given else None)
    assert model.module.min_batch_size == 10
    model.train(2, batch_size=64, **quiet)
    assert model.get_latent_representation().shape[1] == 4


def test_both_adapters_learn_and_the_teacher_s_data_do_not_change(make, mdata, quiet):
    model, before = make(), mdata["image"].obsm["X_image"].copy()
    weights = {name: values.clone() for name, values in model.module.state_dict().items()}
    model.train(1, **quiet)
    assert all(not torch.equal(values, weights[name]) for name, values in model.module.state_dict().items())
    np.testing.assert_array_equal(mdata["image"].obsm["X_image"], before)
