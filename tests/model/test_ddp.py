"""Two processes share each mini-batch and learn what one learns from all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import semiclip
from semiclip.model import SemiClip

# Lightning starts the script once more for the second process, which must not matter: the first one decides on weights,
# split and draws
SCRIPT = """
import json, os
import mudata, torch
from semiclip.model import SemiClip

mdata = mudata.read_h5mu("study.h5mu")
rank = int(os.environ.get("LOCAL_RANK", 0))
with open("runs.json") as file:
    plan = json.load(file)
SemiClip.setup_mudata(mdata, **plan["setup"])
for name, (of_model, of_training) in plan["runs"].items():
    torch.manual_seed(rank)
    model = SemiClip(mdata, **{"n_hidden": [16], **of_model})
    model.train(**of_training, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False)
    done = {"weights": model.module.state_dict(), "split": model.validation_indices.tolist()}
    done["history"] = {curve: frame.to_numpy(float).ravel().tolist() for curve, frame in model.history.items()}
    torch.save(done, f"{name}-{rank}.pt")
"""
STEPS = {"max_epochs": 3, "batch_size": 64, "plan_kwargs": {"lr": 0.1}}
ONE = {"max_epochs": 1, "batch_size": 1024, "plan_kwargs": {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}}
RUNS = {
    "with PEA": ({}, {**STEPS, "pea": True}),
    "without PEA": ({}, {**STEPS, "pea": False}),
    "both directions": ({"symmetric": True, "duplicates": "mask"}, {**STEPS, "pea": False}),
    "PEA by mini-batch": ({}, {**STEPS, "pea": {"granularity": "batch"}}),
    "in chunks": ({"duplicates": "multi_positive"}, {**STEPS, "datasplitter_kwargs": {"chunk_rows": 64}}),
    "best epoch": ({}, {**STEPS, "select": "best"}),
    "a scale that is learned": ({"objective": "siglip"}, {**STEPS, "pea": False, "plan_kwargs": {"lr": 0.03}}),
    "moments": ({"objective": "vicreg"}, {**STEPS, "pea": False, "plan_kwargs": {"lr": 0.01}}),
    "canonical correlations": ({"objective": "dcca"}, {**STEPS, "pea": False}),
    "a teacher that gives way": ({"objective": "clip"}, {**STEPS, "pea": False}),
    "labels": ({"objective": "c2kd"}, {**STEPS, "pretrain_epochs": 2, "plan_kwargs": {"lr": 0.02}}),
    "shared directions": ({"n_shared": 3, "n_hidden": []}, {**STEPS, "plan_kwargs": {"lr": 0.3}}),
    "shared directions, centred": (
        {"n_shared": 3, "n_hidden": [], "student_correction": "center"},
        {**STEPS, "pea": False, "plan_kwargs": {"lr": 0.3}},
    ),
    "one step of gradient": ({"duplicates": "mask"}, ONE),
}


@pytest.fixture(scope="module")
def two_processes(small_study, tmp_path_factory):
    columns = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    setup = {"student_rep": "X_pca", "teacher_rep": "X_image", "batch_key": "batch", **columns}
    folder = tmp_path_factory.mktemp("ddp")
    small_study.mdata.write(folder / "study.h5mu")
    (folder / "runs.json").write_text(json.dumps({"setup": setup, "runs": RUNS}))
    (folder / "script.py").write_text(SCRIPT)
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 240, "check": False}
    options["env"] = {**os.environ, "PYTHONPATH": str(Path(semiclip.__file__).parents[1])}
    run = subprocess.run([sys.executable, "script.py"], **options)
    assert run.returncode == 0, run.stderr[-1000:]
    assert "It is recommended to use `self.log" not in run.stderr

    def of(name):
        return [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)]

    return of


@pytest.fixture
def one_process(mdata, setup, quiet):
    SemiClip.setup_mudata(mdata, **setup)

    def run(name):
        of_model, of_training = RUNS[name]
        torch.manual_seed(0)
        model = SemiClip(mdata, **{"n_hidden": [16], **of_model})
        before = {name: value.clone() for name, value in model.module.state_dict().items()}
        model.train(**of_training, **quiet)
        return model, before

    return run


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(two_processes, one_process, name):
    model, before = one_process(name)
    first, second = two_processes(name)
    after = model.module.state_dict()  # with heads, which were not there before
    moved = [float((after[part] - weights).abs().max()) for part, weights in before.items()]
    # all but an offset of the output, which correlations do not see
    assert sorted(moved)[1 if name == "canonical correlations" else 0] > 1e-3, "the test needs weights that move"
    for part, weights in after.items():
        torch.testing.assert_close(first["weights"][part], weights, atol=1e-5, rtol=0)
        assert torch.equal(first["weights"][part], second["weights"][part])
    assert first["split"] == second["split"] == model.validation_indices.tolist()
    for curve, frame in model.history.items():
        expected = frame.to_numpy(float).ravel()
        np.testing.assert_allclose(first["history"][curve], expected, atol=1e-5, rtol=1e-6, err_msg=curve)
