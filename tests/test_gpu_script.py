"""The script for a machine with a GPU runs from end to end on a CPU, and says what a CPU cannot tell."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import semiclip

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

KINDS = {"draws": 5, "controls": 6, "fits": 3}  # checks of what the device has in common with the CPU


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("gpu")


def test_a_rehearsal_measures_what_a_cpu_can_tell(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--quick", "--seconds", "900"]
    environment = {**os.environ, "PYTHONPATH": str(Path(semiclip.__file__).parents[1])}
    subprocess.run([*command, "--out", str(out)], check=True, env=environment, capture_output=True, timeout=600)
    report = json.loads(out.read_text())
    sections = {name: section["status"] for name, section in report["sections"].items()}
    names = ("parity", "throughput", "graphs", "precision", "memory", "kernels")
    assert sections == {name: "not measured" if name == "graphs" else "measured" for name in names}
    assert report["passed"]
    assert all(report["checks"].values())
    kinds = {kind: [name for name in report["checks"] if name.startswith(f"{kind} are")] for kind in KINDS}
    assert {kind: len(names) for kind, names in kinds.items()} == KINDS
    results = {name: section.get("results") for name, section in report["sections"].items()}
    for pea in ("with PEA", "without PEA"):  # the same device twice
        assert results["parity"][pea]["steps"] == 2
        assert results["parity"][pea]["largest_difference"] == 0
        run = results["throughput"][f"2400 rows, {pea}"]
        assert run["rows_per_s"] == pytest.approx(2048 / run["seconds_of_an_epoch"], rel=0.01)
        scaled = run["seconds_of_first_epoch"] + 149 * run["seconds_of_an_epoch"]
        assert run["seconds_for_150_epochs"] == pytest.approx(scaled, abs=0.1)
        assert run["peak_device_gb"] == "not measured"
        assert "goal_met" not in run
    assert results["precision"]["tf32"] == "not measured"
    memory = results["memory"]
    stored = {name: run["representations_gb"] for name, run in memory.items()}
    assert len(stored) == 4
    top = results["kernels"]["top"]
    assert len(top) == 10
    assert [kernel["share"] for kernel in top] == sorted((kernel["share"] for kernel in top), reverse=True)
    assert "cuda" not in report["hardware"]


def test_a_section_that_fails_or_takes_too_long_is_recorded(gpu):
    def fail(machine):
        raise ZeroDivisionError("so it is")

    failed = gpu.run_section(None, fail, 5)
    assert (failed["status"], failed["error"]) == ("failed", "ZeroDivisionError: so it is")
    assert "in fail" in failed["traceback"]
    if hasattr(gpu.signal, "SIGALRM"):
        late = gpu.run_section(None, lambda machine: time.sleep(20), 1)
        assert (late["status"], late["error"]) == ("ran out of time", "more than 1 seconds")
        assert late["seconds"] < 10
    assert gpu.run_section(None, lambda machine: gpu.NOT_MEASURED, 5)["status"] == "not measured"
    assert gpu.run_section(None, lambda machine: {"n": 1}, 5)["results"] == {"n": 1}


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="only SIGALRM ends a section")
def test_a_report_that_time_cut_short_has_passed_but_one_with_a_failed_check_has_not(gpu, monkeypatch, tmp_path):
    machine, report, out = gpu.Machine("cpu", quick=True), {"sections": {}}, tmp_path / "gpu.json"
    sections = {"slow": (lambda machine: time.sleep(20), 0.01), "infinite": (lambda machine: {"loss": np.inf}, 0.5)}
    sections["refused"] = (lambda machine: {"fits": machine.check("it fits", False), "losses": [np.nan, 1.5]}, 0.5)
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    gpu.measure_all(machine, ["slow", "infinite"], time.perf_counter() + 100, report, out)
    written = json.loads(out.read_text(), parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert written["sections"]["slow"]["status"] == "ran out of time"
    assert written["sections"]["infinite"]["results"] == {"loss": None}
    assert written["passed"]
    gpu.measure_all(machine, ["refused"], time.perf_counter() + 100, report, out)
    written = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert written["sections"]["refused"]["results"] == {"fits": False, "losses": [None, 1.5]}
    assert not written["passed"]
    gpu.measure_all(machine, ["slow"], time.perf_counter(), report, out)
    assert json.loads(out.read_text())["sections"]["slow"]["error"] == "no time was left"


def test_memory_is_measured_of_a_teacher_that_is_not_corrected(gpu, monkeypatch):
    machine, seen = gpu.Machine("cpu", quick=True), []
    before = {side: machine.study(machine.large)[side].obsm["X_rep"] for side in ("rna", "image")}

    def train(n, **arguments):
        seen.append((arguments["teacher_correction"], machine.study(n)["image"].obsm["X_rep"].dtype))
        if len(seen) == 4:
            raise gpu.OutOfTime
        run = gpu.Run()
        run.seconds = [1.0, 1.0]
        return run

    monkeypatch.setattr(machine, "train", train)
    with pytest.raises(gpu.OutOfTime):
        gpu.measure_memory(machine)
    assert seen == [(None, np.float32), (None, np.float16)] * 2
    for side, values in before.items():
        np.testing.assert_array_equal(machine.study(machine.large)[side].obsm["X_rep"], values)


def test_a_device_that_draws_otherwise_is_found_out(gpu, monkeypatch):
    room = importlib.import_module("_device_draws")
    cpu = torch.device("cpu")
    assert all(all(parts.values()) for parts in room.compare_with_cpu(cpu).values())
    draws = [room.draw_on(cpu), room.draw_on(cpu)]
    draws[1]["draws"]["moments"][7] += 1
    draws[1]["controls"]["subsets of transforms"][3, 2] ^= True
    draws[1]["fits"]["scale"][5, 1] += 1e-3
    monkeypatch.setattr(room, "draw_on", lambda device: draws.pop())
    alike = room.compare_with_cpu(cpu)
    unlike = [(kind, name) for kind, parts in alike.items() for name, is_alike in parts.items() if not is_alike]
    assert unlike == [("draws", "moments"), ("controls", "subsets of transforms"), ("fits", "scale")]
