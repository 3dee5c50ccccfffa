reps = ["X_pca64", "X_semiclip"]
genes = scl.tl.aggregate(rna, use_rep=reps, method="center", **columns)
scl.pl.heatmap(
    genes,
    use_rep=reps,
    perturbation_key="perturbation",
    perturbations=[f"gene_{i:03}" for i in range(150) if i % 30 < 5],
    relationships=relationships,
)
