chosen = rna.obs["pathway"].cat.categories[1:9]  # the first is of none
some = rna[rna.obs["pathway"].isin(chosen)].copy()
reps = ["X_pca64", "X_semiclip"]
scl.pl.embedding(some, use_rep=reps, color="pathway")
