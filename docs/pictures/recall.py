reps = ["X_pca64", "X_semiclip"]
table = scl.tl.recall(
    rna, use_rep=reps, n_permutations=200, rng=0, **evaluation
)
scl.pl.recall(table)
