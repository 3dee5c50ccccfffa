"""What training does on one NVIDIA GPU, in five minutes, as one JSON file that says what was measured and what failed.

Sections, each with a share of the time; one that fails or runs out of time is recorded, and the rest goes on:

- `throughput`: rows per second with and without PEA at 100 k and at 1.3 M × 256 + 130 k × 768 (the paper's adapter,
  mini-batches of 1024), and the seconds of 150 epochs, scaled from five: the first as it was, the others by their mean.
  The goal at 1.3 M is a minute; the paper took 19 hours on an H100.
- `graphs`: steps as CUDA graphs and one by one, and whether both learn the same.
- `precision`: float32, TF32, and mixed precision in bfloat16.
- `memory`: peak memory of the device, and rows per second, with the data on the device in float32 and float16, and in
  main memory.
- `kernels`: the ten kernels that take most of the device's time, and their share.
- `parity`: whether the device draws the bits that the CPU draws, fits the same moments, and has the CPU's losses in the
  first steps.

Nothing is downloaded. `python benchmarks/gpu.py --out gpu.json` exits with 1 if a section or a check failed, but not
where only time ran out. `--device cpu --quick` runs all of it on few rows as a rehearsal, with "not measured" for what
a CPU cannot tell. A number that is not finite is null in the file.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import signal
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from train_throughput import BATCH, TEMPERATURE, WIDTHS, study, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_MEASURED, OUT_OF_TIME = "not measured", "ran out of time"
EPOCHS, PAPER_EPOCHS, GOAL_SECONDS, PAPER_HOURS = 5, 150, 60, 19
N_STEPS = 20  # whose losses are compared with those of the CPU
# of losses near 7 that differ by the order of sums; TF32 is off there
TOLERANCE = {"step": 1e-3, "epoch": 1e-2}
KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


class Machine:
    """Where training runs, the studies, and what came of it."""

    def __init__(self, device: str, *, quick: bool) -> None:
        self.device, self.quick = torch.device(device), quick
        self.small, self.large = (1_200, 2_400) if quick else (100_000, 1_300_000)
        self.n_hidden = (16,) if quick else WIDTHS[1:-1]
        self.epochs = 2 if quick else EPOCHS
        self.is_cuda = device == "cuda"
        self.checks: dict[str, bool] = {}
        self._studies: dict[int, Any] = {}

    def study(self, n: int) -> Any:
        """Return the study of so many student rows, set up; it is made once."""
        import semiclip as scl

        if n not in self._studies:
            made = study(n)
            for side in ("rna", "image") if self.quick else ():
                made[side].obsm["X_rep"] = np.ascontiguousarray(made[side].obsm["X_rep"][:, :16])
            set_up(made, scl)
            self._studies[n] = made  # when it is whole, since the time of a section may end before
        return self._studies[n]

    def train(
        self, n: int, *, epochs: int | None = None, device: str | None = None,
        teacher_correction: Any = "tvn", **arguments: Any,
    ) -> Run:  # fmt: skip
        """Train on so many rows and return what was seen."""
        import semiclip as scl

        mdata, run = self.study(n), Run()
        torch.manual_seed(0)
        model = scl.model.SemiClip(
            mdata, n_hidden=self.n_hidden, temperature=TEMPERATURE, teacher_correction=teacher_correction
        )
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        model.train(
            epochs or self.epochs, train_size=1.0, batch_size=BATCH, callbacks=[run.callback()],
            accelerator=device or self.device.type, devices=1, enable_progress_bar=False, **arguments,
        )  # fmt: skip
        run.rows = len(model.train_indices) // min(BATCH, len(model.train_indices)) * BATCH
        run.curve = [float(value) for value in model.history["train_loss"].iloc[:, 0]]
        run.peak_gb = round(torch.cuda.max_memory_allocated() / 1e9, 3) if self.is_cuda else NOT_MEASURED
        return run

    def check(self, name: str, passed: Any) -> bool:
        """Record whether a check passed."""
        self.checks[name] = bool(passed)
        return self.checks[name]


class Run:
    """Seconds of each epoch, loss of each call of the trainer, and the curve of a training."""

    rows = 0
    peak_gb: Any = NOT_MEASURED

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[torch.Tensor] = []
        self.curve: list[float] = []

    def callback(self) -> Any:
        from lightning import Callback

        run = self

        class Watch(Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                wait(pl_module.device)
                run.seconds.append(-time.perf_counter())

            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
                if len(run.losses) < N_STEPS:  # without waiting for the device
                    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
                    run.losses.append(loss.detach().clone())

            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                wait(pl_module.device)
                run.seconds[-1] += time.perf_counter()

        return Watch()

    @property
    def figures(self) -> dict[str, Any]:
        """Rows per second after the first epoch, and the seconds of 150 epochs."""
        later = float(np.mean(self.seconds[1:] or self.seconds))
        return {
            "rows_per_s": round(self.rows / later), "seconds_of_first_epoch": round(self.seconds[0], 3),
            "seconds_of_an_epoch": round(later, 4), "epochs": len(self.seconds), "peak_device_gb": self.peak_gb,
            "seconds_for_150_epochs": round(self.seconds[0] + (PAPER_EPOCHS - 1) * later, 1),
        }  # fmt: skip


def set_up(mdata: Any, scl: Any) -> None:
    scl.model.SemiClip.setup_mudata(mdata, student_rep="X_rep", teacher_rep="X_rep", pair_on="perturbation", **KEYS)


def measure_throughput(machine: Machine) -> dict[str, Any]:
    """Both sizes, with and without PEA."""
    results: dict[str, Any] = {"paper_hours": PAPER_HOURS, "goal_seconds": GOAL_SECONDS}
    for size in (machine.small, machine.large):
        for pea in (False, True):
            run = machine.train(size, pea=pea)
            name = f"{size} rows, {'with' if pea else 'without'} PEA"
            results[name] = {"n_rows": size, "pea": pea, **run.figures}
            machine.check(f"losses are finite: {name}", np.isfinite(run.curve).all())
            if machine.is_cuda and size == machine.large:
                results[name]["goal_met"] = run.figures["seconds_for_150_epochs"] <= GOAL_SECONDS
    return results


def measure_graphs(machine: Machine) -> Any:
    """Steps that are captured, and steps one by one."""
    if not machine.is_cuda:
        return NOT_MEASURED
    results: dict[str, Any] = {}
    for pea in (False, True):
        runs = {n: machine.train(machine.small, pea=pea, plan_kwargs={"steps_per_call": n}) for n in (16, 0)}
        apart = float(np.abs(np.subtract(runs[16].curve, runs[0].curve)).max())
        machine.check(f"graphs learn the same, pea={pea}", apart <= TOLERANCE["epoch"])
        graphs, plain = runs[16].figures, runs[0].figures
        results["with PEA" if pea else "without PEA"] = {
            "graphs": graphs, "one by one": plain, "largest_difference_of_losses": apart,
            "speed_up": round(graphs["rows_per_s"] / plain["rows_per_s"], 2),
        }  # fmt: skip
    return results


def measure_precision(machine: Machine) -> dict[str, Any]:
    """Float32, TF32 and bfloat16, with PEA."""
    kinds = {"float32": {}, "tf32": {"matmul_precision": "high"}, "bf16-mixed": {"precision": "bf16-mixed"}}
    results: dict[str, Any] = {}
    for name, arguments in kinds.items():
        if name == "tf32" and not machine.is_cuda:
            results[name] = NOT_MEASURED
            continue
        run = machine.train(machine.large, epochs=min(3, machine.epochs), pea=True, **arguments)
        results[name] = {**run.figures, "last_loss": run.curve[-1]}
        machine.check(f"losses are finite in {name}", np.isfinite(run.curve).all())
    return results


def measure_memory(machine: Machine) -> dict[str, Any]:
    """Data on the device in two precisions, and in main memory."""
    import semiclip as scl

    results, n = {}, machine.large
    plain = machine.study(n)
    stored = {name: plain[name].obsm["X_rep"] for name in ("rna", "image")}
    kept = {"datasplitter_kwargs": {"chunk_rows": max(BATCH, n // 8)}}
    kinds = [
        (f"{place}, {np.dtype(dtype)}", dtype, arguments)
        for place, arguments in (("on the device", {}), ("in main memory", kept))
        for dtype in (np.float32, np.float16)
    ]
    try:
        for name, dtype, arguments in kinds:
            for side, values in stored.items():
                plain[side].obsm["X_rep"] = values.astype(dtype, copy=False)
            set_up(plain, scl)
            # a correction of the teacher would make a new array of float32
            run = machine.train(n, epochs=2, pea=True, teacher_correction=None, **arguments)
            data_gb = sum(plain[side].obsm["X_rep"].nbytes for side in stored) / 1e9
            results[name] = {**run.figures, "representations_gb": round(data_gb, 3)}
    finally:  # for the sections that follow, also where time ran out
        for side, values in stored.items():
            plain[side].obsm["X_rep"] = values
        set_up(plain, scl)
    if machine.is_cuda:
        peaks = [results[f"on the device, {kind}"]["peak_device_gb"] for kind in ("float32", "float16")]
        student = stored["rna"].nbytes / 1e9
        machine.check("half precision saves half of the student", peaks[0] - peaks[1] > 0.4 * student)
    return results


def measure_kernels(machine: Machine) -> dict[str, Any]:
    """The share of the ten largest kernels of an epoch, on a CPU of the ten largest operations."""
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CUDA if machine.is_cuda else ProfilerActivity.CPU
    machine.train(machine.small, epochs=1, pea=True)  # which sets up libraries
    with profile(activities=[kind]) as profiler:
        machine.train(machine.small, epochs=1, pea=True)
        wait(machine.device)
    time_of = "self_device_time_total" if machine.is_cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: getattr(event, time_of), reverse=True)
    total = sum(getattr(event, time_of) for event in events) or 1
    top = [
        {"name": event.key[:120], "share": round(getattr(event, time_of) / total, 4), "calls": event.count}
        for event in events[:10]
    ]
    return {"of": kind.name.lower(), "microseconds": total, "top": top}


def measure_parity(machine: Machine) -> dict[str, Any]:
    """Draws and first losses beside those of the CPU."""
    from _device_draws import compare_with_cpu

    results: dict[str, Any] = compare_with_cpu(machine.device)
    for kind, parts in results.items():
        for name, is_alike in parts.items():
            machine.check(f"{kind} are those of the CPU: {name}", is_alike)
    size, epochs = 2_000 if machine.quick else 20_000, 2
    for pea in (False, {"bank_refresh": 1}):  # left to itself, the refresh depends on the device
        runs = [
            machine.train(size, epochs=epochs, device=device, pea=pea, plan_kwargs={"steps_per_call": 0})
            for device in ("cpu", machine.device.type)
        ]
        losses = [torch.stack([loss.cpu().float() for loss in run.losses]) for run in runs]
        apart = float((losses[0] - losses[1]).abs().max())
        machine.check(f"losses of the first steps are those of the CPU, pea={bool(pea)}", apart <= TOLERANCE["step"])
        results["with PEA" if pea else "without PEA"] = {
            "steps": len(losses[0]), "first_loss": float(losses[0][0]), "largest_difference": apart
        }  # fmt: skip
    return results


# in the order of what matters most, since the time may end, and the most that each may have of it
SECTIONS: dict[str, tuple[Callable[[Machine], Any], float]] = {
    "parity": (measure_parity, 0.2),
    "throughput": (measure_throughput, 0.4),
    "graphs": (measure_graphs, 0.15),
    "precision": (measure_precision, 0.2),
    "memory": (measure_memory, 0.25),
    "kernels": (measure_kernels, 0.1),
}


class OutOfTime(Exception):
    """Raised in a section that has used its time."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise :class:`OutOfTime` in what takes longer, where the system can."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise OutOfTime(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_section(machine: Machine, measure: Callable[[Machine], Any], seconds: int) -> dict[str, Any]:
    """Measure, and return what came of it or why nothing did."""
    started = time.perf_counter()
    try:
        with limit(max(1, seconds)):
            results = measure(machine)
        outcome = {"status": NOT_MEASURED} if results == NOT_MEASURED else {"status": "measured", "results": results}
    except OutOfTime as error:
        outcome = {"status": OUT_OF_TIME, "error": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever it is, the rest goes on
        last = traceback.format_exception(error)[-12:]
        outcome = {"status": "failed", "error": f"{type(error).__name__}: {error}", "traceback": "".join(last)}
    return {**outcome, "seconds": round(time.perf_counter() - started, 1), "budget_seconds": seconds}


def measure_all(machine: Machine, names: list[str], end: float, report: dict[str, Any], out: Path) -> None:
    """Measure sections until the clock says ``end``, and write the report after each, so that nothing is lost."""
    seconds = end - time.perf_counter()
    for name in names:
        measure, share = SECTIONS[name]
        section = {"status": OUT_OF_TIME, "error": "no time was left"}
        if (left := int(end - time.perf_counter())) >= 1:
            section = run_section(machine, measure, min(int(share * seconds), left))
        report["sections"][name] = section
        failed = any(section["status"] == "failed" for section in report["sections"].values())
        report |= {"checks": machine.checks, "passed": not failed and all(machine.checks.values())}
        out.write_text(write_json(report))
        print(f"{name}: {section['status']}", flush=True)


def write_json(report: Any) -> str:
    """Return a report as JSON, which has no numbers that are not finite: they become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [clean(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(report), indent=1, allow_nan=False)


def describe_hardware(device: str) -> dict[str, Any]:
    """Return the machine and the versions of what runs."""
    packages = ("semiclip", "torch", "lightning", "scvi-tools", "numpy", "anndata", "mudata")
    hardware: dict[str, Any] = {
        "device": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads(), "machine": platform.machine(),
        "python": platform.python_version(), "versions": {name: version(name) for name in packages},
    }  # fmt: skip
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        hardware |= {
            "gpu": properties.name, "gpu_gb": round(properties.total_memory / 1e9, 1), "cuda": torch.version.cuda,
            "capability": f"{properties.major}.{properties.minor}", "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return hardware


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="(%(default)s)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="(%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few rows, as a rehearsal")
    parser.add_argument("--seconds", type=int, default=290, help="of all sections together (%(default)s)")
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    args = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "semiclip"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started = time.perf_counter()
    report: dict[str, Any] = {"quick": args.quick, "sections": {}, "checks": {}}
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu rehearses")
    import semiclip.model  # noqa: F401  # once, and not on the clock of a section

    report["hardware"] = describe_hardware(args.device)
    report["seconds_of_imports"] = round(time.perf_counter() - started, 1)
    machine = Machine(args.device, quick=args.quick)
    measure_all(machine, args.sections, started + args.seconds, report, args.out)
    report["seconds"] = round(time.perf_counter() - started, 1)
    args.out.write_text(write_json(report))
    print(f"{'passed' if report['passed'] else 'failed'}; see {args.out}")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata|scvi)\b")
        sys.exit(main())
