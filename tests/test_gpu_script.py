"""The script for a machine with a GPU runs from end to end on a CPU, and says what a CPU cannot tell."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import semiclip

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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
    assert len([name for name in report["checks"] if name.startswith("draws are")]) == 6
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
        assert late["error"] == "TimeoutError: more than 1 seconds"
        assert late["seconds"] < 10
    assert gpu.run_section(None, lambda machine: gpu.NOT_MEASURED, 5)["status"] == "not measured"
    assert gpu.run_section(None, lambda machine: {"n": 1}, 5)["results"] == {"n": 1}
