"""Rows per second of `SemiClip.train`, beside a bare PyTorch loop and a per-item Dataset with a DataLoader.

All train the paper's adapter (256 → 512 → 1024 → 768, mini-batches of 1024, CLIP loss, SGD) on the same random data in
one process, taking turns, each as often as `--repeats`; the best turn counts. The bare loop has its tensors ready and
draws rows at random. The DataLoaders draw a partner in Python for each item: one looks the item up in `obs` and copies
its arrays, as research code does, the other has tensors and lists ready; each with no and with two workers, of which
the faster counts. There is a batch for 10,000 rows, with 500 controls. Memory is the peak above what the process held
when the data were made. Every size runs in a process of its own. `of_without_pea` is the rate with PEA as a share of
the rate without it; `of_without_pea_by_turn` is the median of that share over the turns, which a machine whose speed
swings between turns changes less. So is `of_bare_by_turn`, by which the last line compares the sizes.

With `--objectives all`, or the names of some, these take turns instead, each without PEA, with the paper's widths and
mini-batches, and with an adapter of the teacher where the objective has one. `of_semiclip` is the share of
Semi-Clipped's rows per second; what learns from labels is measured without its pretraining.

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy, normalize

WIDTHS, BATCH, TEMPERATURE = (256, 512, 1024, 768), 1024, 0.1
SIZES, QUICK = (10_000, 100_000, 1_300_000), (10_000, 20_000)
OBJECTIVES_SIZE = 20_000
LONGEST = 131_072  # rows of a turn of the other loops, whose time per row does not depend on the number of rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, nargs="+", help=f"student rows ({SIZES}, or {OBJECTIVES_SIZE} by objective)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="of our turns, at the least (%(default)s)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="(%(default)s)")
    parser.add_argument("--precision", default="32-true", help="of the trainer, such as bf16-mixed (%(default)s)")
    parser.add_argument("--objectives", nargs="+", default=[], help="names, or all")
    parser.add_argument("--quick", action="store_true", help="small sizes, one turn")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.repeats = list(QUICK), 1
    args.rows = args.rows or ([OBJECTIVES_SIZE] if args.objectives else list(SIZES))
    if args.one:
        measure(args.one, args)
        return
    report("hardware", **hardware(args.device))
    if args.objectives:
        for n in args.rows:
            measure_objectives(n, args)
        return
    seconds: dict[str, dict[int, float]] = {}
    of_bare: dict[str, dict[int, float]] = {}
    for n in args.rows:
        passed = {name: str(getattr(args, name)) for name in ("repeats", "epochs", "device", "precision")}
        options = [part for name, value in passed.items() for part in (f"--{name}", value)]
        command = [sys.executable, __file__, "--one", str(n), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout or ():
                print(line, end="", flush=True)
                figure = json.loads(line)
                if figure["figure"] == "throughput":
                    seconds.setdefault(figure["loop"], {})[n] = 1e6 / figure["rows_per_s"]
                    of_bare.setdefault(figure["loop"], {})[n] = figure["of_bare_by_turn"]
        if child.returncode:
            sys.exit(child.returncode)
    for loop in ("semiclip", "semiclip+pea"):
        of_size = seconds[loop]
        report("microseconds_per_row", loop=loop, **{str(n): round(value, 1) for n, value in of_size.items()},
               largest_over_smallest=round(max(of_size.values()) / min(of_size.values()), 3),
               growth_beside_bare=round(max(of_bare[loop].values()) / min(of_bare[loop].values()), 3))  # fmt: skip


def measure(n: int, args: argparse.Namespace) -> None:
    """Let the loops take turns on n rows."""
    import semiclip as scl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    mdata = study(n)
    keys: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    scl.model.SemiClip.setup_mudata(mdata, student_rep="X_rep", teacher_rep="X_rep", pair_on="perturbation", **keys)
    x, y, key = ready(mdata, args.device)
    epochs = max(args.epochs, LONGEST // n)
    rates: dict[str, list[float]] = {}  # rows per second of each turn
    above: dict[str, float] = {}
    for turn in range(args.repeats):
        for loop, pea in (("semiclip", False), ("semiclip+pea", True)):
            held = memory()
            torch.manual_seed(0)
            model = scl.model.SemiClip(mdata, n_hidden=WIDTHS[1:-1], temperature=TEMPERATURE)
            clock = Clock()
            started = time.perf_counter()
            model.train(
                epochs, pea=pea, train_size=1.0, batch_size=BATCH, precision=args.precision,
                callbacks=[clock.callback()], accelerator=args.device, enable_progress_bar=False,
            )  # fmt: skip
            whole = time.perf_counter() - started
            rows = epochs * (len(model.train_indices) // BATCH) * BATCH
            rates.setdefault(loop, []).append(rows / clock.seconds)
            above[loop] = max(above.get(loop, 0), peak() - held)
            if turn == 0:
                report("preparation", n_rows=n, loop=loop, seconds=round(whole - clock.seconds, 2))
            if args.device == "cuda":
                report(
                    "paper_scale", n_rows=n, loop=loop, seconds_for_150_epochs=round(150 * clock.seconds / epochs, 1)
                )
        steps = min(LONGEST, max(n, LONGEST)) // BATCH
        rates.setdefault("bare", []).append(bare(x, y, steps))
        for kind in (LookedUp, Ready):
            several = [dataloader(kind(x, y, key), x.device, steps // 4, workers) for workers in (0, 2)]
            rates.setdefault(f"dataloader ({kind.__doc__})", []).append(max(several))
    best = {loop: max(of_turns) for loop, of_turns in rates.items()}
    looked_up, at_hand = (best[f"dataloader ({kind.__doc__})"] for kind in (LookedUp, Ready))
    for loop, rate in best.items():
        more = {"of_bare": round(rate / best["bare"], 3), "of_bare_by_turn": by_turn(rates[loop], rates["bare"])}
        more["of_dataloader_obs"] = round(rate / looked_up, 3)
        more["of_dataloader_tensors"] = round(rate / at_hand, 3)
        if loop == "semiclip+pea":
            more["of_without_pea"] = round(rate / best["semiclip"], 3)
            more["of_without_pea_by_turn"] = by_turn(rates[loop], rates["semiclip"])
        if loop in above:
            more["peak_gb_above_data"] = round(above[loop] / 1e9, 2)
        report("throughput", n_rows=n, loop=loop, rows_per_s=round(rate), **more)


def by_turn(rates: list[float], others: list[float]) -> float:
    """Return the median over turns of one loop's rate as a share of another's."""
    return round(float(np.median(np.divide(rates, others))), 3)


def measure_objectives(n: int, args: argparse.Namespace) -> None:
    """Let the objectives take turns on n rows."""
    import semiclip as scl
    from semiclip.objectives import OBJECTIVES

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    mdata = study(n)
    keys: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    scl.model.SemiClip.setup_mudata(mdata, student_rep="X_rep", teacher_rep="X_rep", pair_on="perturbation", **keys)
    wanted = list(OBJECTIVES) if args.objectives == ["all"] else list(dict.fromkeys(["semiclip", *args.objectives]))
    best: dict[str, float] = {}
    for _ in range(args.repeats):
        for objective in wanted:
            torch.manual_seed(0)
            model = scl.model.SemiClip(mdata, n_hidden=WIDTHS[1:-1], objective=objective)
            clock = Clock()
            model.train(
                args.epochs, pea=False, train_size=1.0, batch_size=BATCH, precision=args.precision, pretrain_epochs=0,
                plan_kwargs={"lr": 1e-6}, callbacks=[clock.callback()], accelerator=args.device,
                enable_progress_bar=False,
            )  # fmt: skip
            rows = args.epochs * (len(model.train_indices) // BATCH) * BATCH
            best[objective] = max(best.get(objective, 0), rows / clock.seconds)
    for objective in wanted:
        rate = best[objective]
        classes = (
            len(mdata["rna"].obs["perturbation"].cat.categories) - 1 if OBJECTIVES[objective].spec.needs_labels else 0
        )
        report(
            "objective", n_rows=n, objective=objective, rows_per_s=round(rate),
            of_semiclip=round(rate / best["semiclip"], 3), n_classes=classes,
        )  # fmt: skip


def study(n: int) -> Any:
    """Random embeddings of n treated rows and a twentieth as many controls, and a tenth as many images."""
    import mudata
    from anndata import AnnData

    rng = np.random.default_rng(0)
    names = np.array(["control", *(f"p{i:04}" for i in range(min(5_000, n // 20)))])

    def side(n_treated: int, width: int) -> AnnData:
        n_controls, n_batches = n_treated // 20, max(1, n_treated // 10_000)
        batches = [f"b{i:04}" for i in range(n_batches)]
        code = np.concatenate([1 + np.arange(n_treated) % (len(names) - 1), np.zeros(n_controls, dtype=int)])
        obs = pd.DataFrame(
            {"perturbation": pd.Categorical.from_codes(code, names),
             "batch": pd.Categorical.from_codes(np.arange(len(code)) % n_batches, batches)},
            index=pd.RangeIndex(len(code)).astype(str),
        )  # fmt: skip
        return AnnData(obs=obs, obsm={"X_rep": rng.standard_normal((len(code), width), dtype=np.float32)})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData({"rna": side(n, WIDTHS[0]), "image": side(max(2_000, n // 10), WIDTHS[-1])})


def ready(mdata: Any, device: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Student rows, teacher rows and the key of each teacher row, for the other loops."""
    sides = [mdata[name][: min(mdata[name].n_obs, LONGEST)] for name in ("rna", "image")]
    x, y = (torch.as_tensor(np.array(side.obsm["X_rep"])).to(device) for side in sides)
    return x, y, np.arange(len(y)) % 100


def adapter() -> torch.nn.Sequential:
    torch.manual_seed(0)
    first, second, third, last = WIDTHS
    return torch.nn.Sequential(
        torch.nn.Linear(first, second), torch.nn.ReLU(), torch.nn.Linear(second, third), torch.nn.ReLU(),
        torch.nn.Linear(third, last),
    )  # fmt: skip


def step(net: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    scores = normalize(net(x)) @ normalize(y).T / TEMPERATURE
    optimizer.zero_grad()
    cross_entropy(scores, torch.arange(len(x), device=x.device)).backward()
    optimizer.step()


def bare(x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """Rows per second of the least code that trains."""
    net = adapter().to(x.device)
    optimizer = torch.optim.SGD(net.parameters(), 0.03, momentum=0.95, weight_decay=1e-4)
    for rows in torch.randint(len(x), (3, BATCH), device=x.device):
        step(net, optimizer, x[rows], y[rows % len(y)])
    wait(x.device)
    started = time.perf_counter()
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), device=x.device)
        step(net, optimizer, x[rows], y[torch.randint(len(y), (BATCH,), device=x.device)])
    wait(x.device)
    return steps * BATCH / (time.perf_counter() - started)


class Ready(torch.utils.data.Dataset):
    """tensors and lists ready"""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, key: np.ndarray) -> None:
        self.x, self.y = x.cpu(), y.cpu()
        self.rows = {k: np.flatnonzero(key == k).tolist() for k in np.unique(key).tolist()}
        self.keys = [i % len(self.rows) for i in range(len(x))]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.x[i], self.y[random.choice(self.rows[self.keys[i]])], self.keys[i]


class LookedUp(Ready):
    """looked up in obs"""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, key: np.ndarray) -> None:
        super().__init__(x, y, key)
        self.obs = pd.DataFrame({"perturbation": self.keys, "dose": 1.0, "batch": "b"})
        self.arrays = self.x.numpy(), self.y.numpy()

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        row = self.obs.iloc[i]
        partner = random.choice(self.rows[row["perturbation"]])
        x, y = self.arrays
        return torch.tensor(x[i]), torch.tensor(y[partner]), row["perturbation"]


def dataloader(pairs: Ready, device: torch.device, steps: int, workers: int) -> float:
    """Rows per second of a Dataset and a DataLoader."""
    net = adapter().to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.03, momentum=0.95, weight_decay=1e-4)
    loader = torch.utils.data.DataLoader(
        pairs, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    done, started = -2, 0.0  # the first mini-batches start the workers
    while done < steps:
        for student, teacher, _ in loader:
            if done == 0:
                wait(device)
                started = time.perf_counter()
            if done == steps:
                break
            step(net, optimizer, student.to(device), teacher.to(device))
            done += 1
    wait(device)
    return steps * BATCH / (time.perf_counter() - started)


class Clock:
    """Seconds from the first epoch's start to the last one's end: neither setting up nor moving data."""

    seconds = 0.0

    def callback(self) -> Any:
        from lightning import Callback

        clock = self

        class Timer(Callback):
            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                wait(pl_module.device)
                clock.seconds = -time.perf_counter()

            def on_train_end(self, trainer: Any, pl_module: Any) -> None:
                wait(pl_module.device)
                clock.seconds += time.perf_counter()

        return Timer()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def memory() -> int:
    """Resident bytes now; forgets the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def hardware(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def report(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata|scvi)\b")
        main()
