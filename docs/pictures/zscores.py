import pandas as pd

# runs of several learning rates on two simulations, in the repository
sweep = pd.read_csv("benchmarks/results/earlier/sweep.csv")
sweep = sweep.query("parameter == 'lr'").rename(columns={"study": "dataset"})
zscores = scl.tl.zscores(sweep, by="setting", value="recall")
scl.pl.zscores(zscores, by="setting")
