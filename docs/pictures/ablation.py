import pandas as pd

# runs of the rungs of PEA over 15 seeds, in the repository
runs = pd.read_json(
    "benchmarks/results/earlier/pea_ladder_medium.jsonl", lines=True
)
rungs = list(scl.correction.LADDER)
ladder = runs.set_index("rung").loc[rungs].reset_index()
scl.pl.ablation(ladder, baseline="unimodal", chance=0.1)
