"""What a model fine-tuned on few pairs of a new screen recalls, beside its reference and a model trained from nothing.

    python benchmarks/fine_tuning.py --seeds 0 1 2 3 4 5 > benchmarks/results/fine_tuning.jsonl

The new screen is the knockouts of the medium simulation, whose expression is measured by another assay: a tenth of the
counts. Images exist of 30 or 60 of its 150 knockouts, and recall is judged on the 90 others. A seed takes about a
minute on one core.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from _simulated import KEYS, report

import semiclip as scl
from semiclip._mudata import make_mudata
from semiclip.datasets import REGIMES

REPS = {"student_rep": "X_pca", "teacher_rep": "X_image", **KEYS}
QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
RECIPES: dict[str, dict[str, Any]] = {"shared": {}, "whole": {"max_epochs": 40}}
N_PAIRED = (30, 60)


def compare(seed: int) -> None:
    """Print the recall of each model and of the student, by recipe, pairs and correction."""
    study = scl.datasets.simulate(rng=seed, **REGIMES["medium"] | {"n_genes": 400})
    encoder = scl.pp.encode(study.mdata["rna"], rng=seed)
    rna = scl.datasets.shift_assay(study.knockouts["rna"], assay="single_cell", n_cells=1, depth=0.1, rng=seed)
    scl.pp.encode(rna, encoder=encoder)
    image, names = study.knockouts["image"], rna.obs["perturbation"].astype(str)
    order = np.random.default_rng(seed).permutation(sorted({*names} - {"control"}))
    judged = rna[~names.isin(order[: max(N_PAIRED)])].copy()
    for recipe, options in RECIPES.items():
        training = {"recipe": recipe, "rng": seed, **options, **QUIET}
        reference = scl.tl.semiclip(study.mdata, pair_on=["perturbation", "dose"], **REPS, **training)
        for n_paired in N_PAIRED:
            paired = [*order[:n_paired], "control"]
            sides = {"rna": rna, "image": image}
            few = make_mudata(
                **{name: side[side.obs["perturbation"].isin(paired)].copy() for name, side in sides.items()}
            )
            torch.manual_seed(seed)
            tuned: Any = scl.model.SemiClip.load_query_data(few, reference, pair_on="perturbation")
            tuned.train(**QUIET)
            nothing = scl.tl.semiclip(few, pair_on="perturbation", **REPS, **training)
            for name, model in {"reference": reference, "fine-tuned": tuned, "from nothing": nothing}.items():
                judged.obsm[name] = model.get_latent_representation(judged)
            for method in ("tvn", "center"):
                reps = ["X_pca", "reference", "fine-tuned", "from nothing"]
                judging = {"relationships": study.relationships, "method": method, "n_permutations": 0}
                table = scl.tl.recall(judged, use_rep=reps, **judging, **KEYS)
                recalls = table[table["key"] == "union"].set_index("representation")["value"].to_dict()
                report("fine_tuning", seed=seed, recipe=recipe, n_paired=n_paired, method=method, **recalls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    for each in parser.parse_args().seeds:
        compare(each)
