reps = ["X_pca8", "X_pca64", "X_semiclip"]
sets = scl.tl.relationship_sets(rna, use_rep=reps, **evaluation)
scl.pl.gains_losses(scl.tl.gains_losses(sets, base="X_pca64"))
