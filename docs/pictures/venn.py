reps = ["X_pca64", "X_semiclip"]
sets = scl.tl.relationship_sets(
    rna, use_rep=reps, references={"X_image": images}, **evaluation
)
scl.pl.venn(sets)
