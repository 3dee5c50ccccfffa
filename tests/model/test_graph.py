"""Steps that are captured once and replayed, on a CPU with a recording that runs the same Python again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from semiclip.model import SemiClip
from semiclip.model._graph import WARM_UP, GraphedStep, can_capture


@pytest.fixture
def captures(monkeypatch):
    """Pretend that steps can be captured; the list grows by one with each capture."""
    made = []

    def record(self, step):
        loss = torch.zeros(())
        made.append(loss)
        return lambda: loss.copy_(step()), loss

    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: True)
    monkeypatch.setattr(GraphedStep, "_capture", record)
    return made


def trained(mdata, setup, quiet, **kwargs):
    SemiClip.setup_mudata(mdata, **setup)
    torch.manual_seed(0)
    model = SemiClip(mdata, n_hidden=[16])
    model.train(4, batch_size=32, **quiet, **kwargs)
    return model


PLANS = [{"plan_kwargs": {"steps_per_call": 3}}, {"plan_kwargs": {"schedule": "constant"}}]


@pytest.mark.parametrize("kwargs", [{}, {"pea": False}, {"datasplitter_kwargs": {"chunk_rows": 64}}, *PLANS], ids=str)
def test_graphs_give_the_same_weights_and_losses(mdata, setup, quiet, captures, monkeypatch, kwargs):
    graphed = trained(mdata, setup, quiet, **kwargs)
    assert captures
    monkeypatch.setattr("semiclip.model._plan.can_capture", lambda trainer: False)
    n = len(captures)
    plain = trained(mdata, setup, quiet, **kwargs)
    assert len(captures) == n
    for name, weights in plain.module.state_dict().items():
        assert torch.equal(graphed.module.state_dict()[name], weights)
    for name, curve in plain.history.items():
        expected = pytest.approx(curve.iloc[:, 0].astype(float).tolist(), abs=1e-5)
        assert graphed.history[name].iloc[:, 0].astype(float).tolist() == expected


def test_a_graph_is_captured_once_an_epoch_and_checkpoints_count_the_steps(
    mdata, setup, quiet, captures, tmp_path, spy
):
    keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}-{step}")
    trained(mdata, setup, quiet, callbacks=[keep, seen := spy()])
    assert len(captures) == 4
    steps = sorted(int(path.stem.split("step=")[1]) for path in tmp_path.glob("*.ckpt"))
    assert steps == [seen.data.n_batches * epoch for epoch in (1, 2, 3, 4)]
    assert steps[0] > WARM_UP  # steps without a graph come first


def test_only_a_single_gpu_without_work_for_lightning_within_a_step_captures():
    def can(device="cuda", **changes):
        plain = {"world_size": 1, "precision": "32-true", "gradient_clip_val": None, "accumulate_grad_batches": 1}
        strategy = SimpleNamespace(root_device=torch.device(device))
        return can_capture(SimpleNamespace(strategy=strategy, **{**plain, **changes}))

    assert can()
    assert can(precision="bf16-mixed")
    changes = {"device": "cpu", "world_size": 2, "precision": "16-mixed"}
    changes |= {"gradient_clip_val": 1.0, "accumulate_grad_batches": 2}
    assert not any(can(**{name: value}) for name, value in changes.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_graph_gives_the_same_weights(mdata, setup):
    def on_gpu(**plan_kwargs):
        return trained(mdata, setup, {"accelerator": "gpu", "enable_progress_bar": False}, plan_kwargs=plan_kwargs)

    graphed, plain = on_gpu(), on_gpu(steps_per_call=0)
    for name, weights in plain.module.state_dict().items():
        torch.testing.assert_close(graphed.module.state_dict()[name], weights, rtol=1e-4, atol=1e-5)
