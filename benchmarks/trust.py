"""How often a saved file ran code, a kill lost what was saved, and an interrupt was something else: a few minutes.

The counting is that of the tests in ``tests/trust``; this prints it and keeps it in ``results/trust.csv``.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import semiclip as scl
from semiclip.model import SemiClip

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "trust"))
from test_interrupts import interrupt
from test_loading import count_payloads
from test_saving import kill

KEYS = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"]}
KEYS |= {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


def main() -> None:
    """Count and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--interrupts", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "trust.csv")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    study = scl.datasets.simulate(n_compounds=24, n_knockouts=24, n_pathways=6, n_genes=60, rng=0)
    scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=8, rng=0)
    SemiClip.setup_mudata(study.mdata, **KEYS)
    rows = []
    for what, model in (("crafted files", None), ("crafted files over a model", SemiClip(study.mdata))):
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            tried, _, ran = count_payloads(Path(folder), model)
        rows.append((what, tried, "ran code", ran))
    with TemporaryDirectory() as folder:
        for kind, (lost, left) in kill(folder, args.kills).items():
            rows += [(f"kills while saving: {kind}", args.kills, "lost it", lost)]
            rows += [(f"kills while saving: {kind}", args.kills, "left files after the next save", left)]
    ends = interrupt(args.interrupts)
    wrong = sum(end != "KeyboardInterrupt" for end in ends)
    rows.append(("interrupted trainings", len(ends), "not a KeyboardInterrupt", wrong))
    table = pd.DataFrame(rows, columns=["what", "tries", "outcome", "times"])
    table.to_csv(args.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
