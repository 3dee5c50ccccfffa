reps = ["X_pca64", "X_semiclip"]
table = scl.tl.similarity(rna, use_rep=reps, n_bins=40, **evaluation)
scl.pl.similarity(table)
