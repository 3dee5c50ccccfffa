"""Seconds that a fresh process takes to start: imports, and the first `tl.semiclip` call beside a second one.

Each figure is the best of `--repeats` fresh processes, which take turns. `import semiclip` loads none of the large
packages; the first call of `tl.semiclip`, on a study of a few hundred rows, loads PyTorch, Lightning and scvi-tools and
does what a second call need not. `first_call` is the difference of the two calls, and `own` what it takes beyond
`import scvi`. `after_scvi` is this difference in a process that had imported scvi-tools before. Beside the wall clock
stand seconds of the CPU, which other work on the machine changes less.

Prints one JSON line per figure, and one for each turn with the load of the machine (1 is one busy core).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version

STUDY = """
import logging, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd, anndata, mudata
import semiclip as scl
logging.disable(logging.WARNING)
rng = np.random.default_rng(0)
names = np.array(["control", *(f"p{i}" for i in range(20))])
def side(n, width):
    code = np.arange(n) % len(names)
    obs = pd.DataFrame({"perturbation": names[code]}, index=[str(i) for i in range(n)])
    latent = np.random.default_rng(1).normal(size=(len(names), 8))[code]
    loadings = rng.normal(size=(8, width))
    return anndata.AnnData(obs=obs, obsm={"X_rep": (latent @ loadings + rng.normal(size=(n, width))).astype("float32")})
mdata = mudata.MuData({"rna": side(420, 32), "image": side(210, 48)})
names = {"perturbation_key": "perturbation", "pair_on": "perturbation", "control": "control"}
def call():
    training = {"max_epochs": 2, "enable_progress_bar": False, "rng": 0}
    scl.tl.semiclip(mdata, student_rep="X_rep", teacher_rep="X_rep", **names, **training)
"""
TWICE = """
seconds = []
for _ in range(2):
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
print("SECONDS", *(one - other for one, other in zip(*seconds)))
"""
ONCE = """
wall, cpu = time.perf_counter(), time.process_time()
import {}
print("SECONDS", time.perf_counter() - wall, time.process_time() - cpu)
"""
PARTS = {
    "import semiclip": ONCE.format("semiclip"),
    "import scvi": ONCE.format("scvi"),
    "import scanpy": ONCE.format("scanpy"),
    "first_call": STUDY + TWICE,
    "after_scvi": "import scvi\n" + STUDY + TWICE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (%(default)s)")
    args = parser.parse_args()
    packages = {name: version(name) for name in ("torch", "lightning", "scvi-tools")}
    report("hardware", cores=os.cpu_count(), python=platform.python_version(), **packages)
    best: dict[str, tuple[float, float]] = {}
    for _ in range(args.repeats):
        for part, code in PARTS.items():
            seconds = measure(code)
            load = round(os.getloadavg()[0], 1)
            report("turn", part=part, seconds=round(seconds[0], 3), cpu_seconds=round(seconds[1], 3), load=load)
            before = best.get(part, seconds)
            best[part] = min(before[0], seconds[0]), min(before[1], seconds[1])
    scvi = best["import scvi"]
    for part, (wall, cpu) in best.items():
        report(
            "start", part=part, seconds=round(wall, 3), cpu_seconds=round(cpu, 3), of_scvi=round(wall / scvi[0], 3),
            cpu_of_scvi=round(cpu / scvi[1], 3),
        )  # fmt: skip
    wall, cpu = (first - alone for first, alone in zip(best["first_call"], scvi, strict=True))
    report("start", part="own", seconds=round(wall, 3), cpu_seconds=round(cpu, 3))


def measure(code: str) -> tuple[float, float]:
    """Seconds by the wall clock and of the CPU that a fresh process prints."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import time\n" + code], capture_output=True, text=True, check=False
    )
    if run.returncode:
        sys.exit(run.stderr)
    wall, cpu = next(line for line in run.stdout.splitlines() if line.startswith("SECONDS")).split()[1:]
    return float(wall), float(cpu)


def report(figure: str, **values: object) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s in all", file=sys.stderr)
