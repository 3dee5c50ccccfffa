import pandas as pd

# runs of several settings over two seeds, in the repository
sweep = pd.read_csv("benchmarks/results/earlier/sweep.csv")
default = {"lr": 0.1, "temperature": 0.1, "batch_size": 1024, "max_epochs": 150}
scl.pl.sweep(sweep[sweep["study"] == "medium"], default=default, chance=0.1)
