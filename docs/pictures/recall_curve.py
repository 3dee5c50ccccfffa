tails = (0.01, 0.025, 0.05, 0.1, 0.2)
thresholds = [(tail, 1 - tail) for tail in tails]
reps = ["X_pca64", "X_semiclip"]
table = scl.tl.recall(
    rna, use_rep=reps, thresholds=thresholds, n_permutations=0, **evaluation
)
scl.pl.recall_curve(table)
