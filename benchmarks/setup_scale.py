"""Seconds from files to the first training step, and memory above the data, at 1.3 M × 256 and 130 k × 768.

A study with 5,000 compounds in two doses, 130 batches and a control for 20 treated rows is written to a temporary
folder as h5mu and as zarr, in float32 and in float16. Each case then runs in a process of its own, after the system was
asked to forget the file, so that it is read from the disk:

- `plain`: both representations by h5py or zarr alone, which is what the disk allows;
- `shared`, `whole` and `whole without PEA`: `mudata` reads the file, then `setup_mudata`, the model, and `train` up to
  the end of its first step;
- `shared, in the file`: the same, but only `obs` is read, and `obsm` holds the arrays of the open file, which the model
  reads when it is made.

The default takes all of these for h5mu in float32, and `plain` and `shared` for zarr and float16; `--recipes` takes
those that it names for all. `seconds_in_all` are those from opening the file to the end of the first step, and
`of_plain` what these are in units of `plain`.

`preparing` is the part of `train` before the trainer is made: corrections, pairs, split and tensors, of which `tensors`
and `split` are parts; the model has made corrections and pairs where it counts what is shared. Processor seconds are
beside those of the clock, and `load` is that of the machine before, for machines that are busy. Memory is the peak
between reading and the first step, above what the process held after reading, as such and in units of both
representations as they are stored; arrays that stay in the file are taken off.

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from train_throughput import memory, peak

ROWS, QUICK = 1_300_000, 50_000
WIDTHS = {"rna": 256, "image": 768}
N_LATENT, N_COMPOUNDS, ROWS_OF_BATCH, ROWS_OF_CONTROL = 16, 5_000, 10_000, 20
BLOCK = 1 << 15  # rows made at a time
RECIPES: dict[str, dict[str, Any]] = {
    "shared": {"model": {"n_shared": "auto"}, "training": {"plan_kwargs": {"lr": 0.01}}},
    "whole": {"model": {}, "training": {}},
    "whole without PEA": {"model": {}, "training": {"pea": False}},
}
RECIPES["shared, in the file"] = RECIPES["shared"]
OFTEN = ["shared"]  # of every file


class Stop(Exception):
    """Ends a training."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="student rows; images are a tenth (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} rows")
    parser.add_argument("--formats", nargs="+", default=["h5mu", "zarr"], choices=["h5mu", "zarr"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16"], choices=["float32", "float16"])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), help="(see above)")
    parser.add_argument("--folder", type=Path, help="where the files are made (a temporary folder)")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        case, path = args.case
        run_case(case, Path(path))
        return
    n_rows = QUICK if args.quick else args.rows
    report("hardware", cpus=os.cpu_count(), threads=os.environ.get("OMP_NUM_THREADS", "all"), **versions())
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for dtype in args.dtypes:
            for file_format in args.formats:
                path = Path(folder, f"{dtype}.{file_format}")
                run("make", path, n_rows)
                plain = run("plain", path)
                report("plain", format=file_format, dtype=dtype, n_rows=n_rows, **plain)
                is_first = (dtype, file_format) == (args.dtypes[0], args.formats[0])
                for recipe in args.recipes or (RECIPES if is_first else OFTEN):
                    load, figures = round(os.getloadavg()[0], 1), run(recipe, path)
                    of_plain = round(figures["seconds_in_all"] / plain["seconds"], 2)
                    labels = {"format": file_format, "dtype": dtype, "recipe": recipe, "n_rows": n_rows, "load": load}
                    report("first_step", **labels, **figures, of_plain=of_plain)
                remove(path)


def run(case: str, path: Path, n_rows: int = 0) -> dict[str, Any]:
    """Run a case in a process of its own and return its figures."""
    if case == "make":
        write_study(path, n_rows)
        return {}
    forget(path)
    command = [sys.executable, __file__, "--case", case, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_case(case: str, path: Path) -> None:
    """Print the figures of one case."""
    is_in_file = case.endswith("in the file")
    figures = read_plainly(path) if case == "plain" else take_first_step(path, RECIPES[case], is_in_file=is_in_file)
    print(json.dumps(figures))


def read_plainly(path: Path) -> dict[str, Any]:
    """Read both representations, and nothing else."""
    import h5py
    import zarr

    held, started = memory(), time.perf_counter()
    store = h5py.File(path) if path.suffix == ".h5mu" else zarr.open_group(str(path), mode="r")
    arrays = [store[f"mod/{name}/obsm/X_rep"][:] for name in WIDTHS]
    seconds, n_bytes = time.perf_counter() - started, sum(array.nbytes for array in arrays)
    return {
        "seconds": round(seconds, 2), "gb": round(n_bytes / 1e9, 2), "gb_per_s": round(n_bytes / 1e9 / seconds, 2),
        "peak_of_data": round((peak() - held) / n_bytes, 2),
    }  # fmt: skip


def take_first_step(path: Path, recipe: dict[str, Any], *, is_in_file: bool) -> dict[str, Any]:
    """Read a study, set up, make a model and train it for one step."""
    import torch
    from lightning import Callback

    import semiclip as scl
    from semiclip.model._data import PairedDataModule
    from semiclip.model._tensors import PairedTensors

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model_cls = scl.model.SemiClip
    seconds: dict[str, float] = {}
    timed(model_cls, "_pair_data", "preparing", seconds)
    timed(PairedTensors, "from_arrays", "tensors", seconds)
    timed(PairedDataModule, "__init__", "split", seconds)

    class FirstStep(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise Stop

    held, clock = memory(), Laps()
    mdata = open_study(path) if is_in_file else read_study(path)
    seconds["opening" if is_in_file else "mudata"] = read = clock.lap()
    n_bytes = sum(mdata[name].obsm["X_rep"].nbytes for name in WIDTHS)
    reading = peak() - held
    held = memory()
    started, cpu = time.perf_counter(), time.process_time()
    clock.last = started
    columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    pair_on = ["perturbation", "dose"]
    model_cls.setup_mudata(mdata, student_rep="X_rep", teacher_rep="X_rep", pair_on=pair_on, **columns)
    seconds["setup_mudata"] = clock.lap()
    model = model_cls(mdata, **recipe["model"])
    seconds["model"] = clock.lap()
    try:
        model.train(1, callbacks=[FirstStep()], accelerator="cpu", enable_progress_bar=False, **recipe["training"])
    except Stop:
        pass
    seconds["train_to_first_step"] = clock.lap()
    of_cpu = time.process_time() - cpu
    above = peak() - held - is_in_file * n_bytes
    return {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "seconds_in_all": round(read + clock.last - started, 2),
        "seconds_after_reading": round(clock.last - started, 2), "cpu_seconds_after_reading": round(of_cpu, 2),
        "data_gb": round(n_bytes / 1e9, 2),
        "peak_of_reading_gb": round(reading / 1e9, 2),
        "peak_above_data_gb": round(above / 1e9, 2), "peak_above_data_of_data": round(above / n_bytes, 2),
    }  # fmt: skip


def read_study(path: Path) -> Any:
    """Read a whole study."""
    import mudata

    return mudata.read_h5mu(path) if path.suffix == ".h5mu" else mudata.read_zarr(path)


def open_study(path: Path) -> Any:
    """Read `obs`, and leave the representations in the file."""
    import h5py
    import mudata
    import zarr
    from anndata import AnnData
    from anndata.io import read_elem

    store = h5py.File(path) if path.suffix == ".h5mu" else zarr.open_group(str(path), mode="r")
    sides = {name: store[f"mod/{name}"] for name in WIDTHS}
    return mudata.MuData({
        name: AnnData(obs=read_elem(side["obs"]), obsm={"X_rep": side["obsm/X_rep"]}) for name, side in sides.items()
    })  # fmt: skip


def timed(owner: Any, name: str, label: str, seconds: dict[str, float]) -> None:
    """Let a function say how long it took."""
    function = getattr(owner, name)

    def measured(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[label] = seconds.get(label, 0) + time.perf_counter() - started

    is_class_method = isinstance(vars(owner)[name], classmethod)
    setattr(owner, name, staticmethod(measured) if is_class_method else measured)


class Laps:
    """Seconds since the last call."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def write_study(path: Path, n_rows: int) -> None:
    """Write random embeddings whose keys share a few directions, treated rows and controls in turn."""
    import mudata
    from anndata import AnnData

    rng = np.random.default_rng(0)
    compounds = np.array(["control", *(f"c{i:04}" for i in range(min(N_COMPOUNDS, n_rows // 40)))])
    latent = rng.standard_normal((len(compounds), N_LATENT), dtype=np.float32)
    latent[0] = 0

    def make_side(n: int, width: int) -> AnnData:
        code = np.where(np.arange(n) % ROWS_OF_CONTROL == 0, 0, rng.integers(1, len(compounds), n))
        batches = [f"b{i:03}" for i in range(max(1, n_rows // ROWS_OF_BATCH))]
        obs = pd.DataFrame(
            {"perturbation": pd.Categorical.from_codes(code, compounds),
             "dose": np.where(code == 0, 0, rng.choice([0.37, 3.3], n)),
             "batch": pd.Categorical.from_codes(rng.integers(len(batches), size=n), batches)},
            index=pd.RangeIndex(n).astype(str),
        )  # fmt: skip
        weights = rng.standard_normal((N_LATENT, width), dtype=np.float32) / 4
        values = np.empty((n, width), dtype=path.stem)
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            noise = rng.standard_normal((len(code[rows]), width), dtype=np.float32)
            values[rows] = latent[code[rows]] @ weights + noise
        return AnnData(obs=obs, obsm={"X_rep": values})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = {name: make_side(n, WIDTHS[name]) for name, n in (("rna", n_rows), ("image", max(2_000, n_rows // 10)))}
        mdata = mudata.MuData(sides)
        if path.suffix == ".h5mu":
            mdata.write(path)
        else:
            mdata.write_zarr(path)


def forget(path: Path) -> None:
    """Ask the system to forget what it has read of a file or of a folder's files."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remove(path: Path) -> None:
    import shutil

    path.unlink() if path.is_file() else shutil.rmtree(path)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("anndata", "mudata", "h5py", "zarr", "numpy", "torch")}


def report(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata|scvi|zarr)\b")
        main()
